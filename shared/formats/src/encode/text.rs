//! NDJSON and CSV.

use std::io::Write;

use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::writer::{LineDelimited, WriterBuilder};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use weir_command::Compression;

use crate::{ConvertError, compress};

pub(crate) struct Text {
    csv: bool,
    compression: Compression,
    schema: SchemaRef,
}

pub(crate) struct Lines<'a> {
    text: &'a Text,
    bytes: Vec<u8>,
    rows: u64,
}

fn failed(error: ArrowError) -> ConvertError {
    ConvertError::data("the output", format!("text can't hold this: {error}"))
}

impl Text {
    pub(crate) fn new(csv: bool, compression: Compression, schema: SchemaRef) -> Self {
        Self { csv, compression, schema }
    }

    pub(crate) fn begin(&self) -> Lines<'_> {
        Lines { text: self, bytes: Vec::new(), rows: 0 }
    }

    /// What a file begins with.
    pub(crate) fn header(&self) -> Result<Vec<u8>, ConvertError> {
        if !self.csv {
            return Ok(Vec::new());
        }
        let mut line = Vec::new();
        for (index, field) in self.schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            write_cell(&mut line, field.name());
        }
        line.push(b'\n');
        Ok(compress::wrap(self.compression, &line)?)
    }
}

impl Lines<'_> {
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ConvertError> {
        self.rows += batch.num_rows() as u64;
        if self.text.csv {
            return push_csv(&mut self.bytes, batch);
        }
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut self.bytes);
        writer.write(batch).map_err(failed)?;
        writer.finish().map_err(failed)
    }

    pub(crate) fn finish(self) -> Result<(u64, Vec<u8>), ConvertError> {
        if self.bytes.is_empty() {
            return Ok((0, Vec::new()));
        }
        Ok((self.rows, compress::wrap(self.text.compression, &self.bytes)?))
    }
}

/// RFC 4180. Null is nothing and the empty text is two quotes, so that reading it back tells them apart. Arrays and
/// objects are written as their JSON.
fn push_csv(out: &mut Vec<u8>, batch: &RecordBatch) -> Result<(), ConvertError> {
    let columns = batch.columns().iter().map(as_cells).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let options = FormatOptions::new().with_null("");
    let formatters = columns.iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut cell = String::new();
    for row in 0..batch.num_rows() {
        for (index, (column, formatter)) in columns.iter().zip(&formatters).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            if column.is_null(row) {
                continue;
            }
            cell.clear();
            formatter.value(row).write(&mut cell).map_err(failed)?;
            write_cell(out, &cell);
        }
        out.push(b'\n');
    }
    Ok(())
}

fn write_cell(out: &mut Vec<u8>, cell: &str) {
    let plain = !cell.is_empty()
        && !cell.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'))
        && cell.trim() == cell;
    if plain {
        out.extend_from_slice(cell.as_bytes());
    } else {
        let _ = write!(out, "\"{}\"", cell.replace('"', "\"\""));
    }
}

/// Nested values as JSON text; others as they are.
fn as_cells(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if !array.data_type().is_nested() || matches!(array.data_type(), DataType::Dictionary(..)) {
        return Ok(std::sync::Arc::clone(array));
    }
    let field = arrow_schema::Field::new("v", array.data_type().clone(), true);
    let schema = std::sync::Arc::new(arrow_schema::Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema, vec![std::sync::Arc::clone(array)])?;
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(&batch)?;
    writer.finish()?;
    let lines = String::from_utf8_lossy(&bytes);
    let inner = lines.lines().enumerate().map(|(row, line)| {
        let value = line.strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
        value.filter(|_| array.is_valid(row))
    });
    Ok(std::sync::Arc::new(inner.collect::<StringArray>()))
}
