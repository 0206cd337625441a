//! A commit, step by step. The `.commit` object is the point at which readers see it.
//!
//! A writer may die after any step, and may stall after any, for longer than its lease. What it leaves is hidden while its instant is on
//! the timeline as begun; the next writer ends that ([`Table::open_to_write`]). One that goes on after that must not commit any more,
//! and no lease can keep a late request from S3. So `.commit` is not put but copied, by S3, from an object, the *fence*, that is made if
//! there is none. The next writer overwrites it before it takes anything back: a copy of what has changed fails, and so does a fence that
//! is made late. If it finds the fence as it was made, and nobody has committed since, all of the commit is there: then it is
//! made to readers, by the same copy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;
use weir_delivery::Failure;
use weir_lake::{Attributes, ObjectInfo};

use crate::commit::{Commit, NO_COMMIT, WriteStat};
use crate::lease::Lease;
use crate::names::{BaseFile, bucket_file_id, file_id};
use crate::plan::Counts;
use crate::rewrite::{self, Commission, Task};
use crate::table::Table;
use crate::timeline::{Entry, Instant, State, Timeline};
use crate::upsert::{Limits, Prepared, Work};
use crate::view::PARTITION_METADATA;

/// What a slice takes in memory while it is written, by the size of its file: the old bytes, the new ones, and columns decoded and encoded.
const MEMORY_FACTOR: u64 = 5;

/// A permit of the memory bound.
const PERMIT_BYTES: u64 = 1 << 20;

/// Slices that are written at a time: what two cores can do, and one that waits for S3.
const AT_ONCE: usize = 3;

/// The writer has no time left to commit in.
pub const TOO_LATE: &str = "HudiTooLate";

/// What says that an instant is of a writer like this one, and not of Spark's, whose commits are not ours to take back.
pub(crate) const OURS: &str = "weir-writer";

/// The member of a commit that names the one before it, as its writer saw the table.
pub(crate) const BASE: &str = "weir-base";

/// What an instant holds that was requested: nothing, if it is Spark's.
const REQUESTED: &str = r#"{"weir-writer":"1"}"#;

/// What is written of an instant that has begun, but for one member as Spark writes it.
const INFLIGHT: &str =
    r#"{"partitionToWriteStats":{},"compacted":false,"extraMetadata":{"weir-writer":"1"},"operationType":"UPSERT"}"#;

/// How often an instant is tried for: each takes a millisecond.
const MOST_TRIES: u64 = 5;

/// Partitions that are marked at a time.
const MARKED_AT_ONCE: usize = 16;

