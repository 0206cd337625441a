//! Rows from JSON documents or Arrow batches, cleaned, as Arrow batches.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, SchemaRef, TimeUnit};

use crate::cell::{Cell, Value};
use crate::{Audience, Contract, Row, Type, Verdict, Violation};

/// Cleans rows into columns.
pub struct Cleaner<'c> {
    row: Row<'c>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    rows: usize,
}

/// A row of a batch that is not in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the batch, from zero.
    pub row: usize,
    /// What it breaks; `None` for a row that the contract drops.
    pub violation: Option<Violation>,
}

impl<'c> Cleaner<'c> {
    /// For one thread. `now_micros` is the time that derived columns are given.
    pub fn new(contract: &'c Contract, audience: Audience, now_micros: i64) -> Self {
        Self {
            row: contract.row(audience, now_micros),
            schema: contract.schema(),
            builders: contract.columns().map(|column| Builder::new(column.kind)).collect(),
            rows: 0,
        }
    }

    /// Takes one JSON document; a clean row is appended.
    pub fn push_json(&mut self, document: &[u8]) -> Verdict {
        let verdict = self.row.read_one_json(document);
        self.keep(verdict)
    }

    /// Takes all documents of a payload ([`Row::each_document`]); clean rows are appended.
    pub fn push_documents(&mut self, payload: &[u8], mut each: impl FnMut(&Verdict)) {
        let (rows, builders) = (&mut self.rows, &mut self.builders);
        self.row.each_document(payload, |row, _, verdict| {
            append(row, builders, rows, &verdict);
            each(&verdict);
        });
    }

    /// Takes all rows of a batch, columns by name; clean ones are appended, the others named.
    ///
    /// # Errors
    /// Arrow's, for a defect in the batch.
    pub fn push_batch(&mut self, batch: &RecordBatch, mut refused: impl FnMut(Refused)) -> Result<(), ArrowError> {
        let mut readers = Vec::new();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if let Some(place) = self.row.contract.place_of(field.name()) {
                readers.push((place, Reader::new(array)?));
            }
        }
        for row in 0..batch.num_rows() {
            self.row.begin();
            for (place, reader) in &readers {
                self.row.set(*place, reader.cell(row));
            }
            let verdict = self.row.finish();
            match self.keep(verdict) {
                Verdict::Clean => {}
                Verdict::Dropped => refused(Refused { row, violation: None }),
                Verdict::Bad(violation) => refused(Refused { row, violation: Some(violation) }),
            }
        }
        Ok(())
    }

    /// Takes one row of cells, each with its [`Contract::place_of`]; a clean row is appended.
    pub fn push_cells<'a>(&mut self, cells: impl IntoIterator<Item = (usize, Cell<'a>)>) -> Verdict {
        self.row.begin();
        for (place, cell) in cells {
            self.row.set(place, cell);
        }
        let verdict = self.row.finish();
        self.keep(verdict)
    }

    fn keep(&mut self, verdict: Verdict) -> Verdict {
        append(&self.row, &mut self.builders, &mut self.rows, &verdict);
        verdict
    }

    /// How many clean rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The clean rows so far.
    ///
    /// # Errors
    /// Arrow's, for a defect of ours.
    pub fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        let arrays = self.builders.iter_mut().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}

fn append(row: &Row<'_>, builders: &mut [Builder], rows: &mut usize, verdict: &Verdict) {
    if *verdict == Verdict::Clean {
        *rows += 1;
        for (builder, value) in builders.iter_mut().zip(&row.values) {
            builder.push(*value, &row.text);
        }
    }
}

