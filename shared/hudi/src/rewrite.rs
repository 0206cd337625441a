//! A file group's new slice: the old one's rows, but for those that are replaced or gone, and those that come behind.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use weir_delivery::Failure;

use crate::base::{Encoder, decode, meta_index, repeated};
use crate::plan::Group;
use crate::schema::with_meta;
use crate::timeline::Instant;

/// All that the new slices of a commit have in common.
pub(crate) struct Commission {
    pub(crate) table: String,
    pub(crate) instant: Instant,
    /// The table's columns from this commit on.
    pub(crate) schema: SchemaRef,
    /// The changes' rows, in these columns.
    pub(crate) rows: RecordBatch,
    /// Their keys.
    pub(crate) keys: Vec<String>,
    /// Columns whose values hardly repeat.
    pub(crate) unique: Vec<String>,
}

/// What becomes of one group.
pub(crate) struct Task {
    /// Which of the commit's groups it is.
    pub(crate) number: usize,
    pub(crate) group: Group,
    pub(crate) partition: String,
    pub(crate) file_name: String,
    /// The slice before, and what it is called.
    pub(crate) old: Option<(Bytes, String)>,
}

/// A slice that is written.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) bytes: Bytes,
    pub(crate) rows: u64,
    pub(crate) deleted: u64,
    pub(crate) updated: u64,
    pub(crate) inserted: u64,
}

fn broken(error: arrow_schema::ArrowError) -> Failure {
    Failure::internal("HudiRows", error.to_string())
}

/// Writes it. It is work for a thread that may block.
///
/// # Errors
/// `HudiFile`: the slice before can't be read.
pub(crate) fn rewrite(commission: &Commission, task: Task) -> Result<Slice, Failure> {
    let Task { group, old, .. } = &task;
    let mut encoder = Encoder::new(&commission.schema, &commission.table, &commission.unique)?;
    let updates = group.replace.values().filter_map(|by| *by);
    let fresh = task.rows_of(commission, updates.chain(group.append.iter().copied()).collect())?;
    let mut replaced = group.replace.iter().peekable();
    let (mut from, mut updated) = (0, 0);
    if let Some((bytes, name)) = old {
        for rows in decode(bytes.clone(), name, with_meta(&commission.schema))? {
            let rows = rows?;
            let to = from + rows.num_rows();
            let mut picks: Vec<(usize, usize)> = Vec::with_capacity(rows.num_rows());
            let mut touched = false;
            for row in from..to {
                match replaced.next_if(|(at, _)| **at == row) {
                    None => picks.push((0, row - from)),
                    Some((_, by)) => {
                        touched = true;
                        if by.is_some() {
                            picks.push((1, updated));
                            updated += 1;
                        }
                    }
                }
            }
            let rows = if touched { interleave_record_batch(&[&rows, &fresh], &picks).map_err(broken)? } else { rows };
            encoder.push(&task.named(rows)?)?;
            from = to;
        }
    }
    if replaced.next().is_some() {
        return Err(Failure::internal(
            "HudiRows",
            format!("{} has fewer rows than when its keys were read", task.file_name),
        ));
    }
    encoder.push(&fresh.slice(updated, fresh.num_rows() - updated))?;
    let (rows, updated) = (encoder.rows(), updated as u64);
    let deleted = group.replace.len() as u64 - updated;
    Ok(Slice { bytes: encoder.finish()?, rows, deleted, updated, inserted: group.append.len() as u64 })
}

impl Task {
    /// These changes as rows of the slice.
    fn rows_of(&self, commission: &Commission, changes: Vec<usize>) -> Result<RecordBatch, Failure> {
        let indices = UInt64Array::from_iter_values(changes.iter().map(|change| *change as u64));
        let data = take_record_batch(&commission.rows, &indices).map_err(broken)?;
        let keys = changes.iter().map(|change| commission.keys.get(*change).map(String::as_str));
        let Commission { instant, schema, .. } = commission;
        let sequence = (0..changes.len()).map(|row| format!("{instant}_{}_{row}", self.number));
        let meta: [ArrayRef; 5] = [
            repeated(&instant.to_string(), changes.len()),
            Arc::new(StringArray::from_iter_values(sequence)),
            Arc::new(keys.collect::<StringArray>()),
            repeated(&self.partition, changes.len()),
            repeated(&self.file_name, changes.len()),
        ];
        let columns = meta.into_iter().chain(data.columns().iter().cloned()).collect();
        RecordBatch::try_new(with_meta(schema), columns).map_err(broken)
    }

    /// Rows that were carried over keep their commit and are in another file.
    fn named(&self, rows: RecordBatch) -> Result<RecordBatch, Failure> {
        let (schema, mut columns, count) = rows.into_parts();
        if let Some(name) = columns.get_mut(meta_index("_hoodie_file_name")) {
            *name = repeated(&self.file_name, count);
        }
        RecordBatch::try_new(schema, columns).map_err(broken)
    }
}
