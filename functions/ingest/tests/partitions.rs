//! The function among twins: killed at every call it makes, stalled at every call, delivered again and cut otherwise.

// clippy.toml allows the first two in tests; what they are made of is not recognised as such. A list of one batch is a list of batches.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::single_range_in_vec_init)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use async_trait::async_trait;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use weir_alerts::Publisher;
use weir_command::Location;
use weir_delivery::{Failure, kafka};
use weir_ingest::config::Config;
use weir_ingest::{Ingest, Memory, Visit};
use weir_lake::{Lake, MemoryLake};
use weir_ledger::batch::{Book, MemoryBook};
use weir_ledger::positions::{Manifest, MemoryPositions, Positions};
use weir_ledger::{MemoryStore, Writer};
use weir_mortal::{Fate, Mortal};
use weir_telemetry::Telemetry;

const CLUSTER: &str = "arn:aws:kafka:us-east-1:123456789012:cluster/c/1";

thread_local! {
    /// Each test has a thread, and each thread a clock.
    static NOW_MS: std::cell::Cell<u64> = const { std::cell::Cell::new(1_800_000_000_000) };
}

fn now_ms() -> u64 {
    NOW_MS.get()
}

fn pass(ms: u64) {
    NOW_MS.set(now_ms() + ms);
}

const LEASE_MS: u64 = 120_000;

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

#[async_trait]
impl Publisher for Told {
    async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
        self.0.lock().unwrap().push(format!("{subject}\n{text}"));
        Ok(())
    }
}

#[derive(Default)]
struct World {
    lake: Arc<MemoryLake>,
    positions: Arc<MemoryPositions>,
    book: Arc<MemoryBook>,
    store: Arc<MemoryStore>,
    told: Arc<Told>,
    processes: Mutex<usize>,
}

impl World {
    fn new() -> Self {
        let world = Self::default();
        world.lake.make_bucket("tables");
        world.lake.make_bucket("dead-letters");
        world
    }

    /// A process of the function.
    fn process(&self, fate: &Arc<Fate>, partial_failures: bool) -> Ingest {
        let config = Config::read(|name| {
            Some(match name {
                "DEAD_LETTER_BUCKET" => "dead-letters".into(),
                "EVENTS" => "s3://tables/events/".into(),
                "TOPICS" => "log_topic=page_logs,orders=orders".into(),
                "PARTIAL_FAILURES" => {
                    if partial_failures {
                        "log_topic".into()
                    } else {
                        String::new()
                    }
                }
                "BATCH_GATHER_SECONDS" => "0".into(),
                "LEASE_GRACE_SECONDS" => "30".into(),
                _ => "x".into(),
            })
        });
        let number = {
            let mut processes = self.processes.lock().unwrap();
            *processes += 1;
            *processes
        };
        Ingest {
            config: config.unwrap(),
            lake: Arc::new(Mortal::new(&self.lake, fate)),
            positions: Arc::new(Mortal::new(&self.positions, fate)),
            book: Arc::new(Mortal::new(&self.book, fate)),
            store: Arc::new(Mortal::new(&self.store, fate)),
            publisher: Arc::<Told>::clone(&self.told),
            telemetry: Telemetry::silent(),
            writer: Writer::new(format!("process-{number}")),
            memory: Memory::default(),
        }
    }

    async fn objects(&self, under: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for object in self.lake.list(&Location::parse(under).unwrap(), None).await.unwrap().objects {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await.unwrap();
            found.insert(object.location.to_string(), bytes.to_vec());
        }
        found
    }

    /// The offsets of each file that has rows.
    async fn files(&self, table: &str) -> BTreeMap<String, Vec<i64>> {
        let all = self.objects(&format!("s3://tables/events/{table}/")).await;
        let files = all.into_iter().filter(|(name, _)| name.ends_with(".parquet")).map(|(name, bytes)| {
            let rows = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            let offsets =
                |batch: arrow_array::RecordBatch| batch["_offset"].as_primitive::<Int64Type>().values().to_vec();
            (name, rows.flat_map(|batch| offsets(batch.unwrap())).collect::<Vec<_>>())
        });
        files.filter(|(_, offsets)| !offsets.is_empty()).collect()
    }

