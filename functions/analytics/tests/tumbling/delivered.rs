//! Results on their way to OpenSearch: it has what they say, whatever fails and whatever dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, list_all};
use weir_mortal::clock::pass;
use weir_search::{Document, Index, MemoryIndex, Refused};

use crate::event::{BEGIN_MS, Event, WINDOW_MS, events};
use crate::shard::Shard;
use crate::world::{Results, World, visit};

/// Where May's documents are.
const INDEX: &str = "weir-live-weir-trips-2024-05";

impl World {
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

/// What OpenSearch has is what the results say, whatever dies while they are delivered.
pub(crate) async fn is_delivered(world: &World, results: &Results, dice: &mut StdRng) {
    let index = Flaky::new(|call| match call {
        0 | 3 => Some(false),
        1 | 4 => Some(true),
        _ => None,
    });
    world.fate.set(dice.random_range(1..8), dice.random_bool(0.5));
    assert!(world.deliver(&index).await > 0, "it failed now and then");
    assert_eq!(world.marks().await, 0);
    let held = index.index.documents(INDEX);
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
    let old = stale.index.documents(INDEX);
    world.invoke(&Shard::new("shardId-000000000001").event(BEGIN_MS, &other, true, false)).await.unwrap();
    world.deliver(&stale).await;
    let new = stale.index.documents(INDEX);
    assert_ne!(old, new);
    let late: Vec<Document> =
        old.into_iter().map(|(id, body)| Document { index: INDEX.into(), id, version: 1, body }).collect();
    assert!(stale.index.write(&late).await.unwrap().is_empty());
    assert_eq!(stale.index.documents(INDEX), new);
}

/// Whenever a result that is being made is stalled, and whatever is delivered meanwhile: at last OpenSearch has it.
#[tokio::test]
async fn a_result_that_is_made_while_others_deliver_is_delivered() {
    let dice = &mut StdRng::seed_from_u64(11);
    let events = events(dice, 40, 1);
    let (one, other): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(|event| event.number % 2 == 0);
    let mut n = 0;
    loop {
        n += 1;
        let world = World::new();
        world.invoke(&Shard::new("shardId-000000000000").event(BEGIN_MS, &one, true, false)).await.unwrap();
        let event = Shard::new("shardId-000000000001").event(BEGIN_MS, &other, true, false);
        let index = Flaky::new(|_| None);
        let deliver = async |world: &World| {
            world.process().deliver(&index, "{}", &visit()).await.unwrap();
        };
        if !world.stalled_at(n, &event, deliver).await {
            break;
        }
        world.deliver(&index).await;
        assert_eq!(world.marks().await, 0);
        let results = world.results().await;
        let held = index.index.documents(INDEX);
        let all = &held["2024-05-01T10:00:00Z-60s-all"];
        assert_eq!(
            (&all["trips"], &all["shards"]),
            (&results["2024-05-01T10:00:00Z"][0]["trips"], &json!(2)),
            "stalled at {n}"
        );
    }
    assert!(n > 6, "there were calls to stall at: {n}");
}

/// Whatever call an invocation dies at that ends a window: when it comes again, OpenSearch gets what there is.
#[tokio::test]
async fn a_result_whose_maker_died_is_delivered() {
    let events = events(&mut StdRng::seed_from_u64(12), 20, 1);
    let event = Shard::new("shardId-000000000000").event(BEGIN_MS, &events, true, false);
    for is_done in [false, true] {
        let mut n = 0;
        loop {
            n += 1;
            let world = World::new();
            world.fate.set(n, is_done);
            let died = world.process().window(&event.to_string(), &visit()).await.is_err();
            world.fate.set(0, false);
            world.invoke(&event).await.unwrap();
            let index = Flaky::new(|_| None);
            world.deliver(&index).await;
            assert_eq!(world.marks().await, 0, "died at {n}");
            let held = index.index.documents(INDEX);
            let all = held.get("2024-05-01T10:00:00Z-60s-all");
            let all = all.unwrap_or_else(|| panic!("died at {n}, {is_done}: nothing is delivered"));
            assert_eq!(all["trips"], world.results().await["2024-05-01T10:00:00Z"][0]["trips"]);
            if !died {
                break;
            }
        }
        assert!(n > 5, "there were calls to die at: {n}");
    }
}

/// Whoever left it died, and nobody came again.
#[tokio::test]
async fn a_mark_whose_result_never_comes_goes_in_the_end() {
    let world = World::new();
    let orphan = Location::parse("s3://tables/live/_outbox/trips/20240501T100000Z-60s/000007-r").unwrap();
    world.lake.put(&orphan, bytes::Bytes::from_static(b"{}"), "application/json").await.unwrap();
    let (process, index) = (world.process(), MemoryIndex::default());
    let report = process.deliver(&index, "{}", &visit()).await.unwrap();
    assert_eq!((report.windows, report.waiting), (0, 1), "its result may come yet");
    pass(301_000);
    let report = process.deliver(&index, "{}", &visit()).await.unwrap();
    assert_eq!((report.documents, report.waiting), (0, 0));
    assert_eq!(world.marks().await, 0);
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
    assert_eq!(index.documents(INDEX).len(), 4, "of the one window");
    assert_eq!(world.marks().await, 1, "the other's stays");
}
