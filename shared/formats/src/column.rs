//! Columns being built, one value at a time.
//!
//! A value that is not of its column's kind is refused ([`Mismatch`]) and never turned into a null.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray, new_null_array};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};

use crate::value::{self, trim};
use crate::{Columns, Kind};

/// A value is not of the kind that its column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// A column being built.
pub(crate) enum Column {
    /// Nulls only: of a kind that a text source can't fill.
    Empty {
        data_type: DataType,
        rows: usize,
    },
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Date(Date32Builder),
    Stamp {
        builder: TimestampMicrosecondBuilder,
        utc: bool,
    },
    Text(StringBuilder),
    List {
        item: Box<Column>,
        offsets: Vec<i32>,
        valid: NullBufferBuilder,
    },
    Struct(Members),
}

/// The members of an object being built, and of a row.
pub(crate) struct Members {
    pub(crate) columns: Vec<(String, Column)>,
    valid: NullBufferBuilder,
    /// The row (counted from 1) in which each column was last set: finds the missing and the duplicate.
    set_in: Vec<usize>,
    rows: usize,
}

impl Column {
    pub(crate) fn new(kind: &Kind, rows: usize) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Int | Kind::BigInt => Self::Int(Int64Builder::with_capacity(rows)),
            Kind::Float => Self::Float(Float64Builder::with_capacity(rows)),
            Kind::Date => Self::Date(Date32Builder::with_capacity(rows)),
            Kind::Stamp => Self::Stamp { builder: TimestampMicrosecondBuilder::with_capacity(rows), utc: false },
            Kind::StampUtc => Self::Stamp { builder: TimestampMicrosecondBuilder::with_capacity(rows), utc: true },
            Kind::Text => Self::Text(StringBuilder::with_capacity(rows, rows * 12)),
            Kind::List(item) => Self::List {
                item: Box::new(Self::new(item, rows)),
                offsets: vec![0],
                valid: NullBufferBuilder::new(rows),
            },
            Kind::Struct(members) if !members.is_empty() => Self::Struct(Members::new(members, rows)),
            // Objects without members: kept as the text `{}`.
            Kind::Struct(_) => Self::new(&Kind::Text, rows),
            Kind::Null | Kind::Exact(_) => Self::Empty { data_type: kind.to_arrow(), rows: 0 },
        }
    }

    pub(crate) fn push_null(&mut self) {
        match self {
            Self::Empty { rows, .. } => *rows += 1,
            Self::Bool(builder) => builder.append_null(),
            Self::Int(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Stamp { builder, .. } => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::List { item, offsets, valid } => {
                offsets.push(item.rows() as i32);
                valid.append_null();
            }
            Self::Struct(members) => members.push_null(),
        }
    }

    /// A cell of delimited text: a place in a text. Nothing is null; two quotes with nothing between them are an empty text in a column of
    /// text, and null in any other.
    #[inline]
    pub(crate) fn push_cell(&mut self, text: &str, place: Range<usize>, quoted: bool) -> Result<(), Mismatch> {
        if place.is_empty() {
            match self {
                Self::Text(builder) if quoted => builder.append_value(""),
                _ => self.push_null(),
            }
            return Ok(());
        }
        let bytes = text.as_bytes().get(place.clone()).ok_or(Mismatch)?;
        match self {
            Self::Text(builder) => builder.append_value(text.get(place).ok_or(Mismatch)?),
            Self::Int(builder) => match value::int(bytes).or_else(|| value::int(trim(bytes))) {
                Some(value) => builder.append_value(value),
                None => return Err(Mismatch),
            },
            Self::Float(builder) => builder.append_value(value::float(trim(bytes)).ok_or(Mismatch)?),
            Self::Bool(builder) => builder.append_value(value::boolean(trim(bytes)).ok_or(Mismatch)?),
            Self::Date(_) | Self::Stamp { .. } => return self.push_time(trim(bytes)),
            Self::Empty { .. } | Self::List { .. } | Self::Struct(_) => return Err(Mismatch),
        }
        Ok(())
    }

    /// Text into a column of dates or points in time.
    pub(crate) fn push_time(&mut self, text: &[u8]) -> Result<(), Mismatch> {
        match self {
            Self::Date(builder) => builder.append_value(value::date(text).ok_or(Mismatch)?),
            Self::Stamp { builder, utc } => match value::stamp(text) {
                Some((micros, zoned)) if zoned == *utc => builder.append_value(micros),
                _ => return Err(Mismatch),
            },
            _ => return Err(Mismatch),
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        use arrow_array::builder::ArrayBuilder;
        match self {
            Self::Empty { rows, .. } => *rows,
            Self::Bool(builder) => builder.len(),
            Self::Int(builder) => builder.len(),
            Self::Float(builder) => builder.len(),
            Self::Date(builder) => builder.len(),
            Self::Stamp { builder, .. } => builder.len(),
            Self::Text(builder) => builder.len(),
            Self::List { offsets, .. } => offsets.len() - 1,
            Self::Struct(members) => members.rows,
        }
    }

    /// Ends a list that has just been filled.
    pub(crate) fn end_list(&mut self) {
        if let Self::List { item, offsets, valid } = self {
            offsets.push(item.rows() as i32);
            valid.append_non_null();
        }
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Empty { data_type, rows } => new_null_array(&data_type, rows),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Float(mut builder) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Stamp { mut builder, utc: false } => Arc::new(builder.finish()),
            Self::Stamp { mut builder, utc: true } => Arc::new(builder.finish().with_timezone("UTC")),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::List { item, offsets, mut valid } => {
                let values = item.finish()?;
                let field = Arc::new(Field::new("item", values.data_type().clone(), true));
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(field, offsets, values, valid.finish())?)
            }
            Self::Struct(members) => {
                let Members { columns, mut valid, .. } = members;
                let mut fields = Vec::with_capacity(columns.len());
                let mut arrays = Vec::with_capacity(columns.len());
                for (name, column) in columns {
                    let array = column.finish()?;
                    fields.push(Field::new(name, array.data_type().clone(), true));
                    arrays.push(array);
                }
                Arc::new(StructArray::try_new(fields.into(), arrays, valid.finish())?)
            }
        })
    }
}

