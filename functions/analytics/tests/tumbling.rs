//! Windows as Lambda drives them, against a computation that keeps every event.
//!
//! [`Shard`] is a model of the mapping: it cuts batches, carries the state, repeats what failed, cut anew, and sometimes what did
//! not; it ends windows early, and ends with its shard. Processes of the function are killed at every call they make.

// clippy.toml allows these in tests; the helpers of an integration test are not recognised as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use weir_analytics::config::Config;
use weir_analytics::handler::Answer;
use weir_analytics::{Analytics, Memory};
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, MemoryLake, list_all};
use weir_mortal::clock::{now_ms, pass};
use weir_mortal::{Fate, Mortal};
use weir_search::{Document, Index, MemoryIndex, Refused};
use weir_telemetry::{Telemetry, Visit};

/// 2024-05-01T10:00:00Z.
const BEGIN_MS: u64 = 1_714_557_600_000;
const WINDOW_MS: u64 = 60_000;

#[derive(Debug, Clone)]
struct Event {
    number: u64,
    arrived_ms: u64,
    vendor: u64,
    seconds: u64,
    /// What it is: a trip, one with a broken rule, a heartbeat, no JSON, a damaged gzip.
    kind: u64,
}

impl Event {
    fn data(&self) -> Vec<u8> {
        let ended = weir_live::instant(self.arrived_ms - self.seconds % 7 * 100_000);
        let trip = json!({
            "id": format!("t{}", self.number), "vendorId": self.vendor, "passengerCount": self.number % 5, "pickupDate": ended,
            "dropoffDate": ended, "tripDuration": self.seconds, "gcDistance": self.seconds as f64 / 4.0,
            "dropoffLatitude": 40.7 + (self.number % 9) as f64 / 100.0 + 0.001, "dropoffLongitude": -73.99,
        });
        match self.kind {
            0 => json!({"id": "x", "vendorId": -1}).to_string().into_bytes(),
            1 => json!({"id": "x", "source": "heartbeat"}).to_string().into_bytes(),
            2 => b"{not json".to_vec(),
            3 => [&[0x1F, 0x8B, 8, 0][..], &[0xFF; 40]].concat(),
            _ => trip.to_string().into_bytes(),
        }
    }

    fn is_trip(&self) -> bool {
        self.kind > 3
    }

    fn window(&self) -> u64 {
        self.arrived_ms / WINDOW_MS * WINDOW_MS
    }
}

struct World {
    lake: Arc<MemoryLake>,
    fate: Arc<Fate>,
}

fn visit() -> Visit {
    Visit { request_id: "r".into(), deadline_ms: now_ms() + 60_000, clock: now_ms, cold_start: false }
}

impl World {
    fn new() -> Self {
        let lake = Arc::new(MemoryLake::timed(now_ms));
        lake.make_bucket("tables");
        Self { lake, fate: Arc::default() }
    }

    fn process(&self) -> Analytics {
        let (config, contract, plan) = Config::read(|name| {
            Some(match name {
                "DATASET" => "trips".to_owned(),
                "DELIVERS" => "true".to_owned(),
                "SEARCH_ENDPOINT" | "SEARCH_SECRET" => return None,
                "STATISTICS" => "s3://tables/live/".to_owned(),
                _ => "weir".to_owned(),
            })
        })
        .unwrap();
        let lake = Arc::new(Mortal::new(&self.lake, &self.fate));
        Analytics {
            config,
            contract,
            plan,
            lake,
            index: None,
            telemetry: Telemetry::silent(),
            memory: Memory::default(),
        }
    }

    async fn invoke(&self, event: &Value) -> Result<Answer, Failure> {
        self.fate.revive();
        self.process().window(&event.to_string(), &visit()).await
    }

