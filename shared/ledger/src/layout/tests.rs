use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::positions::{Range, Taking, cleared, commit, intend, left_over, take};

const FOLDER: &str = "page_logs/event_date=2024-05-01/";
const LEASE_MS: u64 = 40;

#[test]
fn a_generation_has_a_folder_of_its_own() {
    assert_eq!(path_of(FOLDER, 0), FOLDER);
    assert_eq!(path_of(FOLDER, 7), "page_logs/generation=7/event_date=2024-05-01/");
}

#[test]
fn what_was_left_moving_is_moved_from_where_readers_see_it() {
    let chosen = [FOLDER.to_owned()];
    let folders = Folders([(FOLDER.to_owned(), 3)].into());
    let first = Layout { generation: 5, ..Layout::default() };
    let begun = begin(&first, &folders, &chosen, "at", 100, 10).unwrap();
    assert_eq!(begin(&begun, &folders, &[], "at", 200, 99), None, "somebody is at it");
    let next = next_folders(&begun, &next_folders(&first, &folders, &chosen), &[]);
    assert_eq!(next.generation_of(FOLDER), 7);
    let again = begin(&begun, &folders, &chosen, "at", 200, 100).unwrap();
    assert_eq!(again.moving[FOLDER], Moving { shown: 3, since: vec![6, 7] });
    assert_eq!(settle(&again, FOLDER, 6, 150), None, "that was another's");
    let settled = settle(&again, FOLDER, 7, 150).unwrap();
    assert_eq!((settled.retired[0].generations.as_slice(), settled.moving.len()), (&[3, 6][..], 0));
    assert_eq!(forget(&settled, &settled.retired[0]).unwrap().retired, []);
}

#[test]
fn a_partition_is_counted_once() {
    let one = count(&Layout::default(), "c/t", 4).unwrap();
    assert_eq!((count(&one, "c/t", 2), count(&one, "c/t", 4)), (None, None));
    assert_eq!(count(&one, "c/t", 5).unwrap().topics["c/t"], 6);
}

/// A file of one folder: by whom it was written, and with which rows. An empty one closes its name.
#[derive(Debug, Clone, Default)]
struct File {
    rows: Vec<i64>,
    merged: bool,
}

type Name = (usize, u64);

/// What several writers and compactors share; one partition of a table, three of a topic.
#[derive(Debug, Default)]
struct World {
    now_ms: u64,
    layout: Layout,
    folders: BTreeMap<u64, Folders>,
    positions: [Option<Position>; 3],
    files: BTreeMap<(u64, Name), File>,
    /// As the catalog has it.
    shown: u64,
    committed: BTreeSet<i64>,
}

/// Where a writer is. It may stay there for ever, or go on when nobody expects it.
#[derive(Debug)]
enum Writer {
    Looks(usize),
    Plans(usize, Position),
    Takes(usize, Position, u64),
    Closes(usize, Position),
    Writes(usize, Position, u64),
    Commits(usize, Position),
}

#[derive(Debug)]
enum Compactor {
    Begins,
    Bars(u64, usize),
    Reads(u64),
    Writes(u64, File),
    Shows(u64),
    Settles(u64),
}

impl World {
    fn put(&mut self, number: usize, next: Position, expected: u64) -> bool {
        let there = self.positions[number].as_ref().map_or(0, |there| there.version);
        let stored = there == expected;
        if stored {
            self.positions[number] = Some(next);
        }
        stored
    }

    fn name(number: usize, position: &Position) -> Name {
        (number, position.fence)
    }

    /// Rows that wait at a position: the next ten, of a topic that never ends.
    fn batch(known: &Position) -> Vec<(i64, Option<i64>)> {
        let from = known.committed.map_or(0, |all| all.to);
        (from..from + 2).map(|offset| (offset, None)).collect()
    }

    fn row(number: usize, offset: i64) -> i64 {
        number as i64 * 1_000_000 + offset
    }

