//! What a Kinesis event source mapping does with a batch, by Lambda's documented rules.
//!
//! Sources: Lambda developer guide, "How Lambda processes records from stream and queue-based event sources",
//! "Configuring partial batch response with Kinesis Data Streams and Lambda", "Retain discarded batch records".

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use weir_delivery::kinesis::BatchResponse;

/// A mapping's settings, as deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `BatchSize`.
    pub batch_size: usize,
    /// `MaximumBatchingWindowInSeconds`.
    pub window: Duration,
    /// `ParallelizationFactor`: batches of a shard that are invoked at a time.
    pub lanes: usize,
    /// `MaximumRecordAgeInSeconds`; `None` for -1.
    pub oldest: Option<Duration>,
    /// `BisectBatchOnFunctionError`.
    pub bisect: bool,
    /// `MaximumRetryAttempts`; `None` for -1, without end.
    pub most_retries: Option<u32>,
    /// Whether `ReportBatchItemFailures` is on; if it is not, the response is ignored.
    pub reports: bool,
    /// `TumblingWindowInSeconds`; `None` without.
    pub tumbling: Option<Duration>,
}

/// The most an invocation's payload may hold: "Lambda … invokes your function when … the payload size reaches 6 MB".
const PAYLOAD_BYTES: usize = 6_000_000;

/// How many of the records that wait, oldest first, are invoked now; zero for wait. `sizes` are what they add to the
/// payload, `waited` how long the first one has waited.
///
/// "The batching window is over, the batch size is met, or the payload limit is": developer guide, "Batching behavior".
pub fn cut(sizes: impl IntoIterator<Item = usize>, waited: Duration, settings: &Settings) -> usize {
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        bytes += size;
        if count == settings.batch_size || (count > 0 && bytes > PAYLOAD_BYTES) {
            return count;
        }
        count += 1;
    }
    if count == settings.batch_size || waited >= settings.window { count } else { 0 }
}

/// Which of a shard's concurrent batches a record belongs to: "in-order processing at the partition-key level".
pub fn lane(partition_key: &str, settings: &Settings) -> usize {
    let mut hasher = DefaultHasher::new();
    partition_key.hash(&mut hasher);
    usize::try_from(hasher.finish() % settings.lanes.max(1) as u64).unwrap_or(0)
}

/// Which shards, listed with their parents, are read now: not yet begun, and every parent that is still listed is finished. "Lambda … processes the
/// parent shard's records to their end before it begins with a child": "a resharded stream keeps its order".
pub fn ready(shards: &[(String, Vec<String>)], begun: &HashSet<String>, finished: &HashSet<String>) -> Vec<String> {
    let waits_for = |parent: &String| shards.iter().any(|(listed, _)| listed == parent) && !finished.contains(parent);
    let free = |(shard, parents): &&(String, Vec<String>)| !begun.contains(shard) && !parents.iter().any(waits_for);
    shards.iter().filter(free).map(|(shard, _)| shard.clone()).collect()
}

/// Records that are invoked together, and how often they were retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch<R> {
    /// In shard order.
    pub records: Vec<R>,
    /// Invocations before this one that counted as retries.
    pub retries: u32,
}

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The function answered.
    Answered(BatchResponse),
    /// The function failed, timed out or was killed.
    FunctionError,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next<R> {
    /// Batches to invoke before any further record of the shard, in order.
    pub again: Vec<Batch<R>>,
    /// Records that are given up: for the on-failure destination.
    pub discarded: Option<Batch<R>>,
}

/// Decides what follows an invocation. `sequence_number` names a record.
pub fn next<R>(
    mut batch: Batch<R>,
    ended: &Ended,
    settings: Settings,
    sequence_number: impl Fn(&R) -> &str,
) -> Next<R> {
    let nothing = Next { again: Vec::new(), discarded: None };
    let (failed_from, reported) = match ended {
        Ended::FunctionError => (0, false),
        Ended::Answered(_) if !settings.reports => return nothing,
        Ended::Answered(response) => match first_failure(&batch.records, response, &sequence_number) {
            None => return nothing,
            Some(index) => (index, true),
        },
    };
    // Everything before the lowest failure is done: the checkpoint.
    let rest = batch.records.split_off(failed_from);
    if settings.most_retries.is_some_and(|most| batch.retries >= most) {
        return Next { discarded: Some(Batch { records: rest, retries: batch.retries }), ..nothing };
    }
    if settings.bisect && !reported && rest.len() > 1 {
        // "Splitting a batch does not count towards the retry quota."
        let mut first = rest;
        let second = first.split_off(first.len() / 2);
        let half = |records| Batch { records, retries: batch.retries };
        return Next { again: vec![half(first), half(second)], discarded: None };
    }
    Next { again: vec![Batch { records: rest, retries: batch.retries + 1 }], discarded: None }
}