/// What is wrong with an object as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// A member no column is there for.
    Unknown,
    /// The same member twice.
    Duplicate,
}

impl Members {
    pub(crate) fn new(columns: &[(String, Kind)], rows: usize) -> Self {
        Self {
            columns: columns.iter().map(|(name, kind)| (name.clone(), Column::new(kind, rows))).collect(),
            valid: NullBufferBuilder::new(rows),
            set_in: vec![0; columns.len()],
            rows: 0,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The column for a member of the row being built. `hint` is where members in the usual order will be.
    #[inline]
    pub(crate) fn enter(&mut self, name: &str, hint: usize) -> Result<(usize, &mut Column), Misfit> {
        let here =
            |index: usize, columns: &[(String, Column)]| columns.get(index).is_some_and(|(known, _)| known == name);
        let index = if here(hint, &self.columns) { hint } else { self.place(name).ok_or(Misfit::Unknown)? };
        match (self.set_in.get_mut(index), self.columns.get_mut(index)) {
            (Some(set_in), Some((_, column))) => {
                if *set_in == self.rows + 1 {
                    return Err(Misfit::Duplicate);
                }
                *set_in = self.rows + 1;
                Ok((index, column))
            }
            _ => Err(Misfit::Unknown),
        }
    }

    /// Where a member's column is.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(known, _)| known == name)
    }

    /// The column at a known place, for the row being built. The caller enters each place once a row.
    #[inline]
    pub(crate) fn enter_at(&mut self, place: usize) -> Option<&mut Column> {
        *self.set_in.get_mut(place)? = self.rows + 1;
        self.columns.get_mut(place).map(|(_, column)| column)
    }

    /// The columns so far, for tests that compare them.
    #[cfg(test)]
    pub(crate) fn finish(self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns.into_iter().map(|(_, column)| column.finish()).collect()
    }

    /// Ends the row; members that were not set are null.
    #[inline]
    pub(crate) fn end_row(&mut self) {
        self.rows += 1;
        for (set_in, (_, column)) in self.set_in.iter_mut().zip(&mut self.columns) {
            if *set_in != self.rows {
                column.push_null();
            }
        }
        self.valid.append_non_null();
    }

    fn push_null(&mut self) {
        self.rows += 1;
        for (_, column) in &mut self.columns {
            column.push_null();
        }
        self.valid.append_null();
    }
}

/// Rows being built, cut into batches of bounded size.
pub(crate) struct Rows {
    columns: Columns,
    schema: SchemaRef,
    pub(crate) members: Members,
}

/// Rows in a batch: enough to make columns worth it, little enough to stay in cache.
pub(crate) const BATCH_ROWS: usize = 16_384;

impl Rows {
    pub(crate) fn new(columns: &Columns, schema: &SchemaRef, rows: usize) -> Self {
        Self { columns: columns.clone(), schema: Arc::clone(schema), members: Members::new(&columns.0, rows) }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.members.rows >= BATCH_ROWS
    }

    /// The rows so far as a batch, and an empty start.
    pub(crate) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = self.members.rows;
        let members = std::mem::replace(&mut self.members, Members::new(&self.columns.0, rows.max(16)));
        let arrays = members.columns.into_iter().map(|(_, column)| column.finish()).collect::<Result<Vec<_>, _>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}
