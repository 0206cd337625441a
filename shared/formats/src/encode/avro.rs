//! Avro object container files: a unit is a run of blocks.
//!
//! Blocks are framed here around what `arrow-avro` encodes, because its file writer makes one block after the other in
//! one thread. Source: Apache Avro 1.12 specification, "Object Container Files".

use std::io::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_avro::compression::CompressionCodec;
use arrow_avro::errors::AvroError;
use arrow_avro::writer::format::{AvroBinaryFormat, AvroOcfFormat};
use arrow_avro::writer::{Encoder, WriterBuilder};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use weir_command::Compression;

use crate::ConvertError;

/// What is usual for Avro files: large enough to compress well, small enough to skip.
const BLOCK_ROWS: usize = 4096;

pub(crate) struct Avro {
    schema: SchemaRef,
    compression: Compression,
    header: Vec<u8>,
    sync: [u8; 16],
}

pub(crate) struct Blocks<'a> {
    codec: &'a Avro,
    encoder: Encoder,
    bytes: Vec<u8>,
    rows: u64,
}

fn failed(error: AvroError) -> ConvertError {
    ConvertError::data("the output", format!("Avro can't hold this: {error}"))
}

impl Avro {
    pub(crate) fn new(compression: Compression, schema: &SchemaRef) -> Result<Self, ConvertError> {
        let schema = Arc::new(Schema::new(legal(schema.fields().iter())));
        let codec = match compression {
            Compression::Snappy => Some(CompressionCodec::Snappy),
            Compression::Deflate => Some(CompressionCodec::Deflate),
            Compression::Zstd => Some(CompressionCodec::ZStandard),
            _ => None,
        };
        let writer = WriterBuilder::new(schema.as_ref().clone()).with_compression(codec);
        let writer = writer.build::<Vec<u8>, AvroOcfFormat>(Vec::new()).map_err(failed)?;
        let sync = *writer
            .sync_marker()
            .ok_or_else(|| ConvertError::Internal("an Avro file without a sync marker".to_owned()))?;
        let avro = Self { schema, compression, header: writer.into_inner(), sync };
        // What the encoder refuses, it refuses when it is built.
        avro.begin()?;
        Ok(avro)
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    pub(crate) fn begin(&self) -> Result<Blocks<'_>, ConvertError> {
        let encoder =
            WriterBuilder::new(self.schema.as_ref().clone()).build_encoder::<AvroBinaryFormat>().map_err(failed)?;
        Ok(Blocks { codec: self, encoder, bytes: Vec::new(), rows: 0 })
    }

    fn compress(&self, raw: &[u8]) -> Result<Vec<u8>, ConvertError> {
        Ok(match self.compression {
            Compression::Snappy => {
                let mut data = snap::raw::Encoder::new()
                    .compress_vec(raw)
                    .map_err(|error| ConvertError::Internal(error.to_string()))?;
                let mut crc = flate2::Crc::new();
                crc.update(raw);
                data.extend(crc.sum().to_be_bytes());
                data
            }
            Compression::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(raw)?;
                encoder.finish()?
            }
            Compression::Zstd => zstd::bulk::compress(raw, 3)?,
            _ => raw.to_vec(),
        })
    }
}

impl Blocks<'_> {
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ConvertError> {
        let arrays: Result<Vec<ArrayRef>, _> = self
            .codec
            .schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| cast(array, field.data_type()))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = arrays
            .and_then(|arrays| RecordBatch::try_new_with_options(Arc::clone(&self.codec.schema), arrays, &options));
        let batch = batch.map_err(|error| ConvertError::Internal(format!("Avro: {error}")))?;
        let mut from = 0;
        while from < batch.num_rows() {
            let rows = BLOCK_ROWS.min(batch.num_rows() - from);
            self.encoder.encode(&batch.slice(from, rows)).map_err(failed)?;
            let encoded = self.encoder.flush();
            let data = self.codec.compress(encoded.bytes())?;
            zigzag(&mut self.bytes, rows as u64);
            zigzag(&mut self.bytes, data.len() as u64);
            self.bytes.extend_from_slice(&data);
            self.bytes.extend_from_slice(&self.codec.sync);
            self.rows += rows as u64;
            from += rows;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> (u64, Vec<u8>) {
        (self.rows, self.bytes)
    }
}

fn zigzag(out: &mut Vec<u8>, value: u64) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Fields with names that Avro allows (`[A-Za-z_][A-Za-z0-9_]*`), each once, and without metadata, which would end up in
/// the Avro schema under names that mean something there.
fn legal<'a>(fields: impl Iterator<Item = &'a FieldRef>) -> Vec<Field> {
    let mut taken: Vec<String> = Vec::new();
    let mut legal = Vec::new();
    for field in fields {
        let mut name: String = field.name().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
            name.insert(0, '_');
        }
        while taken.contains(&name) {
            name.push('_');
        }
        taken.push(name.clone());
        legal.push(Field::new(name, legal_type(field.data_type()), field.is_nullable()));
    }
    legal
}

fn legal_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(members) => DataType::Struct(legal(members.iter()).into()),
        DataType::List(item) => {
            DataType::List(Arc::new(Field::new("item", legal_type(item.data_type()), item.is_nullable())))
        }
        DataType::Dictionary(_, value) => legal_type(value),
        other => other.clone(),
    }
}
