//! A contract's metrics over clean rows: grouped counts, sums, means, least and greatest values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use crate::plan::{Aggregation, Metrics};
use crate::tally::{MetricsError, Number, Tally, column_of};
use crate::{Contract, Type};

/// Metrics so far. Those of parts of the rows add up ([`Measured::merge`]) to those of all.
pub struct Measured {
    pub(crate) groups: HashMap<Vec<u8>, usize>,
    /// One row a group: the values it is grouped by.
    pub(crate) keys: Vec<RecordBatch>,
    pub(crate) tallies: Vec<Vec<Tally>>,
}

impl Contract {
    /// Whether there are metrics.
    pub fn has_metrics(&self) -> bool {
        self.metrics.is_some()
    }

    /// The columns of the metrics: what they are grouped by, then the measures.
    pub fn metrics_schema(&self) -> SchemaRef {
        let empty = Metrics { group_by: Vec::new(), columns: Vec::new() };
        let metrics = self.metrics.as_ref().unwrap_or(&empty);
        let columns: Vec<_> = self.columns().collect();
        let keys = self.metric_keys().into_iter();
        let keys = keys.map(|column| Field::new(column.name, column.kind.to_arrow(), column.nullable));
        let kind_of = |place: usize| columns.get(place).map_or(Type::Int64, |column| column.kind);
        let measures = metrics.columns.iter().map(|metric| {
            let (kind, nullable) = match metric.how {
                Aggregation::Count => (Type::Int64, false),
                Aggregation::Avg(_) => (Type::Float64, true),
                Aggregation::Sum(of) => (sum_type(kind_of(of)), true),
                Aggregation::Min(of) | Aggregation::Max(of) => (widest(kind_of(of)), true),
            };
            Field::new(metric.name.as_ref(), kind.to_arrow(), nullable)
        });
        Arc::new(Schema::new(keys.chain(measures).collect::<Vec<_>>()))
    }
}

pub(crate) fn sum_type(kind: Type) -> Type {
    match kind {
        Type::Decimal { scale, .. } => Type::Decimal { precision: 18, scale },
        other => widest(other),
    }
}

pub(crate) fn widest(kind: Type) -> Type {
    if kind == Type::Int32 { Type::Int64 } else { kind }
}