    fn write(&mut self, writer: Writer) -> Writer {
        match writer {
            Writer::Looks(number) => {
                let known = self.positions[number].clone().unwrap_or_else(|| Position::new(&format!("c/t/{number}")));
                match take(&known, &Self::batch(&known), self.now_ms + LEASE_MS, self.now_ms) {
                    Some(Taking::Take(_)) => Writer::Plans(number, known),
                    _ => Writer::Looks((number + 1) % 3),
                }
            }
            Writer::Plans(number, known) => {
                if known.generation.is_none()
                    && let Some(next) = count(&self.layout, "c/t", number as i32)
                {
                    self.layout = next;
                }
                let generation = self.layout.generation;
                Writer::Takes(number, known, generation)
            }
            Writer::Takes(number, known, generation) => {
                let Some(Taking::Take(own)) = take(&known, &Self::batch(&known), self.now_ms + LEASE_MS, self.now_ms)
                else {
                    return Writer::Looks(number);
                };
                let own = Position { generation: Some(generation), ..*own };
                if left_over(&own).is_none() {
                    return self.intend(number, own, known.version);
                }
                match self.put(number, own.clone(), known.version) {
                    true => Writer::Closes(number, own),
                    false => Writer::Looks(number),
                }
            }
            Writer::Closes(number, own) => {
                let left = own.intent.clone().unwrap();
                self.files.insert((left.manifest.parse().unwrap(), (number, left.fence)), File::default());
                self.intend(number, cleared(&own), own.version)
            }
            Writer::Writes(number, own, folder) => {
                let rows = Self::batch(&own).into_iter().map(|(offset, _)| Self::row(number, offset)).collect();
                let there = self.files.entry((folder, Self::name(number, &own)));
                there.or_insert(File { rows, merged: false });
                Writer::Commits(number, own)
            }
            Writer::Commits(number, own) => {
                let batch = Self::batch(&own);
                let done = Range { from: batch[0].0, to: batch[1].0 + 1 };
                let (next, _) = commit(&own, done, None, None).unwrap();
                if self.put(number, next, own.version) {
                    self.committed.extend(batch.into_iter().map(|(offset, _)| Self::row(number, offset)));
                }
                Writer::Looks(number)
            }
        }
    }

    fn intend(&mut self, number: usize, own: Position, expected: u64) -> Writer {
        let generation = own.generation.unwrap();
        let folder = self.folders.get(&generation).map_or(0, |folders| folders.generation_of(FOLDER));
        let own = intend(&own, &folder.to_string()).unwrap();
        match self.put(number, own.clone(), expected) {
            true => Writer::Writes(number, own, folder),
            false => Writer::Looks(number),
        }
    }

    /// Whether a file's rows are committed, for all that the ledger says.
    fn is_left(&self, folder: u64, name: Name) -> bool {
        let open = self.positions.get(name.0).and_then(Option::as_ref).and_then(|position| position.intent.as_ref());
        open.is_some_and(|intent| intent.fence == name.1 && intent.manifest == folder.to_string())
    }

