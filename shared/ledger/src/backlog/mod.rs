//! What is staged of a table of changes, and not yet in it: who has to look at which table, and when.
//!
//! Whoever stages notes how far it has come, before the stream is told that it was read; whoever commits settles what is in the table
//! then. A note that comes while somebody commits stays: it is of a later sequence number. What is *in* a table its own commits say;
//! this record is a mirror of that, and may be behind.

pub mod conformance;
mod memory;

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

use crate::Writer;
use crate::batch::Swap;

pub use memory::MemoryBacklogs;

/// A table's backlog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backlog {
    /// The table, as its database calls it: `public.customers`.
    pub name: String,
    /// By shard: up to which sequence number changes are staged that are not known to be in the table. Numbers are texts of one length.
    #[serde(default)]
    pub staged: BTreeMap<String, String>,
    /// By shard: up to which the first batch came that is staged and not known to be in the table. If what is found begins behind that, some of
    /// it is gone.
    #[serde(default)]
    pub oldest: BTreeMap<String, String>,
    /// Since when something has been staged, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Where the table is that this is covered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// By shard: up to which they are in it.
    #[serde(default)]
    pub covered: BTreeMap<String, String>,
    /// When it is to be looked at, in milliseconds since the epoch, if anything is staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at_ms: Option<u64>,
    /// How often in a row nothing came of it.
    #[serde(default)]
    pub failures: u32,
    /// Grows with each change.
    #[serde(default)]
    pub version: u64,
    /// Whose write this was.
    #[serde(default)]
    pub write_token: String,
}

/// After a failure a table is left alone for so long; it doubles, up to [`LONGEST_MS`].
const FIRST_MS: u64 = 30_000;

/// A table that can't be written is tried so often at least.
const LONGEST_MS: u64 = 900_000;

impl Backlog {
    /// Of a table of which nothing is known.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn next(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

/// Changes of a shard are staged up to there. Nothing if that is in the table.
pub fn note(backlog: &Backlog, shard: &str, upto: &str, now_ms: u64) -> Option<Backlog> {
    if backlog.covered.get(shard).is_some_and(|covered| covered.as_str() >= upto) {
        return None;
    }
    if backlog.staged.get(shard).is_some_and(|staged| staged.as_str() >= upto) && backlog.look_at_ms.is_some() {
        return None;
    }
    let mut next = backlog.next();
    if !backlog.staged.contains_key(shard) {
        next.oldest.insert(shard.to_owned(), upto.to_owned());
    }
    next.since_ms = Some(backlog.since_ms.unwrap_or(now_ms));
    let staged = next.staged.entry(shard.to_owned()).or_default();
    if staged.as_str() < upto {
        upto.clone_into(staged);
    }
    // One that fails is not tried sooner because more comes.
    next.look_at_ms = Some(backlog.look_at_ms.unwrap_or(now_ms));
    Some(next)
}

/// The table, which is `at`, holds all of these shards up to there. What was noted meanwhile is looked at next.
pub fn settle(backlog: &Backlog, covered: &BTreeMap<String, String>, at: &str, now_ms: u64) -> Option<Backlog> {
    let mut next = backlog.next();
    for (shard, upto) in covered {
        let known = next.covered.entry(shard.clone()).or_default();
        if *known < *upto {
            known.clone_from(upto);
        }
    }
    let Backlog { staged, covered, oldest, .. } = &mut next;
    staged.retain(|shard, upto| covered.get(shard).is_none_or(|covered| covered < upto));
    // Of a shard that is covered in part nobody knows what its next batch is called.
    oldest.retain(|shard, first| covered.get(shard).is_none_or(|covered| covered < first));
    next.since_ms = (!next.staged.is_empty()).then_some(now_ms);
    next.at = Some(at.to_owned());
    next.look_at_ms = (!next.staged.is_empty()).then_some(now_ms);
    next.failures = 0;
    Some(next)
}

/// Nothing came of it: it is tried later.
pub fn postpone(backlog: &Backlog, now_ms: u64) -> Option<Backlog> {
    backlog.look_at_ms?;
    let wait_ms = FIRST_MS.saturating_mul(1 << backlog.failures.min(10)).min(LONGEST_MS);
    let failures = backlog.failures.saturating_add(1);
    Some(Backlog { look_at_ms: Some(now_ms + wait_ms), failures, ..backlog.next() })
}

/// Compare-and-swap on one table's backlog.
#[async_trait]
pub trait Backlogs: Send + Sync {
    /// A table's backlog, read consistently.
    async fn backlog(&self, name: &str) -> Result<Option<Backlog>, Failure>;

