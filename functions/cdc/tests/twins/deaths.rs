//! The function dies or stalls at any call, batches come again cut otherwise: the table is what the database is.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use weir_mortal::Fate;
use weir_mortal::clock::pass;

use crate::database::{Database, definition};
use crate::world::World;

/// Delivers what a shard has behind `next`, in batches, as Lambda does: what fails comes again from where it failed, and what was answered
/// may come again as well.
async fn deliver_all(world: &World, fate: &Arc<Fate>, database: &Database, next: &mut [usize], dice: &mut StdRng) {
    let mut lost_answers = 3;
    loop {
        let open: Vec<usize> = (0..next.len()).filter(|shard| next[*shard] < database.shards[*shard].len()).collect();
        if open.is_empty() {
            return;
        }
        let shard = open[dice.random_range(0..open.len())];
        let records = &database.shards[shard];
        let size = dice.random_range(1..7);
        let batch = &records[next[shard]..(next[shard] + size).min(records.len())];
        match world.deliver(fate, shard, batch).await {
            Err(_) => {}
            Ok(Some(again)) => {
                next[shard] = records.iter().position(|sent| sent.sequence == again).unwrap();
            }
            Ok(None) if lost_answers > 0 && dice.random_bool(0.2) => lost_answers -= 1,
            Ok(None) => next[shard] += batch.len(),
        }
    }
}

/// What goes on: loads, changes, commits in between.
async fn story(world: &World, fate: &Arc<Fate>, seed: u64, shards: usize, changes_keys: bool) -> Database {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut database = Database::new(seed, shards, changes_keys);
    database.send(0, definition(&[]));
    // The definition comes first, as DMS sends it.
    let last = database.shards[0].pop().unwrap();
    database.shards[0].insert(0, crate::database::Sent { sequence: 1, ..last });
    let mut next = vec![0; shards];
    for _ in 0..3 {
        database.work(10);
        deliver_all(world, fate, &database, &mut next, &mut dice).await;
        let _ = world.commit(fate).await;
        pass(20_000);
    }
    world.settle(fate).await;
    database
}

async fn is_right(world: &World, expected: &Database, what: &str) {
    assert_eq!(world.rows("public_people", None).await, expected.rows, "{what}");
    let aside = world.texts("s3://tables/changes/_quarantine/public_people/").await;
    for bad in &expected.bad {
        assert!(aside.contains(bad), "{what}: {bad} is nowhere");
    }
    let verdict = world.table("public_people").await.verify().await.unwrap();
    assert_eq!((verdict.broken, verdict.left_over), (vec![], vec![]), "{what}");
    assert_eq!(world.keys("s3://dead-letters/").await.len(), expected.poison, "{what}");
}

#[tokio::test]
async fn whatever_happens_to_the_database_happens_to_the_table() {
    for seed in 0..60 {
        // Of hard deletes nothing is kept: one that overtakes its row's insert on another shard does nothing.
        for (soft, shards, keys) in [(false, 1, true), (false, 3, false), (true, 3, true)] {
            let world = World::new("public.*", soft);
            let expected = story(&world, &Arc::default(), seed, shards, keys).await;
            is_right(&world, &expected, &format!("seed {seed}, soft: {soft}, {shards} shards")).await;
        }
    }
}

#[tokio::test]
async fn killed_at_any_call() {
    ended_at_any_call(Fate::set).await;
}

#[tokio::test]
async fn failed_at_any_call() {
    ended_at_any_call(Fate::fail).await;
}

async fn ended_at_any_call(end: fn(&Fate, usize, bool)) {
    for done in [false, true] {
        for n in 1.. {
            let world = World::new("public.*", false);
            let fate = Arc::new(Fate::default());
            end(&fate, n, done);
            let shards = 1 + n % 3;
            let expected = story(&world, &fate, n as u64, shards, shards == 1).await;
            is_right(&world, &expected, &format!("call {n}, done: {done}")).await;
            if !fate.has_come() {
                assert!(n > 100, "there were {n} calls");
                break;
            }
        }
    }
}

/// A committer stalls past its lease, others go on, and then it does.
#[tokio::test]
async fn stalled_at_any_call_of_a_commit() {
    for n in 1.. {
        let world = Arc::new(World::new("public.*", false));
        let (mut database, mut dice, mut next) = (Database::new(7, 1, true), StdRng::seed_from_u64(n as u64), [0]);
        database.send(0, definition(&[]));
        let alive = Arc::default();
        deliver_all(&world, &alive, &database, &mut next, &mut dice).await;
        world.settle(&alive).await;
        database.work(8);
        deliver_all(&world, &alive, &database, &mut next, &mut dice).await;
        let fate = Arc::new(Fate::default());
        fate.stall(n);
        let (stalled_world, stalled_fate) = (Arc::clone(&world), Arc::clone(&fate));
        let stalled = tokio::spawn(async move { stalled_world.commit(&stalled_fate).await });
        let is_stalled = tokio::select! {
            () = fate.stalled() => true,
            () = async { while !stalled.is_finished() { tokio::task::yield_now().await } } => false,
        };
        if !is_stalled {
            assert!(n > 20 && stalled.await.unwrap().is_ok(), "there were {n} calls");
            break;
        }
        pass(400_000);
        database.work(8);
        deliver_all(&world, &alive, &database, &mut next, &mut dice).await;
        world.settle(&alive).await;
        let between = world.rows("public_people", None).await;
        assert_eq!(between, database.rows, "call {n}: the others go on");
        fate.go_on();
        let _ = stalled.await.unwrap();
        assert_eq!(world.rows("public_people", None).await, between, "call {n}: what goes on late changes nothing");
        database.work(4);
        deliver_all(&world, &alive, &database, &mut next, &mut dice).await;
        world.settle(&alive).await;
        assert_eq!(world.rows("public_people", None).await, database.rows, "call {n}");
        // Files of its own may be left over, which nobody sees.
        assert_eq!(world.table("public_people").await.verify().await.unwrap().broken, Vec::<String>::new(), "call {n}");
    }
}
