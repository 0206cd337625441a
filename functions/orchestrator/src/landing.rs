//! What has landed: each object PENDING once, whatever order and however often events come.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use weir_alerts::Notice;
use weir_command::Location;
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::{Landed, Standing, Swap, Version, object};
use weir_telemetry::{DeadLetter, Visit};

use crate::Orchestrator;
use crate::config::When;
use crate::envelope::{Created, TakeUp};
use crate::said;

/// What was taken in.
pub(crate) struct TakenIn {
    /// The datasets that have something to be worked on.
    pub(crate) datasets: BTreeSet<String>,
    /// Objects that are new, or new versions.
    pub(crate) pending: u64,
}

/// Where an object belongs.
enum Belongs {
    Dataset(String, Location),
    Nowhere,
    Broken(String),
}

impl Orchestrator {
    /// Takes in objects that were created.
    ///
    /// # Errors
    /// The ledger's: then the event must come again.
    pub(crate) async fn land(&self, created: &[Created], visit: &Visit) -> Result<TakenIn, Failure> {
        let mut count = said::Landed { pending: 0, known: 0, ignored: 0, conflicts: 0 };
        let mut datasets = BTreeSet::new();
        for one in created {
            let (dataset, at) = match self.belongs(one) {
                Belongs::Dataset(dataset, at) => (dataset, at),
                Belongs::Nowhere => {
                    count.ignored += 1;
                    continue;
                }
                Belongs::Broken(reason) => {
                    let event = json!({"bucket": one.bucket, "key": one.key, "etag": one.etag, "size": one.size});
                    self.bury(&event, &reason, visit).await?;
                    continue;
                }
            };
            let version = Version {
                etag: one.etag.clone(),
                size: one.size,
                sequencer: one.sequencer.clone(),
                landed_ms: if one.landed_ms == 0 { visit.now_ms() } else { one.landed_ms },
            };
            let (landing, known) = self.land_one(&dataset, &at.to_string(), version.clone()).await?;
            match landing {
                // An event that comes again may be one whose first visit ended half-way.
                object::Landing::Known => {
                    count.known += 1;
                    match known {
                        Some(known) if known.standing == Standing::Pending => drop(datasets.insert(dataset)),
                        Some(known) if known.newer.as_ref().is_some_and(|newer| newer.etag == version.etag) => {
                            self.herald.tell(&conflict(&known), visit).await;
                        }
                        _ => {}
                    }
                }
                object::Landing::Pending(_) => {
                    count.pending += 1;
                    datasets.insert(dataset);
                }
                object::Landing::Conflict(landed) => {
                    count.conflicts += 1;
                    self.herald.tell(&conflict(&landed), visit).await;
                }
            }
        }
        self.herald.say(visit, &count);
        Ok(TakenIn { datasets, pending: count.pending })
    }

    fn belongs(&self, one: &Created) -> Belongs {
        let inside =
            (one.bucket == self.config.raw.bucket()).then(|| one.key.strip_prefix(self.config.raw.key())).flatten();
        let Some((dataset, rest)) = inside.and_then(|inside| inside.split_once('/')) else { return Belongs::Nowhere };
        // As Hive and Spark see them: folder markers, and names that are hidden.
        let hidden = |segment: &str| segment.is_empty() || segment.starts_with(['_', '.']);
        if hidden(dataset) || rest.split('/').any(hidden) {
            return Belongs::Nowhere;
        }
        if let Err(error) = contract(dataset) {
            return Belongs::Broken(format!("it landed for a dataset that has no contract: {error}"));
        }
        match Location::parse(&format!("s3://{}/{}", one.bucket, one.key)) {
            Ok(at) => Belongs::Dataset(dataset.to_owned(), at),
            Err(error) => Belongs::Broken(error.to_string()),
        }
    }