    fn compact(&mut self, compactor: Compactor) -> Compactor {
        match compactor {
            Compactor::Begins => {
                let folders = self.folders.get(&self.layout.generation).cloned().unwrap_or_default();
                let chosen = [FOLDER.to_owned()];
                let until_ms = self.now_ms + LEASE_MS;
                let Some(next) = begin(&self.layout, &folders, &chosen, "at", until_ms, self.now_ms) else {
                    return Compactor::Begins;
                };
                self.folders.insert(next.generation, next_folders(&self.layout, &folders, &chosen));
                self.layout = next;
                Compactor::Bars(self.layout.generation, 0)
            }
            Compactor::Bars(generation, number) => {
                if number as i32 >= self.layout.topics.get("c/t").copied().unwrap_or(0) {
                    return Compactor::Reads(generation);
                }
                let known = self.positions[number].clone().unwrap_or_else(|| Position::new(&format!("c/t/{number}")));
                match barrier(&known, generation, self.now_ms) {
                    Barrier::Wait(_) => return Compactor::Bars(generation, number),
                    Barrier::Pass(next) if !self.put(number, (*next).clone(), known.version) => {
                        return Compactor::Bars(generation, number);
                    }
                    _ => {}
                }
                Compactor::Bars(generation, number + 1)
            }
            Compactor::Reads(generation) => {
                let Some(moving) = self.layout.moving.get(FOLDER).filter(|it| it.since.last() == Some(&generation))
                else {
                    return Compactor::Begins;
                };
                let mut all = File { rows: Vec::new(), merged: true };
                for ((folder, name), file) in &self.files {
                    let old = *folder == moving.shown || (moving.since.contains(folder) && *folder != generation);
                    if old && (*folder == moving.shown || !file.merged) && !self.is_left(*folder, *name) {
                        all.rows.extend(&file.rows);
                    }
                }
                Compactor::Writes(generation, all)
            }
            Compactor::Writes(generation, all) => {
                self.files.insert((generation, (9, generation)), all);
                Compactor::Shows(generation)
            }
            // A call that ends within the lease, or is not made.
            Compactor::Shows(generation) => {
                let own = self.layout.generation == generation && self.now_ms < self.layout.lease_until_ms;
                if !own {
                    return Compactor::Begins;
                }
                self.shown = generation;
                Compactor::Settles(generation)
            }
            Compactor::Settles(generation) => {
                if let Some(next) = settle(&self.layout, FOLDER, generation, self.now_ms) {
                    self.layout = release(&next);
                }
                Compactor::Begins
            }
        }
    }

    /// The rows that a reader finds; each once. Those of files that may never be committed are left out: that is another promise.
    fn seen(&self) -> Vec<i64> {
        let shown =
            self.files.iter().filter(|((folder, name), _)| *folder == self.shown && !self.is_left(*folder, *name));
        shown.flat_map(|(_, file)| file.rows.iter().copied()).collect()
    }
}

fn run(steps: &[(u8, u8)]) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut writers = [0, 1, 2, 0].map(|number| Some(Writer::Looks(number)));
    let mut compactors = [Some(Compactor::Begins), Some(Compactor::Begins)];
    let mut settled: BTreeSet<i64> = BTreeSet::new();
    for (who, ms) in steps {
        world.now_ms += u64::from(*ms);
        let before = world.layout.moving.is_empty();
        match *who as usize {
            who @ 0..4 => writers[who] = writers[who].take().map(|writer| world.write(writer)),
            who @ 4..10 => {
                let own = &mut compactors[who % 2];
                *own = own.take().map(|own| world.compact(own));
            }
            // A process dies, and another begins.
            10 => writers[*ms as usize % 4] = Some(Writer::Looks(*ms as usize % 3)),
            11 => compactors[*ms as usize % 2] = Some(Compactor::Begins),
            _ => world.now_ms += LEASE_MS,
        }
        let seen = world.seen();
        let once: BTreeSet<i64> = seen.iter().copied().collect();
        prop_assert_eq!(seen.len(), once.len(), "doubled");
        prop_assert!(once.is_subset(&world.committed), "never committed");
        prop_assert!(settled.is_subset(&once), "what readers have seen stays");
        if before && world.layout.moving.is_empty() {
            prop_assert_eq!(&once, &world.committed, "nothing is moving, all of it is there");
        }
        settled = once;
    }
    // A last compactor that nobody disturbs.
    world.now_ms += 2 * LEASE_MS;
    let mut last = Compactor::Begins;
    for _ in 0..20 {
        last = world.compact(last);
        if matches!(last, Compactor::Begins) {
            break;
        }
    }
    let seen: BTreeSet<i64> = world.seen().into_iter().collect();
    prop_assert_eq!(&seen, &world.committed, "nothing is lost");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn readers_find_each_row_once_whoever_dies_or_stalls(steps in prop::collection::vec((0u8..13, 0u8..8), 0..500)) {
        run(&steps)?;
    }
}
