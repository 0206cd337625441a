//! An input as units of work: what one thread reads, and any thread can make rows of.

use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use encoding_rs_io::DecodeReaderBytesBuilder;
use memchr::memchr_iter;
use weir_contract::Cleaner;

use crate::buffer::Pool;
use crate::column::{BATCH_ROWS, Mismatch, Rows};
use crate::columnar::{self, Batches};
use crate::compress::{Wrapping, unwrap};
use crate::csv::{self, Layout};
use crate::detect::{FileFormat, encoding_of};
use crate::documents::{self, Framing};
use crate::input::FileInput;
use crate::json;
use crate::quarantine::Reject;
use crate::{Cleaning, Columns, ConvertError, Input, Kind, Settings, Sniffed, zipped};

/// Why a unit did not become rows.
pub(crate) enum Stop {
    /// Its values don't fit the columns: they must be widened.
    Contradiction,
    /// It can't be.
    Failed(ConvertError),
}

impl From<Mismatch> for Stop {
    fn from(Mismatch: Mismatch) -> Self {
        Self::Contradiction
    }
}

impl From<ConvertError> for Stop {
    fn from(error: ConvertError) -> Self {
        Self::Failed(error)
    }
}

impl From<ArrowError> for Stop {
    fn from(error: ArrowError) -> Self {
        Self::Failed(ConvertError::Internal(error.to_string()))
    }
}

/// A piece of an input.
pub(crate) struct Unit {
    pub(crate) input: Arc<str>,
    content: Content,
}

enum Content {
    Csv(csv::Block, Arc<Layout>),
    Json(documents::Block),
    Batches { schema: SchemaRef, batches: Vec<RecordBatch>, first_row: u64 },
}

/// An input being read.
pub(crate) struct Source {
    name: Arc<str>,
    reader: Reader,
}

enum Reader {
    Csv(csv::Splitter<Box<dyn Read + Send>>, Arc<Layout>),
    Json(documents::Splitter<Box<dyn Read + Send>>),
    Batches { batches: Batches, unit_bytes: usize, given: bool, row: u64 },
}

impl Source {
    /// Opens an input that has been sniffed. `None` if there is nothing in it.
    pub(crate) fn open(
        input: &Arc<dyn Input>,
        sniffed: &Sniffed,
        settings: &Settings,
        pool: &Pool,
    ) -> Result<Option<Self>, ConvertError> {
        let name: Arc<str> = input.name().into();
        let block_bytes = settings.block_bytes;
        let source = |reader| Ok(Some(Self { name: Arc::clone(&name), reader }));
        match sniffed.format {
            FileFormat::Empty => Ok(None),
            FileFormat::Unknown => {
                Err(ConvertError::data(&name, format!("not a format that can be read: {}", sniffed.saw)))
            }
            FileFormat::Csv(dialect) => {
                let (layout, header_bytes) = sniffed
                    .layout
                    .clone()
                    .ok_or_else(|| ConvertError::Internal("delimited text without a layout".to_owned()))?;
                let mut text = text(input, sniffed)?;
                let mut header = Vec::new();
                let read = (&mut text).take(header_bytes).read_to_end(&mut header);
                read.map_err(|error| ConvertError::reading(&name, "read the header", error))?;
                let line = 1 + memchr_iter(b'\n', &header).count() as u64;
                source(Reader::Csv(csv::Splitter::new(text, dialect.delimiter, block_bytes, line, pool), layout))
            }
            FileFormat::NdJson | FileFormat::Json => {
                let framing = if sniffed.format == FileFormat::NdJson { Framing::Lines } else { Framing::Documents };
                source(Reader::Json(documents::Splitter::new(text(input, sniffed)?, framing, block_bytes, pool)))
            }
            FileFormat::Avro | FileFormat::Parquet | FileFormat::Orc => {
                let batches = columnar(input, sniffed, settings)?;
                source(Reader::Batches { batches, unit_bytes: block_bytes, given: false, row: 1 })
            }
        }
    }

    /// The next piece.
    pub(crate) fn next(&mut self) -> Result<Option<Unit>, ConvertError> {
        let reading = |error| ConvertError::reading(&self.name, "read it", error);
        let content = match &mut self.reader {
            Reader::Csv(splitter, layout) => {
                splitter.next().map_err(reading)?.map(|block| Content::Csv(block, Arc::clone(layout)))
            }
            Reader::Json(splitter) => splitter.next().map_err(reading)?.map(Content::Json),
            Reader::Batches { batches, unit_bytes, given, row } => {
                let mut some = Vec::new();
                let (mut bytes, mut rows) = (0, 0);
                while bytes < *unit_bytes && rows < 8 * BATCH_ROWS {
                    let Some(batch) = batches.batches.next().transpose()? else { break };
                    bytes += batch.get_array_memory_size();
                    rows += batch.num_rows();
                    some.push(batch);
                }
                // A file without rows still has a schema.
                let any = !some.is_empty() || !*given;
                *given = true;
                let first_row = *row;
                *row += rows as u64;
                any.then(|| Content::Batches { schema: Arc::clone(&batches.schema), batches: some, first_row })
            }
        };
        Ok(content.map(|content| Unit { input: Arc::clone(&self.name), content }))
    }
}

