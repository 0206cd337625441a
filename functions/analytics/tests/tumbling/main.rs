//! Windows as Lambda drives them, against a computation that keeps every event.
//!
//! [`Shard`] is a model of the mapping: it cuts batches, carries the state, repeats what failed, cut anew, and sometimes what did
//! not; it ends windows early, and ends with its shard. Processes of the function are killed at every call they make.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

mod delivered;
mod event;
mod shard;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use weir_command::Location;
use weir_lake::list_all;

use crate::delivered::is_delivered;
use crate::event::{BEGIN_MS, Event, WINDOW_MS, events};
use crate::shard::Shard;
use crate::world::World;

#[tokio::test]
async fn every_event_is_counted_once_whatever_dies_repeats_ends_early_or_splits() {
    for seed in 0..60 {
        let dice = &mut StdRng::seed_from_u64(seed);
        let world = World::new();
        let events = events(dice, 120, 3);
        // A shard that splits in the middle of a window, and one that does not.
        let split_ms = BEGIN_MS + WINDOW_MS * 3 / 2;
        let shard_of = |event: &Event| match event.number % 3 {
            0 => "shardId-000000000000",
            _ if event.arrived_ms < split_ms => "shardId-000000000001",
            1 => "shardId-000000000002",
            _ => "shardId-000000000003",
        };
        let mut shards: BTreeMap<&str, Vec<Event>> = BTreeMap::new();
        for event in &events {
            shards.entry(shard_of(event)).or_default().push(event.clone());
        }
        for (name, events) in &shards {
            Shard::new(name).drain(&world, events, dice).await;
        }
        let results = world.results().await;
        assert_eq!(results.len(), 3, "seed {seed}");
        is_delivered(&world, &results, dice).await;
        for (n, (start, lines)) in results.iter().enumerate() {
            let window_ms = BEGIN_MS + n as u64 * WINDOW_MS;
            assert_eq!(*start, weir_live::instant(window_ms));
            let of_window: Vec<&Event> = events.iter().filter(|event| event.window() == window_ms).collect();
            check(lines, &of_window);
            let shards: BTreeSet<&str> = of_window.iter().map(|event| shard_of(event)).collect();
            assert_eq!(lines[0]["shards"], shards.len());
        }
    }
}

/// Whichever of two shards that end at once is stalled at whichever call, the result has both, and that of one that ended before.
#[tokio::test]
async fn shards_that_end_at_once_are_all_in_the_result() {
    let dice = &mut StdRng::seed_from_u64(7);
    let events = events(dice, 60, 1);
    let ends = |shard: u64| {
        let of_shard: Vec<Event> = events.iter().filter(|event| event.number % 3 == shard).cloned().collect();
        Shard::new(&format!("shardId-{shard:012}")).event(BEGIN_MS, &of_shard, true, false)
    };
    for before in [0, 1] {
        let mut n = 0;
        loop {
            n += 1;
            let world = World::new();
            // The first shard ends before the others, or after them.
            if before == 1 {
                world.invoke(&ends(0)).await.unwrap();
            }
            let end_other = async |world: &World| {
                world.invoke(&ends(2)).await.unwrap();
            };
            if !world.stalled_at(n, &ends(1), end_other).await {
                break;
            }
            if before == 0 {
                world.invoke(&ends(0)).await.unwrap();
            }
            let results = world.results().await;
            check(&results[&weir_live::instant(BEGIN_MS)], &events.iter().collect::<Vec<_>>());
        }
        assert!(n > 5, "there were calls to stall at: {n}");
    }
}

