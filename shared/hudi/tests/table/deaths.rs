//! A writer that dies or stalls at any call: readers see the table before or after, and the next writer cleans up.

use std::sync::Arc;

use crate::world::{LEASE_MS, Put, Rows, World, Writing, apply, gone, put, settings};
use weir_hudi::BUSY;
use weir_hudi::timeline::Instant;
use weir_mortal::Fate;
use weir_mortal::clock::{now_ms, pass};

const AFTER_LEASE_MS: u64 = LEASE_MS + 10_000;

fn first() -> Vec<Put> {
    vec![put(1, "a", "one", 1), put(2, "a", "two", 1), put(3, "b", "three", 1)]
}

/// Updates, moves, deletes, and a new partition.
fn second() -> Vec<Put> {
    vec![put(1, "a", "one again", 5), put(2, "b", "two moves", 5), gone(3, 5), put(4, "c", "four", 5)]
}

fn third() -> Vec<Put> {
    vec![put(1, "c", "one moves", 7), put(5, "d", "five", 7)]
}

/// With rows, or before there is a table.
async fn world_with(first: &[Put]) -> (World, Rows) {
    let world = World::new(settings(true, None));
    let mut rows = Rows::new();
    apply(&mut rows, first);
    if !first.is_empty() {
        world.process(&Arc::default()).commit("first", first, None).await.unwrap();
    }
    pass(1_000);
    (world, rows)
}

async fn world() -> (World, Rows) {
    world_with(&first()).await
}

/// Nothing is left of anybody who did not finish.
async fn is_tidy(world: &World, what: &str) {
    let verdict = world.table().await.verify().await.unwrap();
    assert_eq!((verdict.broken, verdict.left_over), (vec![], vec![]), "{what}");
}

async fn killed(begun: &[Put]) {
    for done in [false, true] {
        for n in 1.. {
            let what = format!("call {n}, done: {done}");
            let (world, old) = world_with(begun).await;
            let mut new = old.clone();
            apply(&mut new, &second());
            let fate = Arc::new(Fate::default());
            fate.set(n, done);
            let ended = world.process(&fate).commit("second", &second(), None).await;
            let seen = world.rows(None).await;
            assert!(seen == old || seen == new, "{what}: neither before nor after");
            if ended.is_ok() {
                assert_eq!(seen, new, "{what}: it was said to be done");
            }
            if !fate.has_come() {
                assert!(n > 15, "there were {n} calls");
                break;
            }
            // The lease is kept: nobody else writes before it is over.
            let early = world.process(&Arc::default()).commit("early", &third(), None).await;
            pass(AFTER_LEASE_MS);
            if let Err(failure) = early {
                assert_eq!(failure.code, BUSY, "{what}");
                world.process(&Arc::default()).commit("third", &third(), None).await.unwrap();
            }
            // What is whole is committed by the next one, what is not is taken back.
            let last = world.rows(None).await;
            let was_new = seen == new;
            let [with, without] = [new, old].map(|mut rows| {
                apply(&mut rows, &third());
                rows
            });
            assert!(last == with || last == without && !was_new, "{what}: {last:?}");
            is_tidy(&world, &what).await;
        }
    }
}

#[tokio::test]
async fn killed_at_any_call() {
    killed(&first()).await;
}

#[tokio::test]
async fn killed_at_any_call_of_a_tables_first_commit() {
    killed(&[]).await;
}