/// The columns of an input before it is read: as it declares them or, for text, as its head shows them; and whether
/// every other input must have the same ones, which JSON need not.
pub(crate) fn columns_of(
    input: &Arc<dyn Input>,
    sniffed: &Sniffed,
    settings: &Settings,
) -> Result<(Columns, bool), ConvertError> {
    match sniffed.format {
        FileFormat::Avro | FileFormat::Parquet | FileFormat::Orc => {
            Ok((Columns::from_arrow(&columnar(input, sniffed, settings)?.schema), true))
        }
        FileFormat::Csv(_) => Ok((sniffed.columns.clone(), true)),
        _ => Ok((sniffed.columns.clone(), false)),
    }
}

fn columnar(input: &Arc<dyn Input>, sniffed: &Sniffed, settings: &Settings) -> Result<Batches, ConvertError> {
    match sniffed.format {
        FileFormat::Avro => {
            let content = BufReader::with_capacity(256 << 10, content(input, sniffed.wrapping)?);
            columnar::avro(input.name(), Box::new(content))
        }
        FileFormat::Orc => columnar::orc(&seekable(input, sniffed.wrapping, settings)?),
        _ => columnar::parquet(&seekable(input, sniffed.wrapping, settings)?),
    }
}

/// The content without its wrapping.
fn content(input: &Arc<dyn Input>, wrapping: Wrapping) -> Result<Box<dyn Read + Send>, ConvertError> {
    let opened = match wrapping {
        Wrapping::Zip => zipped::open(input).map(|(_, content)| content),
        _ => input.open().and_then(|source| unwrap(wrapping, source)),
    };
    opened.map_err(|error| ConvertError::reading(input.name(), "open it", error))
}

/// Text as UTF-8 without a byte order mark. Bytes that are not UTF-8 stay as they are, for the row to be put aside.
fn text(input: &Arc<dyn Input>, sniffed: &Sniffed) -> Result<Box<dyn Read + Send>, ConvertError> {
    let mut source = content(input, sniffed.wrapping)?;
    let mut head = Vec::new();
    (&mut source)
        .take(64)
        .read_to_end(&mut head)
        .map_err(|error| ConvertError::reading(input.name(), "read it", error))?;
    let encoding = encoding_of(&head);
    let whole = io::Cursor::new(head).chain(source);
    if encoding == encoding_rs::UTF_8 {
        let mut whole = whole;
        let mut mark = Vec::new();
        (&mut whole).take(3).read_to_end(&mut mark)?;
        let kept = if mark == b"\xef\xbb\xbf" { Vec::new() } else { mark };
        return Ok(Box::new(io::Cursor::new(kept).chain(whole)));
    }
    Ok(Box::new(DecodeReaderBytesBuilder::new().encoding(Some(encoding)).bom_override(true).build(whole)))
}

/// An input that can be read anywhere: itself, or unpacked to a temporary file of bounded size.
fn seekable(input: &Arc<dyn Input>, wrapping: Wrapping, settings: &Settings) -> Result<Arc<dyn Input>, ConvertError> {
    if wrapping == Wrapping::None {
        return Ok(Arc::clone(input));
    }
    let limit_bytes = settings.spool_max_bytes;
    // Without a name: gone when it is closed, however that comes about.
    let mut spool = tempfile::tempfile_in(&settings.spool_dir)?;
    let mut source = content(input, wrapping)?;
    let mut buffer = vec![0; 1 << 20];
    let mut written = 0;
    loop {
        if settings.stopped() {
            return Err(ConvertError::Stopped);
        }
        let count =
            source.read(&mut buffer).map_err(|error| ConvertError::reading(input.name(), "unpack it", error))?;
        written += count as u64;
        if written > limit_bytes {
            return Err(ConvertError::TooLargeToSpool { input: input.name().to_owned(), limit_bytes });
        }
        if count == 0 {
            break;
        }
        spool.write_all(buffer.get(..count).unwrap_or_default())?;
    }
    Ok(Arc::new(FileInput::of(input.name(), spool)?))
}

impl Unit {
    /// What this piece's columns hold.
    pub(crate) fn infer(&self) -> Columns {
        match &self.content {
            Content::Csv(block, layout) => csv::infer(block, layout),
            Content::Json(block) => json::infer(block),
            Content::Batches { schema, .. } => Columns::from_arrow(schema),
        }
    }

