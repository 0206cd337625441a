//! Server-side copy of one object of any size.

use futures::{StreamExt, TryStreamExt};
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Lake, ObjectInfo, Part};

/// From which size on an object is copied by parts, and in which.
#[derive(Debug, Clone, Copy)]
pub struct CopySizes {
    /// Bytes up to which one request does it.
    pub multipart_above: u64,
    /// Bytes of a part; more where there would be over 10,000.
    pub part_bytes: u64,
}

impl Default for CopySizes {
    /// CopyObject takes up to 5 GB (S3 user guide, "Copying objects"). Parts of 256 MiB: a few seconds each.
    fn default() -> Self {
        Self { multipart_above: 5_000_000_000, part_bytes: 256 << 20 }
    }
}

/// The code of a copy that was told to stop.
pub const OUT_OF_TIME: &str = "OutOfTime";

/// A multipart upload has at most this many parts (S3 user guide, "multipart upload limits").
const MOST_PARTS: u64 = 10_000;

/// Parts copied at a time: S3 does the work, so this is about latency, not bandwidth.
const PARTS_AT_ONCE: usize = 8;

/// Copies an object server side: in one request up to `multipart_above` bytes, else in parts of about `part_bytes`. The
/// parts become visible together or, on an error, not at all.
///
/// `stop` is asked before each part.
///
/// # Errors
/// The lake's; `PreconditionFailed` if the source changes meanwhile; [`OUT_OF_TIME`] if `stop` said so.
pub async fn copy_object(
    lake: &dyn Lake,
    from: &ObjectInfo,
    to: &Location,
    sizes: CopySizes,
    stop: &(dyn Fn() -> bool + Send + Sync),
) -> Result<(), Failure> {
    let CopySizes { multipart_above, part_bytes } = sizes;
    if from.size <= multipart_above {
        return lake.copy(from, to).await;
    }
    // A listing has no attributes, and here it is us who must carry them over.
    let from = &ObjectInfo { location: from.location.clone(), ..lake.head(&from.location).await? };
    let upload = lake.begin_parts(to, &from.attributes).await?;
    let copied = copy_parts(lake, from, to, &upload, part_bytes, stop).await;
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

async fn copy_parts(
    lake: &dyn Lake,
    from: &ObjectInfo,
    to: &Location,
    upload: &str,
    part_bytes: u64,
    stop: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Vec<Part>, Failure> {
    let part_bytes = part_bytes.max(from.size.div_ceil(MOST_PARTS)).max(1);
    let parts = (0..from.size.div_ceil(part_bytes)).map(|index| {
        let first = index * part_bytes;
        let range = (first, from.size.min(first + part_bytes) - 1);
        async move {
            if stop() {
                return Err(Failure::passing(OUT_OF_TIME, format!("copy {}: out of time", from.location)));
            }
            lake.copy_part(from, to, upload, index as i32 + 1, range).await
        }
    });
    futures::stream::iter(parts).buffered(PARTS_AT_ONCE).try_collect().await
}