    /// Each offset is in one file, and each file in one list that was handed on.
    async fn sound(&self, offsets: Range<i64>, what: &str) {
        let files = self.files("page_logs").await;
        let mut found: Vec<i64> = files.values().flatten().copied().collect();
        found.sort_unstable();
        assert_eq!(found, offsets.collect::<Vec<_>>(), "{what}");
        let mut listed = Vec::new();
        for list in self.positions.handed_on() {
            let at = Location::parse(&list.uri).unwrap();
            let info = self.lake.head(&at).await.unwrap();
            let manifest: Manifest =
                serde_json::from_slice(&self.lake.get(&at, None, 0, info.size).await.unwrap()).unwrap();
            assert_eq!((list.version_of.size, list.list_of), (manifest.bytes(), Some(manifest.files.len() as u64)));
            listed.extend(manifest.files.into_iter().map(|file| file.uri));
        }
        listed.sort();
        assert_eq!(listed, files.keys().cloned().collect::<Vec<_>>(), "{what}");
        let lane = self.book.lane("page_logs").await.unwrap();
        assert!(lane.is_some_and(|lane| lane.look_at_ms.is_some()), "{what}: nobody would look");
    }
}

fn page_log(offset: i64) -> Value {
    json!({"event_timestamp": format!("2024-05-0{}T10:00:00Z", offset % 3 + 1), "session_id": "s", "page_url": "/a",
           "TTI": offset, "TTAR": 2})
}

fn record(offset: i64, at_ms: i64, value: &Value) -> Value {
    let value = base64_simd::STANDARD.encode_to_string(value.to_string().as_bytes());
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": at_ms, "timestampType": "CREATE_TIME",
           "key": "aw==", "value": value, "headers": []})
}

fn event(partitions: &[(&str, Vec<Value>)]) -> String {
    let records: serde_json::Map<String, Value> =
        partitions.iter().map(|(name, records)| ((*name).to_owned(), records.clone().into())).collect();
    json!({"eventSource": "aws:kafka", "eventSourceArn": CLUSTER, "bootstrapServers": "b", "records": records})
        .to_string()
}

fn logs(offsets: Range<i64>) -> Vec<Value> {
    offsets.map(|offset| record(offset, 1_000 + offset, &page_log(offset))).collect()
}

fn one(offsets: Range<i64>) -> String {
    event(&[("log_topic-0", logs(offsets))])
}

async fn invoke(ingest: &Ingest, event: &str) -> Result<Vec<(String, i64)>, Failure> {
    let visit = Visit { request_id: "r".into(), deadline_ms: now_ms() + 60_000, clock: now_ms, cold_start: false };
    let response: weir_delivery::BatchResponse<kafka::Place> = ingest.handle(event, &visit).await?;
    let again = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier);
    Ok(again.map(|place| (place.partition, place.offset)).collect())
}

/// As Lambda does: what is not done comes again, cut otherwise, to another process.
async fn deliver(world: &World, batches: &[Range<i64>]) {
    for batch in batches {
        let process = world.process(&Arc::default(), true);
        for tries in 0.. {
            assert!(tries < 5, "{batch:?} comes for ever");
            if invoke(&process, &one(batch.clone())).await.is_ok_and(|again| again.is_empty()) {
                break;
            }
            pass(LEASE_MS);
        }
    }
}

#[tokio::test]
async fn killed_at_any_call_each_offset_is_in_one_file() {
    for done in [false, true] {
        for call in 1.. {
            let (world, fate) = (World::new(), Arc::new(Fate::default()));
            deliver(&world, &[0..3]).await;
            fate.set(call, done);
            let doomed = world.process(&fate, true);
            let _ = invoke(&doomed, &one(2..9)).await;
            if !fate.has_come() {
                assert!(call > 7, "so few calls");
                break;
            }
            // Killed again while it takes over, here and there.
            let second = Arc::new(Fate::default());
            second.set(1 + call % 7, !done);
            pass(LEASE_MS);
            let _ = invoke(&world.process(&second, true), &one(1..7)).await;
            pass(LEASE_MS);
            deliver(&world, &[3..5, 0..7, 5..12]).await;
            world.sound(0..12, &format!("killed at call {call}, done: {done}")).await;
        }
    }
}

#[tokio::test]
async fn stalled_at_any_call_it_may_go_on_after_another_has_taken_over() {
    for call in 1.. {
        let (world, fate) = (World::new(), Arc::new(Fate::default()));
        let stalling = world.process(&fate, true);
        fate.stall(call);
        let event = one(0..6);
        let invoked = invoke(&stalling, &event);
        tokio::pin!(invoked);
        let ended = tokio::select! {
            _ = &mut invoked => true,
            () = fate.stalled() => false,
        };
        if ended {
            // Position, manifest, intent, three files, commit, and the lane is read and noted.
            assert_eq!(call, 10, "the calls of a batch");
            break;
        }
        pass(LEASE_MS);
        deliver(&world, &[0..2, 1..9]).await;
        fate.go_on();
        let _ = invoked.await;
        world.sound(0..9, &format!("stalled at call {call}")).await;
    }
}

