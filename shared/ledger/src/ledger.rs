//! The protocol over a store.

use std::sync::Arc;

use weir_delivery::{Failure, Fault};

use crate::protocol::{self, Claim, Decision};
use crate::{Job, Progress, Put, Report, State, Store, Writer};

/// Jobs by the protocol.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    writer: Arc<Writer>,
}

/// A job that this invocation owns, at the version it owns it. Every change consumes it.
#[derive(Debug)]
#[must_use = "a claimed job must be finished, failed, released, handed on or deferred"]
pub struct Held(Job);

impl Held {
    /// The job.
    pub fn job(&self) -> &Job {
        &self.0
    }
}

impl Ledger {
    /// `writer` makes the write tokens.
    pub fn new(store: Arc<dyn Store>, writer: Arc<Writer>) -> Self {
        Self { store, writer }
    }

    /// The store below, for what only lists.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Claims a job: a decision that has been stored, with the job in hand where it was taken.
    ///
    /// # Errors
    /// The store's.
    pub async fn claim(&self, claim: &Claim) -> Result<(Decision, Option<Held>), Failure> {
        // Most jobs are new, so the first try doesn't read.
        let mut stored: Option<Job> = None;
        loop {
            let decision = protocol::claim(stored.as_ref(), claim, &self.writer.token());
            let next = match &decision {
                Decision::Take(job) | Decision::GiveUp(job) => job,
                _ => return Ok((decision, None)),
            };
            match self.swap(next, stored.as_ref().map(|job| job.version)).await? {
                Put::Stored => {
                    let held = matches!(decision, Decision::Take(_)).then(|| Held(next.clone()));
                    return Ok((decision, held));
                }
                Put::Conflict(there) => stored = there.map(|job| *job),
            }
        }
    }

    /// The job that `owner` claimed in an earlier invocation, if it is still theirs.
    ///
    /// # Errors
    /// The store's.
    pub async fn held(&self, id: &str, owner: &str) -> Result<Option<Held>, Failure> {
        let job = self.store.get(id).await?;
        Ok(job.filter(|job| job.state == State::Running && job.owner.as_deref() == Some(owner)).map(Held))
    }

    /// Lets a run of the batch side that is over begin again.
    ///
    /// # Errors
    /// As [`Ledger::finish`].
    pub async fn revive(&self, id: &str, now_ms: u64) -> Result<(), Failure> {
        let Some(job) = self.store.get(id).await? else { return Ok(()) };
        match protocol::revive(&job, now_ms, &self.writer.token()) {
            Some(next) => self.change(&job, |_, _| next).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// It is done.
    ///
    /// # Errors
    /// `Lost` if someone else has taken the job over; the store's.
    pub async fn finish(&self, held: Held, report: Report, now_ms: u64) -> Result<Job, Failure> {
        self.change(&held.0, |job, token| protocol::finish(job, report, now_ms, token)).await
    }

    /// It is given up.
    ///
    /// # Errors
    /// As [`Ledger::finish`].
    pub async fn fail(&self, held: Held, failure: Failure, now_ms: u64) -> Result<Job, Failure> {
        self.change(&held.0, |job, token| protocol::fail(job, failure, now_ms, token)).await
    }

    /// It could not be done now; the state says whether it may be tried again.
    ///
    /// # Errors
    /// As [`Ledger::finish`].
    pub async fn release(&self, held: Held, failure: Failure, now_ms: u64) -> Result<Job, Failure> {
        self.change(&held.0, |job, token| protocol::release(job, failure, now_ms, token)).await
    }

    /// It is the worker's now.
    ///
    /// # Errors
    /// As [`Ledger::finish`].
    pub async fn hand(&self, held: Held, progress: Option<Progress>, now_ms: u64) -> Result<Job, Failure> {
        self.change(&held.0, |job, token| protocol::hand(job, progress, now_ms, token)).await
    }

    /// It is the batch side's now.
    ///
    /// # Errors
    /// As [`Ledger::finish`].
    pub async fn defer(&self, held: Held, why: &str, now_ms: u64) -> Result<Job, Failure> {
        self.change(&held.0, |job, token| protocol::defer(job, why, now_ms, token)).await
    }

    /// Keeps a FAILED job for a record that named an id but is no command; an existing job of that id is left as it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn record_stillborn(
        &self,
        id: &str,
        raw_hash: &str,
        origin: &str,
        failure: Failure,
        now_ms: u64,
    ) -> Result<(), Failure> {
        let job = protocol::stillborn(id, raw_hash, origin, failure, now_ms, &self.writer.token());
        self.swap(&job, None).await.map(|_| ())
    }

    /// Hands every abandoned job to the worker, or gives it up. Returns those changed; a job that someone else changed
    /// meanwhile is theirs.
    ///
    /// # Errors
    /// The store's.
    pub async fn sweep(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let mut changed = Vec::new();
        for job in self.store.due(now_ms, most).await? {
            let Some(next) = protocol::sweep(&job, now_ms, &self.writer.token()) else { continue };
            if self.swap(&next, Some(job.version)).await? == Put::Stored {
                changed.push(next);
            }
        }
        Ok(changed)
    }

    async fn change(&self, job: &Job, to: impl FnOnce(&Job, &str) -> Job) -> Result<Job, Failure> {
        let next = to(job, &self.writer.token());
        match self.swap(&next, Some(job.version)).await? {
            Put::Stored => Ok(next),
            Put::Conflict(there) => {
                let now = there.map_or("gone".to_owned(), |there| format!("{} at fence {}", there.state, there.fence));
                Err(Failure {
                    fault: Fault::External,
                    advice: weir_delivery::Advice::Retry,
                    code: "Lost".into(),
                    reason: format!("job {} was taken over while this invocation worked on it; it is {now}", job.id),
                })
            }
        }
    }

    /// A put that recognises itself: if an earlier try of this very write was stored and only its answer was lost, the
    /// repeat conflicts with its own token.
    async fn swap(&self, next: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        match self.store.put(next, expected).await? {
            Put::Conflict(Some(there)) if there.write_token == next.write_token => Ok(Put::Stored),
            put => Ok(put),
        }
    }
}
