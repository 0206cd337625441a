//! The orchestrator among twins: memory for S3 and the ledger, a Spark that does what its manifests say, a clock that can be
//! turned, and one call of all that kills whoever makes it.

mod warehouse;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use weir_alerts::Herald;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, MemoryLake};
use weir_ledger::batch::{Book, MemoryBook};
use weir_ledger::{Ledger, MemoryStore, Writer};
use weir_mortal::{Fate, Mortal, Told};
use weir_orchestrator::Orchestrator;
use weir_orchestrator::config::Config;
use weir_orchestrator::spark::{Seen, Spark, SparkState, Start};
use weir_orchestrator::warehouse::Warehouse;
use weir_telemetry::{Telemetry, Visit};

use warehouse::{MortalWarehouse, WarehouseTwin};

pub(crate) use weir_mortal::clock::{now_ms, pass};

/// A run that was started.
#[derive(Debug, Clone)]
struct Started {
    start: Start,
    state: SparkState,
    message: String,
}

/// A Spark that works when it is told to.
#[derive(Default)]
pub(crate) struct SparkTwin {
    runs: Mutex<Vec<Started>>,
    /// How many of the next runs fail.
    pub(crate) failing: AtomicUsize,
    /// How many of the next starts find no room.
    pub(crate) full: AtomicUsize,
    /// How many of the next runs find no good row.
    pub(crate) nothing: AtomicUsize,
    /// What each run's name holds now: a run that is made again replaces it.
    pub(crate) written: Mutex<BTreeMap<String, Vec<String>>>,
}

struct MortalSpark(Mortal<SparkTwin>);

#[async_trait]
impl Spark for MortalSpark {
    async fn start(&self, start: &Start) -> Result<String, Failure> {
        self.0.fate.call(self.0.inner.start(start)).await
    }
    async fn find(&self, token: &str) -> Result<Option<String>, Failure> {
        self.0.fate.call(self.0.inner.find(token)).await
    }
    async fn look(&self, run: &str) -> Result<Option<Seen>, Failure> {
        self.0.fate.call(self.0.inner.look(run)).await
    }
}

fn one_less(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl SparkTwin {
    async fn start(&self, start: &Start) -> Result<String, Failure> {
        if one_less(&self.full) {
            return Err(Failure::passing("ConcurrentRunsExceededException", "no room"));
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.push(Started { start: start.clone(), state: SparkState::Going, message: String::new() });
        Ok(format!("jr_{}", runs.len()))
    }

    async fn find(&self, token: &str) -> Result<Option<String>, Failure> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(runs.iter().position(|run| run.start.token == token).map(|at| format!("jr_{}", at + 1)))
    }

    async fn look(&self, run: &str) -> Result<Option<Seen>, Failure> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let at = run.strip_prefix("jr_").and_then(|number| number.parse::<usize>().ok());
        Ok(at.and_then(|at| runs.get(at - 1)).map(|run| Seen {
            state: run.state,
            lane: Some(run.start.lane.clone()),
            message: run.message.clone(),
            log: "a log".into(),
        }))
    }

    pub(crate) fn starts(&self) -> usize {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn set(&self, at: usize, state: SparkState, message: &str) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = runs.get_mut(at) {
            (run.state, run.message) = (state, message.to_owned());
        }
    }

    /// Every run that is going comes to its end, as the script would: token, manifest, output, result.
    pub(crate) async fn work(&self, lake: &MemoryLake, book: &MemoryBook) -> Vec<String> {
        let going: Vec<(usize, Start)> = {
            let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            let going = runs.iter().enumerate().filter(|(_, run)| run.state == SparkState::Going);
            going.map(|(at, run)| (at, run.start.clone())).collect()
        };
        let mut ended = Vec::new();
        for (at, start) in going {
            let me = format!("jr_{}", at + 1);
            if one_less(&self.failing) {
                self.set(at, SparkState::Failed, "FAILED: out of memory");
            } else if book.take_token(&start.token, &me, 0).await.unwrap() != me {
                self.set(at, SparkState::Succeeded, "SUCCEEDED");
            } else {
                let manifest = read(lake, &start.manifest).await;
                // A list's files instead of it.
                let data = |one: &&Value| one["is_list"] != true;
                let listed =
                    ["objects", "committed"].map(|name| manifest[name].as_array().cloned().unwrap_or_default());
                let objects: Vec<Value> = listed.iter().flatten().filter(data).cloned().collect();
                let uris: Vec<String> = objects.iter().map(|one| one["uri"].as_str().unwrap().to_owned()).collect();
                let groups = if one_less(&self.nothing) { 0 } else { uris.len() };
                let run = manifest["run"].as_str().unwrap().to_owned();
                self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(run, uris);
                let result = json!({"token": start.token, "rows": objects.len(), "groups": groups,
                                   "output": manifest["output"]});
                let place = Location::parse(manifest["result"].as_str().unwrap()).unwrap();
                lake.put(&place, Bytes::from(result.to_string()), "application/json").await.unwrap();
                self.set(at, SparkState::Succeeded, "SUCCEEDED");
            }
            ended.push(me);
        }
        ended
    }
}

async fn read(lake: &MemoryLake, uri: &str) -> Value {
    let at = Location::parse(uri).unwrap();
    let info = lake.head(&at).await.unwrap();
    serde_json::from_slice(&lake.get(&at, None, 0, info.size).await.unwrap()).unwrap()
}

