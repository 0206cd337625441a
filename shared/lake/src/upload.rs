//! An object as a blocking `Write`, uploaded in parts while it is being written.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Attributes, Lake, Part};

/// S3 wants parts of at least 5 MiB but for the last.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 3;
/// Every so many parts the part size doubles, so that 10,000 parts reach S3's 5 TB.
const PARTS_OF_ONE_SIZE: i32 = 1_000;

/// Writes an object without holding more of it than a few parts. A small one is put in one request. Nothing is visible
/// before [`Upload::finish`]; dropping it, or [`Upload::abort`], leaves nothing behind.
///
/// Must be used on a thread where blocking is allowed (`spawn_blocking`), never on a runtime worker.
pub struct Upload {
    lake: Arc<dyn Lake>,
    at: Location,
    content_type: String,
    runtime: Handle,
    buffer: Vec<u8>,
    part_bytes: usize,
    id: Option<String>,
    flying: VecDeque<JoinHandle<Result<Part, Failure>>>,
    parts: Vec<Part>,
    numbered: i32,
}

impl Upload {
    /// An upload that has sent nothing yet.
    pub fn new(lake: Arc<dyn Lake>, at: Location, content_type: &str, runtime: Handle) -> Self {
        Self {
            lake,
            at,
            content_type: content_type.to_owned(),
            runtime,
            buffer: Vec::new(),
            part_bytes: PART_BYTES,
            id: None,
            flying: VecDeque::new(),
            parts: Vec::new(),
            numbered: 0,
        }
    }

    /// Makes the object visible, whole.
    ///
    /// # Errors
    /// The lake's; then nothing is visible and nothing is left behind.
    pub fn finish(mut self) -> Result<(), Failure> {
        if self.id.is_none() {
            let bytes = Bytes::from(std::mem::take(&mut self.buffer));
            return self.runtime.block_on(self.lake.put(&self.at, bytes, &self.content_type));
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        while !self.flying.is_empty() {
            self.land_oldest()?;
        }
        let Some(id) = self.id.clone() else { return Ok(()) };
        self.runtime.block_on(self.lake.finish_parts(&self.at, &id, &self.parts))?;
        self.id = None;
        Ok(())
    }

    /// Leaves nothing behind.
    pub fn abort(mut self) {
        self.give_up();
    }

    fn give_up(&mut self) {
        let flying: Vec<_> = self.flying.drain(..).collect();
        let Some(id) = self.id.take() else { return };
        let (lake, at) = (Arc::clone(&self.lake), self.at.clone());
        let clean = async move {
            // A part that lands after the abort would stay; so wait for each to be over.
            for part in flying {
                part.abort();
                let _ = part.await;
            }
            // What this can't remove, the bucket's lifecycle rule does.
            let _ = lake.abort_parts(&at, &id).await;
        };
        self.runtime.block_on(clean);
    }

    fn send_part(&mut self) -> Result<(), Failure> {
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let attributes = Attributes { content_type: Some(self.content_type.clone()), ..Attributes::default() };
                let id = self.runtime.block_on(self.lake.begin_parts(&self.at, &attributes))?;
                self.id.insert(id).clone()
            }
        };
        if self.flying.len() >= PARTS_AT_ONCE {
            self.land_oldest()?;
        }
        self.numbered += 1;
        let (lake, at, number) = (Arc::clone(&self.lake), self.at.clone(), self.numbered);
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        self.flying.push_back(self.runtime.spawn(async move { lake.put_part(&at, &id, number, bytes).await }));
        if number % PARTS_OF_ONE_SIZE == 0 {
            self.part_bytes *= 2;
        }
        Ok(())
    }

    fn land_oldest(&mut self) -> Result<(), Failure> {
        let Some(oldest) = self.flying.pop_front() else { return Ok(()) };
        let landed = self.runtime.block_on(oldest);
        let broken = |error| Failure::internal("UploadTask", format!("write {}: {error}", self.at));
        let part = landed.map_err(broken)??;
        self.parts.push(part);
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.part_bytes.saturating_sub(self.buffer.len()).max(1);
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= self.part_bytes {
            self.send_part().map_err(io::Error::other)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryLake;

    fn lake() -> (Arc<MemoryLake>, Location) {
        let lake = MemoryLake::default();
        lake.make_bucket("out-bucket");
        (Arc::new(lake), Location::parse("s3://out-bucket/x").unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_arrive_in_order() {
        let (lake, at) = lake();
        let (writer, place) = (Arc::clone(&lake), at.clone());
        let runtime = Handle::current();
        let bytes: Vec<u8> = (0..20_000_000u32).map(|n| (n / 7) as u8).collect();
        let expected = bytes.clone();
        tokio::task::spawn_blocking(move || {
            let mut upload = Upload::new(writer, place, "text/plain", runtime);
            upload.write_all(&bytes).unwrap();
            upload.finish().unwrap();
        })
        .await
        .unwrap();
        assert_eq!(lake.get(&at, None, 0, 20_000_000).await.unwrap(), expected);
        assert_eq!(lake.open_uploads(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dropped_upload_leaves_nothing() {
        let (lake, at) = lake();
        let (writer, place) = (Arc::clone(&lake), at.clone());
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut upload = Upload::new(writer, place, "text/plain", runtime);
            upload.write_all(&vec![0; 20_000_000]).unwrap();
        })
        .await
        .unwrap();
        assert_eq!(lake.open_uploads(), 0);
        assert!(lake.head(&at).await.is_err());
    }
}