/// A batch that ended a window early comes again with more: its part has the same name, and is another.
#[tokio::test]
async fn a_part_that_is_made_again_with_more_in_it_is_in_the_result() {
    let world = World::new();
    let events = events(&mut StdRng::seed_from_u64(5), 9, 1);
    let mut shard = Shard::new("shardId-000000000000");
    let answer = world.invoke(&shard.event(BEGIN_MS, &events[..2], false, false)).await.unwrap();
    shard.keep(&answer, false);
    for count in [5, 9] {
        // Its answer is lost each time.
        world.invoke(&shard.event(BEGIN_MS, &events[2..count], false, true)).await.unwrap();
        let results = world.results().await;
        check(&results[&weir_live::instant(BEGIN_MS)], &events[..count].iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_comes_again_is_left_out_and_said() {
    let world = World::new();
    let events = events(&mut StdRng::seed_from_u64(6), 10, 1);
    let mut shard = Shard::new("shardId-000000000000");
    // Half of it within a state, the other half after an early end, when only the parts know.
    for (records, is_early) in [(0..5, false), (0..5, false), (5..8, true), (2..10, false)] {
        let answer = world.invoke(&shard.event(BEGIN_MS, &events[records], false, is_early)).await.unwrap();
        shard.keep(&answer, is_early);
    }
    world.invoke(&shard.event(BEGIN_MS, &[], true, false)).await.unwrap();
    let results = world.results().await;
    let lines = &results[&weir_live::instant(BEGIN_MS)];
    check(lines, &events.iter().collect::<Vec<_>>());
    assert_eq!(lines[0]["repeated"], 5 + 6);
}

#[tokio::test]
async fn what_is_unusual_is_said() {
    let world = World::new();
    let mut shard = Shard::new("shardId-000000000000");
    let mut number = 0;
    let mut scores = Vec::new();
    for window in 0..12u64 {
        let window_ms = BEGIN_MS + window * WINDOW_MS;
        let count = if window == 11 { 200 } else { 20 + window % 3 };
        let event =
            |n: u64| Event { number: number + n, arrived_ms: window_ms + n, vendor: 1, seconds: 600 + n % 5, kind: 9 };
        let events: Vec<Event> = (0..count).map(event).collect();
        number += count;
        let answer = world.invoke(&shard.event(window_ms, &events, true, false)).await.unwrap();
        shard.keep(&answer, true);
        scores.push(world.results().await[&weir_live::instant(window_ms)][0]["scores"].clone());
    }
    assert_eq!(scores[7], json!({}), "seven windows before it say nothing");
    assert!(scores[10]["trips"].as_f64().unwrap().abs() < 2.0, "{scores:?}");
    assert!(scores[11]["trips"].as_f64().unwrap() > 50.0, "{scores:?}");
    assert!(scores[11]["avg_duration"].as_f64().unwrap().abs() < 3.5, "{scores:?}");
}

#[tokio::test]
async fn a_state_of_another_version_is_not_guessed_at() {
    let world = World::new();
    let mut shard = Shard::new("shardId-000000000000");
    shard.state = json!({"live": "bm90IG91cnM="});
    let event = Event { number: 1, arrived_ms: BEGIN_MS, vendor: 1, seconds: 60, kind: 9 };
    world.invoke(&shard.event(BEGIN_MS, &[event], true, false)).await.unwrap();
    let results = world.results().await;
    let all = &results[&weir_live::instant(BEGIN_MS)][0];
    assert_eq!((all["incomplete"].as_bool(), all["trips"].as_u64()), (Some(true), Some(1)));
}

#[tokio::test]
async fn what_is_no_window_is_refused_with_the_way_out() {
    let world = World::new();
    for event in
        [json!({"Records": []}), json!({}), json!([]), json!({"window": {"start": "x", "end": "y"}, "shardId": "s"})]
    {
        let refused = world.invoke(&event).await.unwrap_err();
        assert_eq!(refused.code, "NotAWindow", "{event}: {}", refused.reason);
    }
}

#[tokio::test]
async fn a_quiet_window_leaves_nothing() {
    let world = World::new();
    let shard = Shard::new("shardId-000000000000");
    world.invoke(&shard.event(BEGIN_MS, &[], true, false)).await.unwrap();
    assert!(list_all(world.lake.as_ref(), &Location::parse("s3://tables/").unwrap()).await.unwrap().is_empty());
}

fn check(lines: &[Map<String, Value>], events: &[&Event]) {
    let all = &lines[0];
    let trips: Vec<&&Event> = events.iter().filter(|event| event.is_trip()).collect();
    let of = |kinds: &[u64]| events.iter().filter(|event| kinds.contains(&event.kind)).count();
    let late =
        trips.iter().filter(|trip| trip.arrived_ms - trip.seconds % 7 * 100_000 < trip.window() - 300_000).count();
    for (name, count) in [
        ("events", trips.len()),
        ("trips", trips.len()),
        ("bad", of(&[0, 2])),
        ("dropped", of(&[1])),
        ("unreadable", of(&[3])),
        ("late", late),
    ] {
        assert_eq!(all[name], count, "{name} of {}", all["window_start"]);
    }
    assert_eq!(all["incomplete"], false);
    if trips.is_empty() {
        return;
    }
    assert_eq!(all["passengers"], trips.iter().map(|trip| trip.number % 5).sum::<u64>());
    assert_eq!(all["total_duration"], trips.iter().map(|trip| trip.seconds).sum::<u64>());
    assert_eq!(all["longest_duration"].as_u64(), trips.iter().map(|trip| trip.seconds).max());
    let cells: u64 = all["dropoff_cells"].as_array().unwrap().iter().map(|cell| cell["count"].as_u64().unwrap()).sum();
    assert_eq!(cells as usize, trips.len(), "nine cells, of which ten are said");
    let vendors: BTreeSet<u64> = trips.iter().map(|trip| trip.vendor).collect();
    assert_eq!(lines.len(), 1 + vendors.len());
    for (line, vendor) in lines[1..].iter().zip(vendors) {
        assert_eq!(line["vendor_id"], vendor);
        assert_eq!(line["trips"], trips.iter().filter(|trip| trip.vendor == vendor).count());
    }
}