    /// The function that delivers, until nothing is left; how often it failed.
    async fn deliver(&self, index: &Flaky) -> usize {
        for n in 0.. {
            self.fate.revive();
            let delivered = self.process().deliver(index, "{}", &visit()).await;
            if delivered.is_ok_and(|report| report.waiting == 0 && report.refused == 0) {
                self.fate.set(0, false);
                return n;
            }
            assert!(n < 100, "it is never delivered");
            // A mark whose result never came goes when nobody can be at it.
            pass(60_000);
        }
        0
    }

    async fn marks(&self) -> usize {
        list_all(self.lake.as_ref(), &Location::parse("s3://tables/live/_outbox/").unwrap()).await.unwrap().len()
    }

    async fn results(&self) -> BTreeMap<String, Vec<Map<String, Value>>> {
        let mut results = BTreeMap::new();
        for object in list_all(self.lake.as_ref(), &Location::parse("s3://tables/live/trips/").unwrap()).await.unwrap()
        {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await.unwrap();
            let lines = std::str::from_utf8(&bytes).unwrap().lines();
            let lines: Vec<Map<String, Value>> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
            results.insert(lines[0]["window_start"].as_str().unwrap().to_owned(), lines);
        }
        results
    }
}

/// OpenSearch that fails now and then, though it did what it was asked or before it did.
struct Flaky {
    index: MemoryIndex,
    calls: AtomicUsize,
    fails: fn(usize) -> Option<bool>,
}

impl Flaky {
    fn new(fails: fn(usize) -> Option<bool>) -> Self {
        Self { index: MemoryIndex::default(), calls: AtomicUsize::new(0), fails }
    }
}

#[async_trait::async_trait]
impl Index for Flaky {
    async fn template(&self, name: &str, body: &Value) -> Result<(), Failure> {
        self.index.template(name, body).await
    }

    async fn write(&self, documents: &[Document]) -> Result<Vec<Refused>, Failure> {
        let failed = || Err(Failure::passing("Http503", "it is down"));
        match (self.fails)(self.calls.fetch_add(1, Ordering::SeqCst)) {
            Some(false) => failed(),
            Some(true) => {
                // Only some of them, and no answer.
                self.index.write(&documents[..documents.len() / 2]).await?;
                failed()
            }
            None => self.index.write(documents).await,
        }
    }
}

/// A shard's mapping.
struct Shard {
    name: String,
    state: Value,
}

