//! A commit, step by step. The `.commit` object is the point at which readers see it.
//!
//! A writer may die after any step, and may stall after any, for longer than its lease. What it leaves is hidden while its instant is on
//! the timeline as begun; the next writer takes that back ([`Table::roll_back`]). One that goes on after that must not commit any more,
//! and no lease can keep a late request from S3. So `.commit` is not put but copied, by S3, from an object that the next writer
//! deletes first: a copy of what is gone fails, however late it comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;
use weir_delivery::Failure;
use weir_lake::{Attributes, ObjectInfo};

use crate::commit::{Commit, NO_COMMIT, WriteStat};
use crate::lease::Lease;
use crate::names::{BaseFile, bucket_file_id};
use crate::rewrite::{self, Commission, Task};
use crate::table::Table;
use crate::timeline::Instant;
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

/// What is written of an instant that has begun, as Spark writes it.
const INFLIGHT: &str = r#"{"partitionToWriteStats":{},"compacted":false,"extraMetadata":{},"operationType":"UPSERT"}"#;

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
        let commit = Commit {
            partition_to_write_stats: stats,
            extra_metadata: self.members(&commission.schema, own)?,
            operation_type: "UPSERT".to_owned(),
            ..Commit::default()
        };
        self.finish(&instant, &commit, lease, limits, clock).await?;
        Ok(Committed { instant, files, bytes })
    }

    /// An instant of our own, requested.
    async fn begin(&self, now_ms: u64) -> Result<Instant, Failure> {
        let next = self.view.timeline.next(i64::try_from(now_ms).unwrap_or(i64::MAX));
        let instant =
            next.ok_or_else(|| Failure::user("HudiTimeline", format!("{} has no later instant", self.place.at)))?;
        let requested = self.place.hoodie(&format!("{instant}.commit.requested"));
        self.place.lake.put_new(&requested, Bytes::new(), "application/json").await?;
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
        for partition in new {
            let at = self.place.join(&path_of(partition, PARTITION_METADATA));
            self.place.lake.put(&at, Bytes::from(text.clone()), "text/plain").await?;
        }
        Ok(())
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
        let text = serde_json::to_vec(commit).map_err(|error| Failure::internal("HudiCommit", error.to_string()))?;
        let fence = self.place.hoodie(&fence_of(instant));
        lake.put(&fence, Bytes::from(text), "application/json").await?;
        let staged = ObjectInfo { attributes: Attributes::default(), ..lake.head(&fence).await? };
        let at = self.place.hoodie(&format!("{instant}.commit"));
        if lease.left_ms(clock()) < limits.put_ms {
            return Err(Failure::passing(
                TOO_LATE,
                format!("the lease of {} ends before {instant} is committed", self.place.at),
            ));
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

    /// Waits until so much is free. What takes more than there is gets all of it.
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
        (None, None) => format!("{}-0", Uuid::new_v4()),
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
