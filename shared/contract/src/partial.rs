//! Metrics of some of the rows: as bytes, for another machine to add up; by day as well; as sums that keep adding up.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, FixedSizeBinaryArray, RecordBatch, UInt32Array};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use sha2::{Digest, Sha256};

use crate::metrics::{key_of, sum_type, widest};
use crate::plan::{Aggregation, Metric, Metrics};
use crate::tally::{MetricsError, Tally, column_of};
use crate::{Column, Contract, Measured, Type};

/// The groups' values, and the places of their tallies.
type Ordered = (Vec<ArrayRef>, Vec<usize>);

/// The column of tallies behind the groups' values, where metrics are bytes.
const TALLIES: &str = "_tallies";

impl Contract {
    /// The same contract, measured by its first partition of days as well: what is loaded into a warehouse day by day.
    /// Without such a partition it is as it was.
    pub fn by_day(&self) -> Self {
        let day = self.partition_by.iter().copied().find(|place| self.kind_at(*place) == Some(Type::Date));
        let mut daily = self.clone();
        if let (Some(metrics), Some(day)) = (&mut daily.metrics, day)
            && !metrics.group_by.contains(&day)
        {
            metrics.group_by.insert(0, day);
        }
        daily
    }

    fn kind_at(&self, place: usize) -> Option<Type> {
        self.columns().nth(place).map(|column| column.kind)
    }

    /// The columns that the metrics are grouped by.
    pub fn metric_keys(&self) -> Vec<Column<'_>> {
        let places = self.metrics.iter().flat_map(|metrics| &metrics.group_by);
        places.filter_map(|place| self.columns().nth(*place)).collect()
    }

    /// The columns of [`Measured::sums`], as `(name, type)`.
    pub fn sums_columns(&self) -> Vec<(String, Type)> {
        let keys = self.metric_keys().into_iter().map(|key| (key.name.to_owned(), key.kind));
        keys.chain(self.sums().into_iter().map(|sum| (sum.field.name().clone(), sum.kind))).collect()
    }

    /// Names the columns of [`Measured::sums`], in eight characters: Redshift takes Parquet's columns by position, so files of another
    /// contract must be known by their names.
    pub fn sums_shape(&self) -> String {
        let columns = format!("{:?}", self.sums_columns());
        hex::encode(Sha256::digest(columns)).chars().take(8).collect()
    }

    /// The columns of [`Measured::sums`].
    pub fn sums_schema(&self) -> SchemaRef {
        let keys = self.metric_keys();
        let keys = keys.iter().map(|key| Field::new(key.name, key.kind.to_arrow(), key.nullable));
        let fields: Vec<Field> = keys.chain(self.sums().into_iter().map(|sum| sum.field)).collect();
        Arc::new(Schema::new(fields))
    }

    /// The metrics, by name, and how each is made from the columns of [`Contract::sums_schema`].
    pub fn from_sums(&self) -> Vec<(String, FromSums)> {
        let made = |metric: &Metric| match metric.how {
            Aggregation::Count => FromSums::Total(metric.name.to_string()),
            Aggregation::Sum(place) => FromSums::Total(sum_of(self.name_at(place))),
            Aggregation::Avg(place) => FromSums::Mean(sum_of(self.name_at(place)), count_of(self.name_at(place))),
            Aggregation::Min(_) => FromSums::Least(metric.name.to_string()),
            Aggregation::Max(_) => FromSums::Greatest(metric.name.to_string()),
        };
        self.metrics
            .iter()
            .flat_map(|metrics| &metrics.columns)
            .map(|metric| (metric.name.to_string(), made(metric)))
            .collect()
    }

    fn name_at(&self, place: usize) -> &str {
        self.columns().nth(place).map_or("", |column| column.name)
    }

    /// What of the metrics adds up: a mean is kept as its sum and its count.
    fn sums(&self) -> Vec<Sum> {
        let mut sums: Vec<Sum> = Vec::new();
        let mut add = |name: String, kind: Type, nullable: bool, metric: usize, how: Aggregation| {
            if sums.iter().all(|sum| sum.field.name() != &name) {
                sums.push(Sum { field: Field::new(name, kind.to_arrow(), nullable), kind, metric, how });
            }
        };
        let metrics = self.metrics.iter().flat_map(|metrics| metrics.columns.iter().enumerate());
        for (index, metric) in metrics {
            let of = |place| {
                let column = self.columns().nth(place);
                column.map_or((String::new(), Type::Int64), |column| (column.name.to_owned(), column.kind))
            };
            match metric.how {
                Aggregation::Count => add(metric.name.to_string(), Type::Int64, false, index, Aggregation::Count),
                Aggregation::Sum(place) | Aggregation::Avg(place) => {
                    let (name, kind) = of(place);
                    add(sum_of(&name), sum_type(kind), true, index, Aggregation::Sum(place));
                    add(count_of(&name), Type::Int64, false, index, Aggregation::Count);
                }
                how @ (Aggregation::Min(place) | Aggregation::Max(place)) => {
                    add(metric.name.to_string(), widest(of(place).1), true, index, how);
                }
            }
        }
        sums
    }
}

