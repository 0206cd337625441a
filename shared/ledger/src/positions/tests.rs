use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LEASE_MS: u64 = 330_000;

fn batch(offsets: std::ops::RangeInclusive<i64>) -> Vec<(i64, Option<i64>)> {
    offsets.map(|offset| (offset, Some(1_000 + offset))).collect()
}

fn span(records: &[(i64, Option<i64>)]) -> Range {
    Range { from: records[0].0, to: records[records.len() - 1].0 + 1 }
}

fn last_of(records: &[(i64, Option<i64>)]) -> Option<i64> {
    records.last().unwrap().1
}

fn taken(position: &Position, records: &[(i64, Option<i64>)], now_ms: u64) -> Option<Taking> {
    take(position, records, now_ms + LEASE_MS, now_ms)
}

fn committed(position: &Position, records: &[(i64, Option<i64>)], now_ms: u64) -> Position {
    let Some(Taking::Take(taken)) = taken(position, records, now_ms) else { panic!("not taken") };
    commit(&intend(&taken, "manifest").unwrap(), span(records), newest_of(records, now_ms), last_of(records)).unwrap().0
}

#[test]
fn a_partition_is_taken_by_one_and_committed_once() {
    let new = Position::new("c/t/0");
    let first = batch(10..=19);
    let Some(Taking::Take(own)) = taken(&new, &first, 5) else { panic!() };
    assert_eq!((own.fence, own.lease_until_ms), (1, 5 + LEASE_MS));
    assert_eq!(taken(&own, &first, 6), Some(Taking::Busy(5 + LEASE_MS)));
    let (done, _) = commit(&intend(&own, "m").unwrap(), span(&first), newest_of(&first, 6), None).unwrap();
    assert_eq!(
        (done.committed, done.newest_ms, &done.intent, done.lease_until_ms),
        (Some(Range { from: 10, to: 20 }), Some(1_019), &None, 0)
    );
    assert_eq!(taken(&done, &first, 6), Some(Taking::Known), "delivered again");
    assert_eq!(taken(&new, &[], 1), None);
}

#[test]
fn what_is_left_over_is_cleared_before_anything_else() {
    let first = batch(0..=9);
    let Some(Taking::Take(own)) = taken(&Position::new("p"), &first, 5) else { panic!() };
    let intended = intend(&own, "first").unwrap();
    assert!(matches!(taken(&intended, &first, 11), Some(Taking::Busy(_))));
    assert!(matches!(taken(&intended, &first, 5 + LEASE_MS), Some(Taking::Take(_))));
    let Some(Taking::Take(over)) = taken(&release(&intended), &first, 11) else { panic!() };
    assert_eq!((over.fence, left_over(&over).unwrap().manifest.as_str()), (2, "first"));
    assert_eq!((intend(&over, "second"), commit(&over, span(&first), None, None)), (None, None));
    assert!(commit(&cleared(&over), span(&first), None, None).is_some(), "a batch without a good row needs no file");
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
    let told = |position: &Position, records: &[(i64, Option<i64>)]| match taken(position, records, 2) {
        Some(Taking::Recreated(offset, stopped)) => Some((offset, stopped)),
        _ => None,
    };
    let anew_records = [(0, Some(5_000)), (1, Some(5_001))];
    let (offset, stopped) = told(&done, &anew_records).unwrap();
    assert_eq!((offset, stopped.stopped), (0, Some(0)));
    // What comes later would be taken for the old topic's next records.
    for records in [&anew_records[..], &batch(10..=12)] {
        assert_eq!(taken(&stopped, records, 3), Some(Taking::Stopped(0)));
    }
    // Across the position, too: the first of it would be skipped in silence.
    let across: Vec<_> = (8..12).map(|offset| (offset, Some(5_000 + offset))).collect();
    assert_eq!(told(&done, &across).unwrap().0, 9, "of the last record that was committed another time is known");
    // An older time than the one that was committed tells as well.
    let older: Vec<_> = (5..12).map(|offset| (offset, Some(500 + offset))).collect();
    assert_eq!(told(&done, &older).unwrap().0, 9);
    assert_eq!(taken(&done, &[(3, None)], 2), Some(Taking::Known), "without a time nothing is told");
    let Some(Taking::Take(next)) = taken(&anew(&stopped), &anew_records, 2) else { panic!() };
    assert_eq!((next.fence, next.stopped), (2, None), "its files are others");
    // A clock that is wrong by years hides nothing from then on.
    let wrong = committed(&done, &[(10, Some(i64::MAX))], 3);
    assert_eq!((wrong.newest_ms, told(&wrong, &anew_records).map(|told| told.0)), (done.newest_ms, Some(0)));
    // And one that is ahead stops nothing when its record comes again, a day later.
    let ahead = [(10, Some(2 * SANE_MS as i64))];
    let later = taken(&committed(&done, &ahead, 3), &ahead, 2 * SANE_MS);
    assert_eq!(later, Some(Taking::Known));
    // One of a batch alone tells nothing: clocks differ.
    assert!(told(&done, &[(0, Some(1_000)), (1, Some(5_000))]).is_none());
}

