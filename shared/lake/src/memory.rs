//! S3's twin in memory: for unit tests, held to the same suite.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Attributes, Lake, ObjectInfo, Page, Part};

/// Buckets in a map. A bucket exists once it is [made](MemoryLake::make_bucket).
#[derive(Debug, Default)]
pub struct MemoryLake {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<String, BTreeMap<String, Object>>,
    uploads: HashMap<String, (Location, Attributes, BTreeMap<i32, Bytes>)>,
    made: u64,
    clock: Option<fn() -> u64>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    etag: String,
    modified_ms: u64,
    attributes: Attributes,
}

impl MemoryLake {
    /// One whose objects say when they were written, by a clock in milliseconds since the epoch. Without it they say 0.
    pub fn timed(clock: fn() -> u64) -> Self {
        let lake = Self::default();
        lake.state().clock = Some(clock);
        lake
    }

    /// Adds a bucket.
    pub fn make_bucket(&self, name: &str) {
        self.state().buckets.entry(name.to_owned()).or_default();
    }

    /// How many uploads are open: what an aborted job must leave at zero.
    pub fn open_uploads(&self) -> usize {
        self.state().uploads.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bucket(&mut self, at: &Location) -> Result<&mut BTreeMap<String, Object>, Failure> {
        let name = at.bucket();
        self.buckets
            .get_mut(name)
            .ok_or_else(|| Failure::user("NoSuchBucket", format!("{at}: there is no bucket `{name}`")))
    }

    fn object(&mut self, at: &Location) -> Result<Object, Failure> {
        let object = self.bucket(at)?.get(at.key()).cloned();
        object.ok_or_else(|| Failure::user("NoSuchKey", format!("read {at}: there is no such object")))
    }

    fn store(&mut self, at: &Location, bytes: Bytes, attributes: Attributes) -> Result<(), Failure> {
        // As S3's, it is of the bytes: what is written again as it was has the same.
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let etag = format!("\"{:016x}\"", hasher.finish());
        let modified_ms = self.clock.map_or(0, |clock| clock());
        self.bucket(at)?.insert(at.key().to_owned(), Object { bytes, etag, modified_ms, attributes });
        Ok(())
    }

    fn unchanged(&mut self, from: &ObjectInfo) -> Result<Object, Failure> {
        let object = self.object(&from.location)?;
        if object.etag == from.etag {
            return Ok(object);
        }
        Err(Failure::passing("PreconditionFailed", format!("{}: the object changed", from.location)))
    }
}

fn slice(bytes: &Bytes, offset: u64, length: u64) -> Result<Bytes, Failure> {
    let end = offset.saturating_add(length);
    if end > bytes.len() as u64 {
        return Err(Failure::passing("BodyShort", "read past the end"));
    }
    Ok(bytes.slice(offset as usize..end as usize))
}

#[async_trait]
impl Lake for MemoryLake {
    async fn head(&self, at: &Location) -> Result<ObjectInfo, Failure> {
        let Object { bytes, etag, modified_ms, attributes } = self.state().object(at)?;
        Ok(ObjectInfo { location: at.clone(), size: bytes.len() as u64, etag, modified_ms, attributes })
    }

    async fn list(&self, prefix: &Location, after: Option<&str>) -> Result<Page, Failure> {
        const PAGE: usize = 1000;
        let mut state = self.state();
        let objects = state.bucket(prefix)?;
        let after = after.unwrap_or("");
        let mut found = objects
            .range(prefix.key().to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix.key()))
            .filter(|(key, _)| key.as_str() > after)
            .map(|(key, object)| ObjectInfo {
                location: prefix.sibling(key),
                size: object.bytes.len() as u64,
                etag: object.etag.clone(),
                modified_ms: object.modified_ms,
                attributes: Attributes::default(),
            });
        let page = found.by_ref().take(PAGE).collect();
        Ok(Page { objects: page, more: found.next().is_some() })
    }

    async fn get(&self, at: &Location, etag: Option<&str>, offset: u64, length: u64) -> Result<Bytes, Failure> {
        let object = self.state().object(at)?;
        if etag.is_some_and(|etag| etag != object.etag) {
            return Err(Failure::passing("PreconditionFailed", format!("read {at}: the object changed")));
        }
        slice(&object.bytes, offset, length)
    }