fn sum_of(column: &str) -> String {
    format!("sum_{column}")
}

fn count_of(column: &str) -> String {
    format!("count_{column}")
}

/// How a metric is made again from any number of rows of sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromSums {
    /// The sum of this column.
    Total(String),
    /// The sum of the first column, by that of the second.
    Mean(String, String),
    /// The least of this column.
    Least(String),
    /// The greatest.
    Greatest(String),
}

/// A column of sums, made from the tallies of a metric.
struct Sum {
    field: Field,
    kind: Type,
    metric: usize,
    how: Aggregation,
}

impl Measured {
    /// The metrics as sums and counts, from which those of any larger set of rows can be made: a row a group, in the order of
    /// the groups' values.
    ///
    /// # Errors
    /// As [`Measured::finish`].
    pub fn sums(&self, contract: &Contract) -> Result<RecordBatch, MetricsError> {
        let schema = contract.sums_schema();
        let Some((mut arrays, groups)) = self.in_order()? else { return Ok(RecordBatch::new_empty(schema)) };
        for sum in contract.sums() {
            let tallies = groups.iter().filter_map(|group| self.tallies.get(*group)?.get(sum.metric));
            arrays.push(column_of(tallies, sum.how, 1.0, &sum.field)?);
        }
        Ok(RecordBatch::try_new(schema, arrays)?)
    }

    /// What was measured by `fine`, by fewer columns: those that `coarse` groups by, all of which `fine` does, too.
    ///
    /// # Errors
    /// Arrow's, for a defect of ours.
    pub fn regroup(&self, fine: &Contract, coarse: &Contract) -> Result<Self, ArrowError> {
        let places = places_of(fine, coarse);
        let mut regrouped = Self::new();
        let Some((arrays, groups)) = self.in_order()? else { return Ok(regrouped) };
        let kept: Vec<ArrayRef> = places.iter().filter_map(|place| arrays.get(*place).cloned()).collect();
        let mut fresh = Vec::new();
        for (row, group) in groups.iter().enumerate() {
            let Some(tallies) = self.tallies.get(*group) else { continue };
            let mut key = Vec::new();
            kept.iter().for_each(|array| key_of(array, row, &mut key));
            let count = regrouped.tallies.len();
            let at = *regrouped.groups.entry(key).or_insert(count);
            if at == count {
                regrouped.tallies.push(vec![Tally::EMPTY; tallies.len()]);
                fresh.push(row as u32);
            }
            let ours = regrouped.tallies.get_mut(at).into_iter().flatten();
            ours.zip(tallies).for_each(|(tally, other)| tally.merge(other));
        }
        let rows = RecordBatch::try_new(keys_schema(coarse), kept)?;
        regrouped.keys.push(take_record_batch(&rows, &UInt32Array::from(fresh))?);
        Ok(regrouped)
    }