/// A commit that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// When.
    pub instant: Instant,
    /// File groups that were written.
    pub files: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Table {
    /// Commits. `own`: members of ours in the commit, all of them. The lease must be this writer's, and nothing may be left over of
    /// others ([`Table::open_to_write`]).
    ///
    /// # Errors
    /// The lake's; `HudiTooLate`: the lease ends before the commit is sure to be over. What was written stays hidden, and the next writer
    /// takes it back.
    pub async fn write(
        &self,
        prepared: Prepared,
        own: &BTreeMap<String, String>,
        lease: &Lease,
        limits: &Limits,
        clock: fn() -> u64,
    ) -> Result<Committed, Failure> {
        let instant = self.begin(clock()).await?;
        let Prepared { schema, rows, keys, work, .. } = prepared;
        let plans: Vec<(Task, Work)> =
            work.into_iter().enumerate().map(|(n, work)| planned(n, work, &instant)).collect();
        self.announce(&instant, &plans).await?;
        let commission = Arc::new(Commission {
            table: self.settings.name.clone(),
            instant: instant.clone(),
            schema,
            rows,
            keys,
            unique: vec![self.settings.ordering.clone()],
        });
        let memory = Memory::of(limits.memory_bytes);
        let mut writes: Vec<BoxFuture<'_, _>> = Vec::new();
        for (task, work) in plans {
            writes.push(Box::pin(self.write_slice(&commission, task, work, &memory)));
        }
        let mut writes = futures::stream::iter(writes).buffer_unordered(AT_ONCE);
        let mut stats: BTreeMap<String, Vec<WriteStat>> = BTreeMap::new();
        let (mut files, mut bytes) = (0, 0);
        while let Some(stat) = writes.next().await {
            let stat = stat?;
            (files, bytes) = (files + 1, bytes + stat.file_size_in_bytes.unsigned_abs());
            stats.entry(stat.partition_path.clone()).or_default().push(stat);
        }
        stats.values_mut().for_each(|stats| stats.sort_by(|one, other| one.path.cmp(&other.path)));
        let mut members = self.members(&commission.schema, own)?;
        members.insert(BASE.to_owned(), self.base());
        let commit = Commit {
            partition_to_write_stats: stats,
            extra_metadata: members,
            operation_type: "UPSERT".to_owned(),
            ..Commit::default()
        };
        self.finish(&instant, &commit, lease, limits, clock).await?;
        Ok(Committed { instant, files, bytes })
    }

    /// An instant of our own, requested. One that is there may be our own, if the answer was lost; it is taken back later.
    async fn begin(&self, now_ms: u64) -> Result<Instant, Failure> {
        let none = || Failure::user("HudiTimeline", format!("{} has no later instant", self.place.at));
        let mut tries = 0;
        let instant = loop {
            let now_ms = i64::try_from(now_ms + tries).unwrap_or(i64::MAX);
            let newest = self.view.files.iter().map(|slice| &slice.base.instant).chain(&self.taken_back).max();
            let instant = self.view.timeline.next(now_ms, newest).ok_or_else(none)?;
            let requested = self.place.hoodie(&format!("{instant}.commit.requested"));
            match self
                .place
                .lake
                .put_new(&requested, Bytes::from_static(REQUESTED.as_bytes()), "application/json")
                .await
            {
                Err(failure) if failure.code == "PreconditionFailed" && tries < MOST_TRIES => tries += 1,
                put => break put.map(|()| instant)?,
            }
        };
        self.place.put(&format!("{instant}.inflight"), INFLIGHT).await?;
        Ok(instant)
    }

    /// Says which files will be there, before they are, and that their folders are partitions.
    async fn announce(&self, instant: &Instant, plans: &[(Task, Work)]) -> Result<(), Failure> {
        let marker = |(task, work): &(Task, Work)| {
            let kind = if work.old.is_some() { "MERGE" } else { "CREATE" };
            let path = path_of(&task.partition, &task.file_name);
            format!("{path}.marker.{kind}\n")
        };
        let markers: String = plans.iter().map(marker).collect();
        self.place.put(&format!(".temp/{instant}/MARKERS.type"), "TIMELINE_SERVER_BASED").await?;
        self.place.put(&format!(".temp/{instant}/MARKERS0"), markers).await?;
        let depth = u8::from(self.settings.partition.is_some());
        let text = format!("#partition metadata\ncommitTime={instant}\npartitionDepth={depth}\n");
        let mut new: Vec<&str> = plans.iter().map(|(task, _)| task.partition.as_str()).collect();
        new.retain(|partition| !self.view.partitions.contains(*partition));
        new.sort_unstable();
        new.dedup();
        let mut marks: Vec<BoxFuture<'_, Result<(), Failure>>> = Vec::new();
        for partition in new {
            let (at, text) = (self.place.join(&path_of(partition, PARTITION_METADATA)), Bytes::from(text.clone()));
            marks.push(Box::pin(async move { self.place.lake.put(&at, text, "text/plain").await }));
        }
        futures::stream::iter(marks).buffer_unordered(MARKED_AT_ONCE).try_collect().await
    }

    async fn write_slice(
        &self,
        commission: &Arc<Commission>,
        mut task: Task,
        work: Work,
        memory: &Memory,
    ) -> Result<WriteStat, Failure> {
        let size = work.old.as_ref().map_or(0, |old| old.object.size);
        let fresh = task.group.append.len() as u64 * ROW_MEMORY;
        let _held = memory.hold((size * MEMORY_FACTOR).saturating_add(fresh)).await?;
        let lake = &self.place.lake;
        if let Some(old) = &work.old {
            let ObjectInfo { location, size, etag, .. } = &old.object;
            let bytes = lake.get(location, Some(etag), 0, *size).await?;
            task.old = Some((bytes, location.to_string()));
        }
        let (partition, name, shared) = (task.partition.clone(), task.file_name.clone(), Arc::clone(commission));
        let written = tokio::task::spawn_blocking(move || rewrite::rewrite(&shared, task)).await;
        let slice =
            written.map_err(|error| Failure::internal("Panic", format!("writing a slice broke down: {error}")))??;
        let path = path_of(&partition, &name);
        let bytes = i64::try_from(slice.bytes.len()).unwrap_or(i64::MAX);
        // No file of this name can be there: the instant is this writer's own.
        lake.put(&self.place.join(&path), slice.bytes, "application/vnd.apache.parquet").await?;
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Ok(WriteStat {
            file_id: BaseFile::parse(&name).map(|base| base.file_id).unwrap_or_default(),
            path,
            prev_commit: work.old.map_or_else(|| NO_COMMIT.to_owned(), |old| old.base.instant.to_string()),
            num_writes: count(slice.rows),
            num_deletes: count(slice.deleted),
            num_update_writes: count(slice.updated),
            num_inserts: count(slice.inserted),
            total_write_bytes: bytes,
            partition_path: partition,
            file_size_in_bytes: bytes,
            ..WriteStat::default()
        })
    }

    /// The commit that this one is made upon, as a text.
    pub(crate) fn base(&self) -> String {
        self.view.timeline.commits().next_back().map_or_else(String::new, ToString::to_string)
    }

    /// A commit of no rows: the first one of a table. Files that are older than a timeline's begin are taken for committed, so there must
    /// be one before there are files.
    pub(crate) async fn write_first(&self, lease: &Lease, limits: &Limits, clock: fn() -> u64) -> Result<(), Failure> {
        let nothing = Prepared {
            rows: RecordBatch::new_empty(Arc::clone(&self.schema)),
            schema: Arc::clone(&self.schema),
            keys: Vec::new(),
            work: Vec::new(),
            counts: Counts::default(),
        };
        self.write(nothing, &BTreeMap::new(), lease, limits, clock).await.map(drop)
    }

    /// Lets readers see it.
    async fn finish(
        &self,
        instant: &Instant,
        commit: &Commit,
        lease: &Lease,
        limits: &Limits,
        clock: fn() -> u64,
    ) -> Result<(), Failure> {
        let lake = &self.place.lake;
        self.is_alone(instant).await?;
        let text = serde_json::to_vec(commit).map_err(|error| Failure::internal("HudiCommit", error.to_string()))?;
        let text = Bytes::from(text);
        let fence = self.place.hoodie(&fence_of(instant));
        match lake.put_new(&fence, text.clone(), "application/json").await {
            // Our own, if the answer was lost.
            Err(failure) if failure.code == "PreconditionFailed" => {
                if self.place.read(&fence).await? != Some(text) {
                    return Err(self.too_late(instant));
                }
            }
            put => put?,
        }
        let staged = ObjectInfo { attributes: Attributes::default(), ..lake.head(&fence).await? };
        let at = self.place.hoodie(&format!("{instant}.commit"));
        if lease.left_ms(clock()) < limits.put_ms {
            return Err(self.too_late(instant));
        }
        let copied = tokio::time::timeout(Duration::from_millis(limits.put_ms), lake.copy(&staged, &at)).await;
        let copied =
            copied.unwrap_or_else(|_| Err(Failure::passing("NoAnswer", format!("write {at}: no answer came"))));
        if let Err(failure) = copied {
            // It may be done all the same.
            if lake.head(&at).await.is_err() {
                return Err(failure);
            }
        }
        // Whatever of this fails, the next writer sees to.
        let _ = lake.delete(&self.temporary_of(instant)).await;
        Ok(())
    }

    fn too_late(&self, instant: &Instant) -> Failure {
        Failure::passing(TOO_LATE, format!("the lease of {} ended before {instant} was committed", self.place.at))
    }

    /// That the timeline is as it was when the table was opened, but for our own instant: not every writer heeds the lease.
    async fn is_alone(&self, instant: &Instant) -> Result<(), Failure> {
        let folder = self.place.hoodie("");
        let objects = self.place.list(&folder).await?;
        let names = objects.iter().filter_map(|object| object.location.key().strip_prefix(folder.key()));
        let now = Timeline::of(names.filter(|name| !name.contains('/')));
        let is_begun = |entry: &&Entry| entry.instant == *instant && entry.state == State::Inflight;
        if !now.entries().iter().any(|entry| is_begun(&entry)) {
            return Err(self.too_late(instant));
        }
        let known = self.view.timeline.entries();
        match now.entries().iter().find(|entry| entry.instant != *instant && !known.contains(entry)) {
            None => Ok(()),
            Some(other) => {
                let reason = format!("another has written to {} meanwhile, at {}", self.place.at, other.instant);
                Err(Failure::passing("HudiOvertaken", reason))
            }
        }
    }

    fn temporary_of(&self, instant: &Instant) -> Vec<weir_command::Location> {
        [fence_of(instant), format!(".temp/{instant}/MARKERS0"), format!(".temp/{instant}/MARKERS.type")]
            .iter()
            .map(|name| self.place.hoodie(name))
            .collect()
    }
}

