//! Files that bring their schema: Parquet, Avro, ORC.
//!
//! Each is an iterator of record batches over an [`Input`] that can be read anywhere. The decoders below are given files
//! by strangers and some of them panic on a hostile one, so every step runs under `catch_unwind`.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_avro::codec::Tz;
use arrow_avro::reader::{ReaderBuilder, read_header_info};
use arrow_schema::{ArrowError, SchemaRef};
use bytes::{Buf, Bytes};
use orc_rust::{ArrowReaderBuilder, TimestampPrecision};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::column::BATCH_ROWS;
use crate::{ConvertError, Input};

/// Record batches with the schema they all have.
pub(crate) struct Batches {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Box<dyn Iterator<Item = Result<RecordBatch, ConvertError>> + Send>,
}

/// Runs a step of a decoder; a panic in it is an error of the file.
fn guarded<T>(input: &str, step: impl FnOnce() -> Result<T, ConvertError>) -> Result<T, ConvertError> {
    let broken = |_| ConvertError::data(input, "the file is broken in a way that its decoder did not expect");
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| Err(broken(panic)))
}

/// The caller's own error, if a decoder has wrapped one.
fn own_error(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<Failed>() {
            return io.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        cause = error.source();
    }
    None
}

/// Carries the caller's error through a decoder's error types unharmed.
#[derive(Debug)]
struct Failed(Mutex<Option<io::Error>>);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the source failed")
    }
}

impl std::error::Error for Failed {}

fn decoded<E: std::error::Error + 'static>(input: &str, format: &str, error: E) -> ConvertError {
    match own_error(&error) {
        Some(own) => ConvertError::Io(own),
        None => ConvertError::data(input, format!("not readable as {format}: {error}")),
    }
}

/// Random reads in aligned blocks with a small cache: decoders read a page's header and then the page, column by column,
/// and each read would otherwise be a request.
#[derive(Clone)]
struct Ranges {
    input: Arc<dyn Input>,
    block_bytes: u64,
    blocks: NonZeroUsize,
    cache: Arc<Mutex<Vec<(u64, Bytes)>>>,
}

impl Ranges {
    fn new(input: Arc<dyn Input>, columns: usize) -> Self {
        const CACHE_BYTES: u64 = 48 << 20;
        // Two blocks a column: the page it is in, and the next.
        let wanted = columns.max(8) as u64 * 2;
        let block_bytes = (CACHE_BYTES / wanted).clamp(64 << 10, 1 << 20);
        let blocks = NonZeroUsize::new((CACHE_BYTES / block_bytes) as usize).unwrap_or(NonZeroUsize::MIN);
        Self { input, block_bytes, blocks, cache: Arc::default() }
    }

    fn block(&self, index: u64) -> io::Result<Bytes> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = cache.iter().position(|(known, _)| *known == index) {
            let entry = cache.remove(at);
            cache.push(entry.clone());
            return Ok(entry.1);
        }
        let start = index * self.block_bytes;
        let length = self.block_bytes.min(self.input.size().saturating_sub(start));
        let bytes = self.input.read_at(start, length as usize)?;
        if cache.len() >= self.blocks.get() {
            cache.remove(0);
        }
        cache.push((index, bytes.clone()));
        Ok(bytes)
    }

    fn bytes(&self, start: u64, length: u64) -> io::Result<Bytes> {
        let end =
            start.checked_add(length).filter(|end| *end <= self.input.size()).ok_or(io::ErrorKind::UnexpectedEof)?;
        if length > self.block_bytes * 2 {
            return self.input.read_at(start, length as usize);
        }
        let first = self.block(start / self.block_bytes)?;
        let offset = (start % self.block_bytes) as usize;
        if offset + length as usize <= first.len() {
            return Ok(first.slice(offset..offset + length as usize));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        for index in start / self.block_bytes..=end.saturating_sub(1) / self.block_bytes {
            bytes.extend_from_slice(&self.block(index)?);
        }
        Ok(Bytes::from(bytes).slice(offset..offset + length as usize))
    }
}