    /// As bytes, in `parts` parts (at least one). A group is in the part of its number wherever it was measured, as far as
    /// `coarse` tells groups apart: parts with one number can be merged and [regrouped](Measured::regroup) by themselves.
    ///
    /// # Errors
    /// Arrow's, for a defect of ours.
    pub fn to_parts(&self, fine: &Contract, coarse: &Contract, parts: usize) -> Result<Vec<Vec<u8>>, ArrowError> {
        let places = places_of(fine, coarse);
        let mut rows = vec![Vec::new(); parts.max(1)];
        let Some((arrays, groups)) = self.in_order()? else { return Ok(vec![Vec::new(); parts.max(1)]) };
        let mut key = Vec::new();
        for row in 0..groups.len() {
            key.clear();
            places.iter().filter_map(|place| arrays.get(*place)).for_each(|array| key_of(array, row, &mut key));
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            let part = (hasher.finish() % rows.len() as u64) as usize;
            rows.get_mut(part).into_iter().for_each(|part| part.push(row as u32));
        }
        let width = groups.first().and_then(|group| self.tallies.get(*group)).map_or(0, |all| all.len() * Tally::BYTES);
        let tallies = groups.iter().filter_map(|group| self.tallies.get(*group));
        let tallies = tallies.map(|all| all.iter().copied().flat_map(Tally::to_bytes).collect::<Vec<u8>>());
        let tallies: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter(tallies)?);
        let mut fields: Vec<Arc<Field>> = keys_schema(fine).fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(TALLIES, DataType::FixedSizeBinary(width as i32), false)));
        let schema = Arc::new(Schema::new(fields));
        let all = RecordBatch::try_new(Arc::clone(&schema), arrays.into_iter().chain([tallies]).collect())?;
        let write = |rows: Vec<u32>| {
            let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
            writer.write(&take_record_batch(&all, &UInt32Array::from(rows))?)?;
            writer.into_inner()
        };
        rows.into_iter().map(|rows| if rows.is_empty() { Ok(Vec::new()) } else { write(rows) }).collect()
    }

    /// Adds what [`Measured::to_parts`] gave; empty bytes are nothing.
    ///
    /// # Errors
    /// Bytes that are something else.
    pub fn add_part(&mut self, bytes: &[u8]) -> Result<(), ArrowError> {
        if bytes.is_empty() {
            return Ok(());
        }
        for batch in StreamReader::try_new(bytes, None)? {
            let batch = batch?;
            let not_ours = || ArrowError::IpcError("these are no metrics".to_owned());
            let tallies = batch.column_by_name(TALLIES).and_then(|array| array.as_fixed_size_binary_opt());
            let tallies = tallies.ok_or_else(not_ours)?;
            let keys = batch.project(&(0..batch.num_columns() - 1).collect::<Vec<_>>())?;
            let mut part = Self { groups: HashMap::new(), keys: vec![keys.clone()], tallies: Vec::new() };
            for row in 0..batch.num_rows() {
                let mut key = Vec::new();
                keys.columns().iter().for_each(|array| key_of(array, row, &mut key));
                part.groups.insert(key, row);
                let read = tallies.value(row).chunks(Tally::BYTES).map(Tally::from_bytes);
                part.tallies.push(read.collect::<Option<_>>().ok_or_else(not_ours)?);
            }
            self.merge(part)?;
        }
        Ok(())
    }

    /// The groups' values and the places of their tallies, in the order of the values; `None` where there is no group.
    pub(crate) fn in_order(&self) -> Result<Option<Ordered>, ArrowError> {
        let Some(first) = self.keys.first() else { return Ok(None) };
        // The keys were taken in the order of the groups.
        let keys = concat_batches(&first.schema(), &self.keys)?;
        let mut order: Vec<(&Vec<u8>, usize)> = self.groups.iter().map(|(key, group)| (key, *group)).collect();
        order.sort_unstable();
        let groups: Vec<usize> = order.into_iter().map(|(_, group)| group).collect();
        let rows = UInt32Array::from_iter_values(groups.iter().map(|group| *group as u32));
        Ok(Some((take_record_batch(&keys, &rows)?.columns().to_vec(), groups)))
    }
}

