//! Rows as bytes of a format.
//!
//! In two steps, so that the work is parallel and the file is not: any thread makes a [`Chunk`] of a unit's rows (a
//! Parquet row group, an Avro block, a compressed member of text), and one thread appends chunks to the file in order.

mod avro;
mod parquet;
mod text;

use std::io;
use std::sync::Arc;

use ::parquet::arrow::arrow_writer::ArrowColumnChunk;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use weir_command::{Compression, Format};

use crate::{ConvertError, Sink, compress};

/// How to encode, for one schema.
pub(crate) enum Codec {
    Parquet(Box<parquet::Parquet>),
    Avro(avro::Avro),
    Text(text::Text),
}

/// Encoded rows.
pub(crate) struct Chunk {
    pub(crate) rows: u64,
    body: Body,
}

enum Body {
    Columns(Vec<ArrowColumnChunk>),
    Bytes(Vec<u8>),
}

/// A unit's rows being encoded.
pub(crate) enum Encoder<'a> {
    Parquet(parquet::RowGroup<'a>),
    Avro(avro::Blocks<'a>),
    Text(text::Lines<'a>),
}

/// A file being written.
pub(crate) enum File {
    Parquet(Box<parquet::File>),
    Bytes { sink: Box<dyn Sink>, written: u64 },
}

impl Codec {
    /// `unique` names the columns whose values hardly repeat.
    pub(crate) fn new(
        format: Format,
        compression: Compression,
        schema: &SchemaRef,
        unique: &[String],
    ) -> Result<Self, ConvertError> {
        Ok(match format {
            Format::Parquet => Self::Parquet(Box::new(parquet::Parquet::new(compression, schema, unique)?)),
            Format::Avro => Self::Avro(avro::Avro::new(compression, schema)?),
            Format::NdJson => Self::Text(text::Text::new(false, compression, Arc::clone(schema))),
            Format::Csv => Self::Text(text::Text::new(true, compression, Arc::clone(schema))),
        })
    }

    pub(crate) fn begin(&self) -> Result<Encoder<'_>, ConvertError> {
        Ok(match self {
            Self::Parquet(codec) => Encoder::Parquet(codec.begin()?),
            Self::Avro(codec) => Encoder::Avro(codec.begin()?),
            Self::Text(codec) => Encoder::Text(codec.begin()),
        })
    }

    /// Begins a file.
    pub(crate) fn open(&self, mut sink: Box<dyn Sink>) -> Result<File, ConvertError> {
        let header = match self {
            Self::Parquet(codec) => return Ok(File::Parquet(Box::new(codec.open(sink)?))),
            Self::Avro(codec) => codec.header().to_vec(),
            Self::Text(codec) => codec.header()?,
        };
        io::Write::write_all(&mut sink, &header)?;
        Ok(File::Bytes { sink, written: header.len() as u64 })
    }
}

impl Encoder<'_> {
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ConvertError> {
        match self {
            Self::Parquet(group) => group.push(batch),
            Self::Avro(blocks) => blocks.push(batch),
            Self::Text(lines) => lines.push(batch),
        }
    }

    pub(crate) fn finish(self) -> Result<Chunk, ConvertError> {
        let (rows, body) = match self {
            Self::Parquet(group) => group.finish().map(|(rows, columns)| (rows, Body::Columns(columns)))?,
            Self::Avro(blocks) => {
                let (rows, bytes) = blocks.finish();
                (rows, Body::Bytes(bytes))
            }
            Self::Text(lines) => lines.finish().map(|(rows, bytes)| (rows, Body::Bytes(bytes)))?,
        };
        Ok(Chunk { rows, body })
    }
}

impl File {
    pub(crate) fn append(&mut self, chunk: Chunk) -> Result<(), ConvertError> {
        match (self, chunk.body) {
            (Self::Parquet(file), Body::Columns(columns)) => file.append(columns),
            (Self::Bytes { sink, written }, Body::Bytes(bytes)) => {
                *written += bytes.len() as u64;
                Ok(io::Write::write_all(sink, &bytes)?)
            }
            _ => Err(ConvertError::Internal("a chunk of another format".to_owned())),
        }
    }

    pub(crate) fn written(&self) -> u64 {
        match self {
            Self::Parquet(file) => file.written(),
            Self::Bytes { written, .. } => *written,
        }
    }

    /// Makes the file visible and says how large it is.
    pub(crate) fn finish(self) -> Result<u64, ConvertError> {
        match self {
            Self::Parquet(file) => file.finish(),
            Self::Bytes { sink, written } => {
                sink.finish()?;
                Ok(written)
            }
        }
    }
}

/// The name of a job's `n`th file.
pub(crate) fn file_name(format: Format, compression: Compression, n: usize) -> String {
    let (format, wrapping) = match format {
        Format::Parquet => ("parquet", ""),
        Format::Avro => ("avro", ""),
        Format::NdJson => ("ndjson", compress::extension(compression)),
        Format::Csv => ("csv", compress::extension(compression)),
    };
    format!("part-{n:05}.{format}{wrapping}")
}
