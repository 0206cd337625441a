//! Notices to people: one per distinct failure per window, so that a thousand bad records are one mail and not a thousand.
//!
//! What makes a failure distinct is its code and what was being done, not its words, which name keys and ids. The count
//! is kept in the ledger's table: whoever counts first in a window publishes.

mod herald;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_sns::config::Config;
use aws_sdk_sns::config::timeout::TimeoutConfig;
use aws_sdk_sns::error::{ProvideErrorMetadata, SdkError};
use weir_delivery::Failure;
use weir_ledger::Store;

pub use herald::{Herald, Unheard};

/// Something a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What was being done: `copy`, `convert`, `read a command`.
    pub what: String,
    /// To what, where.
    pub place: String,
    /// Why it failed.
    pub failure: Failure,
    /// Which job.
    pub job_id: Option<String>,
    /// What to do now.
    pub next_step: String,
}

/// Where notices go.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes one.
    async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure>;

    /// Why it should be left alone for a moment: it was not heard just now. What must be heard is published even so.
    fn resting(&self) -> Option<Failure> {
        None
    }
}

/// A topic that is slow must not take the function's time from its work: without this, a batch whose job had failed ran out of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// And after it was not heard, nothing is published for so long: a batch may have a hundred failures to tell of. No longer: what is not
/// published meanwhile, nobody hears of until there is another like it.
const REST: Duration = Duration::from_secs(10);

/// An SNS topic.
#[derive(Debug)]
pub struct Topic {
    client: aws_sdk_sns::Client,
    arn: String,
    unheard: Mutex<Option<Instant>>,
}

impl Topic {
    /// By its ARN.
    pub fn new(client: aws_sdk_sns::Client, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into(), unheard: Mutex::default() }
    }

    fn unheard(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Publisher for Topic {
    async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
        let hurried = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
        let publish = self.client.publish().topic_arn(&self.arn).subject(subject).message(text).customize();
        let sent = publish.config_override(Config::builder().timeout_config(hurried)).send().await;
        *self.unheard() = sent.is_err().then(Instant::now);
        sent.map(|_| ()).map_err(|error| {
            let status = error.raw_response().map(|response| response.status().as_u16());
            let said = match (&error, error.message()) {
                (SdkError::TimeoutError(_), _) => format!("no answer came within {} s", PATIENCE.as_secs()),
                (_, said) => said.unwrap_or("no answer came").to_owned(),
            };
            Failure::aws(error.code(), status, format!("publish to {}: {said}", self.arn))
        })
    }

    fn resting(&self) -> Option<Failure> {
        let ago = self.unheard().map(|at| at.elapsed()).filter(|ago| *ago < REST)?;
        let (ago, rest) = (ago.as_secs(), REST.as_secs());
        let reason = format!("{} did not answer {ago} s ago, and is left alone for {rest} s", self.arn);
        Some(Failure::passing("NotPublished", reason))
    }
}

/// How long one notice speaks for all alike.
pub const WINDOW_MS: u64 = 15 * 60 * 1000;

/// SNS refuses longer subjects (SNS API reference, Publish).
const LONGEST_SUBJECT: usize = 100;

/// Publishes a notice unless an alike one went out in this window. Returns whether it did.
///
/// # Errors
/// The store's or the publisher's. The caller logs it and goes on: an alert that can't be sent must not fail a job.
pub async fn notify(
    store: &dyn Store,
    publisher: &dyn Publisher,
    notice: &Notice,
    now_ms: u64,
) -> Result<bool, Failure> {
    if let Some(failure) = publisher.resting() {
        return Err(failure);
    }
    let window = now_ms / WINDOW_MS;
    let counter = format!("alert#{}#{}#{window}", notice.what, notice.failure.code);
    let expires_s = (window + 2) * WINDOW_MS / 1000;
    if store.count(&counter, expires_s).await? > 1 {
        return Ok(false);
    }
    if let Err(failure) = publisher.publish(&subject(notice), &text(notice)).await {
        // Nobody heard: the next one alike must not be silenced by this one.
        store.reset(&counter).await?;
        return Err(failure);
    }
    Ok(true)
}

