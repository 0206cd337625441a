//! Server-side copy of one object of any size.

use futures::{StreamExt, TryStreamExt};
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Lake, ObjectInfo, Part};

/// CopyObject takes up to 5 GB; above it an object is copied by parts (S3 user guide, "Copying objects").
pub const MULTIPART_COPY_ABOVE: u64 = 5_000_000_000;

/// A multipart upload has at most this many parts (S3 user guide, "multipart upload limits").
const MOST_PARTS: u64 = 10_000;

/// Parts copied at a time: S3 does the work, so this is about latency, not bandwidth.
const PARTS_AT_ONCE: usize = 8;

/// Copies an object server side: in one request up to `multipart_above` bytes, else in parts of about `part_bytes`. The
/// parts become visible together or, on an error, not at all.
///
/// # Errors
/// The lake's; `PreconditionFailed` if the source changes meanwhile.
pub async fn copy_object(lake: &dyn Lake, from: &ObjectInfo, to: &Location, multipart_above: u64, part_bytes: u64) -> Result<(), Failure> {
    if from.size <= multipart_above {
        return lake.copy(from, to).await;
    }
    // A listing has no attributes, and here it is us who must carry them over.
    let from = &ObjectInfo { location: from.location.clone(), ..lake.head(&from.location).await? };
    let upload = lake.begin_parts(to, &from.attributes).await?;
    let copied = copy_parts(lake, from, to, &upload, part_bytes).await;
    let finished = match copied {
        Ok(parts) => lake.finish_parts(to, &upload, &parts).await,
        Err(failure) => Err(failure),
    };
    if finished.is_err() {
        // The bucket's lifecycle rule removes what this can't.
        let _ = lake.abort_parts(to, &upload).await;
    }
    finished
}

async fn copy_parts(lake: &dyn Lake, from: &ObjectInfo, to: &Location, upload: &str, part_bytes: u64) -> Result<Vec<Part>, Failure> {
    let part_bytes = part_bytes.max(from.size.div_ceil(MOST_PARTS)).max(1);
    let parts = (0..from.size.div_ceil(part_bytes)).map(|index| {
        let first = index * part_bytes;
        let range = (first, from.size.min(first + part_bytes) - 1);
        async move { lake.copy_part(from, to, upload, index as i32 + 1, range).await }
    });
    futures::stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await
}