    /// What became of it, and what is known of the object.
    async fn land_one(
        &self,
        dataset: &str,
        uri: &str,
        version: Version,
    ) -> Result<(object::Landing, Option<Landed>), Failure> {
        // Most objects are new, so the first try doesn't read.
        let mut stored: Option<Landed> = None;
        loop {
            let landing = object::land(stored.as_ref(), dataset, uri, version.clone());
            let (object::Landing::Pending(next) | object::Landing::Conflict(next)) = &landing else {
                return Ok((landing, stored));
            };
            match self.put_object(next).await? {
                Swap::Stored => return Ok((landing, None)),
                Swap::Conflict(there) => stored = there.map(|there| *there),
            }
        }
    }

    /// A write that knows itself: if only its answer was lost, its repeat finds its own token.
    pub(crate) async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure> {
        let object = Landed { write_token: self.writer.token(), ..object.clone() };
        match self.book.put_object(&object).await? {
            Swap::Conflict(Some(there)) if there.write_token == object.write_token => Ok(Swap::Stored),
            swap => Ok(swap),
        }
    }

    /// Takes up objects that lie in a dataset's input path and that no event told of: from before this stack was there, or
    /// events that were lost. What is known stays what it is. Returns how many were not.
    ///
    /// # Errors
    /// The lake's or the ledger's.
    pub(crate) async fn take_up(&self, dataset: &str, which: &TakeUp, visit: &Visit) -> Result<u64, Failure> {
        let (from, to) = match which {
            TakeUp::Nothing => return Ok(0),
            TakeUp::Everything => (0, u64::MAX),
            TakeUp::Between(from, to) => (*from, *to),
        };
        let under = self.config.raw.join(&format!("{dataset}/"));
        let (mut found, mut after): (u64, Option<String>) = (0, None);
        loop {
            let page = self.lake.list(&under, after.as_deref()).await?;
            let created: Vec<Created> = page
                .objects
                .iter()
                .filter(|object| (from..=to).contains(&object.modified_ms))
                .map(|object| Created {
                    bucket: object.location.bucket().to_owned(),
                    key: object.location.key().to_owned(),
                    size: object.size,
                    etag: object.etag.trim_matches('"').to_owned(),
                    sequencer: String::new(),
                    landed_ms: object.modified_ms,
                })
                .collect();
            found += self.land(&created, visit).await?.pending;
            after = page.objects.last().map(|object| object.location.key().to_owned());
            if !page.more {
                return Ok(found);
            }
        }
    }

    /// When what has landed now is to be worked on.
    pub(crate) fn due_ms(&self, now_ms: u64) -> u64 {
        let gathered = now_ms + self.config.gather_ms;
        match self.config.when {
            When::Landing => gathered,
            When::OffPeak => self.config.off_peak.next_open_ms(gathered),
        }
    }

    /// Keeps what is not understood.
    ///
    /// # Errors
    /// The lake's: then it must come again.
    pub(crate) async fn bury(&self, event: &Value, reason: &str, visit: &Visit) -> Result<(), Failure> {
        let bucket = Location::parse(&format!("s3://{}", self.config.dead_letter_bucket));
        let bucket = bucket.map_err(|error| Failure::internal("Config", error.to_string()))?;
        let raw = event.to_string();
        // By its content: one that comes again is kept once.
        let name = hex::encode(Sha256::digest(&raw));
        let at = bucket.join(&format!("poison/orchestrator/{name}.json"));
        let letter = json!({"reason": reason, "request_id": visit.request_id, "stored_ms": visit.now_ms(), "raw": raw});
        self.lake.put(&at, Bytes::from(letter.to_string()), "application/json").await?;
        self.herald.say(visit, &DeadLetter { at: &at.to_string(), reason, counted: Some("EventsPoison") });
        Ok(())
    }
}

fn conflict(landed: &Landed) -> Notice {
    let run = landed.run.as_deref().unwrap_or("a run");
    let reason = format!("{} was written again after {run} had it; landed objects are write-once", landed.uri);
    Notice {
        what: format!("landing for {}", landed.dataset),
        place: landed.uri.clone(),
        failure: Failure::user("WrittenAgain", reason),
        job_id: landed.run.clone(),
        next_step: format!(
            "If the new version counts: `weir batch retry {} --replace`, which makes {run} again. Otherwise nothing.",
            landed.dataset
        ),
    }
}