/// Reads on from an offset, block by block.
struct Onward {
    ranges: Ranges,
    at: u64,
}

impl Read for Onward {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.ranges.input.size().saturating_sub(self.at);
        let to_block_end = self.ranges.block_bytes - self.at % self.ranges.block_bytes;
        let count = (buffer.len() as u64).min(left).min(to_block_end);
        let mut bytes = self.ranges.bytes(self.at, count)?;
        self.at += count;
        if let Some(room) = buffer.get_mut(..count as usize) {
            bytes.copy_to_slice(room);
        }
        Ok(count as usize)
    }
}

impl Length for Ranges {
    fn len(&self) -> u64 {
        self.input.size()
    }
}

fn parquet_error(error: io::Error) -> ParquetError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ParquetError::EOF("it points past its own end".to_owned()),
        _ => ParquetError::External(Box::new(Failed(Mutex::new(Some(error))))),
    }
}

impl ChunkReader for Ranges {
    type T = Onward;

    fn get_read(&self, start: u64) -> Result<Onward, ParquetError> {
        Ok(Onward { ranges: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.bytes(start, length as u64).map_err(parquet_error)
    }
}

impl orc_rust::reader::ChunkReader for Ranges {
    type T = Onward;

    fn len(&self) -> u64 {
        self.input.size()
    }

    fn get_read(&self, start: u64) -> io::Result<Onward> {
        Ok(Onward { ranges: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: u64) -> io::Result<Bytes> {
        self.bytes(start, length).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => error,
            _ => io::Error::other(Failed(Mutex::new(Some(error)))),
        })
    }
}

/// Steps an iterator of batches under guard.
struct Guarded<I> {
    inner: I,
    input: String,
    format: &'static str,
    broken: bool,
}

impl<I: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Guarded<I> {
    type Item = Result<RecordBatch, ConvertError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let step = guarded(&self.input, || {
            self.inner.next().transpose().map_err(|error| decoded(&self.input, self.format, error))
        });
        self.broken = step.is_err();
        step.transpose()
    }
}

pub(crate) fn parquet(input: &Arc<dyn Input>) -> Result<Batches, ConvertError> {
    let name = input.name().to_owned();
    guarded(&name, || {
        let failed = |error| decoded(&name, "Parquet", error);
        let probe = ParquetRecordBatchReaderBuilder::try_new(Ranges::new(Arc::clone(input), 8)).map_err(failed)?;
        let columns = probe.metadata().file_metadata().schema_descr().num_columns();
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(Ranges::new(Arc::clone(input), columns)).map_err(failed)?;
        let schema = Arc::clone(builder.schema());
        let inner = builder.with_batch_size(BATCH_ROWS).build().map_err(failed)?;
        Ok(Batches {
            schema,
            batches: Box::new(Guarded { inner, input: name.clone(), format: "Parquet", broken: false }),
        })
    })
}

pub(crate) fn orc(input: &Arc<dyn Input>) -> Result<Batches, ConvertError> {
    let name = input.name().to_owned();
    guarded(&name, || {
        let builder = ArrowReaderBuilder::try_new(Ranges::new(Arc::clone(input), 64))
            .map_err(|error| decoded(&name, "ORC", error))?;
        let builder = builder.with_batch_size(BATCH_ROWS).with_timestamp_precision(TimestampPrecision::Microsecond);
        let schema = builder.schema();
        let inner = builder.build();
        Ok(Batches { schema, batches: Box::new(Guarded { inner, input: name.clone(), format: "ORC", broken: false }) })
    })
}

/// Avro, block by block. The frames are read here and each block is decoded by itself, because the decoder's own loop
/// ends silently in the middle of a truncated file and never compares sync markers (arrow-rs #10495).
struct AvroBlocks {
    source: Box<dyn Read + Send>,
    header: Vec<u8>,
    sync: [u8; 16],
    input: String,
    ended: bool,
}

/// The header holds the schema; one larger than this is not one.
const LARGEST_AVRO_HEADER: usize = 16 << 20;
/// A block is decoded in memory.
const LARGEST_AVRO_BLOCK: u64 = 256 << 20;

pub(crate) fn avro(name: &str, mut source: Box<dyn Read + Send>) -> Result<Batches, ConvertError> {
    guarded(name, || {
        let reading = |error| ConvertError::reading(name, "read the Avro header", error);
        let mut header = Vec::new();
        let length = loop {
            let before = header.len();
            let more = (&mut source).take(64 << 10).read_to_end(&mut header).map_err(reading)?;
            match read_header_info(header.as_slice()) {
                Ok(info) => break info,
                Err(error) if more == 0 || before > LARGEST_AVRO_HEADER => return Err(decoded(name, "Avro", error)),
                Err(_) => {}
            }
        };
        let body = header.split_off(length.header_len() as usize);
        let sync = length.sync();
        let source: Box<dyn Read + Send> = Box::new(Read::chain(io::Cursor::new(body), source));
        let schema = one_block(&header, &[], 1).map_err(|error| decoded(name, "Avro", error))?.0;
        let blocks = AvroBlocks { source, header, sync, input: name.to_owned(), ended: false };
        Ok(Batches { schema, batches: Box::new(blocks) })
    })
}

fn one_block(header: &[u8], block: &[u8], rows: usize) -> Result<(SchemaRef, Option<RecordBatch>), ArrowError> {
    let mut reader = ReaderBuilder::new().with_batch_size(rows).with_tz(Tz::Utc).build(Read::chain(header, block))?;
    let schema = reader.schema();
    let batch = if block.is_empty() { None } else { reader.next().transpose()? };
    Ok((schema, batch))
}

impl AvroBlocks {
    fn block(&mut self) -> Result<Option<RecordBatch>, ConvertError> {
        let input = self.input.clone();
        let reading = |error| ConvertError::reading(&input, "read an Avro block", error);
        let broken = |what: &str| ConvertError::data(&input, format!("not readable as Avro: {what}"));
        let mut frame = Vec::new();
        let Some(rows) = self.varint(&mut frame).map_err(reading)? else { return Ok(None) };
        let size =
            self.varint(&mut frame).map_err(reading)?.ok_or_else(|| reading(io::ErrorKind::UnexpectedEof.into()))?;
        if size > LARGEST_AVRO_BLOCK || rows > LARGEST_AVRO_BLOCK {
            return Err(broken("a block claims to be larger than memory"));
        }
        let start = frame.len();
        let got = (&mut self.source).take(size + 16).read_to_end(&mut frame).map_err(reading)?;
        if (got as u64) < size + 16 {
            return Err(reading(io::ErrorKind::UnexpectedEof.into()));
        }
        if frame.get(start + size as usize..) != Some(self.sync.as_slice()) {
            return Err(broken("a block does not end with the file's sync marker"));
        }
        let rows = rows as usize;
        if rows == 0 {
            return self.block();
        }
        let (_, batch) =
            guarded(&input, || one_block(&self.header, &frame, rows).map_err(|error| decoded(&input, "Avro", error)))?;
        match batch {
            Some(batch) if batch.num_rows() == rows => Ok(Some(batch)),
            _ => Err(broken("a block holds fewer rows than it says")),
        }
    }

    /// A zigzag number, its bytes kept in `frame`; `None` at the end of the file.
    fn varint(&mut self, frame: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let mut byte = [0];
            if self.source.read(&mut byte)? == 0 {
                return if shift == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            let [byte] = byte;
            frame.push(byte);
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 56 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a length of more than nine bytes"));
            }
        }
        let negative = value & 1 == 1;
        if negative {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a negative length"));
        }
        Ok(Some(value >> 1))
    }
}

impl Iterator for AvroBlocks {
    type Item = Result<RecordBatch, ConvertError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let block = self.block().transpose();
        self.ended = !matches!(block, Some(Ok(_)));
        block
    }
}
