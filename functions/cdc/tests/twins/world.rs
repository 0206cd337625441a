//! Twins of all that the function calls, processes of it, and the stream that invokes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use serde_json::{Value, json};
use weir_alerts::Herald;
use weir_catalog::MemoryCatalog;
use weir_cdc::commit::Report;
use weir_cdc::config::Config;
use weir_cdc::handler::Answer;
use weir_cdc::{Cdc, Memory};
use weir_command::Location;
use weir_delivery::Failure;
use weir_hudi::timeline::Instant;
use weir_hudi::{Limits, Place, Table};
use weir_lake::{Lake, MemoryLake};
use weir_ledger::backlog::{Backlogs, MemoryBacklogs};
use weir_ledger::{MemoryStore, Writer};
use weir_mortal::clock::{now_ms, pass};
use weir_mortal::{Fate, Mortal, Told};
use weir_telemetry::{Telemetry, Visit};

use crate::database::{Rows, Sent};

/// What an invocation has.
const TIME_MS: u64 = 300_000;

pub(crate) struct World {
    pub(crate) lake: Arc<MemoryLake>,
    pub(crate) backlogs: Arc<MemoryBacklogs>,
    pub(crate) catalog: Arc<MemoryCatalog>,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) told: Arc<Told>,
    pub(crate) tables: &'static str,
    pub(crate) soft_deletes: bool,
    pub(crate) processes: AtomicUsize,
}

impl World {
    pub(crate) fn new(tables: &'static str, soft_deletes: bool) -> Self {
        let lake = Arc::new(MemoryLake::default());
        lake.make_bucket("tables");
        lake.make_bucket("dead-letters");
        Self {
            lake,
            backlogs: Arc::default(),
            catalog: Arc::default(),
            store: Arc::default(),
            told: Arc::default(),
            tables,
            soft_deletes,
            processes: AtomicUsize::new(0),
        }
    }

    /// A process of the function.
    pub(crate) fn process(&self, role: &str, fate: &Arc<Fate>) -> Cdc {
        let config = Config::read(|name| {
            Some(match name {
                "ROLE" => role.to_owned(),
                "DEAD_LETTER_BUCKET" => "dead-letters".into(),
                "CHANGES" => "s3://tables/changes/".into(),
                "TABLES" => self.tables.to_owned(),
                "SOFT_DELETES" => self.soft_deletes.to_string(),
                "KEEP_HOURS" => "1".into(),
                "LEASE_GRACE_SECONDS" => "30".into(),
                _ => "x".into(),
            })
        });
        let number = self.processes.fetch_add(1, Ordering::Relaxed);
        Cdc {
            config: config.unwrap(),
            lake: Arc::new(Mortal::new(&self.lake, fate)),
            backlogs: Arc::new(Mortal::new(&self.backlogs, fate)),
            catalog: Arc::new(Mortal::new(&self.catalog, fate)),
            herald: Herald { telemetry: Telemetry::silent(), store: self.store.clone(), publisher: self.told.clone() },
            writer: Writer::new(format!("process-{number}")),
            limits: Limits { target_bytes: 3_500, settle_ms: 0, ..Limits::default() },
            memory: Memory::default(),
        }
    }

    /// A batch of a shard; the sequence number from which it must come again, if it must.
    pub(crate) async fn deliver(
        &self,
        fate: &Arc<Fate>,
        shard: usize,
        records: &[Sent],
    ) -> Result<Option<u64>, Failure> {
        fate.revive();
        match self.process("stage", fate).handle(&event(shard, records), &visit()).await? {
            Answer::Batch(response) => {
                let again = response.batch_item_failures.first().map(|item| item.item_identifier.parse().unwrap());
                Ok(again)
            }
            Answer::Committed(_) => panic!("a batch was answered as a commit"),
        }
    }