/// Publishes a notice whatever went out before: for what happens rarely and must be heard, even if whoever counted it died before
/// they published it.
///
/// # Errors
/// The publisher's: then nobody has heard.
pub async fn notify_surely(publisher: &dyn Publisher, notice: &Notice) -> Result<(), Failure> {
    publisher.publish(&subject(notice), &text(notice)).await
}

fn subject(notice: &Notice) -> String {
    let subject = format!("Weir: {} failed ({})", notice.what, notice.failure.code);
    subject.chars().filter(|c| c.is_ascii() && !c.is_control()).take(LONGEST_SUBJECT).collect()
}

fn text(notice: &Notice) -> String {
    let job = notice.job_id.as_deref().unwrap_or("none");
    let minutes = WINDOW_MS / 60_000;
    format!(
        "What:  {}\nWhere: {}\nWhy:   {}\nFault: {:?}\nJob:   {job}\n\nNext:  {}\n\nOther failures of this kind in the same {minutes} minutes are not announced; `weir jobs --state failed` lists them.\n",
        notice.what, notice.place, notice.failure.reason, notice.failure.fault, notice.next_step
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_ledger::MemoryStore;

    struct Broken;

    #[async_trait]
    impl Publisher for Broken {
        async fn publish(&self, _: &str, _: &str) -> Result<(), Failure> {
            Err(Failure::passing("Throttled", "not now"))
        }
    }

    #[tokio::test]
    async fn a_notice_nobody_heard_silences_no_other() {
        let (store, outbox) = (MemoryStore::default(), Outbox::default());
        let notice = notice("NoSuchKey", "a");
        assert!(notify(&store, &Broken, &notice, 0).await.is_err());
        assert_eq!(notify(&store, &outbox, &notice, 1).await, Ok(true));
        assert_eq!(notify(&store, &outbox, &notice, 2).await, Ok(false));
    }

    struct Resting(Outbox);

    #[async_trait]
    impl Publisher for Resting {
        async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
            self.0.publish(subject, text).await
        }

        fn resting(&self) -> Option<Failure> {
            Some(Failure::passing("NotPublished", "not heard just now"))
        }
    }

    #[tokio::test]
    async fn what_must_be_heard_is_tried_where_others_wait() {
        let (store, resting) = (MemoryStore::default(), Resting(Outbox::default()));
        let notice = notice("StagedGone", "a");
        assert!(notify(&store, &resting, &notice, 0).await.is_err());
        assert_eq!(notify_surely(&resting, &notice).await, Ok(()));
        assert_eq!(resting.0.0.lock().unwrap().len(), 1);
        assert_eq!(notify(&store, &resting.0, &notice, 1).await, Ok(true), "nothing was counted of what waited");
    }

    #[derive(Default)]
    struct Outbox(Mutex<Vec<String>>);

    #[async_trait]
    impl Publisher for Outbox {
        async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
            self.0.lock().unwrap().push(format!("{subject}\n{text}"));
            Ok(())
        }
    }

    fn notice(code: &str, place: &str) -> Notice {
        Notice {
            what: "copy".into(),
            place: place.into(),
            failure: Failure::user(code, format!("{place} is not there")),
            job_id: Some("j-1".into()),
            next_step: "Put it there.".into(),
        }
    }

    #[tokio::test]
    async fn one_notice_per_distinct_failure_per_window() {
        let (store, outbox) = (MemoryStore::default(), Outbox::default());
        for (code, place, now, sent) in [
            ("NoSuchKey", "a", 0, true),
            ("NoSuchKey", "b", 1, false),
            ("AccessDenied", "a", 2, true),
            ("NoSuchKey", "a", WINDOW_MS, true),
        ] {
            assert_eq!(notify(&store, &outbox, &notice(code, place), now).await, Ok(sent), "{code} {now}");
        }
        let sent = outbox.0.lock().unwrap();
        assert!(
            sent[0].contains("Why:   a is not there")
                && sent[0].contains("Job:   j-1")
                && sent[0].contains("Put it there.")
        );
    }
}