/// A column's values as numbers.
#[expect(missing_docs)] // Arrow's own
pub enum Numbers<'a> {
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float(&'a [f64]),
    Decimal(&'a [i128]),
}

impl<'a> Numbers<'a> {
    /// Those of a column of this type; `None` where they are none.
    pub fn of(array: &'a ArrayRef, kind: Type) -> Option<Self> {
        Some(match kind {
            Type::Int32 => Self::Int32(array.as_primitive_opt::<Int32Type>()?.values()),
            Type::Date => Self::Int32(array.as_primitive_opt::<Date32Type>()?.values()),
            Type::Int64 => Self::Int64(array.as_primitive_opt::<Int64Type>()?.values()),
            Type::Timestamp => Self::Int64(array.as_primitive_opt::<TimestampMicrosecondType>()?.values()),
            Type::Float64 => Self::Float(array.as_primitive_opt::<Float64Type>()?.values()),
            Type::Decimal { .. } => Self::Decimal(array.as_primitive_opt::<Decimal128Type>()?.values()),
            Type::Bool | Type::String => return None,
        })
    }

    /// A row's, whatever it is where there is none.
    pub fn at(&self, row: usize) -> Number {
        match self {
            Self::Int32(values) => values.get(row).map_or(Number::None, |value| Number::Int((*value).into())),
            Self::Int64(values) => values.get(row).map_or(Number::None, |value| Number::Int(*value)),
            Self::Float(values) => values.get(row).map_or(Number::None, |value| Number::Float(*value)),
            // At most 18 digits.
            Self::Decimal(values) => values.get(row).map_or(Number::None, |value| Number::Int(*value as i64)),
        }
    }
}

impl Measured {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { groups: HashMap::new(), keys: Vec::new(), tallies: Vec::new() }
    }

    /// Adds clean rows.
    ///
    /// # Errors
    /// Arrow's, for a defect of ours.
    pub fn add(&mut self, contract: &Contract, batch: &RecordBatch) -> Result<(), ArrowError> {
        let Some(metrics) = &contract.metrics else { return Ok(()) };
        let kinds: Vec<Type> = contract.columns().map(|column| column.kind).collect();
        let place_of = |how| match how {
            Aggregation::Count => None,
            Aggregation::Sum(of) | Aggregation::Avg(of) | Aggregation::Min(of) | Aggregation::Max(of) => Some(of),
        };
        let inputs: Vec<Option<(&ArrayRef, Numbers<'_>)>> = metrics
            .columns
            .iter()
            .map(|metric| {
                let of = place_of(metric.how)?;
                let array = batch.columns().get(of)?;
                Some((array, Numbers::of(array, *kinds.get(of)?)?))
            })
            .collect();
        let group_arrays: Vec<&ArrayRef> = metrics.group_by.iter().filter_map(|of| batch.columns().get(*of)).collect();
        let (mut key, mut fresh) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            key.clear();
            for array in &group_arrays {
                key_of(array, row, &mut key);
            }
            let group = match self.groups.get(&key) {
                Some(group) => *group,
                None => {
                    let group = self.tallies.len();
                    self.groups.insert(key.clone(), group);
                    self.tallies.push(vec![Tally::EMPTY; metrics.columns.len()]);
                    fresh.push(row as u32);
                    group
                }
            };
            let Some(tallies) = self.tallies.get_mut(group) else { continue };
            for (tally, input) in tallies.iter_mut().zip(&inputs) {
                match input {
                    None => tally.count += 1,
                    Some((array, numbers)) if array.is_valid(row) => tally.add(numbers.at(row)),
                    Some(_) => {}
                }
            }
        }
        if !fresh.is_empty() {
            let rows = take_record_batch(&batch.project(&metrics.group_by)?, &UInt32Array::from(fresh))?;
            self.keys.push(rows);
        }
        Ok(())
    }

    /// Adds what was measured elsewhere of the same contract.
    ///
    /// # Errors
    /// Arrow's, for a defect of ours.
    pub fn merge(&mut self, other: Self) -> Result<(), ArrowError> {
        let Some(schema) = other.keys.first().map(RecordBatch::schema) else { return Ok(()) };
        let keys = concat_batches(&schema, &other.keys)?;
        let mut groups: Vec<(Vec<u8>, usize)> = other.groups.into_iter().collect();
        groups.sort_unstable_by_key(|(_, group)| *group);
        let mut fresh = Vec::new();
        for ((key, theirs), tallies) in groups.into_iter().zip(&other.tallies) {
            let group = match self.groups.get(&key) {
                Some(group) => *group,
                None => {
                    let group = self.tallies.len();
                    self.groups.insert(key, group);
                    self.tallies.push(vec![Tally::EMPTY; tallies.len()]);
                    fresh.push(theirs as u32);
                    group
                }
            };
            let Some(ours) = self.tallies.get_mut(group) else { continue };
            for (tally, other) in ours.iter_mut().zip(tallies) {
                tally.merge(other);
            }
        }
        if !fresh.is_empty() {
            self.keys.push(take_record_batch(&keys, &UInt32Array::from(fresh))?);
        }
        Ok(())
    }

    /// How many groups there are.
    pub fn groups(&self) -> usize {
        self.tallies.len()
    }

    /// The metrics, a row a group, in the order of the groups' values.
    ///
    /// # Errors
    /// A sum that is too large, or Arrow's for a defect of ours.
    pub fn finish(self, contract: &Contract) -> Result<RecordBatch, MetricsError> {
        let schema = contract.metrics_schema();
        let (Some(metrics), Some((mut arrays, groups))) = (&contract.metrics, self.in_order()?) else {
            return Ok(RecordBatch::new_empty(schema));
        };
        let measures = schema.fields().iter().skip(arrays.len());
        for (index, (metric, field)) in metrics.columns.iter().zip(measures).enumerate() {
            let tallies = groups.iter().filter_map(|group| self.tallies.get(*group)?.get(index));
            arrays.push(column_of(tallies, metric.how, unit_of(contract, metric.how), field)?);
        }
        Ok(RecordBatch::try_new(schema, arrays)?)
    }
}

impl Default for Measured {
    fn default() -> Self {
        Self::new()
    }
}

/// What whole numbers of a metric's column are counted in: one, or a decimal's last place.
fn unit_of(contract: &Contract, how: Aggregation) -> f64 {
    match how {
        Aggregation::Avg(of) => match contract.columns().nth(of).map(|column| column.kind) {
            Some(Type::Decimal { scale, .. }) => 10f64.powi(scale.into()),
            _ => 1.0,
        },
        _ => 1.0,
    }
}

/// Bytes that order as the values do; null before all.
pub fn key_of(array: &ArrayRef, row: usize, key: &mut Vec<u8>) {
    if array.is_null(row) {
        return key.push(0);
    }
    key.push(1);
    let ordered = |number: i64| ((number as u64) ^ (1 << 63)).to_be_bytes();
    if let Some(array) = array.as_string_opt::<i32>() {
        // A zero byte inside is told from the end by what follows it.
        for part in array.value(row).as_bytes().split_inclusive(|byte| *byte == 0) {
            key.extend_from_slice(part);
            if part.ends_with(&[0]) {
                key.push(255);
            }
        }
        key.extend([0, 1]);
    } else if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        key.extend(ordered(array.value(row)));
    } else if let Some(array) = array.as_primitive_opt::<Int32Type>() {
        key.extend(ordered(array.value(row).into()));
    } else if let Some(array) = array.as_primitive_opt::<Date32Type>() {
        key.extend(ordered(array.value(row).into()));
    } else if let Some(array) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        key.extend(ordered(array.value(row)));
    } else if let Some(array) = array.as_primitive_opt::<Decimal128Type>() {
        key.extend(ordered(array.value(row) as i64));
    } else if let Some(array) = array.as_primitive_opt::<Float64Type>() {
        let bits = array.value(row).to_bits();
        key.extend((if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) }).to_be_bytes());
    } else if let Some(array) = array.as_boolean_opt() {
        key.push(array.value(row).into());
    }
}