    pub(crate) async fn commit(&self, fate: &Arc<Fate>) -> Result<Report, Failure> {
        fate.revive();
        match self.process("commit", fate).handle(r#"{"commit":{}}"#, &visit()).await? {
            Answer::Committed(report) => Ok(report),
            Answer::Batch(_) => panic!("a commit was answered as a batch"),
        }
    }

    /// Commits, as the schedule does, until nothing is left.
    pub(crate) async fn settle(&self, fate: &Arc<Fate>) {
        for _ in 0..40 {
            let _ = self.commit(fate).await;
            pass(60_000);
            if self.backlogs.due_backlogs(u64::MAX, 10).await.unwrap().is_empty() {
                return;
            }
        }
        panic!("tables are held: {:?}", self.told.all());
    }

    pub(crate) fn place(&self, table: &str) -> Place {
        let lake: Arc<dyn Lake> = Arc::clone(&self.lake) as Arc<dyn Lake>;
        Place { lake, at: Location::parse(&format!("s3://tables/changes/{table}/")).unwrap() }
    }

    pub(crate) async fn table(&self, table: &str) -> Table {
        Table::open(&self.place(table)).await.unwrap().expect("there is no table")
    }

    /// What readers see, but for rows that are marked as deleted.
    pub(crate) async fn rows(&self, table: &str, as_of: Option<&Instant>) -> Rows {
        match Table::open(&self.place(table)).await.unwrap() {
            Some(table) => table.rows(as_of).await.unwrap().iter().flat_map(rows_in).collect(),
            None => Rows::new(),
        }
    }

    /// All that lies there, as one text.
    pub(crate) async fn texts(&self, under: &str) -> String {
        let at = Location::parse(under).unwrap();
        let mut all = String::new();
        for object in weir_lake::list_all(&*self.lake, &at).await.unwrap() {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await.unwrap();
            all.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        all
    }

    pub(crate) async fn keys(&self, under: &str) -> Vec<String> {
        let at = Location::parse(under).unwrap();
        let all = weir_lake::list_all(&*self.lake, &at).await.unwrap();
        all.into_iter().map(|object| object.location.key().to_owned()).collect()
    }
}

fn rows_in(batch: &RecordBatch) -> Rows {
    let ids: Vec<i64> = match batch["id"].as_primitive_opt::<Int64Type>() {
        Some(ids) => ids.values().to_vec(),
        None => batch["id"].as_primitive::<Int32Type>().values().iter().map(|id| i64::from(*id)).collect(),
    };
    let (names, genders) = (batch["name"].as_string::<i32>(), batch["gender"].as_string::<i32>());
    let gone = batch.column_by_name("_deleted").map(|marks| marks.as_boolean().clone());
    let stays = |row: &usize| !gone.as_ref().is_some_and(|marks| marks.is_valid(*row) && marks.value(*row));
    let row = |row: usize| {
        let gender = genders.is_valid(row).then(|| genders.value(row).to_owned());
        (ids[row], (names.value(row).to_owned(), gender))
    };
    let rows: Vec<_> = (0..batch.num_rows()).filter(stays).map(row).collect();
    let (count, rows) = (rows.len(), rows.into_iter().collect::<Rows>());
    assert_eq!(count, rows.len(), "a key is there twice");
    rows
}

pub(crate) fn visit() -> Visit {
    Visit { request_id: "r".into(), deadline_ms: now_ms() + TIME_MS, clock: now_ms, cold_start: false }
}

fn event(shard: usize, records: &[Sent]) -> String {
    use base64::Engine;
    let record = |sent: &Sent| -> Value {
        let data = base64::engine::general_purpose::STANDARD.encode(&sent.data);
        json!({
            "kinesis": {"partitionKey": "p", "sequenceNumber": sent.sequence.to_string(), "data": data, "approximateArrivalTimestamp": 1545084650.987},
            "eventID": format!("shardId-{shard:012}:{}", sent.sequence),
            "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-changes",
        })
    };
    json!({"Records": records.iter().map(record).collect::<Vec<_>>()}).to_string()
}