    async fn put(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let attributes = Attributes { content_type: Some(content_type.to_owned()), ..Attributes::default() };
        self.state().store(at, bytes, attributes)
    }

    async fn put_new(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let attributes = Attributes { content_type: Some(content_type.to_owned()), ..Attributes::default() };
        let mut state = self.state();
        match state.object(at) {
            Ok(_) => Err(Failure::passing("PreconditionFailed", format!("write {at}: there is an object already"))),
            Err(failure) if failure.code == "NoSuchKey" => state.store(at, bytes, attributes),
            Err(failure) => Err(failure),
        }
    }

    async fn put_if(&self, at: &Location, etag: &str, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let attributes = Attributes { content_type: Some(content_type.to_owned()), ..Attributes::default() };
        let mut state = self.state();
        match state.object(at)? {
            there if there.etag == etag => state.store(at, bytes, attributes),
            _ => Err(Failure::passing("PreconditionFailed", format!("write {at}: the object changed"))),
        }
    }

    async fn delete_if(&self, at: &Location, etag: &str) -> Result<(), Failure> {
        let mut state = self.state();
        match state.object(at) {
            Ok(there) if there.etag == etag => drop(state.bucket(at)?.remove(at.key())),
            Ok(_) => return Err(Failure::passing("PreconditionFailed", format!("delete {at}: the object changed"))),
            Err(failure) if failure.code == "NoSuchKey" => {}
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn delete(&self, all: &[Location]) -> Result<(), Failure> {
        for at in all {
            self.state().bucket(at)?.remove(at.key());
        }
        Ok(())
    }

    async fn copy(&self, from: &ObjectInfo, to: &Location) -> Result<(), Failure> {
        let mut state = self.state();
        let object = state.unchanged(from)?;
        state.store(to, object.bytes, object.attributes)
    }

    async fn begin_parts(&self, at: &Location, attributes: &Attributes) -> Result<String, Failure> {
        let mut state = self.state();
        state.bucket(at)?;
        state.made += 1;
        let id = format!("upload-{}", state.made);
        state.uploads.insert(id.clone(), (at.clone(), attributes.clone(), BTreeMap::new()));
        Ok(id)
    }

    async fn put_part(&self, at: &Location, upload: &str, number: i32, bytes: Bytes) -> Result<Part, Failure> {
        let mut state = self.state();
        let open = state.uploads.get_mut(upload).filter(|(place, ..)| place == at);
        let (_, _, parts) =
            open.ok_or_else(|| Failure::passing("NoSuchUpload", format!("write {at}: no such upload")))?;
        parts.insert(number, bytes);
        Ok(Part { number, etag: format!("\"part-{number}\"") })
    }

    async fn copy_part(
        &self,
        from: &ObjectInfo,
        to: &Location,
        upload: &str,
        number: i32,
        range: (u64, u64),
    ) -> Result<Part, Failure> {
        let object = self.state().unchanged(from)?;
        let bytes = slice(&object.bytes, range.0, range.1 - range.0 + 1)?;
        self.put_part(to, upload, number, bytes).await
    }

    async fn finish_parts(&self, at: &Location, upload: &str, named: &[Part]) -> Result<(), Failure> {
        let mut state = self.state();
        let open = state.uploads.remove(upload);
        let (_, attributes, parts) =
            open.ok_or_else(|| Failure::passing("NoSuchUpload", format!("write {at}: no such upload")))?;
        let bytes: Vec<u8> = named.iter().filter_map(|part| parts.get(&part.number)).flatten().copied().collect();
        state.store(at, Bytes::from(bytes), attributes)
    }

    async fn abort_parts(&self, _at: &Location, upload: &str) -> Result<(), Failure> {
        self.state().uploads.remove(upload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        let lake = MemoryLake::default();
        lake.make_bucket("suite-bucket");
        crate::conformance::suite(&lake, &Location::parse("s3://suite-bucket/run/").unwrap()).await.unwrap();
        assert_eq!(lake.open_uploads(), 0);
    }
}