    /// Stores it if what is stored has the version before its own (1: if nothing is).
    async fn put_backlog(&self, backlog: &Backlog) -> Result<Swap<Backlog>, Failure>;

    /// Those that are to be looked at, the oldest first. The newest may be missing for a moment.
    async fn due_backlogs(&self, now_ms: u64, most: usize) -> Result<Vec<Backlog>, Failure>;
}

/// Stores a change of a backlog, made again from what is there if another was faster. `None` if there is nothing to change then.
///
/// # Errors
/// The store's.
pub async fn change(
    store: &dyn Backlogs,
    writer: &Writer,
    backlog: &Backlog,
    to: impl Fn(&Backlog) -> Option<Backlog> + Send,
) -> Result<Option<Backlog>, Failure> {
    let mut backlog = backlog.clone();
    loop {
        let Some(next) = to(&backlog) else { return Ok(None) };
        let next = Backlog { write_token: writer.token(), ..next };
        match store.put_backlog(&next).await? {
            Swap::Conflict(Some(there)) if there.write_token != next.write_token => backlog = *there,
            Swap::Conflict(None) => backlog = Backlog::new(&backlog.name),
            // Stored; or the write's own repeat finds that it was.
            _ => return Ok(Some(next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Note {
            shard: u8,
            upto: u8,
        },
        /// Somebody begins to commit: by what is noted then.
        Begin,
        /// And ends, long after perhaps.
        End {
            fails: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..3, 0u8..20).prop_map(|(shard, upto)| Step::Note { shard, upto }),
            2 => Just(Step::Begin),
            2 => any::<bool>().prop_map(|fails| Step::End { fails }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_staged_is_looked_at_until_it_is_in_the_table(steps in proptest::collection::vec(step(), 0..40)) {
            let mut backlog = Backlog::new("t");
            let mut staged: BTreeMap<String, String> = BTreeMap::new();
            let mut table: BTreeMap<String, String> = BTreeMap::new();
            let (mut begun, mut batches) = (None, Vec::new());
            for (n, step) in steps.into_iter().enumerate() {
                let now_ms = n as u64;
                match step {
                    Step::Note { shard, upto } => {
                        let (shard, upto) = (shard.to_string(), format!("{upto:03}"));
                        batches.push((shard.clone(), upto.clone()));
                        let known = staged.entry(shard.clone()).or_default();
                        if *known < upto {
                            known.clone_from(&upto);
                        }
                        backlog = note(&backlog, &shard, &upto, now_ms).unwrap_or(backlog);
                    }
                    Step::Begin => begun = Some(staged.clone()),
                    Step::End { fails: true } => backlog = postpone(&backlog, now_ms).unwrap_or(backlog),
                    Step::End { fails: false } => {
                        for (shard, upto) in begun.take().unwrap_or_default() {
                            let known = table.entry(shard).or_default();
                            *known = upto.max(known.clone());
                        }
                        backlog = settle(&backlog, &table, "s3://b/t/", now_ms).unwrap_or(backlog);
                    }
                }
                let left: Vec<_> = staged.iter().filter(|(shard, upto)| table.get(*shard).is_none_or(|there| there < *upto)).collect();
                prop_assert_eq!(backlog.look_at_ms.is_some(), !left.is_empty());
                prop_assert_eq!(backlog.since_ms.is_some(), !left.is_empty());
                // The first batch that is left comes no further than is said.
                for (shard, first) in &backlog.oldest {
                    let next = batches.iter().filter(|(of, upto)| of == shard && table.get(shard).is_none_or(|there| there < upto)).map(|(_, upto)| upto).min();
                    prop_assert!(next.is_some_and(|next| next <= first), "{shard}: {next:?} {first}");
                }
                prop_assert_eq!(backlog.staged.iter().collect::<Vec<_>>(), left);
            }
        }
    }

    #[test]
    fn a_table_that_fails_is_tried_less_and_less_often() {
        let mut backlog = note(&Backlog::new("t"), "0", "7", 0).unwrap();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backlog = postpone(&backlog, 0).unwrap();
            waits.push(backlog.look_at_ms.unwrap() / 1000);
            backlog = note(&backlog, "0", &format!("7{}", waits.len()), 1).unwrap();
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 900, 900, 900]);
        let settled = settle(&backlog, &[("0".to_owned(), "9".to_owned())].into(), "s3://b/t/", 5).unwrap();
        assert_eq!((settled.look_at_ms, settled.failures), (None, 0));
        assert_eq!(postpone(&settled, 0), None, "nothing is waiting");
    }
}