impl Shard {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: json!({}) }
    }

    fn event(&self, window_ms: u64, records: &[Event], is_final: bool, is_early: bool) -> Value {
        let record = |event: &Event| {
            let number = format!("49654321098765432109876543210987654321{:018}", event.number);
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": number, "data": STANDARD.encode(event.data()),
                    "approximateArrivalTimestamp": event.arrived_ms as f64 / 1000.0,
                },
                "eventID": format!("{}:{number}", self.name), "eventSource": "aws:kinesis", "eventVersion": "1.0",
                "eventName": "aws:kinesis:record", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-telemetry",
            })
        };
        json!({
            "Records": records.iter().map(record).collect::<Vec<_>>(),
            "window": {"start": weir_live::instant(window_ms), "end": weir_live::instant(window_ms + WINDOW_MS)},
            "state": self.state, "shardId": self.name, "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-telemetry",
            "isFinalInvokeForWindow": is_final, "isWindowTerminatedEarly": is_early,
        })
    }

    fn keep(&mut self, answer: &Answer, ended: bool) {
        assert!(answer.response.batch_item_failures.is_empty());
        self.state = if ended { json!({}) } else { json!(answer.state) };
    }

    /// One batch until it succeeds: cut anew when it fails, and sometimes given again though it did not.
    async fn deliver(
        &mut self,
        world: &World,
        window_ms: u64,
        records: &[Event],
        last: Option<bool>,
        dice: &mut StdRng,
    ) {
        let mut queue = vec![(records.to_vec(), last)];
        while let Some((records, last)) = queue.pop() {
            world.fate.set(if dice.random_bool(0.5) { dice.random_range(1..14) } else { 0 }, dice.random_bool(0.5));
            let event = self.event(window_ms, &records, last == Some(false), last == Some(true));
            let answered = world.invoke(&event).await;
            let is_repeated = dice.random_bool(0.2);
            match answered {
                Ok(answer) if !is_repeated => self.keep(&answer, last.is_some()),
                // Its answer was lost, or it failed: the state is what it was. Bisected, as the mapping says.
                _ if records.len() > 1 && dice.random_bool(0.5) => {
                    let (first, second) = records.split_at(dice.random_range(1..records.len()));
                    queue.push((second.to_vec(), last));
                    queue.push((first.to_vec(), None));
                }
                _ => queue.push((records, last)),
            }
        }
        world.fate.set(0, false);
        // Once more after all: "in rare cases, records might be processed more than once".
        if last.is_none() && dice.random_bool(0.2) {
            let answer = world.invoke(&self.event(window_ms, records, false, false)).await.unwrap();
            self.keep(&answer, false);
        }
    }

    /// All of a shard's events, window by window, to its end.
    async fn drain(&mut self, world: &World, events: &[Event], dice: &mut StdRng) {
        let mut windows: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            windows.entry(event.window()).or_default().push(event.clone());
        }
        for (window_ms, events) in windows {
            let mut rest = events.as_slice();
            while !rest.is_empty() {
                let (some, after) = rest.split_at(dice.random_range(1..=rest.len()));
                rest = after;
                let last = dice.random_bool(0.1).then_some(true);
                self.deliver(world, window_ms, some, last, dice).await;
            }
            // The window's end comes with records or without.
            self.deliver(world, window_ms, &[], Some(false), dice).await;
        }
    }
}