/// A column being built.
enum Builder {
    Bool(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    String(StringBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(kind: Type) -> Self {
        match kind {
            Type::Bool => Self::Bool(BooleanBuilder::new()),
            Type::Int32 => Self::Int32(Int32Builder::new()),
            Type::Int64 => Self::Int64(Int64Builder::new()),
            Type::Float64 => Self::Float64(Float64Builder::new()),
            Type::Decimal { precision, scale } => Self::Decimal(Decimal128Builder::new(), precision, scale as i8),
            Type::String => Self::String(StringBuilder::new()),
            Type::Date => Self::Date(Date32Builder::new()),
            Type::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
        }
    }

    /// A value is of its column's type by construction; another would be null.
    #[inline]
    fn push(&mut self, value: Value, text: &str) {
        match (self, value) {
            (Self::Bool(builder), Value::Bool(truth)) => builder.append_value(truth),
            (Self::Int32(builder), Value::Int(number)) => builder.append_value(number as i32),
            (Self::Int64(builder), Value::Int(number)) => builder.append_value(number),
            (Self::Float64(builder), Value::Float(number)) => builder.append_value(number),
            (Self::Decimal(builder, ..), Value::Int(number)) => builder.append_value(number.into()),
            (Self::Date(builder), Value::Date(days)) => builder.append_value(days),
            (Self::Timestamp(builder), Value::Stamp(micros)) => builder.append_value(micros),
            (Self::String(builder), Value::Text(from, to)) => {
                builder.append_value(text.get(from as usize..to as usize).unwrap_or_default());
            }
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Int32(builder), _) => builder.append_null(),
            (Self::Int64(builder), _) => builder.append_null(),
            (Self::Float64(builder), _) => builder.append_null(),
            (Self::Decimal(builder, ..), _) => builder.append_null(),
            (Self::Date(builder), _) => builder.append_null(),
            (Self::Timestamp(builder), _) => builder.append_null(),
            (Self::String(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, precision, scale) => {
                Arc::new(builder.finish().with_precision_and_scale(*precision, *scale)?)
            }
            Self::String(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish().with_timezone("UTC")),
        })
    }
}

/// A raw column, cell by cell.
struct Reader {
    source: ArrayRef,
    values: Values,
}

/// Its values as cells have them.
enum Values {
    Bool(BooleanArray),
    Int(PrimitiveArray<Int64Type>),
    Float(PrimitiveArray<Float64Type>),
    Date(PrimitiveArray<Date32Type>),
    Stamp(PrimitiveArray<TimestampMicrosecondType>, bool),
    Text(StringArray),
    /// Numbers that only their text holds exactly.
    Number(StringArray),
    /// Of a type that is no cell.
    Other,
}

impl Reader {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(Self { source: Arc::clone(array), values: Values::new(array)? })
    }

    #[inline]
    fn cell(&self, row: usize) -> Cell<'_> {
        match self.values.cell(row) {
            // A value that its cast could not hold is no nothing.
            Cell::Null if self.source.is_valid(row) => Cell::Foreign,
            cell => cell,
        }
    }
}

impl Values {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        // What can't be cast is null then, and found by that.
        let options = CastOptions { safe: true, ..CastOptions::default() };
        let cast = |to: &DataType| cast_with_options(array, to, &options);
        Ok(match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Int(cast(&DataType::Int64)?.as_primitive().clone())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => {
                Self::Int(cast(&DataType::Int64)?.as_primitive().clone())
            }
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::Number(cast(&DataType::Utf8)?.as_string::<i32>().clone()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                Self::Float(cast(&DataType::Float64)?.as_primitive().clone())
            }
            DataType::Date32 | DataType::Date64 => Self::Date(cast(&DataType::Date32)?.as_primitive().clone()),
            DataType::Timestamp(_, zone) => {
                let micros = cast(&DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
                Self::Stamp(micros.as_primitive().clone(), zone.is_some())
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::LargeUtf8 | DataType::Utf8View => Self::Text(cast(&DataType::Utf8)?.as_string::<i32>().clone()),
            DataType::Dictionary(_, value) => Self::new(&cast(value)?)?,
            _ => Self::Other,
        })
    }

    #[inline]
    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Bool(array) if array.is_valid(row) => Cell::Bool(array.value(row)),
            Self::Int(array) if array.is_valid(row) => Cell::Int(array.value(row)),
            Self::Float(array) if array.is_valid(row) => Cell::Float(array.value(row)),
            Self::Date(array) if array.is_valid(row) => Cell::Date(array.value(row)),
            Self::Stamp(array, zoned) if array.is_valid(row) => Cell::Stamp(array.value(row), *zoned),
            Self::Text(array) if array.is_valid(row) => Cell::Text(array.value(row)),
            Self::Number(array) if array.is_valid(row) => Cell::Number(array.value(row)),
            _ => Cell::Null,
        }
    }
}
