//! The table beside a plain map: whatever changes come, both hold the same rows, now and as of every commit.

use std::sync::Arc;

use crate::world::{Put, Rows, World, apply, gone, put, rows_in, settings};
use proptest::prelude::*;
use weir_mortal::Fate;
use weir_mortal::clock::{now_ms, pass};

fn change() -> impl Strategy<Value = Put> {
    let day = prop_oneof![Just(None), Just(Some("a")), Just(Some("b/=")), Just(Some("c"))];
    let row = proptest::option::weighted(0.7, (day, "[a-z]{0,40}"));
    (0i64..40, row, 0i64..50).prop_map(|(id, row, at)| Put { id, row, at })
}

/// One a key, as whoever writes makes them.
fn changes() -> impl Strategy<Value = Vec<Put>> {
    proptest::collection::vec(change(), 1..25).prop_map(|mut all| {
        all.sort_by_key(|change| (change.id, -change.at));
        all.dedup_by_key(|change| change.id);
        all
    })
}

async fn holds(batches: Vec<Vec<Put>>, world: World) {
    let process = world.process(&Arc::new(Fate::default()));
    let (mut rows, mut past) = (Rows::new(), Vec::new());
    for (n, changes) in batches.iter().enumerate() {
        pass(1_000);
        let before = rows.clone();
        apply(&mut rows, changes);
        let (committed, counts) = process.commit(&n.to_string(), changes, None).await.unwrap();
        let told = counts.inserted + counts.updated + counts.deleted + counts.late + counts.absent;
        assert_eq!(told, changes.len() as u64, "every change came to something");
        assert_eq!(world.rows(None).await, rows);
        match committed {
            Some(committed) => past.push((committed.instant, rows.clone())),
            None => assert_eq!(before, rows),
        }
    }
    for (instant, rows) in &past {
        assert_eq!(&world.rows(Some(instant)).await, rows, "as of {instant}");
    }
    // What has changed since a commit, as rows.
    for two in past.windows(2) {
        let ((after, before), (until, then)) = (&two[0], &two[1]);
        let told = rows_in(&world.table().await.rows_between(after, Some(until)).await.unwrap());
        let expected: Rows =
            then.iter().filter(|(id, row)| before.get(id) != Some(row)).map(|(id, row)| (*id, row.clone())).collect();
        assert_eq!(told, expected, "between {after} and {until}");
    }
    assert!(world.objects().await.iter().all(|key| !key.contains("/.temp/")));
}

fn run(body: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn partitions(batches in proptest::collection::vec(changes(), 1..7)) {
        run(holds(batches, World::new(settings(true, None))));
    }

    #[test]
    fn one_folder(batches in proptest::collection::vec(changes(), 1..7)) {
        run(holds(batches, World::new(settings(false, None))));
    }

    #[test]
    fn buckets(batches in proptest::collection::vec(changes(), 1..7)) {
        run(holds(batches, World::new(settings(false, Some(4)))));
    }

    /// Whoever reads the table as it was within the time that is kept sees it so, and nobody sees anything that was taken away.
    #[test]
    fn old_slices_go(batches in proptest::collection::vec(changes(), 12..20)) {
        run(async {
            const KEPT_MS: u64 = 3_500;
            let world = World::new(settings(true, None));
            let process = world.process(&Arc::new(Fate::default()));
            let (mut rows, mut past) = (Rows::new(), Vec::new());
            for (n, changes) in batches.iter().enumerate() {
                pass(1_000);
                apply(&mut rows, changes);
                let (committed, _) = process.commit(&n.to_string(), changes, Some(KEPT_MS)).await.unwrap();
                past.extend(committed.map(|committed| (now_ms(), committed.instant, rows.clone())));
                assert_eq!(world.rows(None).await, rows);
                for (at, instant, rows) in past.iter().filter(|(at, ..)| at + KEPT_MS >= now_ms()) {
                    assert_eq!(&world.rows(Some(instant)).await, rows, "as of {at}");
                }
            }
            let table = world.table().await;
            // Ten commits at least; each slice that is left is seen now, or was within the time.
            assert!(table.view.timeline.commits().count() <= 10);
            let horizon = weir_hudi::timeline::Instant::of((now_ms() - KEPT_MS) as i64).unwrap();
            assert!(table.view.superseded(&horizon).is_empty());
        });
    }
}

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    let world = World::new(settings(true, None));
    let process = world.process(&Arc::new(Fate::default()));
    process.commit("1", &[put(1, "a", "x", 5)], None).await.unwrap();
    let before = world.objects().await;
    let (committed, counts) = process.commit("2", &[put(1, "b", "late", 4), gone(2, 9)], None).await.unwrap();
    assert_eq!((committed, counts.late, counts.absent), (None, 1, 1));
    assert_eq!(world.objects().await, before);
    // The same again is no change either.
    assert_eq!(process.commit("3", &[put(1, "a", "x", 5)], None).await.unwrap().0, None);
}

#[tokio::test]
async fn a_table_without_rows_is_one() {
    let world = World::new(settings(true, None));
    let process = world.process(&Arc::new(Fate::default()));
    process.commit("1", &[put(1, "a", "x", 5)], None).await.unwrap();
    pass(1_000);
    process.commit("2", &[gone(1, 6)], None).await.unwrap();
    assert_eq!(world.rows(None).await, Rows::new());
    pass(1_000);
    process.commit("3", &[put(2, "a", "y", 6)], None).await.unwrap();
    assert_eq!(world.rows(None).await.len(), 1);
    // In the file that was left.
    assert_eq!(world.table().await.view.slices(None).len(), 1);
}