/// What OpenSearch has is what the results say, whatever dies while they are delivered.
async fn is_delivered(world: &World, results: &BTreeMap<String, Vec<Map<String, Value>>>, dice: &mut StdRng) {
    let index = Flaky::new(|call| match call {
        0 | 3 => Some(false),
        1 | 4 => Some(true),
        _ => None,
    });
    world.fate.set(dice.random_range(1..8), dice.random_bool(0.5));
    assert!(world.deliver(&index).await > 0, "it failed now and then");
    assert_eq!(world.marks().await, 0);
    let held = index.index.documents("weir-live-weir-trips-2024-05");
    let mut expected = 0;
    for (start, lines) in results {
        for (n, line) in lines.iter().enumerate() {
            let name = if n == 0 { "all".to_owned() } else { format!("vendor_id={}", line["vendor_id"]) };
            let document = &held[&format!("{start}-60s-{name}")];
            for statistic in ["trips", "passengers", "avg_duration", "p95_duration", "window_start"] {
                assert_eq!(document[statistic], line[statistic]);
            }
            assert!(document.values().all(|value| !value.is_array()), "{document:?}");
        }
        for (rank, cell) in lines[0]["dropoff_cells"].as_array().unwrap().iter().enumerate() {
            let document = &held[&format!("{start}-60s-top-dropoff_cells-{:03}", rank + 1)];
            assert_eq!((&document["value"], &document["count"]), (&cell["value"], &cell["count"]));
        }
        let tops = ["dropoff_cells", "peak_hour"].map(|name| lines[0][name].as_array().unwrap().len());
        expected += lines.len() + tops.iter().sum::<usize>();
    }
    assert_eq!(held.len(), expected, "and nothing else");
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

fn events(dice: &mut StdRng, count: u64, windows: u64) -> Vec<Event> {
    let event = |number: u64, dice: &mut StdRng| Event {
        number,
        arrived_ms: BEGIN_MS + number * windows * WINDOW_MS / count,
        vendor: dice.random_range(1..4),
        seconds: dice.random_range(1..5000),
        kind: dice.random_range(0..20),
    };
    (0..count).map(|number| event(number, dice)).collect()
}

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

/// Whichever of two shards that end at once is killed or stalled at whichever call, the result has both.
#[tokio::test]
async fn shards_that_end_at_once_are_all_in_the_result() {
    let dice = &mut StdRng::seed_from_u64(7);
    let events = events(dice, 40, 1);
    let (one, other): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.number % 2 == 0);
    let (first, second) = (Shard::new("shardId-000000000000"), Shard::new("shardId-000000000001"));
    let mut calls = 0;
    for n in 1.. {
        let world = World::new();
        world.fate.stall(n);
        let process = world.process();
        let event = first.event(BEGIN_MS, &one, true, false).to_string();
        let stalled = tokio::spawn(async move { process.window(&event, &visit()).await });
        let came = tokio::select! {
            () = world.fate.stalled() => true,
            () = async { while !stalled.is_finished() { tokio::task::yield_now().await } } => false,
        };
        if !came {
            break;
        }
        calls = n;
        // Another shard's process has a fate of its own.
        let other_world = World { lake: Arc::clone(&world.lake), fate: Arc::default() };
        other_world.invoke(&second.event(BEGIN_MS, &other, true, false)).await.unwrap();
        world.fate.go_on();
        stalled.await.unwrap().unwrap();
        let results = world.results().await;
        check(&results[&weir_live::instant(BEGIN_MS)], &events.iter().collect::<Vec<_>>());
    }
    assert!(calls >= 5, "there were calls to stall at: {calls}");
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

#[tokio::test]
async fn documents_that_are_refused_are_told_and_stay_to_be_delivered() {
    let world = World::new();
    let event = Event { number: 1, arrived_ms: BEGIN_MS, vendor: 1, seconds: 60, kind: 9 };
    let shard = Shard::new("shardId-000000000000");
    world.invoke(&shard.event(BEGIN_MS, &[event], true, false)).await.unwrap();
    let index = MemoryIndex::default();
    // Somebody else's index template, which takes no such trips.
    let template = json!({"index_patterns": ["weir-live-weir*"], "priority": 900, "template": {"mappings": {"properties": {"trips": {"type": "date"}}}}});
    index.template("other", &template).await.unwrap();
    let process = world.process();
    let report = process.deliver(&index, "{}", &visit()).await.unwrap();
    assert_eq!((report.windows, report.refused), (0, 2), "all rows and the vendor's");
    assert_eq!(world.marks().await, 1);
    let index = MemoryIndex::default();
    let report = process.deliver(&index, "{}", &visit()).await.unwrap();
    assert_eq!((report.windows, report.documents, report.refused), (1, 4, 0));
    assert_eq!(world.marks().await, 0);
}

/// A result that is made again while the one before is on its way is delivered as well, and the older never takes its place.
#[tokio::test]
async fn the_most_whole_result_stays() {
    let dice = &mut StdRng::seed_from_u64(3);
    let events = events(dice, 40, 1);
    let (one, other): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.number % 2 == 0);
    let world = World::new();
    world.invoke(&Shard::new("shardId-000000000000").event(BEGIN_MS, &one, true, false)).await.unwrap();
    let stale = Flaky::new(|_| None);
    world.deliver(&stale).await;
    let old = stale.index.documents("weir-live-weir-trips-2024-05");
    world.invoke(&Shard::new("shardId-000000000001").event(BEGIN_MS, &other, true, false)).await.unwrap();
    world.deliver(&stale).await;
    let new = stale.index.documents("weir-live-weir-trips-2024-05");
    assert_ne!(old, new);
    let late: Vec<Document> = old
        .into_iter()
        .map(|(id, body)| Document { index: "weir-live-weir-trips-2024-05".into(), id, version: 1, body })
        .collect();
    assert!(stale.index.write(&late).await.unwrap().is_empty());
    assert_eq!(stale.index.documents("weir-live-weir-trips-2024-05"), new);
}

