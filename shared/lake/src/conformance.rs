//! What every [`Lake`] must do, as one suite that runs against each of them.

use std::fmt::Debug;

use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Attributes, CopySizes, Lake, OUT_OF_TIME, ObjectInfo, copy_object};

/// Runs the suite under an empty prefix.
///
/// # Errors
/// The first promise that the lake does not keep.
pub async fn suite(lake: &dyn Lake, under: &Location) -> Result<(), String> {
    reads(lake, &under.join("reads/")).await?;
    lists(lake, &under.join("lists/")).await?;
    copies(lake, &under.join("copies/")).await?;
    uploads(lake, &under.join("uploads/")).await
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}

fn expect_code<T: Debug>(what: &str, is: Result<T, Failure>, code: &str) -> Result<(), String> {
    match is {
        Err(failure) if failure.code == code => Ok(()),
        is => Err(format!("{what}: is {is:?}, should fail with {code}")),
    }
}

async fn put(lake: &dyn Lake, at: &Location, bytes: &'static [u8]) -> Result<ObjectInfo, String> {
    expect("put", lake.put(at, Bytes::from_static(bytes), "text/csv").await, ())?;
    lake.head(at).await.map_err(|failure| failure.reason)
}

async fn reads(lake: &dyn Lake, under: &Location) -> Result<(), String> {
    let at = under.join("a b/ü+%=.csv");
    let first = put(lake, &at, b"0123456789").await?;
    expect("size", Ok(first.size), 10)?;
    expect("content type", Ok(first.attributes.content_type.clone()), Some("text/csv".into()))?;
    expect("a range", lake.get(&at, Some(&first.etag), 2, 3).await, Bytes::from_static(b"234"))?;
    expect("no bytes", lake.get(&at, None, 0, 0).await, Bytes::new())?;
    let same = put(lake, &at, b"0123456789").await?;
    expect("the same bytes' etag", Ok(same.etag), first.etag.clone())?;
    put(lake, &at, b"changed!!!").await?;
    expect_code("reading with an old etag", lake.get(&at, Some(&first.etag), 0, 3).await, "PreconditionFailed")?;
    let again = lake.put_new(&at, Bytes::from_static(b"new"), "text/csv").await;
    expect_code("a new object where there is one", again, "PreconditionFailed")?;
    expect("which stays", lake.get(&at, None, 0, 10).await, Bytes::from_static(b"changed!!!"))?;
    let free = under.join("new");
    lake.delete(std::slice::from_ref(&free)).await.map_err(|failure| failure.reason)?;
    expect("a new object", lake.put_new(&free, Bytes::from_static(b"new"), "text/csv").await, ())?;
    expect("is there", lake.get(&free, None, 0, 3).await, Bytes::from_static(b"new"))?;
    let etag = lake.head(&free).await.map_err(|failure| failure.reason)?.etag;
    expect("in its place", lake.put_if(&free, &etag, Bytes::from_static(b"other"), "text/csv").await, ())?;
    expect("is another", lake.get(&free, None, 0, 5).await, Bytes::from_static(b"other"))?;
    let late = lake.put_if(&free, &etag, Bytes::from_static(b"late"), "text/csv").await;
    expect_code("in the place of one that changed", late, "PreconditionFailed")?;
    expect_code("removing one that changed", lake.delete_if(&free, &etag).await, "PreconditionFailed")?;
    let now = lake.head(&free).await.map_err(|failure| failure.reason)?.etag;
    expect("removing one as it is", lake.delete_if(&free, &now).await, ())?;
    expect_code("which is gone", lake.head(&free).await, "NoSuchKey")?;
    expect("removing it again", lake.delete_if(&free, &now).await, ())?;
    let nothing = lake.put_if(&under.join("nothing"), &etag, Bytes::from_static(b"x"), "text/csv").await;
    expect_code("in the place of nothing", nothing, "NoSuchKey")?;
    expect_code("head of nothing", lake.head(&under.join("nothing")).await, "NoSuchKey")?;
    expect_code("read of nothing", lake.get(&under.join("nothing"), None, 0, 1).await, "NoSuchKey")?;
    let elsewhere = Location::parse("s3://weir-no-such-bucket/x").map_err(|error| error.to_string())?;
    expect_code("list of no bucket", lake.list(&elsewhere, None).await, "NoSuchBucket")
}

