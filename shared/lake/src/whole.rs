//! Whole listings and whole objects, of several requests each.

use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Lake, ObjectInfo};

/// Goes through all objects under a prefix, or those after a key, in key order, a page at a time.
///
/// # Errors
/// The lake's; pages before it have been seen.
pub async fn each_page(
    lake: &dyn Lake,
    prefix: &Location,
    after: Option<&str>,
    mut each: impl FnMut(Vec<ObjectInfo>) + Send,
) -> Result<(), Failure> {
    let mut after = after.map(str::to_owned);
    loop {
        let page = lake.list(prefix, after.as_deref()).await?;
        after = page.objects.last().map(|object| object.location.key().to_owned());
        each(page.objects);
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

/// All objects under a prefix, in key order.
///
/// # Errors
/// The lake's.
pub async fn list_all(lake: &dyn Lake, prefix: &Location) -> Result<Vec<ObjectInfo>, Failure> {
    list_after(lake, prefix, None).await
}

/// Those after a key, likewise.
///
/// # Errors
/// The lake's.
pub async fn list_after(lake: &dyn Lake, prefix: &Location, key: Option<&str>) -> Result<Vec<ObjectInfo>, Failure> {
    let mut all = Vec::new();
    each_page(lake, prefix, key, |objects| all.extend(objects)).await?;
    Ok(all)
}

/// An object's bytes and its etag; nothing if there is none.
///
/// # Errors
/// The lake's; `PreconditionFailed`, `NoSuchKey`: it was written or deleted between the two requests that this takes.
pub async fn find(lake: &dyn Lake, at: &Location) -> Result<Option<(Bytes, String)>, Failure> {
    let info = match lake.head(at).await {
        Err(failure) if failure.code == "NoSuchKey" => return Ok(None),
        info => info?,
    };
    let bytes = lake.get(at, Some(&info.etag), 0, info.size).await?;
    Ok(Some((bytes, info.etag)))
}