#[tokio::test]
async fn killed_at_any_call_while_it_cleans_up_after_another() {
    for (kept, done) in [(None, false), (None, true), (Some(500), false), (Some(500), true)] {
        for n in 1.. {
            let (world, old) = world().await;
            let fate = Arc::new(Fate::default());
            // Files are there, and no commit.
            fate.set(20, false);
            let killed = world.process(&fate).commit("second", &second(), None).await;
            assert_eq!(killed.unwrap_err().code, "Killed");
            let table = world.table().await;
            let begun = table.view.timeline.pending().next().map(|entry| entry.instant.clone()).unwrap();
            assert!(table.view.files.iter().any(|slice| slice.base.instant == begun));
            pass(AFTER_LEASE_MS);
            assert_eq!(world.rows(None).await, old);
            fate.revive();
            fate.set(n, done);
            let mut rows = old.clone();
            apply(&mut rows, &third());
            let _ = world.process(&fate).commit("third", &third(), kept).await;
            let seen = world.rows(None).await;
            assert!(seen == old || seen == rows, "call {n}");
            pass(AFTER_LEASE_MS);
            world.process(&Arc::default()).commit("fourth", &third(), kept).await.unwrap();
            assert_eq!(world.rows(None).await, rows, "call {n}");
            is_tidy(&world, &format!("call {n}")).await;
            if !fate.has_come() {
                assert!(n > 20, "there were {n} calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn stalled_at_any_call() {
    stalled(&first()).await;
}

#[tokio::test]
async fn stalled_at_any_call_of_a_tables_first_commit() {
    stalled(&[]).await;
}

/// One stalls past its lease, another commits, and the first goes on: what was acknowledged is there, and stays.
async fn stalled(begun: &[Put]) {
    for n in 1.. {
        let what = format!("call {n}");
        let (world, mut rows) = world_with(begun).await;
        let stalled = Writing::begin(&world, now_ms, "second", second(), Some(1), n).await;
        if !stalled.is_stalled {
            assert!(n > 15 && stalled.go_on().await, "there were {n} calls");
            break;
        }
        pass(AFTER_LEASE_MS);
        world.process(&Arc::default()).commit("third", &third(), None).await.unwrap();
        let between = world.rows(None).await;
        let acknowledged = stalled.go_on().await;
        let seen = world.rows(None).await;
        assert_eq!(seen, between, "{what}: what goes on late changes nothing any more");
        let mut both = rows.clone();
        apply(&mut both, &second());
        apply(&mut both, &third());
        apply(&mut rows, &third());
        assert!(seen == both || seen == rows && !acknowledged, "{what}: acknowledged: {acknowledged}");
        // Others write on, old slices go and the timeline is trimmed: what was left over never comes to light.
        for round in 0..15 {
            pass(AFTER_LEASE_MS);
            let change = [put(100 + round, "a", "more", 1)];
            world.process(&Arc::default()).commit(&round.to_string(), &change, Some(2 * AFTER_LEASE_MS)).await.unwrap();
        }
        let mut last = world.rows(None).await;
        last.retain(|id, _| *id < 100);
        assert_eq!(last, seen, "{what}: much later");
        is_tidy(&world, &what).await;
        assert!(world.objects().await.iter().all(|key| !key.contains("/.temp/")), "{what}");
        let first = world.table().await.view.timeline.commits().next().cloned().unwrap();
        assert!(first > Instant::of((now_ms() - 15 * AFTER_LEASE_MS) as i64).unwrap(), "{what}: it was trimmed");
    }
}

/// As [`stalled`], and its clock stands still: it never sees that its lease is over. What it does then, it does to the table as it is.
#[tokio::test]
async fn stalled_at_any_call_without_a_clock() {
    for n in 1.. {
        let what = format!("call {n}");
        let (world, mut rows) = world().await;
        let stalled = Writing::begin(&world, || 0, "second", second(), None, n).await;
        if !stalled.is_stalled {
            assert!(n > 15 && stalled.go_on().await, "there were {n} calls");
            break;
        }
        pass(AFTER_LEASE_MS);
        world.process(&Arc::default()).commit("third", &third(), None).await.unwrap();
        let acknowledged = stalled.go_on().await;
        let seen = world.rows(None).await;
        let mut both = rows.clone();
        apply(&mut both, &second());
        apply(&mut both, &third());
        apply(&mut rows, &third());
        assert!(seen == both || seen == rows && !acknowledged, "{what}: acknowledged: {acknowledged}");
        pass(AFTER_LEASE_MS);
        world.process(&Arc::default()).commit("last", &[put(9, "a", "nine", 1)], None).await.unwrap();
        // Files of its own may be left over, which nobody sees.
        assert_eq!(world.table().await.verify().await.unwrap().broken, Vec::<String>::new(), "{what}");
    }
}

#[tokio::test]
async fn two_at_once_take_turns() {
    let (world, mut rows) = world().await;
    let (one, other) = (world.process(&Arc::default()), world.process(&Arc::default()));
    let (changes, more) = (second(), third());
    let (first, second) = tokio::join!(one.commit("one", &changes, None), other.commit("other", &more, None));
    // Who was not let in was told so.
    let refused = [first.as_ref().err(), second.as_ref().err()].into_iter().flatten();
    assert!(refused.clone().all(|failure| failure.code == BUSY), "{:?}", refused.collect::<Vec<_>>());
    if first.is_ok() {
        apply(&mut rows, &changes);
    }
    if second.is_ok() {
        apply(&mut rows, &more);
    }
    assert!(first.is_ok() || second.is_ok());
    assert_eq!(world.rows(None).await, rows);
}

/// The timeline is trimmed oldest first, and what is half trimmed is no begun commit.
#[tokio::test]
async fn killed_at_any_call_while_the_timeline_is_trimmed() {
    for n in 1.. {
        let (world, mut rows) = world().await;
        let mut past = Vec::new();
        for id in 10..26 {
            pass(1_000);
            let change = [put(id, "a", "more", 1)];
            apply(&mut rows, &change);
            let done = world.process(&Arc::default()).commit("some", &change, None).await.unwrap();
            past.push((done.0.unwrap().instant, rows.clone()));
        }
        pass(1_000);
        let fate = Arc::new(Fate::default());
        fate.set(n, n % 2 == 0);
        apply(&mut rows, &third());
        // Kept: what was seen within the last two and a half seconds.
        let ended = world.process(&fate).commit("second", &third(), Some(2_500)).await;
        if ended.is_err() {
            pass(AFTER_LEASE_MS);
            world.process(&Arc::default()).commit("third", &third(), Some(AFTER_LEASE_MS + 2_500)).await.unwrap();
        }
        assert_eq!(world.rows(None).await, rows, "call {n}");
        for (instant, then) in past.iter().rev().take(2) {
            assert_eq!(&world.rows(Some(instant)).await, then, "call {n}, as of {instant}");
        }
        is_tidy(&world, &format!("call {n}")).await;
        if !fate.has_come() {
            assert!(n > 40, "there were {n} calls");
            break;
        }
    }
}