async fn lists(lake: &dyn Lake, under: &Location) -> Result<(), String> {
    const OBJECTS: usize = 1203;
    for n in 0..OBJECTS {
        expect("put", lake.put(&under.join(&format!("{n:05}")), Bytes::from_static(b"x"), "text/plain").await, ())?;
    }
    let listed = crate::list_all(lake, under).await.map_err(|failure| failure.reason)?;
    let keys: Vec<String> = listed.iter().map(|object| object.location.file_name().to_owned()).collect();
    expect("every key once, in order", Ok(keys), (0..OBJECTS).map(|n| format!("{n:05}")).collect::<Vec<_>>())?;
    let all: Vec<Location> = (0..OBJECTS).map(|n| under.join(&format!("{n:05}"))).collect();
    expect("delete, more than one request's worth", lake.delete(&all).await, ())?;
    expect("delete what is gone", lake.delete(&all).await, ())?;
    expect("nothing left", lake.list(under, None).await.map(|page| page.objects.len()), 0)
}

async fn copies(lake: &dyn Lake, under: &Location) -> Result<(), String> {
    let from = put(lake, &under.join("from/a b+c.csv"), b"some bytes").await?;
    let to = under.join("to/x.csv");
    expect("copy", lake.copy(&from, &to).await, ())?;
    expect("the copy's bytes", lake.get(&to, None, 0, 10).await, Bytes::from_static(b"some bytes"))?;
    let type_of = |info: ObjectInfo| info.attributes.content_type;
    expect("the copy's type", lake.head(&to).await.map(type_of), Some("text/csv".into()))?;
    let changed = ObjectInfo { etag: "\"other\"".into(), ..from.clone() };
    expect_code("copy of a changed object", lake.copy(&changed, &to).await, "PreconditionFailed")?;
    let nothing = ObjectInfo { location: under.join("nothing"), ..from.clone() };
    expect_code("copy of nothing", lake.copy(&nothing, &to).await, "NoSuchKey")?;

    // By parts, as for an object over 5 GB; the last part may be as small as it likes.
    let big = under.join("from/big");
    let bytes: Vec<u8> = (0..6_000_000u32).map(|n| n as u8).collect();
    let attributes = Attributes {
        content_type: Some("application/x-test".into()),
        content_encoding: Some("identity".into()),
        cache_control: Some("no-store".into()),
        metadata: vec![("team".into(), "data".into())],
        ..Attributes::default()
    };
    let id = lake.begin_parts(&big, &attributes).await.map_err(|failure| failure.reason)?;
    let part = lake.put_part(&big, &id, 1, Bytes::from(bytes.clone())).await.map_err(|failure| failure.reason)?;
    expect("finish", lake.finish_parts(&big, &id, &[part]).await, ())?;
    let info = lake.head(&big).await.map_err(|failure| failure.reason)?;
    expect("attributes", Ok(info.attributes.clone()), attributes)?;
    let sizes = CopySizes { multipart_above: 5 << 20, part_bytes: 5 << 20 };
    let stopped = under.join("to/stopped");
    expect_code("a copy told to stop", copy_object(lake, &info, &stopped, sizes, &|| true).await, OUT_OF_TIME)?;
    expect_code("leaves nothing", lake.head(&stopped).await, "NoSuchKey")?;
    let to = under.join("to/big");
    expect("copy by parts", copy_object(lake, &info, &to, sizes, &|| false).await, ())?;
    let copied = lake.head(&to).await.map_err(|failure| failure.reason)?;
    expect("attributes of a copy by parts", Ok(copied.attributes), info.attributes)?;
    expect("bytes of a copy by parts", lake.get(&to, None, 0, 6_000_000).await, Bytes::from(bytes))
}

async fn uploads(lake: &dyn Lake, under: &Location) -> Result<(), String> {
    let at = under.join("aborted");
    let id = lake.begin_parts(&at, &Attributes::default()).await.map_err(|failure| failure.reason)?;
    lake.put_part(&at, &id, 1, Bytes::from_static(b"x")).await.map_err(|failure| failure.reason)?;
    expect("abort", lake.abort_parts(&at, &id).await, ())?;
    expect("abort again", lake.abort_parts(&at, &id).await, ())?;
    expect_code("nothing is visible", lake.head(&at).await, "NoSuchKey")?;
    expect_code("a part after the abort", lake.put_part(&at, &id, 2, Bytes::from_static(b"x")).await, "NoSuchUpload")
}
