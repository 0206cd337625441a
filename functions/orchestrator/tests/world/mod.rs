//! The orchestrator among twins: memory for S3 and the ledger, a Spark that does what its manifests say, a clock that can be
//! turned, and one call of all that kills whoever makes it.

mod warehouse;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use weir_alerts::Publisher;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Attributes, Lake, MemoryLake, ObjectInfo, Page, Part};
use weir_ledger::batch::{Book, Landed, Lane, MemoryBook, Swap};
use weir_ledger::{Job, Ledger, MemoryStore, Put, Store};
use weir_orchestrator::config::Config;
use weir_orchestrator::spark::{Seen, Spark, SparkState, Start};
use weir_orchestrator::warehouse::Warehouse;
use weir_orchestrator::{Orchestrator, Visit};
use weir_telemetry::Telemetry;

use warehouse::WarehouseTwin;

thread_local! {
    /// Each test has a thread, and each thread a clock.
    static NOW_MS: std::cell::Cell<u64> = const { std::cell::Cell::new(1_800_000_000_000) };
}

pub(crate) fn now_ms() -> u64 {
    NOW_MS.get()
}

pub(crate) fn pass(ms: u64) {
    NOW_MS.set(now_ms() + ms);
}

/// When the process dies: at which call, and whether that call is still done.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    calls: AtomicUsize,
    dies_at: AtomicUsize,
    done: AtomicBool,
    dead: AtomicBool,
    came: AtomicBool,
}

impl Fate {
    /// From now on, the `n`th call kills; `done`: after it took effect.
    pub(crate) fn set(&self, n: usize, done: bool) {
        self.calls.store(0, Ordering::SeqCst);
        self.dies_at.store(n, Ordering::SeqCst);
        self.done.store(done, Ordering::SeqCst);
    }

    /// Whether there were so many calls at all.
    pub(crate) fn has_come(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    /// How many calls there were since.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// The next invocation is another process.
    pub(crate) fn revive(&self) {
        self.dead.store(false, Ordering::SeqCst);
    }

    async fn call<T>(&self, doing: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let killed = || Err(Failure::passing("Killed", "the process was killed"));
        if self.dead.load(Ordering::SeqCst) {
            return killed();
        }
        let dies = self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at.load(Ordering::SeqCst);
        if !dies {
            return doing.await;
        }
        self.dead.store(true, Ordering::SeqCst);
        self.came.store(true, Ordering::SeqCst);
        if self.done.load(Ordering::SeqCst) {
            let _ = doing.await;
        }
        killed()
    }
}

/// What it is all wrapped in.
pub(crate) struct Mortal<T> {
    inner: Arc<T>,
    fate: Arc<Fate>,
}

#[async_trait]
impl Book for Mortal<MemoryBook> {
    async fn lane(&self, name: &str) -> Result<Option<Lane>, Failure> {
        self.fate.call(self.inner.lane(name)).await
    }
    async fn put_lane(&self, lane: &Lane) -> Result<Swap<Lane>, Failure> {
        self.fate.call(self.inner.put_lane(lane)).await
    }
    async fn due_lanes(&self, now_ms: u64, most: usize) -> Result<Vec<Lane>, Failure> {
        self.fate.call(self.inner.due_lanes(now_ms, most)).await
    }
    async fn object(&self, dataset: &str, uri: &str) -> Result<Option<Landed>, Failure> {
        self.fate.call(self.inner.object(dataset, uri)).await
    }
    async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure> {
        self.fate.call(self.inner.put_object(object)).await
    }
    async fn pending(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        self.fate.call(self.inner.pending(dataset, most)).await
    }
    async fn conflicts(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        self.fate.call(self.inner.conflicts(dataset, most)).await
    }
    async fn deferred(&self, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.deferred(most)).await
    }
    async fn take_token(&self, token: &str, who: &str, expires_s: u64) -> Result<String, Failure> {
        self.fate.call(self.inner.take_token(token, who, expires_s)).await
    }
    async fn token(&self, token: &str) -> Result<Option<String>, Failure> {
        self.fate.call(self.inner.token(token)).await
    }
}

#[async_trait]
impl Store for Mortal<MemoryStore> {
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure> {
        self.fate.call(self.inner.get(id)).await
    }
    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        self.fate.call(self.inner.put(job, expected)).await
    }
    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.due(now_ms, most)).await
    }
    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        self.fate.call(self.inner.recent(since_ms, until_ms, most)).await
    }
    async fn count(&self, counter: &str, expires_s: u64) -> Result<u64, Failure> {
        self.fate.call(self.inner.count(counter, expires_s)).await
    }
    async fn reset(&self, counter: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.reset(counter)).await
    }
}