/// Whenever a result that is being made is stalled, and whatever is delivered meanwhile: at last OpenSearch has it.
#[tokio::test]
async fn a_result_that_is_made_while_others_deliver_is_delivered() {
    let dice = &mut StdRng::seed_from_u64(11);
    let events = events(dice, 40, 1);
    let (one, other): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.number % 2 == 0);
    let mut calls = 0;
    for n in 1.. {
        let world = World::new();
        world.invoke(&Shard::new("shardId-000000000000").event(BEGIN_MS, &one, true, false)).await.unwrap();
        world.fate.stall(n);
        let process = world.process();
        let event = Shard::new("shardId-000000000001").event(BEGIN_MS, &other, true, false).to_string();
        let stalled = tokio::spawn(async move { process.window(&event, &visit()).await });
        let came = tokio::select! {
            () = world.fate.stalled() => true,
            () = async { while !stalled.is_finished() { tokio::task::yield_now().await } } => false,
        };
        if !came {
            break;
        }
        calls = n;
        // A process with a fate of its own delivers what there is.
        let other_world = World { lake: Arc::clone(&world.lake), fate: Arc::default() };
        let index = Flaky::new(|_| None);
        other_world.process().deliver(&index, "{}", &visit()).await.unwrap();
        world.fate.go_on();
        stalled.await.unwrap().unwrap();
        other_world.deliver(&index).await;
        assert_eq!(world.marks().await, 0);
        let results = world.results().await;
        let held = index.index.documents("weir-live-weir-trips-2024-05");
        let all = &held["2024-05-01T10:00:00Z-60s-all"];
        assert_eq!(
            (&all["trips"], &all["shards"]),
            (&results["2024-05-01T10:00:00Z"][0]["trips"], &json!(2)),
            "stalled at {n}"
        );
    }
    assert!(calls >= 6, "there were calls to stall at: {calls}");
}

/// As S3 tells it, by EventBridge, before the result is there.
#[tokio::test]
async fn an_event_of_a_mark_is_about_its_window_and_waits_for_the_result() {
    let world = World::new();
    let event = Event { number: 1, arrived_ms: BEGIN_MS, vendor: 1, seconds: 60, kind: 9 };
    let later = Event { number: 2, arrived_ms: BEGIN_MS + WINDOW_MS, ..event.clone() };
    let shard = Shard::new("shardId-000000000000");
    world.invoke(&shard.event(BEGIN_MS, &[event], true, false)).await.unwrap();
    world.invoke(&shard.event(BEGIN_MS + WINDOW_MS, &[later], true, false)).await.unwrap();
    let outbox = Location::parse("s3://tables/live/_outbox/").unwrap();
    let marks = list_all(world.lake.as_ref(), &outbox).await.unwrap();
    let told = json!({"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": "tables"}, "object": {"key": marks[0].location.key()}}});
    // The result is not there yet.
    let result = Location::parse("s3://tables/live/trips/window_date=2024-05-01/20240501T100000Z-60s.ndjson").unwrap();
    let whole = world.lake.head(&result).await.unwrap();
    let bytes = world.lake.get(&result, None, 0, whole.size).await.unwrap();
    world.lake.delete(std::slice::from_ref(&result)).await.unwrap();
    let (process, told, index) = (world.process(), told.to_string(), Arc::new(MemoryIndex::default()));
    let delivered = {
        let index = Arc::clone(&index);
        tokio::spawn(async move { process.deliver(index.as_ref(), &told, &visit()).await })
    };
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    world.lake.put(&result, bytes, "application/x-ndjson").await.unwrap();
    let report = delivered.await.unwrap().unwrap();
    assert_eq!((report.windows, report.waiting), (1, 0));
    assert_eq!(index.documents("weir-live-weir-trips-2024-05").len(), 4, "of the one window");
    assert_eq!(world.marks().await, 1, "the other's stays");
}
