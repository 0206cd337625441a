//! An object as a blocking `Read`, fetched ahead in ranges.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use weir_delivery::Failure;

use crate::{Lake, ObjectInfo};

/// One request's worth: S3 gives a single connection some 80 MB/s, so ranges of this size, a few at a time, keep a
/// parser busy without holding much.
const RANGE_BYTES: u64 = 4 << 20;
const RANGES_AHEAD: usize = 4;

/// How often a range is asked for when its answer breaks off half-way, which the SDK does not retry.
const TRIES: u32 = 3;

/// Reads an object from front to back, for code that is not async. A range that fails is fetched again by itself; the
/// etag makes sure that all ranges are of one version of the object.
///
/// Must be used on a thread where blocking is allowed (`spawn_blocking`), never on a runtime worker.
pub struct ObjectReader {
    lake: Arc<dyn Lake>,
    info: ObjectInfo,
    runtime: Handle,
    next_offset: u64,
    ahead: VecDeque<JoinHandle<Result<Bytes, Failure>>>,
    current: Bytes,
}

impl ObjectReader {
    /// Starts fetching.
    pub fn new(lake: Arc<dyn Lake>, info: ObjectInfo, runtime: Handle) -> Self {
        let mut reader = Self { lake, info, runtime, next_offset: 0, ahead: VecDeque::new(), current: Bytes::new() };
        reader.fetch_ahead();
        reader
    }

    fn fetch_ahead(&mut self) {
        while self.ahead.len() < RANGES_AHEAD && self.next_offset < self.info.size {
            let length = RANGE_BYTES.min(self.info.size - self.next_offset);
            let fetch = fetch(Arc::clone(&self.lake), self.info.clone(), self.next_offset, length);
            self.ahead.push_back(self.runtime.spawn(fetch));
            self.next_offset += length;
        }
    }
}

/// One range, with patience.
async fn fetch(lake: Arc<dyn Lake>, info: ObjectInfo, offset: u64, length: u64) -> Result<Bytes, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        match lake.get(&info.location, Some(&info.etag), offset, length).await {
            Err(failure) if failure.passes() && failure.code != "PreconditionFailed" && tries < TRIES => {}
            result => return result,
        }
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            let Some(range) = self.ahead.pop_front() else { return Ok(0) };
            self.current = self.runtime.block_on(range).map_err(io::Error::other)?.map_err(io::Error::other)?;
            self.fetch_ahead();
        }
        let count = buffer.len().min(self.current.len());
        let (taken, room) = (self.current.get(..count), buffer.get_mut(..count));
        if let (Some(taken), Some(room)) = (taken, room) {
            room.copy_from_slice(taken);
        }
        self.current.advance(count);
        Ok(count)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        for range in &self.ahead {
            range.abort();
        }
    }
}