/// What a row takes in memory while it is encoded.
const ROW_MEMORY: u64 = 1_024;

/// What `.commit` is copied from: gone once another has taken the instant back.
pub(crate) fn fence_of(instant: &Instant) -> String {
    format!(".temp/{instant}/commit")
}

pub(crate) fn path_of(partition: &str, name: &str) -> String {
    if partition.is_empty() { name.to_owned() } else { format!("{partition}/{name}") }
}

/// So much may be in memory at a time.
struct Memory {
    permits: Semaphore,
    all: u32,
}

impl Memory {
    fn of(bytes: u64) -> Self {
        let all = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX).clamp(1, 1 << 20);
        Self { permits: Semaphore::new(all as usize), all }
    }

    /// Waits until so much is free; what takes more than there is goes alone.
    async fn hold(&self, bytes: u64) -> Result<SemaphorePermit<'_>, Failure> {
        let needed = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.all);
        self.permits.acquire_many(needed).await.map_err(|error| Failure::internal("Memory", error.to_string()))
    }
}

/// What a group's new slice is called.
fn planned(number: usize, work: Work, instant: &Instant) -> (Task, Work) {
    let file_id = match (&work.old, work.bucket) {
        (Some(old), _) => old.base.file_id.clone(),
        (None, Some(bucket)) => bucket_file_id(bucket, &Uuid::new_v4().to_string()),
        (None, None) => file_id(&Uuid::new_v4().to_string()),
    };
    let base = BaseFile { file_id, write_token: format!("{number}-0-0"), instant: instant.clone() };
    let task = Task {
        number,
        group: work.group.clone(),
        partition: work.partition.clone(),
        file_name: base.to_string(),
        old: None,
    };
    (task, work)
}
