//! S3 objects as a conversion's inputs, and S3 places as its output.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::runtime::Handle;
use weir_command::Location;
use weir_delivery::Failure;
use weir_formats::{ConvertError, Input, Output, Sink};

use crate::{Lake, ObjectInfo, ObjectReader, Upload};

/// Inputs of a job that are together no larger than this are fetched whole, once: looking at one and reading it are one
/// request. Those of a larger job are not kept, because all of them are looked at before the first is read.
const KEPT_BYTES: u64 = 16 << 20;

/// An object on S3.
pub struct S3Input {
    lake: Arc<dyn Lake>,
    info: ObjectInfo,
    name: String,
    runtime: Handle,
    keeps: bool,
    whole: OnceLock<Bytes>,
}

impl S3Input {
    /// The inputs of one job.
    pub fn all(lake: &Arc<dyn Lake>, objects: Vec<ObjectInfo>, runtime: &Handle) -> Vec<Arc<dyn Input>> {
        let keeps = objects.iter().map(|object| object.size).sum::<u64>() <= KEPT_BYTES;
        let input =
            |info| Arc::new(Self { keeps, ..Self::new(Arc::clone(lake), info, runtime.clone()) }) as Arc<dyn Input>;
        objects.into_iter().map(input).collect()
    }

    /// An object as listed.
    pub fn new(lake: Arc<dyn Lake>, info: ObjectInfo, runtime: Handle) -> Self {
        let name = info.location.to_string();
        Self { lake, info, name, runtime, keeps: false, whole: OnceLock::new() }
    }

    fn fetch(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        let get = self.lake.get(&self.info.location, Some(&self.info.etag), offset, length);
        self.runtime.block_on(get).map_err(io::Error::other)
    }

    fn whole(&self) -> io::Result<Option<Bytes>> {
        if !self.keeps {
            return Ok(None);
        }
        if let Some(bytes) = self.whole.get() {
            return Ok(Some(bytes.clone()));
        }
        let bytes = self.fetch(0, self.info.size)?;
        Ok(Some(self.whole.get_or_init(|| bytes).clone()))
    }
}

impl Input for S3Input {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.info.size
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self.whole()? {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes))),
            None => Ok(Box::new(ObjectReader::new(Arc::clone(&self.lake), self.info.clone(), self.runtime.clone()))),
        }
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset.checked_add(length as u64).filter(|end| *end <= self.info.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        match self.whole()? {
            Some(bytes) => Ok(bytes.slice(offset as usize..end as usize)),
            None => self.fetch(offset, length as u64),
        }
    }
}

/// The lake's own failure, where one comes back through a conversion, or what the data did wrong.
pub fn to_failure(error: ConvertError) -> Failure {
    match error {
        ConvertError::Data { .. } => Failure::user("UnreadableData", error.to_string()),
        ConvertError::Io(io) => match io.downcast::<Failure>() {
            Ok(own) => own,
            Err(other) => Failure::internal("Io", other.to_string()),
        },
        other => Failure::internal("Conversion", other.to_string()),
    }
}

/// A prefix on S3.
pub struct S3Output {
    lake: Arc<dyn Lake>,
    under: Location,
    runtime: Handle,
}

impl S3Output {
    /// Files go under this prefix.
    pub fn new(lake: Arc<dyn Lake>, under: Location, runtime: Handle) -> Self {
        Self { lake, under, runtime }
    }
}

struct S3Sink(Upload);

impl Output for S3Output {
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let extension = name.split_once('.').map_or("", |(_, extension)| extension);
        let content_type = match extension {
            "parquet" => "application/vnd.apache.parquet",
            "avro" => "application/avro",
            "ndjson" => "application/x-ndjson",
            "csv" => "text/csv",
            _ => "application/octet-stream",
        };
        Ok(Box::new(S3Sink(Upload::new(
            Arc::clone(&self.lake),
            self.under.join(name),
            content_type,
            self.runtime.clone(),
        ))))
    }
}

impl Write for S3Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for S3Sink {
    fn finish(self: Box<Self>) -> io::Result<()> {
        self.0.finish().map_err(io::Error::other)
    }
}