    /// Cleans its rows by a contract: those that are clean, how many are dropped, and the bad ones.
    pub(crate) fn clean(&self, cleaning: &Cleaning<'_>) -> Result<(RecordBatch, u64, Vec<Reject>), ConvertError> {
        let internal = |error: ArrowError| ConvertError::Internal(error.to_string());
        let mut cleaner = Cleaner::new(cleaning.contract, cleaning.audience, cleaning.now_micros);
        let (mut dropped, mut rejects) = (0, Vec::new());
        match &self.content {
            Content::Csv(block, layout) => {
                dropped = csv::clean(block, layout, cleaning.contract, &mut cleaner, &mut rejects)
            }
            Content::Json(block) => dropped = json::clean(block, &mut cleaner, &mut rejects),
            Content::Batches { batches, first_row, .. } => {
                let mut row = *first_row;
                for batch in batches {
                    let mut bad = Vec::new();
                    cleaner.push_batch(batch, |refused| bad.push(refused)).map_err(internal)?;
                    for refused in bad {
                        match refused.violation {
                            None => dropped += 1,
                            Some(violation) => {
                                let raw = as_json(&batch.slice(refused.row, 1))
                                    .unwrap_or_else(|error| format!("(it can't be shown: {error})").into_bytes());
                                rejects.push(Reject::broken(row + refused.row as u64, violation, &raw));
                            }
                        }
                    }
                    row += batch.num_rows() as u64;
                }
            }
        }
        Ok((cleaner.take().map_err(internal)?, dropped, rejects))
    }

    /// Makes rows of it. `full` takes each batch.
    pub(crate) fn decode(
        &self,
        columns: &Columns,
        schema: &SchemaRef,
        rejects: &mut Vec<Reject>,
        mut full: impl FnMut(RecordBatch) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        match &self.content {
            Content::Csv(block, layout) => {
                let mut rows = Rows::new(columns, schema, 1024);
                rejects.extend(block.rejects.iter().cloned());
                csv::parse(block, layout, columns, &mut rows, rejects, |rows| full(rows.take()?))?;
                if rows.members.rows() > 0 { full(rows.take()?) } else { Ok(()) }
            }
            Content::Json(block) => {
                // The fast way holds back its batches: if it fails half-way, nothing has been given out.
                let mut done = Vec::new();
                let mut rows = Rows::new(columns, schema, 1024);
                let fast: Result<(), Stop> = json::parse(block, columns, &mut rows, rejects, false, |rows| {
                    done.push(rows.take()?);
                    Ok(())
                });
                if fast.is_err() {
                    done.clear();
                    rows = Rows::new(columns, schema, 1024);
                    json::parse(block, columns, &mut rows, rejects, true, |rows| -> Result<(), Stop> {
                        done.push(rows.take()?);
                        Ok(())
                    })?;
                }
                if rows.members.rows() > 0 {
                    done.push(rows.take()?);
                }
                done.into_iter().try_for_each(full)
            }
            Content::Batches { schema: own, batches, .. } => {
                if columns.join(&Columns::from_arrow(own)) != *columns {
                    return Err(Stop::Contradiction);
                }
                batches.iter().try_for_each(|batch| full(fit(batch, columns, schema, &self.input)?))
            }
        }
    }
}

/// A row of a columnar file as text, for people.
fn as_json(row: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(row)?;
    writer.finish()?;
    Ok(bytes)
}

/// A batch with its file's columns, as one with the job's.
fn fit(batch: &RecordBatch, columns: &Columns, schema: &SchemaRef, input: &str) -> Result<RecordBatch, Stop> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let mut arrays = Vec::with_capacity(columns.0.len());
    for (name, kind) in &columns.0 {
        let target = kind.to_arrow();
        let array = match batch.column_by_name(name) {
            None => arrow_array::new_null_array(&target, batch.num_rows()),
            Some(array) if *array.data_type() == target => Arc::clone(array),
            Some(array) => {
                let from = array.data_type().clone();
                let refused = |error: ArrowError| {
                    ConvertError::data(
                        input,
                        format!("column `{name}` is {from} and can't be written as {target}: {error}"),
                    )
                };
                let cast = cast_with_options(array, &target, &options).map_err(refused)?;
                // The one cast that loses silently.
                if from == DataType::Int64 && *kind == Kind::Float {
                    let back = cast_with_options(&cast, &from, &options).map_err(refused)?;
                    if back.as_ref() != array.as_ref() {
                        return Err(ConvertError::data(
                            input,
                            format!(
                                "column `{name}` has whole numbers too large to be floats, and floats in another file"
                            ),
                        )
                        .into());
                    }
                }
                cast
            }
        };
        arrays.push(array);
    }
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}
