use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn batch(offsets: std::ops::RangeInclusive<i64>) -> Vec<(i64, Option<i64>)> {
    offsets.map(|offset| (offset, Some(1_000 + offset))).collect()
}

fn span(records: &[(i64, Option<i64>)]) -> Range {
    Range { from: records[0].0, to: records[records.len() - 1].0 + 1 }
}

fn newest(records: &[(i64, Option<i64>)]) -> Option<i64> {
    records.iter().filter_map(|(_, at)| *at).max()
}

fn committed(position: &Position, records: &[(i64, Option<i64>)], now_ms: u64) -> Position {
    let Some(Taking::Take(taken)) = take(position, records, now_ms) else { panic!("not taken") };
    commit(&intend(&taken, "manifest"), span(records), newest(records))
}

#[test]
fn a_partition_is_taken_by_one_and_committed_once() {
    let new = Position::new("c/t/0");
    let first = batch(10..=19);
    let Some(Taking::Take(taken)) = take(&new, &first, 5) else { panic!() };
    assert_eq!((taken.fence, taken.lease_until_ms), (1, 5 + LEASE_MS));
    assert_eq!(take(&taken, &first, 6), Some(Taking::Busy(5 + LEASE_MS)));
    assert!(may_write(&taken, 1_000, 5) && !may_write(&taken, LEASE_MS, 5));
    let done = commit(&intend(&taken, "m"), span(&first), newest(&first));
    assert_eq!(
        (done.committed, done.newest_ms, &done.intent, done.lease_until_ms),
        (Some(Range { from: 10, to: 20 }), Some(1_019), &None, 0)
    );
    assert_eq!(take(&done, &first, 6), Some(Taking::Known), "delivered again");
    let Some(Taking::Take(over)) = take(&taken, &first, 5 + LEASE_MS) else { panic!() };
    assert_eq!(over.fence, 2, "its files have other names");
    assert_eq!(take(&new, &[], 1), None);
}

#[test]
fn what_was_left_out_is_a_gap_until_it_comes() {
    let after = committed(&committed(&Position::new("p"), &batch(0..=9), 1), &batch(20..=29), 2);
    assert_eq!(after.gaps, [Range { from: 10, to: 20 }]);
    // Cut as it likes.
    let half = committed(&after, &batch(13..=15), 3);
    assert_eq!(half.gaps, [Range { from: 10, to: 13 }, Range { from: 16, to: 20 }]);
    assert!(is_wanted(&half, 12) && !is_wanted(&half, 13) && !is_wanted(&half, 29) && is_wanted(&half, 30));
    let whole = committed(&half, &batch(8..=22), 4);
    assert_eq!((whole.gaps.len(), whole.committed), (0, Some(Range { from: 0, to: 30 })));
    // A first batch that was given up and comes from the dead letters.
    let below = committed(&whole, &batch(-20..=-11), 5);
    assert_eq!((below.gaps, below.committed), (vec![Range { from: -10, to: 0 }], Some(Range { from: -20, to: 30 })));
}

#[test]
fn a_topic_that_was_made_anew_is_no_repetition() {
    let done = committed(&Position::new("p"), &batch(0..=9), 1);
    let anew = [(0, Some(5_000)), (1, Some(5_001))];
    assert_eq!(take(&done, &anew, 2), Some(Taking::Recreated(0)));
    // Across the position, too: the first ten of it would be skipped in silence.
    let across: Vec<_> = (8..12).map(|offset| (offset, Some(5_000 + offset))).collect();
    assert_eq!(take(&done, &across, 2), Some(Taking::Recreated(8)));
    assert_eq!(take(&done, &[(3, None)], 2), Some(Taking::Known), "without a time nothing is told");
}

#[test]
fn gaps_do_not_outgrow_the_record() {
    let mut full = committed(&Position::new("p"), &batch(0..=0), 1);
    full.gaps = (0..MOST_GAPS as i64).map(|n| Range { from: -3 * n - 2, to: -3 * n - 1 }).rev().collect();
    full.committed = Some(Range { from: -3 * MOST_GAPS as i64, to: 1 });
    assert_eq!(take(&full, &batch(5..=6), 2), Some(Taking::Full));
    assert!(matches!(take(&full, &batch(1..=6), 2), Some(Taking::Take(_))), "without another gap it goes on");
    assert!(matches!(take(&full, &batch(-2..=-2), 2), Some(Taking::Take(_))), "and gaps are filled");
}

/// A world of one partition: its record, the files on S3 by name, and the manifests that are committed.
#[derive(Default)]
struct World {
    position: Option<Position>,
    files: BTreeMap<String, Vec<i64>>,
    manifests: BTreeMap<String, Vec<String>>,
    handed_on: BTreeSet<String>,
    now_ms: u64,
}