/// All of it.
pub(crate) struct World {
    pub(crate) orchestrator: Orchestrator,
    pub(crate) fate: Arc<Fate>,
    pub(crate) lake: Arc<MemoryLake>,
    pub(crate) book: Arc<MemoryBook>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) spark: Arc<SparkTwin>,
    pub(crate) warehouse: Arc<WarehouseTwin>,
    pub(crate) told: Arc<Told>,
}

pub(crate) const RAW: &str = "raw-bucket";

fn settings(name: &str) -> Option<String> {
    Some(match name {
        "RAW" => "s3://raw-bucket/".into(),
        "TABLES" => "s3://out-bucket/tables/".into(),
        "RUNS" => "s3://batch-bucket/runs/".into(),
        "EVENTS" => "s3://out-bucket/events/".into(),
        "SOURCE_ALLOW_LIST" => "s3://in-bucket/".into(),
        "DEST_ALLOW_LIST" => "s3://out-bucket/".into(),
        "BATCH_WHEN" => "landing".into(),
        "BATCH_GATHER_SECONDS" => "0".into(),
        "BATCH_MAX_BYTES" => "1000000".into(),
        "OFF_PEAK" => "22:00-06:00 UTC".into(),
        other if other.starts_with("REDSHIFT_") => return None,
        other => other.to_lowercase().replace('_', "-"),
    })
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| None)
    }

    /// With some settings of its own.
    pub(crate) fn with(own: impl Fn(&str) -> Option<String>) -> Self {
        let config = Config::read(|name| own(name).or_else(|| settings(name))).unwrap();
        let (fate, lake) = (Arc::new(Fate::default()), Arc::new(MemoryLake::default()));
        for bucket in [RAW, "out-bucket", "batch-bucket", "dead-letter-bucket"] {
            lake.make_bucket(bucket);
        }
        let (book, store) = (Arc::new(MemoryBook::default()), Arc::new(MemoryStore::default()));
        let (spark, told) = (Arc::new(SparkTwin::default()), Arc::new(Told::default()));
        let warehouse = Arc::new(WarehouseTwin::new(&spark));
        let writer = Arc::new(Writer::new("test"));
        let orchestrator = Orchestrator {
            lake: Arc::new(Mortal::new(&lake, &fate)),
            ledger: Ledger::new(Arc::new(Mortal::new(&store, &fate)), Arc::clone(&writer)),
            book: Arc::new(Mortal::new(&book, &fate)),
            spark: Arc::new(MortalSpark(Mortal::new(&spark, &fate))),
            warehouse: None,
            herald: Herald {
                telemetry: Telemetry::silent(),
                store: Arc::new(Mortal::new(&store, &fate)),
                publisher: Arc::<Told>::clone(&told),
            },
            config,
            writer,
        };
        Self { orchestrator, fate, lake, book, store, spark, warehouse, told }
    }

    /// With a warehouse.
    pub(crate) fn with_warehouse() -> Self {
        let mut world = Self::new();
        let warehouse = MortalWarehouse(Mortal::new(&world.warehouse, &world.fate));
        world.orchestrator.warehouse = Some(Arc::new(warehouse) as Arc<dyn Warehouse>);
        world
    }

    pub(crate) async fn invoke(&self, event: &Value) -> Result<Value, Failure> {
        let visit = Visit { request_id: "r".into(), deadline_ms: now_ms() + 300_000, clock: now_ms, cold_start: false };
        self.orchestrator.handle(event, &visit).await
    }

    /// As Lambda does: an event that fails comes again, to another process.
    pub(crate) async fn deliver(&self, event: &Value) -> Value {
        for _ in 0..3 {
            match self.invoke(event).await {
                Ok(answer) => return answer,
                Err(_) => self.fate.revive(),
            }
        }
        panic!("the event fails for ever: {event}");
    }

    /// Every run and every load comes to its end, and its event, where events come, goes to the orchestrator.
    pub(crate) async fn work(&self, events: bool) {
        self.work_spark(events).await;
        for dataset in self.warehouse.work() {
            if events {
                self.deliver(&load_ended(&format!("stack:{dataset}"))).await;
            }
        }
    }

    pub(crate) async fn work_spark(&self, events: bool) {
        for run in self.spark.work(&self.lake, &self.book).await {
            if events {
                let detail = json!({"jobName": "glue-job", "jobRunId": run, "state": "SUCCEEDED"});
                let event = json!({"source": "aws.glue", "detail-type": "Glue Job State Change", "detail": detail});
                self.deliver(&event).await;
            }
        }
    }
}

/// A load ended: EventBridge's event.
pub(crate) fn load_ended(name: &str) -> Value {
    let detail = json!({"statementName": name, "statementId": "any", "state": "FINISHED", "rows": -1});
    json!({"source": "aws.redshift-data", "detail-type": "Redshift Data Statement Status Change", "detail": detail})
}

/// An object was created: EventBridge's event.
pub(crate) fn created(key: &str, etag: &str, sequencer: &str) -> Value {
    json!({
        "source": "aws.s3", "detail-type": "Object Created", "time": "2026-01-01T00:00:00Z",
        "detail": {"bucket": {"name": RAW}, "object": {"key": key, "size": 10, "etag": etag, "sequencer": sequencer}},
    })
}
