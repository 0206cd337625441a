//! Rows that are clean already, as files of a table, in memory: what comes in small batches.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;

use crate::partition::Plan;
use crate::{ConvertError, MemoryOutput, write_batch};

/// Rows by the folder they belong to (`event_date=2024-01-04/`), without the columns that are folders, in the order of their first
/// rows.
///
/// # Errors
/// A defect of ours: there is no such column.
pub fn by_partition(rows: &RecordBatch, names: &[&str]) -> Result<Vec<(Arc<str>, RecordBatch)>, ConvertError> {
    let internal = |error: arrow_schema::ArrowError| ConvertError::Internal(error.to_string());
    Plan::of(rows.schema_ref(), names).and_then(|plan| plan.split(rows)).map_err(internal)
}

/// Rows as a Parquet file, one row group, Snappy.
///
/// # Errors
/// A defect of ours: a type that Parquet has not.
pub fn to_parquet(rows: &RecordBatch) -> Result<Bytes, ConvertError> {
    let output = MemoryOutput::default();
    write_batch(rows, "rows", &output)?;
    output.files().remove("rows").ok_or_else(|| ConvertError::Internal("the file was not finished".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn rows_become_files_by_partition_and_come_back() {
        let days: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "b"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let rows = RecordBatch::try_from_iter([("day", days), ("number", numbers)]).unwrap();
        let split = by_partition(&rows, &["day"]).unwrap();
        let read = |rows: &RecordBatch| {
            let file = to_parquet(rows).unwrap();
            ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().next().unwrap().unwrap()
        };
        let found: Vec<(String, RecordBatch)> =
            split.iter().map(|(path, rows)| (path.to_string(), read(rows))).collect();
        let expected = |numbers: Vec<i64>| {
            RecordBatch::try_from_iter([("number", Arc::new(Int64Array::from(numbers)) as ArrayRef)]).unwrap()
        };
        assert_eq!(found, [("day=b/".to_owned(), expected(vec![1, 3])), ("day=a/".to_owned(), expected(vec![2]))]);
        assert!(by_partition(&rows, &["week"]).is_err());
    }
}