/// A worker that is somewhere in its work, as it sees the position.
struct Worker {
    seen: Position,
    records: Vec<(i64, Option<i64>)>,
    left: Vec<(String, Vec<i64>)>,
    at: u8,
}

/// How long writing a file may take.
const LONGEST_MS: u64 = 60_000;

impl World {
    fn position(&self) -> Position {
        self.position.clone().unwrap_or_else(|| Position::new("p"))
    }

    /// Compare-and-swap.
    fn store(&mut self, next: &Position) -> bool {
        let fits = self.position().version + 1 == next.version;
        if fits {
            self.position = Some(next.clone());
        }
        fits
    }

    fn begin(&mut self, records: Vec<(i64, Option<i64>)>) -> Option<Worker> {
        let Some(Taking::Take(taken)) = take(&self.position(), &records, self.now_ms) else { return None };
        let wanted = |records: &[(i64, Option<i64>)]| -> Vec<i64> {
            records.iter().map(|(offset, _)| *offset).filter(|offset| is_wanted(&taken, *offset)).collect()
        };
        // Two files a batch.
        let halves = records.split_at(records.len() / 2);
        let left = [("a", wanted(halves.0)), ("b", wanted(halves.1))];
        let left = left.map(|(half, offsets)| (format!("{}-{}-{half}", records[0].0, taken.fence), offsets));
        self.store(&taken).then(|| Worker { seen: *taken, records, left: left.into(), at: 0 })
    }

    /// One step of a worker; `false` when it is through, or has lost.
    fn step(&mut self, worker: &mut Worker) -> bool {
        match worker.at {
            // What is left over of another goes first.
            0 => {
                if let Some(intent) = &worker.seen.intent {
                    for file in self.manifests.get(&intent.manifest).into_iter().flatten() {
                        self.files.remove(file);
                    }
                }
            }
            1 => {
                let names = worker.left.iter().map(|(name, _)| name.clone()).collect();
                self.manifests.insert(format!("manifest-{}", worker.seen.fence), names);
            }
            2 => {
                let next = intend(&worker.seen, &format!("manifest-{}", worker.seen.fence));
                if !self.store(&next) {
                    return false;
                }
                worker.seen = next;
            }
            3 | 4 => {
                // It may look, be stalled for a little, and write.
                if !may_write(&worker.seen, LONGEST_MS, self.now_ms) {
                    return false;
                }
                let (name, offsets) = worker.left[usize::from(worker.at - 3)].clone();
                self.files.insert(name, offsets);
            }
            _ => {
                let intent = worker.seen.intent.clone().unwrap();
                let next = commit(&worker.seen, span(&worker.records), newest(&worker.records));
                if self.store(&next) {
                    self.handed_on.insert(intent.manifest);
                }
                return false;
            }
        }
        worker.at += 1;
        true
    }
}

proptest! {
    /// Batches cut anywhere, delivered again and again, to workers that are killed or stall at any step, while time passes: in the
    /// end each offset is in one file, every file is committed, and no gap is left.
    #[test]
    fn each_offset_is_in_one_committed_file(
        steps in prop::collection::vec((0..5u8, 0..4usize, 0..40i64, 1..12i64, 0..400_000u64), 1..300),
    ) {
        let (mut world, mut workers) = (World::default(), Vec::<Worker>::new());
        for (kind, who, first, length, passes) in steps {
            world.now_ms += passes;
            let index = who % workers.len().max(1);
            match kind {
                // Kafka delivers from anywhere that is not behind what nobody has seen, or leaves something out.
                0 => workers.extend(world.begin(batch(first..=first + length))),
                1 if !workers.is_empty() => drop(workers.remove(index)),
                _ => {
                    if let Some(worker) = workers.get_mut(index)
                        && !world.step(worker)
                    {
                        workers.remove(index);
                    }
                }
            }
        }
        // Everything comes once more, to workers that live.
        workers.clear();
        for start in (0..=60).step_by(7) {
            world.now_ms += LEASE_MS;
            if let Some(mut worker) = world.begin(batch(start..=start + 6)) {
                while world.step(&mut worker) {}
            }
        }
        let position = world.position();
        prop_assert_eq!(&position.gaps, &Vec::new());
        let of_committed: BTreeSet<&String> = world.handed_on.iter().flat_map(|name| &world.manifests[name]).collect();
        let there: BTreeSet<&String> = world.files.keys().collect();
        prop_assert!(there.is_subset(&of_committed), "uncommitted: {:?}", there.difference(&of_committed));
        let mut offsets: Vec<i64> = world.files.values().flatten().copied().collect();
        offsets.sort_unstable();
        prop_assert_eq!(offsets, (0..position.committed.unwrap().to).collect::<Vec<_>>());
    }
}
