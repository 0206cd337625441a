//! The files of a partition, written again: small ones together, large ones copied.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::task::JoinError;
use weir_command::Location;
use weir_delivery::Failure;
use weir_formats::{ConvertError, Merged, Merger};
use weir_lake::{CopySizes, ObjectInfo, S3Output, copy_object, to_failure};
use weir_telemetry::Visit;

use super::said::NotMerged;
use super::{LARGE_BYTES, MARGIN_MS, MERGED, TARGET_BYTES};
use crate::{Ingest, LAST_MS};

/// Bytes of small files that are fetched ahead.
const AHEAD_BYTES: u64 = 64 << 20;

/// Requests at a time.
const AT_ONCE: u64 = 32;

impl Ingest {
    /// How many files there are then, and how many bytes.
    pub(crate) async fn merge(
        &self,
        files: Vec<ObjectInfo>,
        to: &Location,
        generation: u64,
        visit: &Visit,
    ) -> Result<(u64, u64), Failure> {
        let (mut copied, mut small): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.size >= LARGE_BYTES);
        small.sort_by_cached_key(|file| order_of(file.location.file_name()));
        let (merged, unread) = self.write_again(&small, to, generation, visit).await?;
        copied.extend(unread);
        let stop = || !visit.has_left(LAST_MS);
        let copies = copied.iter().map(|file| {
            let at = to.join(&copy_of(file.location.file_name()));
            let stop = &stop;
            async move { copy_object(self.lake.as_ref(), file, &at, CopySizes::default(), stop).await }
        });
        let copies: Vec<_> = copies.collect();
        futures::stream::iter(copies).buffer_unordered(AT_ONCE as usize).try_collect::<()>().await?;
        let copied_bytes: u64 = copied.iter().map(|file| file.size).sum();
        Ok((merged.files + copied.len() as u64, merged.bytes + copied_bytes))
    }

    /// Writes small files together. Those that can't be read come back: they keep no other from being read.
    async fn write_again(
        &self,
        small: &[ObjectInfo],
        to: &Location,
        generation: u64,
        visit: &Visit,
    ) -> Result<(Merged, Vec<ObjectInfo>), Failure> {
        let output = S3Output::new(Arc::clone(&self.lake), to.clone(), Handle::current());
        let name = move |number| format!("{generation}-{number:05}{MERGED}");
        let mut merger = Merger::new(Arc::new(output), TARGET_BYTES, name);
        let largest = small.iter().map(|file| file.size).max().unwrap_or(0).max(1);
        let ahead = (AHEAD_BYTES / largest).clamp(1, AT_ONCE) as usize;
        // Fetched while others are written.
        let fetches = small.iter().map(|file| {
            let (lake, file) = (Arc::clone(&self.lake), file.clone());
            async move {
                let fetch = async move { lake.get(&file.location, Some(&file.etag), 0, file.size).await };
                tokio::spawn(fetch).await.map_err(broke_down)?
            }
        });
        let mut fetched = futures::stream::iter(fetches.collect::<Vec<_>>()).buffered(ahead);
        let (mut rows, mut unread) = (0, Vec::new());
        for file in small {
            let Some(bytes) = fetched.try_next().await? else { break };
            if visit.now_ms() + MARGIN_MS >= visit.deadline_ms {
                return Err(Failure::passing("OutOfTime", format!("there is no time left to write {to}")));
            }
            let name = file.location.to_string();
            let (back, pushed) = blocking(move || {
                let pushed = merger.push(&name, bytes);
                (merger, pushed)
            })
            .await?;
            merger = back;
            match pushed {
                Ok(its) => rows += its,
                Err(error @ ConvertError::Data { .. }) => {
                    let failure = to_failure(error);
                    self.herald.say(visit, &NotMerged { to: &to.to_string(), failure: &failure });
                    unread.push(file.clone());
                }
                Err(error) => return Err(to_failure(error)),
            }
        }
        let merged = blocking(move || merger.finish()).await?.map_err(to_failure)?;
        if merged.rows != rows {
            let reason = format!("{rows} rows were read for {to}, and {} written", merged.rows);
            return Err(Failure::internal("RowsDiffer", reason));
        }
        Ok((merged, unread))
    }
}

/// What a copy is called: as what was written together is. Its rows are those of the folders before, too.
fn copy_of(name: &str) -> String {
    let stem = name.strip_suffix(MERGED).or_else(|| name.strip_suffix(".parquet")).unwrap_or(name);
    format!("{stem}{MERGED}")
}

/// By topic and partition, and offsets as numbers: `log_topic-3-1200-5f2a…`.
fn order_of(name: &str) -> (String, u64) {
    let mut parts = name.rsplitn(3, '-');
    let (_, first, topic) = (parts.next(), parts.next(), parts.next());
    (topic.unwrap_or(name).to_owned(), first.and_then(|first| first.parse().ok()).unwrap_or(0))
}

fn broke_down(error: JoinError) -> Failure {
    Failure::internal("Panic", format!("writing files together broke down: {error}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(broke_down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_in_the_order_of_their_offsets() {
        let mut names = ["t-a-1-1000-aaaaaaaa.parquet", "t-a-1-200-bbbbbbbb.parquet", "t-0-7-cccccccc.parquet"];
        names.sort_by_cached_key(|name| order_of(name));
        assert_eq!(names, ["t-0-7-cccccccc.parquet", "t-a-1-200-bbbbbbbb.parquet", "t-a-1-1000-aaaaaaaa.parquet"]);
    }
}