#[test]
fn gaps_do_not_outgrow_the_record_and_what_is_forgotten_is_told() {
    let mut position = committed(&Position::new("p"), &batch(0..=0), 1);
    let mut told = Vec::new();
    for n in 1..=MOST_GAPS as i64 + 2 {
        // A marker after each batch, and once a batch that was given up.
        let width = if n == 1 { 50 } else { 1 };
        let first = position.committed.unwrap().to + width;
        let records = batch(first..=first);
        let Some(Taking::Take(own)) = taken(&position, &records, 2) else { panic!() };
        let (next, forgotten) = commit(&own, span(&records), None, None).unwrap();
        position = next;
        told.extend(forgotten);
    }
    assert_eq!((position.gaps.len(), told.len()), (MOST_GAPS, 2));
    assert_eq!(position.gaps[0], Range { from: 1, to: 51 }, "the wide one is remembered");
}

/// A world of one partition: its record, the files on S3 by name, files that are under way, and the manifests that are committed.
#[derive(Default)]
struct World {
    position: Option<Position>,
    /// A closed one has no offsets.
    files: BTreeMap<String, Vec<i64>>,
    under_way: Vec<(u64, String, Vec<i64>)>,
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

impl World {
    fn position(&self) -> Position {
        self.position.clone().unwrap_or_else(|| Position::new("p"))
    }

    /// Compare-and-swap.
    fn store(&mut self, seen: &Position, next: &Position) -> bool {
        let fits = self.position().version == seen.version;
        if fits {
            self.position = Some(next.clone());
        }
        fits
    }

    /// Time passes; files that were under way appear when their time is up, whoever wrote them, unless their name is taken.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        let now_ms = self.now_ms;
        for (_, name, offsets) in self.under_way.extract_if(.., |(at, ..)| *at <= now_ms) {
            self.files.entry(name).or_insert(offsets);
        }
    }

    fn begin(&mut self, records: Vec<(i64, Option<i64>)>) -> Option<Worker> {
        let seen = self.position();
        let Some(Taking::Take(own)) = taken(&seen, &records, self.now_ms) else { return None };
        let wanted = |records: &[(i64, Option<i64>)]| -> Vec<i64> {
            records.iter().map(|(offset, _)| *offset).filter(|offset| is_wanted(&own, *offset)).collect()
        };
        // Two files a batch.
        let halves = records.split_at(records.len() / 2);
        let left = [("a", wanted(halves.0)), ("b", wanted(halves.1))];
        let left = left.map(|(half, offsets)| (format!("{}-{}-{half}", records[0].0, own.fence), offsets));
        // With nothing left over, the manifest is written first, and taking and intending are stored at once.
        let manifest = format!("manifest-{}", own.fence);
        let (own, at) = match intend(&own, &manifest) {
            Some(intended) => (intended, 3),
            None => (*own, 0),
        };
        if !self.store(&seen, &own) {
            return None;
        }
        if at == 3 {
            self.manifests.insert(manifest, left.iter().map(|(name, _)| name.clone()).collect());
        }
        Some(Worker { seen: own, records, left: left.into(), at })
    }