fn group_by(contract: &Contract) -> &[usize] {
    contract.metrics.as_ref().map_or(&[], |Metrics { group_by, .. }| group_by.as_slice())
}

/// Where the columns that `coarse` groups by are among those of `fine`.
fn places_of(fine: &Contract, coarse: &Contract) -> Vec<usize> {
    group_by(coarse).iter().filter_map(|of| group_by(fine).iter().position(|other| other == of)).collect()
}

fn keys_schema(contract: &Contract) -> SchemaRef {
    let metrics = contract.metrics_schema();
    let keys = metrics.fields().iter().take(group_by(contract).len()).cloned();
    Arc::new(Schema::new(keys.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Audience, Cleaner, contract};

    fn measured(contract: &Contract, rows: impl Iterator<Item = usize>) -> Measured {
        let mut cleaner = Cleaner::new(contract, Audience::Tables, 0);
        for n in rows {
            let (day, page) = (n % 3 + 1, n % 7);
            let row = format!(
                r#"{{"event_timestamp":"2024-01-0{day}T00:00:00Z","session_id":"s","page_url":"/p{page}","TTI":{n},"TTAR":1}}"#
            );
            cleaner.push_json(row.as_bytes());
        }
        let mut measured = Measured::new();
        measured.add(contract, &cleaner.take().unwrap()).unwrap();
        measured
    }

    #[test]
    fn what_several_machines_measured_adds_up_to_what_one_would_have() {
        let coarse = contract("page_logs").unwrap();
        let fine = coarse.by_day();
        let whole = measured(&coarse, 0..1_000).finish(&coarse).unwrap();
        let machines: Vec<_> =
            (0..3).map(|m| measured(&fine, (m..1_000).step_by(3)).to_parts(&fine, &coarse, 4).unwrap()).collect();
        let (mut rows, mut days) = (Vec::new(), 0);
        for bucket in 0..4 {
            let mut sum = Measured::new();
            machines.iter().for_each(|parts| sum.add_part(&parts[bucket]).unwrap());
            days += sum.sums(&fine).unwrap().num_rows();
            rows.push(sum.regroup(&fine, &coarse).unwrap().finish(&coarse).unwrap());
        }
        assert_eq!(days, 21, "seven pages on three days, each in one bucket");
        let all = concat_batches(&whole.schema(), &rows).unwrap();
        let mut of: Vec<String> = (0..all.num_rows()).map(|row| format!("{:?}", all.slice(row, 1))).collect();
        let mut one: Vec<String> = (0..whole.num_rows()).map(|row| format!("{:?}", whole.slice(row, 1))).collect();
        of.sort();
        one.sort();
        assert_eq!(of, one);
    }

    #[test]
    fn sums_keep_what_means_are_made_of() {
        let fine = contract("page_logs").unwrap().by_day();
        let sums = measured(&fine, 0..9).sums(&fine).unwrap();
        let names: Vec<_> = sums.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        let expected = ["event_date", "page_url", "sum_tti", "count_tti", "sum_ttar", "count_ttar", "event_count"]
            .map(str::to_owned);
        assert_eq!(names, expected);
        assert_eq!(Measured::new().sums(&fine).unwrap().num_rows(), 0);
    }

    #[test]
    fn bytes_that_are_no_metrics_are_refused() {
        assert!(Measured::new().add_part(b"not these").is_err());
        assert!(Measured::new().add_part(b"").is_ok());
    }
}
