//! Two writers that stall at any two calls: whatever the one has done when the other goes on, what was acknowledged is there.

use std::sync::Arc;

use crate::world::{LEASE_MS, Put, Rows, World, Writing, apply, gone, put, settings};
use weir_mortal::clock::{now_ms, pass};

fn first() -> Vec<Put> {
    vec![put(1, "a", "one", 1), put(2, "a", "two", 1), put(3, "b", "three", 1)]
}

fn second() -> Vec<Put> {
    vec![put(1, "a", "one again", 5), put(2, "b", "two moves", 5), gone(3, 5)]
}

fn third() -> Vec<Put> {
    vec![put(1, "c", "one moves", 7), put(5, "a", "five", 7)]
}

#[tokio::test]
async fn stalled_at_any_two_calls() {
    stalled(&first()).await;
}

#[tokio::test]
async fn stalled_at_any_two_calls_of_a_tables_first_commits() {
    stalled(&[]).await;
}

async fn stalled(begun: &[Put]) {
    let mut met = 0;
    for one in 1.. {
        for other in 1.. {
            let what = format!("the one at its call {one}, the other at its call {other}");
            let world = World::new(settings(true, None));
            if !begun.is_empty() {
                world.process(&Arc::default()).commit("first", begun, None).await.unwrap();
            }
            pass(1_000);
            let writing = Writing::begin(&world, now_ms, "second", second(), None, one).await;
            if !writing.is_stalled {
                assert!(one > 15 && met > 200, "{met} pairs");
                return;
            }
            pass(LEASE_MS + 10_000);
            let next = Writing::begin(&world, now_ms, "third", third(), None, other).await;
            let next_is_stalled = next.is_stalled;
            met += 1;
            let second_done = writing.go_on().await;
            let between = world.rows(None).await;
            let third_done = next.go_on().await;
            let seen = world.rows(None).await;
            let outcomes =
                [(false, false), (true, false), (false, true), (true, true)].map(|which| (which, rows(begun, which)));
            let is_one = |rows: &Rows| outcomes.iter().find(|(_, expected)| expected == rows).map(|(which, _)| *which);
            let (had_second, had_third) = is_one(&seen).unwrap_or_else(|| panic!("{what}: {seen:?}"));
            assert!(is_one(&between).is_some(), "{what}: {between:?}");
            assert!(!second_done || had_second, "{what}: the one's was acknowledged");
            assert!(!third_done || had_third, "{what}: the other's was acknowledged");
            // And it goes on.
            pass(LEASE_MS + 10_000);
            world.process(&Arc::default()).commit("last", &[put(9, "a", "nine", 1)], None).await.unwrap();
            assert_eq!(world.table().await.verify().await.unwrap().broken, Vec::<String>::new(), "{what}");
            let mut last = world.rows(None).await;
            last.remove(&9);
            // What was whole is committed by then.
            let (has_second, has_third) = is_one(&last).unwrap_or_else(|| panic!("{what}: {last:?}"));
            assert!(has_second >= had_second && has_third >= had_third, "{what}: nothing goes away");
            if !next_is_stalled {
                break;
            }
        }
    }
}

/// The table after these of the two.
fn rows(begun: &[Put], which: (bool, bool)) -> Rows {
    let mut rows = Rows::new();
    apply(&mut rows, begun);
    if which.0 {
        apply(&mut rows, &second());
    }
    if which.1 {
        apply(&mut rows, &third());
    }
    rows
}