    /// One step of a worker; `false` when it is through, or has lost.
    fn step(&mut self, worker: &mut Worker, slow_ms: u64) -> bool {
        let next = match worker.at {
            // What is left over of another goes first.
            0 => match left_over(&worker.seen).cloned() {
                Some(intent) => {
                    for file in self.manifests.get(&intent.manifest).into_iter().flatten() {
                        self.files.insert(file.clone(), Vec::new());
                    }
                    Some(cleared(&worker.seen))
                }
                None => None,
            },
            1 => {
                let names = worker.left.iter().map(|(name, _)| name.clone()).collect();
                self.manifests.insert(format!("manifest-{}", worker.seen.fence), names);
                None
            }
            2 => intend(&worker.seen, &format!("manifest-{}", worker.seen.fence)),
            3 | 4 => {
                let (name, offsets) = worker.left[usize::from(worker.at - 3)].clone();
                self.under_way.push((self.now_ms + slow_ms, name, offsets));
                None
            }
            5 => {
                // Until S3 has answered; that the name is taken, if it is.
                let names: BTreeSet<&String> = worker.left.iter().map(|(name, _)| name).collect();
                if self.under_way.iter().any(|(_, name, _)| names.contains(name)) {
                    return true;
                }
                if worker.left.iter().any(|(name, offsets)| self.files.get(name) != Some(offsets)) {
                    return false;
                }
                None
            }
            _ => {
                let manifest = worker.seen.intent.clone().unwrap().manifest;
                let newest = newest_of(&worker.records, self.now_ms);
                let (next, _) = commit(&worker.seen, span(&worker.records), newest, last_of(&worker.records)).unwrap();
                if self.store(&worker.seen, &next) {
                    self.handed_on.insert(manifest);
                }
                return false;
            }
        };
        if let Some(next) = next {
            if !self.store(&worker.seen, &next) {
                return false;
            }
            worker.seen = next;
        }
        worker.at += 1;
        true
    }

    /// What is committed has no offset twice, and its files are there.
    fn is_sound(&self) -> bool {
        let names = self.handed_on.iter().flat_map(|name| &self.manifests[name]);
        let mut offsets = BTreeSet::new();
        names
            .into_iter()
            .all(|name| self.files.get(name).is_some_and(|file| file.iter().all(|offset| offsets.insert(*offset))))
    }
}

proptest! {
    /// Batches cut anywhere, delivered again and again, to workers that are killed, give up or stall at any step, while time passes
    /// and files come as late as they like: what is committed is always sound, and in the end each offset is in one file, every file
    /// that is not empty is committed, and no gap is left.
    #[test]
    fn each_offset_is_in_one_committed_file(
        steps in prop::collection::vec((0..8u8, 0..4usize, 0..40i64, 1..12i64, 0..60_000u64), 1..400),
    ) {
        let (mut world, mut workers) = (World::default(), Vec::<Worker>::new());
        for (kind, who, first, length, passes) in steps {
            world.pass(if kind == 7 { 5 * passes } else { passes / 4 });
            let index = who % workers.len().max(1);
            match kind {
                // Kafka delivers from anywhere, and leaves something out.
                0 => workers.extend(world.begin(batch(first..=first + length))),
                1 if !workers.is_empty() => drop(workers.remove(index)),
                2 if !workers.is_empty() => {
                    let worker = workers.remove(index);
                    world.store(&worker.seen, &release(&worker.seen));
                }
                _ => {
                    if let Some(worker) = workers.get_mut(index)
                        && !world.step(worker, passes)
                    {
                        workers.remove(index);
                    }
                }
            }
            prop_assert!(world.is_sound());
        }
        // Everything comes once more, to workers that live; those that stalled wake up in between.
        for start in (0..=60).step_by(7) {
            world.pass(LEASE_MS);
            if let Some(mut worker) = world.begin(batch(start..=start + 6)) {
                while world.step(&mut worker, 0) {
                    world.pass(1);
                    workers.retain_mut(|stalled| world.step(stalled, 10 * LEASE_MS));
                }
            }
            prop_assert!(world.is_sound());
        }
        world.pass(100 * LEASE_MS);
        let position = world.position();
        prop_assert_eq!(&position.gaps, &Vec::new());
        let of_committed: BTreeSet<&String> = world.handed_on.iter().flat_map(|name| &world.manifests[name]).collect();
        let there: BTreeSet<&String> = world.files.iter().filter(|(_, file)| !file.is_empty()).map(|(name, _)| name).collect();
        prop_assert!(there.is_subset(&of_committed), "uncommitted: {:?}", there.difference(&of_committed));
        let mut offsets: Vec<i64> = world.files.values().flatten().copied().collect();
        offsets.sort_unstable();
        prop_assert_eq!(offsets, (0..position.committed.unwrap().to).collect::<Vec<_>>());
    }
}
