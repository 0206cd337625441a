//! What the tests of the function share: twins of all that it calls, and processes of it.

// Each test file uses some of it. clippy.toml allows the others in tests; what they are made of is not recognised as such.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use weir_alerts::Herald;
use weir_catalog::MemoryCatalog;
use weir_command::Location;
use weir_delivery::Failure;
use weir_ingest::config::Config;
use weir_ingest::handler::Answer;
use weir_ingest::{Ingest, Memory};
use weir_lake::{Lake, MemoryLake};
use weir_ledger::batch::{Book, MemoryBook};
use weir_ledger::layout::MemoryLayouts;
use weir_ledger::positions::{Manifest, MemoryPositions};
use weir_ledger::{MemoryStore, Writer};
use weir_mortal::{Fate, Mortal, Told};
use weir_telemetry::{Telemetry, Visit};

pub(crate) const CLUSTER: &str = "arn:aws:kafka:us-east-1:123456789012:cluster/c/1";

pub(crate) use weir_mortal::clock::{now_ms, pass};

pub(crate) const LEASE_MS: u64 = 120_000;

pub(crate) const KEEP_HOURS: u64 = 24;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) lake: Arc<MemoryLake>,
    pub(crate) positions: Arc<MemoryPositions>,
    pub(crate) layouts: Arc<MemoryLayouts>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) book: Arc<MemoryBook>,
    store: Arc<MemoryStore>,
    pub(crate) told: Arc<Told>,
    processes: Mutex<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self::default();
        world.lake.make_bucket("tables");
        world.lake.make_bucket("dead-letters");
        world
    }

    /// A process of the function.
    pub(crate) fn process(&self, fate: &Arc<Fate>, partial_failures: bool) -> Ingest {
        let config = Config::read(|name| {
            Some(match name {
                "ROLE" => "compact".into(),
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
                "KEEP_HOURS" => KEEP_HOURS.to_string(),
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
            layouts: Arc::new(Mortal::new(&self.layouts, fate)),
            catalog: Arc::new(Mortal::new(&self.catalog, fate)),
            book: Arc::new(Mortal::new(&self.book, fate)),
            herald: Herald {
                telemetry: Telemetry::silent(),
                store: Arc::new(Mortal::new(&self.store, fate)),
                publisher: Arc::<Told>::clone(&self.told),
            },
            writer: Writer::new(format!("process-{number}")),
            memory: Memory::default(),
        }
    }

    pub(crate) async fn objects(&self, under: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for object in self.lake.list(&Location::parse(under).unwrap(), None).await.unwrap().objects {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await.unwrap();
            found.insert(object.location.to_string(), bytes.to_vec());
        }
        found
    }

    /// The offsets of each file that has rows.
    pub(crate) async fn files(&self, table: &str) -> BTreeMap<String, Vec<i64>> {
        self.files_under(&format!("s3://tables/events/{table}/")).await
    }

    pub(crate) async fn files_under(&self, place: &str) -> BTreeMap<String, Vec<i64>> {
        let all = self.objects(place).await;
        let files = all.into_iter().filter(|(name, _)| name.ends_with(".parquet")).map(|(name, bytes)| {
            let rows = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            let offsets =
                |batch: arrow_array::RecordBatch| batch["_offset"].as_primitive::<Int64Type>().values().to_vec();
            (name, rows.flat_map(|batch| offsets(batch.unwrap())).collect::<Vec<_>>())
        });
        files.filter(|(_, offsets)| !offsets.is_empty()).collect()
    }

    /// Each offset is in one file, and each file in one list that was handed on.
    pub(crate) async fn sound(&self, offsets: Range<i64>, what: &str) {
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

pub(crate) fn page_log(offset: i64) -> Value {
    json!({"event_timestamp": format!("2024-05-0{}T10:00:00Z", offset % 3 + 1), "session_id": "s", "page_url": "/a",
           "TTI": offset, "TTAR": 2})
}

pub(crate) fn record(offset: i64, at_ms: i64, value: &Value) -> Value {
    let value = base64_simd::STANDARD.encode_to_string(value.to_string().as_bytes());
    json!({"topic": "t", "partition": 0, "offset": offset, "timestamp": at_ms, "timestampType": "CREATE_TIME",
           "key": "aw==", "value": value, "headers": []})
}

pub(crate) fn event(partitions: &[(&str, Vec<Value>)]) -> String {
    let records: serde_json::Map<String, Value> =
        partitions.iter().map(|(name, records)| ((*name).to_owned(), records.clone().into())).collect();
    json!({"eventSource": "aws:kafka", "eventSourceArn": CLUSTER, "bootstrapServers": "b", "records": records})
        .to_string()
}

pub(crate) fn logs(offsets: Range<i64>) -> Vec<Value> {
    offsets.map(|offset| record(offset, 1_000 + offset, &page_log(offset))).collect()
}

pub(crate) fn one(offsets: Range<i64>) -> String {
    event(&[("log_topic-0", logs(offsets))])
}

pub(crate) async fn invoke(ingest: &Ingest, event: &str) -> Result<Vec<(String, i64)>, Failure> {
    let visit = Visit { request_id: "r".into(), deadline_ms: now_ms() + 60_000, clock: now_ms, cold_start: false };
    let Answer::Batch(response) = ingest.handle(event, &visit).await? else { panic!("it is no batch") };
    let again = response.batch_item_failures.into_iter().map(|failure| failure.item_identifier);
    Ok(again.map(|place| (place.partition, place.offset)).collect())
}

/// As Lambda does: what is not done comes again, cut otherwise, to another process.
pub(crate) async fn deliver(world: &World, batches: &[Range<i64>]) {
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
