//! A table, a plain map of what must be in it, and processes that write to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tokio::task::JoinHandle;
use weir_command::Location;
use weir_delivery::Failure;
use weir_hudi::settings::Settings;
use weir_hudi::timeline::Instant;
use weir_hudi::{Changes, Committed, Counts, KeyCache, Lease, Limits, Place, Table};
use weir_lake::{Lake, MemoryLake};
use weir_mortal::clock::now_ms;
use weir_mortal::{Fate, Mortal};

/// What a change makes of a key.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) id: i64,
    /// Nothing: the row goes.
    pub(crate) row: Option<(Option<&'static str>, String)>,
    pub(crate) at: i64,
}

pub(crate) fn put(id: i64, day: &'static str, name: &str, at: i64) -> Put {
    Put { id, row: Some((Some(day), name.to_owned())), at }
}

pub(crate) fn gone(id: i64, at: i64) -> Put {
    Put { id, row: None, at }
}

/// Rows by key: day, name, ordering.
pub(crate) type Rows = BTreeMap<i64, (Option<String>, String, i64)>;

/// What a map makes of the same changes.
pub(crate) fn apply(rows: &mut Rows, changes: &[Put]) {
    for Put { id, row, at } in changes {
        if rows.get(id).is_some_and(|(_, _, there)| there >= at) {
            continue;
        }
        match row {
            Some((day, name)) => drop(rows.insert(*id, (day.map(str::to_owned), name.clone(), *at))),
            None => drop(rows.remove(id)),
        }
    }
}

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("dt", DataType::Utf8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", DataType::Int64, true),
    ]))
}

pub(crate) fn batch(changes: &[Put]) -> Changes {
    let day = |change: &Put| change.row.as_ref().and_then(|(day, _)| *day);
    let name = |change: &Put| change.row.as_ref().map(|(_, name)| name.clone());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(changes.iter().map(|change| Some(change.id)).collect::<Int64Array>()),
        Arc::new(changes.iter().map(day).collect::<StringArray>()),
        Arc::new(changes.iter().map(name).collect::<StringArray>()),
        Arc::new(changes.iter().map(|change| Some(change.at)).collect::<Int64Array>()),
    ];
    let rows = RecordBatch::try_new(schema(), columns).unwrap();
    Changes { rows, deletes: changes.iter().map(|change| change.row.is_none()).collect() }
}

pub(crate) fn settings(partitioned: bool, buckets: Option<u32>) -> Settings {
    Settings {
        name: "t".to_owned(),
        database: "default".to_owned(),
        key: vec!["id".to_owned()],
        ordering: "at".to_owned(),
        partition: partitioned.then(|| "dt".to_owned()),
        buckets,
    }
}

pub(crate) const LEASE_MS: u64 = 60_000;

pub(crate) struct World {
    pub(crate) lake: Arc<MemoryLake>,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let lake = Arc::new(MemoryLake::default());
        lake.make_bucket("tables");
        Self { lake, settings, limits: Limits { target_bytes: 3_500, settle_ms: 0, ..Limits::default() } }
    }

    pub(crate) fn place(&self) -> Place {
        let lake: Arc<dyn Lake> = Arc::clone(&self.lake) as Arc<dyn Lake>;
        Place { lake, at: Location::parse("s3://tables/t/").unwrap() }
    }

    /// A process that dies or stalls as its fate will have it.
    pub(crate) fn process(&self, fate: &Arc<Fate>) -> Process {
        let lake = Arc::new(Mortal::new(&self.lake, fate));
        Process {
            place: Place { lake, ..self.place() },
            settings: self.settings.clone(),
            limits: self.limits,
            clock: now_ms,
            cache: KeyCache::default(),
        }
    }

    pub(crate) async fn table(&self) -> Table {
        Table::open(&self.place()).await.unwrap().unwrap()
    }

    /// What readers see.
    pub(crate) async fn rows(&self, as_of: Option<&Instant>) -> Rows {
        match Table::open(&self.place()).await.unwrap() {
            Some(table) => rows_in(&table.rows(as_of).await.unwrap()),
            None => Rows::new(),
        }
    }

    pub(crate) async fn objects(&self) -> Vec<String> {
        let place = self.place();
        let page = self.lake.list(&place.at, None).await.unwrap();
        assert!(!page.more);
        page.objects.iter().map(|object| object.location.key().to_owned()).collect()
    }
}