#[async_trait]
impl Lake for Mortal<MemoryLake> {
    async fn head(&self, at: &Location) -> Result<ObjectInfo, Failure> {
        self.fate.call(self.inner.head(at)).await
    }
    async fn list(&self, prefix: &Location, after: Option<&str>) -> Result<Page, Failure> {
        self.fate.call(self.inner.list(prefix, after)).await
    }
    async fn get(&self, at: &Location, etag: Option<&str>, offset: u64, length: u64) -> Result<Bytes, Failure> {
        self.fate.call(self.inner.get(at, etag, offset, length)).await
    }
    async fn put(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.put(at, bytes, content_type)).await
    }
    async fn put_new(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.put_new(at, bytes, content_type)).await
    }
    async fn delete(&self, all: &[Location]) -> Result<(), Failure> {
        self.fate.call(self.inner.delete(all)).await
    }
    async fn copy(&self, from: &ObjectInfo, to: &Location) -> Result<(), Failure> {
        self.fate.call(self.inner.copy(from, to)).await
    }
    async fn begin_parts(&self, at: &Location, attributes: &Attributes) -> Result<String, Failure> {
        self.fate.call(self.inner.begin_parts(at, attributes)).await
    }
    async fn put_part(&self, at: &Location, upload: &str, number: i32, bytes: Bytes) -> Result<Part, Failure> {
        self.fate.call(self.inner.put_part(at, upload, number, bytes)).await
    }
    async fn copy_part(
        &self,
        from: &ObjectInfo,
        to: &Location,
        upload: &str,
        number: i32,
        range: (u64, u64),
    ) -> Result<Part, Failure> {
        self.fate.call(self.inner.copy_part(from, to, upload, number, range)).await
    }
    async fn finish_parts(&self, at: &Location, upload: &str, parts: &[Part]) -> Result<(), Failure> {
        self.fate.call(self.inner.finish_parts(at, upload, parts)).await
    }
    async fn abort_parts(&self, at: &Location, upload: &str) -> Result<(), Failure> {
        self.fate.call(self.inner.abort_parts(at, upload)).await
    }
}

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

#[async_trait]
impl Spark for Mortal<SparkTwin> {
    async fn start(&self, start: &Start) -> Result<String, Failure> {
        self.fate.call(self.inner.start(start)).await
    }
    async fn find(&self, token: &str) -> Result<Option<String>, Failure> {
        self.fate.call(self.inner.find(token)).await
    }
    async fn look(&self, run: &str) -> Result<Option<Seen>, Failure> {
        self.fate.call(self.inner.look(run)).await
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
                let objects = manifest["objects"].as_array().cloned().unwrap_or_default();
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

/// What people were told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<String>>);

#[async_trait]
impl Publisher for Told {
    async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{subject}\n{text}"));
        Ok(())
    }
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
        let orchestrator = Orchestrator {
            lake: Arc::new(Mortal { inner: Arc::clone(&lake), fate: Arc::clone(&fate) }),
            ledger: Ledger::new(Arc::new(Mortal { inner: Arc::clone(&store), fate: Arc::clone(&fate) }), "test"),
            book: Arc::new(Mortal { inner: Arc::clone(&book), fate: Arc::clone(&fate) }),
            spark: Arc::new(Mortal { inner: Arc::clone(&spark), fate: Arc::clone(&fate) }),
            warehouse: None,
            publisher: Arc::<Told>::clone(&told),
            telemetry: Telemetry::silent(),
            config,
            writer: "test".into(),
            writes: AtomicU64::new(0),
        };
        Self { orchestrator, fate, lake, book, store, spark, warehouse, told }
    }

    /// With a warehouse.
    pub(crate) fn with_warehouse() -> Self {
        let mut world = Self::new();
        let warehouse = Mortal { inner: Arc::clone(&world.warehouse), fate: Arc::clone(&world.fate) };
        world.orchestrator.warehouse = Some(Arc::new(warehouse) as Arc<dyn Warehouse>);
        world
    }

    pub(crate) async fn invoke(&self, event: &Value) -> Result<Value, Failure> {
        let visit = Visit { request_id: "r".into(), deadline_ms: now_ms() + 300_000, clock: now_ms };
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