/// The lowest record named. An empty or unknown identifier fails the whole batch.
fn first_failure<R>(records: &[R], response: &BatchResponse, sequence_number: impl Fn(&R) -> &str) -> Option<usize> {
    let place = |identifier: &str| records.iter().position(|record| sequence_number(record) == identifier).unwrap_or(0);
    response.batch_item_failures.iter().map(|failure| place(&failure.item_identifier)).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_delivery::ItemFailure;

    const SETTINGS: Settings = Settings {
        batch_size: 3,
        window: Duration::from_secs(2),
        lanes: 4,
        oldest: None,
        bisect: true,
        most_retries: Some(2),
        reports: true,
        tumbling: None,
    };

    #[test]
    fn a_batch_is_cut_by_count_by_bytes_or_by_the_window() {
        let (early, late) = (Duration::ZERO, Duration::from_secs(2));
        for (sizes, waited, count) in [
            (vec![], late, 0),
            (vec![1, 1], early, 0),
            (vec![1, 1], late, 2),
            (vec![1, 1, 1], early, 3),
            (vec![1, 1, 1, 1], early, 3),
            (vec![4_000_000, 1_000_000, 2_000_000], early, 2),
            (vec![9_000_000, 1], early, 1),
        ] {
            assert_eq!(cut(sizes.clone(), waited, &SETTINGS), count, "{sizes:?} {waited:?}");
        }
    }

    #[test]
    fn a_partition_key_has_one_lane_and_all_lanes_are_used() {
        let lanes: std::collections::BTreeSet<usize> = (0..99).map(|n| lane(&n.to_string(), &SETTINGS)).collect();
        assert_eq!(lanes.len(), 4);
        assert_eq!(lane("same", &SETTINGS), lane("same", &SETTINGS));
        assert_eq!(lane("any", &Settings { lanes: 1, ..SETTINGS }), 0);
    }

    #[test]
    fn a_child_shard_waits_for_its_parents() {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let shards = [("old", &["trimmed"][..]), ("left", &["old"]), ("merged", &["old", "other"]), ("other", &[])]
            .map(|(shard, parents)| (shard.to_owned(), owned(parents)));
        let names = |begun: &[&str], finished: &[&str]| {
            ready(&shards, &owned(begun).into_iter().collect(), &owned(finished).into_iter().collect())
        };
        assert_eq!(names(&[], &[]), ["old", "other"]);
        assert_eq!(names(&["old", "other"], &["old"]), ["left"]);
        assert_eq!(names(&["old", "other", "left"], &["old", "other"]), ["merged"]);
    }

    fn batch(records: &[&str]) -> Batch<String> {
        Batch { records: records.iter().map(ToString::to_string).collect(), retries: 0 }
    }

    fn failed(identifiers: &[&str]) -> Ended {
        let failure = |identifier: &&str| ItemFailure { item_identifier: identifier.to_string() };
        Ended::Answered(BatchResponse { batch_item_failures: identifiers.iter().map(failure).collect() })
    }

    #[test]
    fn the_lowest_failure_is_the_checkpoint() {
        let next = next(batch(&["1", "2", "3", "4"]), &failed(&["3", "2"]), SETTINGS, |record| record);
        assert_eq!(next.again, [Batch { records: vec!["2".into(), "3".into(), "4".into()], retries: 1 }]);
    }

    #[test]
    fn an_empty_identifier_fails_the_batch_and_without_reporting_nothing_does() {
        assert_eq!(next(batch(&["1", "2"]), &failed(&[""]), SETTINGS, |record| record).again.len(), 1);
        let silent = Settings { reports: false, ..SETTINGS };
        assert!(next(batch(&["1", "2"]), &failed(&["1"]), silent, |record| record).again.is_empty());
    }

    #[test]
    fn an_error_splits_the_batch_without_using_up_retries() {
        let next = next(batch(&["1", "2", "3"]), &Ended::FunctionError, SETTINGS, |record| record);
        assert_eq!(next.again, [batch(&["1"]), batch(&["2", "3"])]);
    }

    proptest! {
        /// However often a function fails, every record is done or discarded, once, and in order.
        #[test]
        fn no_record_is_lost_and_it_ends(count in 1usize..12, ends in prop::collection::vec(prop::option::of(0usize..12), 0..60)) {
            let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
            let mut queue = vec![Batch { records: names.clone(), retries: 0 }];
            let mut left = Vec::new();
            let mut ends = ends.into_iter();
            while !queue.is_empty() {
                let batch = queue.remove(0);
                let ended = match ends.next() {
                    None => failed(&[]),
                    Some(None) => Ended::FunctionError,
                    Some(Some(at)) => batch.records.get(at).map_or(failed(&[]), |record| failed(&[record])),
                };
                let all = batch.records.clone();
                let next = next(batch, &ended, SETTINGS, |record| record);
                let kept: usize = next.again.iter().map(|batch| batch.records.len()).sum();
                let gone = next.discarded.as_ref().map_or(0, |batch| batch.records.len());
                left.extend(all[..all.len() - kept - gone].to_vec());
                left.extend(next.discarded.into_iter().flat_map(|batch| batch.records));
                queue.splice(0..0, next.again);
            }
            prop_assert_eq!(left, names);
        }
    }
}