/// Rows by key; there is one of each.
pub(crate) fn rows_in(batches: &[RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let number = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (days, names, ids, ats, keys) =
            (text("dt"), text("name"), number("id"), number("at"), text("_hoodie_record_key"));
        for row in 0..batch.num_rows() {
            let id = ids.value(row);
            assert_eq!(keys.value(row), id.to_string());
            let day = days.iter().nth(row).unwrap().map(str::to_owned);
            let before = rows.insert(id, (day, names.value(row).to_owned(), ats.value(row)));
            assert!(before.is_none(), "{id} is there twice");
        }
    }
    rows
}

/// A commit that stalls at a call, or is done.
pub(crate) struct Writing {
    task: JoinHandle<Result<(Option<Committed>, Counts), Failure>>,
    fate: Arc<Fate>,
    pub(crate) is_stalled: bool,
}

impl Writing {
    /// Begins to commit, until that call, or to the end.
    pub(crate) async fn begin(
        world: &World,
        clock: fn() -> u64,
        owner: &'static str,
        changes: Vec<Put>,
        keep_ms: Option<u64>,
        call: usize,
    ) -> Self {
        let fate = Arc::new(Fate::default());
        fate.stall(call);
        let process = Process { clock, ..world.process(&fate) };
        let task = tokio::spawn(async move { process.commit(owner, &changes, keep_ms).await });
        let is_stalled = tokio::select! {
            () = fate.stalled() => true,
            () = finished(&task) => false,
        };
        Self { task, fate, is_stalled }
    }

    /// Lets it go on, and says whether the commit was acknowledged.
    pub(crate) async fn go_on(self) -> bool {
        self.fate.go_on();
        self.task.await.unwrap().is_ok()
    }
}

async fn finished<T>(task: &JoinHandle<T>) {
    while !task.is_finished() {
        tokio::task::yield_now().await;
    }
}

pub(crate) struct Process {
    pub(crate) place: Place,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    /// What it takes for the time when it looks whether its lease is over.
    pub(crate) clock: fn() -> u64,
    cache: KeyCache,
}

impl Process {
    /// All that a committer does.
    pub(crate) async fn commit(
        &self,
        owner: &str,
        changes: &[Put],
        keep_ms: Option<u64>,
    ) -> Result<(Option<Committed>, Counts), Failure> {
        let lease = Lease::take(&self.place, owner, now_ms() + LEASE_MS, now_ms()).await?;
        let done = self.with(&lease, changes, keep_ms).await;
        let released = lease.release(&self.place).await;
        let done = done?;
        released.map(|()| done)
    }

    async fn with(
        &self,
        lease: &Lease,
        changes: &[Put],
        keep_ms: Option<u64>,
    ) -> Result<(Option<Committed>, Counts), Failure> {
        let table = match Table::open_to_write(&self.place, lease, &self.limits, self.clock).await? {
            Some(table) => table,
            None => {
                Table::create(&self.place, &self.settings, &schema()).await?;
                Table::open_to_write(&self.place, lease, &self.limits, self.clock).await?.unwrap()
            }
        };
        let prepared = table.prepare(&batch(changes), &self.cache, &self.limits).await?;
        let counts = prepared.counts;
        let own = BTreeMap::from([("last".to_owned(), changes.len().to_string())]);
        let committed = match prepared.is_empty() {
            true => None,
            false => Some(table.write(prepared, &own, lease, &self.limits, self.clock).await?),
        };
        if let Some(keep_ms) = keep_ms {
            let horizon = Instant::of(i64::try_from(now_ms() - keep_ms).unwrap()).unwrap();
            Table::open(&self.place).await?.unwrap().keep_since(&horizon).await?;
        }
        Ok((committed, counts))
    }
}