#[tokio::test]
async fn what_holds_back_one_partition_holds_back_no_other() {
    let world = World::new();
    deliver(&world, &[0..5]).await;
    // The topic was made anew: its first records are newer than all that was.
    let anew: Vec<Value> = (0..3).map(|offset| record(offset, 9_000 + offset, &page_log(offset))).collect();
    let both = event(&[("log_topic-0", anew), ("log_topic-1", logs(7..9)), ("unknown-2", logs(4..5))]);
    let process = world.process(&Arc::default(), true);
    assert_eq!(invoke(&process, &both).await.unwrap(), [("log_topic-0".to_owned(), 0)]);
    assert!(world.told.0.lock().unwrap()[0].contains("weir kafka anew"), "a person decides");
    let offsets: Vec<i64> = world.files("page_logs").await.into_values().flatten().collect();
    assert_eq!(offsets.len(), 7);
    let letters = world.objects("s3://dead-letters/poison/ingest/unknown/").await;
    assert_eq!(letters.len(), 1);
    // Where Lambda takes no partial answer, all comes again, and what is committed is skipped.
    let whole = world.process(&Arc::default(), false);
    let refused = invoke(&whole, &both).await.unwrap_err();
    assert!(refused.reason.contains("log_topic-0") && !refused.passes(), "{refused}");
    assert_eq!(world.files("page_logs").await.into_values().flatten().count(), 7);
    assert_eq!(world.objects("s3://dead-letters/poison/ingest/unknown/").await, letters);
}

#[tokio::test]
async fn bad_rows_are_put_aside_once_with_their_places() {
    let world = World::new();
    let bad = record(11, 1, &json!({"TTI": -5}));
    let lost = json!({"value": "e30="});
    let mixed = vec![record(10, 1, &page_log(1)), bad, record(12, 1, &json!("no object")), lost];
    for _ in 0..2 {
        let process = world.process(&Arc::default(), true);
        assert_eq!(invoke(&process, &event(&[("log_topic-0", mixed.clone())])).await.unwrap(), []);
    }
    let lines = |objects: BTreeMap<String, Vec<u8>>| -> Vec<Value> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let all: String = objects.into_values().map(text).collect();
        all.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let quarantine = lines(world.objects("s3://tables/events/page_logs/_quarantine/").await);
    let letters = lines(world.objects("s3://dead-letters/poison/ingest/log_topic/").await);
    let places = |lines: &[Value]| {
        lines.iter().map(|line| (line["partition"].as_i64(), line["offset"].as_i64())).collect::<BTreeSet<_>>()
    };
    assert_eq!(places(&quarantine), [(Some(0), Some(11))].into());
    assert_eq!(places(&letters), [(Some(0), None), (Some(0), Some(12))].into());
    assert_eq!((quarantine.len(), letters.len()), (1, 2));
}

#[tokio::test]
async fn a_batch_that_was_given_up_is_a_gap_until_it_comes() {
    let world = World::new();
    deliver(&world, &[0..3, 6..9]).await;
    let name = format!("{CLUSTER}/log_topic/0");
    let gaps = async || world.positions.position(&name).await.unwrap().unwrap().gaps.len();
    assert_eq!(gaps().await, 1);
    deliver(&world, &[2..8]).await;
    assert_eq!(gaps().await, 0);
    world.sound(0..9, "filled").await;
}

#[tokio::test]
async fn what_a_worker_left_is_closed_even_if_nobody_comes_for_its_partition() {
    let (world, fate) = (World::new(), Arc::new(Fate::default()));
    // At the commit: all files are there.
    fate.set(7, false);
    let _ = invoke(&world.process(&fate, true), &one(0..3)).await;
    assert_eq!(world.files("page_logs").await.len(), 3, "they are there, and not committed");
    let sweep = async || invoke(&world.process(&Arc::default(), true), r#"{"sweep":{}}"#).await.unwrap();
    sweep().await;
    assert_eq!(world.files("page_logs").await.len(), 3, "its lease is not over");
    pass(LEASE_MS);
    sweep().await;
    assert_eq!(world.files("page_logs").await.len(), 0);
    deliver(&world, &[0..3]).await;
    world.sound(0..3, "after the sweep").await;
}

#[tokio::test]
async fn what_is_no_kafka_batch_is_refused() {
    let refused = invoke(&World::new().process(&Arc::default(), true), r#"{"Records":[]}"#).await.unwrap_err();
    assert_eq!(refused.code, "NotKafka");
}
