//! Changes of rows: looked for, decided on, and made ready to be committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use weir_delivery::Failure;

use crate::base::adapt;
use crate::keys::{has_a_bucket, partition_paths, record_keys};
use crate::locate::{KeyCache, Keys, look};
use crate::names::{bucket_in, bucket_of};
use crate::plan::{Counts, Found, Group, Known, Sizes, Target, Wanted, plan};
use crate::schema::evolve;
use crate::table::Table;
use crate::view::Slice;

/// Changes, one a key at most.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The rows as they are to be. Of one that goes only the columns of its key and of the ordering are looked at.
    pub rows: RecordBatch,
    /// Which of them are to go.
    pub deletes: Vec<bool>,
}

/// How much is done at a time, and how large files become.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files are filled up to about this size.
    pub target_bytes: u64,
    /// Slices are written at a time as long as all that is in memory for them is not more than this.
    pub memory_bytes: u64,
    /// What putting a small object takes at most, with all repeats.
    pub put_ms: u64,
    /// How long a request may be under way inside of S3.
    pub settle_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { target_bytes: 32 << 20, memory_bytes: 256 << 20, put_ms: 20_000, settle_ms: 1_000 }
    }
}

/// Files whose keys are read at a time.
const LOOKED_AT_ONCE: usize = 4;

/// Bytes of a row, where no file says it.
const ROW_BYTES: u64 = 128;

/// Changes that can be committed.
pub struct Prepared {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: RecordBatch,
    pub(crate) keys: Vec<String>,
    pub(crate) work: Vec<Work>,
    /// What becomes of them.
    pub counts: Counts,
}

/// A group, and where it is.
pub(crate) struct Work {
    pub(crate) group: Group,
    pub(crate) partition: String,
    pub(crate) old: Option<Slice>,
    pub(crate) bucket: Option<u32>,
}

impl Prepared {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.work.is_empty()
    }

    /// The partitions that get files.
    pub fn partitions(&self) -> BTreeSet<&str> {
        self.work.iter().map(|work| work.partition.as_str()).collect()
    }

    /// The table's columns from this commit on.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

fn broken(error: arrow_schema::ArrowError) -> Failure {
    Failure::internal("HudiRows", error.to_string())
}

impl Table {
    /// Finds out what has to be written for these changes. Nothing is written yet.
    ///
    /// # Errors
    /// The lake's; `HudiSchemaChange`, `HudiKey`, `HudiChanges`: changes that can't be made to this table; `HudiFile`.
    pub async fn prepare(&self, changes: &Changes, cache: &KeyCache, limits: &Limits) -> Result<Prepared, Failure> {
        let schema = evolve(&self.schema, &changes.rows.schema())?;
        let rows = adapt(&changes.rows, &schema).map_err(broken)?;
        let keys = record_keys(&rows, &self.settings.key)?;
        let wanted = self.wanted(&rows, &keys, &changes.deletes)?;
        let slices = self.view.slices(None);
        cache.retain(&self.place.at, &slices);
        let mut known = self.known(&slices)?;
        let found = self.find(&rows, &keys, &wanted, &slices, &mut known, cache).await?;
        let sizes = Sizes { target_bytes: limits.target_bytes, row_bytes: ROW_BYTES };
        let (groups, counts) = plan(&wanted, &known, &found, sizes);
        let work = groups.into_iter().filter_map(|group| work_of(group, &slices)).collect();
        Ok(Prepared { schema, rows, keys, work, counts })
    }

    /// What becomes of each row, as far as the row says it.
    fn wanted(&self, rows: &RecordBatch, keys: &[String], deletes: &[bool]) -> Result<Vec<Wanted>, Failure> {
        let buckets = self.settings.buckets;
        if deletes.len() != keys.len() {
            return Err(Failure::internal("HudiChanges", "there are not as many marks as rows"));
        }
        if let Some(key) = keys.iter().find(|key| buckets.is_some() && !has_a_bucket(key)) {
            let reason = format!(
                "the key `{key}` holds `,` or `:`, by which Java would take it for several when it looks for its bucket"
            );
            return Err(Failure::user("HudiKey", reason));
        }
        let paths = partition_paths(rows, self.settings.partition.as_deref())?;
        let wanted = keys.iter().zip(paths).zip(deletes).map(|((key, partition), is_delete)| Wanted {
            partition,
            is_delete: *is_delete,
            bucket: buckets.map(|buckets| bucket_of(key, buckets)),
        });
        Ok(wanted.collect())
    }

    /// What is known of the files without opening them.
    fn known(&self, slices: &[&Slice]) -> Result<Vec<Known>, Failure> {
        let known = slices.iter().map(|slice| {
            let known = known_of(slice, self.settings.buckets);
            match (self.settings.buckets, known.bucket) {
                (Some(buckets), None) => Err(Failure::user(
                    "HudiRefused",
                    format!("{} is no bucket's, and the table has {buckets} of them", slice.object.location),
                )),
                _ => Ok(known),
            }
        });
        known.collect()
    }

    /// Looks for the keys in the files that may have them, and says of these how many rows they have.
    async fn find(
        &self,
        rows: &RecordBatch,
        keys: &[String],
        wanted: &[Wanted],
        slices: &[&Slice],
        known: &mut [Known],
        cache: &KeyCache,
    ) -> Result<Vec<Found>, Failure> {
        let name = &self.settings.ordering;
        let schema = rows.schema();
        let (Some(ordering), Ok(field)) = (rows.column_by_name(name), schema.field_with_name(name)) else {
            return Err(Failure::user("HudiKey", format!("the rows have no column `{name}`")));
        };
        let looked_for = Keys::new(keys, Arc::clone(ordering));
        if looked_for.by_key.len() != keys.len() {
            return Err(Failure::internal("HudiChanges", "there are several changes of one key"));
        }
        let looked_for = Arc::new(looked_for);
        let touched: BTreeSet<Option<u32>> = wanted.iter().map(|want| want.bucket).collect();
        let mut looks: Vec<BoxFuture<'_, Result<_, Failure>>> = Vec::new();
        for (n, (slice, known)) in slices.iter().copied().zip(&*known).enumerate() {
            if touched.contains(&known.bucket) {
                let looked_for = &looked_for;
                looks.push(Box::pin(async move { Ok((n, look(&self.place, slice, looked_for, field, cache).await?)) }));
            }
        }
        let hits: Vec<_> = futures::stream::iter(looks).buffer_unordered(LOOKED_AT_ONCE).try_collect().await?;
        let mut found = Vec::new();
        for (slice, hits) in hits {
            if let Some(known) = known.get_mut(slice) {
                known.rows = Some(hits.rows);
            }
            found.extend(hits.found.into_iter().map(|(row, change, is_newer)| Found { change, slice, row, is_newer }));
        }
        Ok(found)
    }
}

fn work_of(group: Group, slices: &[&Slice]) -> Option<Work> {
    let (old, partition, bucket) = match &group.target {
        Target::Slice(slice) => {
            let slice = *slices.get(*slice)?;
            (Some(slice.clone()), slice.partition.clone(), None)
        }
        Target::New { partition, bucket } => (None, partition.clone(), *bucket),
    };
    Some(Work { group, partition, old, bucket })
}

fn known_of(slice: &Slice, buckets: Option<u32>) -> Known {
    Known {
        partition: slice.partition.clone(),
        bytes: slice.object.size,
        rows: None,
        bucket: buckets.and_then(|buckets| bucket_in(&slice.base.file_id).filter(|bucket| *bucket < buckets)),
    }
}
