//! Many small Parquet files as few large ones, row for row.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use weir_command::{Compression, Format};

use crate::encode::{Codec, File};
use crate::{BytesInput, ConvertError, Input, Output, columnar};

/// Rows that wait to be a row group, in bytes of memory.
const GROUP_BYTES: usize = 64 << 20;

/// Rows of all schemas that wait.
const WAITING_BYTES: usize = 2 * GROUP_BYTES;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// How many files.
    pub files: u64,
    /// How many rows are in them.
    pub rows: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// Takes files one after the other. Rows stay in their order; types and columns stay what they are, so that files of another schema
/// become files of their own.
pub struct Merger {
    output: Arc<dyn Output>,
    name: Box<dyn Fn(u64) -> String + Send>,
    target_bytes: u64,
    open: Vec<Open>,
    begun: u64,
    made: Merged,
}

/// What there is of one schema.
struct Open {
    schema: SchemaRef,
    codec: Codec,
    file: Option<File>,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
}

impl Merger {
    /// Writes files of about `target_bytes`, called by their numbers.
    pub fn new(output: Arc<dyn Output>, target_bytes: u64, name: impl Fn(u64) -> String + Send + 'static) -> Self {
        Self { output, name: Box::new(name), target_bytes, open: Vec::new(), begun: 0, made: Merged::default() }
    }

    /// Takes a file; how many rows it has. It is in memory then, whole.
    ///
    /// # Errors
    /// [`ConvertError::Data`] if it can't be read: then nothing of it is taken, and others may be. The output's.
    pub fn push(&mut self, name: &str, file: Bytes) -> Result<u64, ConvertError> {
        let input: Arc<dyn Input> = Arc::new(BytesInput::new(name, file));
        let read = columnar::parquet(&input)?;
        let batches = read.batches.collect::<Result<Vec<_>, _>>()?;
        let place = match self.open.iter().position(|open| open.schema.fields() == read.schema.fields()) {
            Some(place) => place,
            None => {
                let codec = Codec::new(Format::Parquet, Compression::Snappy, &read.schema, &[])?;
                let schema = Arc::clone(&read.schema);
                self.open.push(Open { schema, codec, file: None, waiting: Vec::new(), waiting_bytes: 0 });
                self.open.len() - 1
            }
        };
        let mut rows = 0;
        for batch in batches {
            rows += batch.num_rows() as u64;
            let Some(open) = self.open.get_mut(place) else { break };
            open.waiting_bytes += batch.get_array_memory_size();
            open.waiting.push(batch);
            if open.waiting_bytes >= GROUP_BYTES {
                self.write(place)?;
            }
        }
        if self.open.iter().map(|open| open.waiting_bytes).sum::<usize>() >= WAITING_BYTES {
            let largest = (0..self.open.len()).max_by_key(|place| self.open.get(*place).map(|open| open.waiting_bytes));
            self.write(largest.unwrap_or(place))?;
        }
        Ok(rows)
    }

    /// Writes what waits; all that was pushed is visible then.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> Result<Merged, ConvertError> {
        for place in 0..self.open.len() {
            self.write(place)?;
        }
        for open in std::mem::take(&mut self.open) {
            if let Some(file) = open.file {
                self.made.bytes += file.finish()?;
            }
        }
        Ok(self.made)
    }

    fn write(&mut self, place: usize) -> Result<(), ConvertError> {
        let Some(open) = self.open.get_mut(place) else { return Ok(()) };
        let waiting = std::mem::take(&mut open.waiting);
        open.waiting_bytes = 0;
        let rows: usize = waiting.iter().map(RecordBatch::num_rows).sum();
        if rows == 0 {
            return Ok(());
        }
        let mut file = match open.file.take() {
            Some(file) => file,
            None => {
                self.begun += 1;
                self.made.files += 1;
                open.codec.open(self.output.create(&(self.name)(self.begun))?)?
            }
        };
        let mut group = open.codec.begin()?;
        for batch in &waiting {
            group.push(batch)?;
        }
        file.append(group.finish()?)?;
        self.made.rows += rows as u64;
        if file.written() < self.target_bytes {
            open.file = Some(file);
        } else {
            self.made.bytes += file.finish()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryOutput, to_parquet};
    use arrow_array::{ArrayRef, Int64Array, StringArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn rows(from: i64, to: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
        // Not compressible, so that files have a size.
        let texts = (from..to).map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64)));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).unwrap()
    }

    fn read(file: Bytes) -> RecordBatch {
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let schema = Arc::clone(reader.schema());
        let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        arrow_select::concat::concat_batches(&schema, &batches).unwrap()
    }

    fn merge(output: &Arc<MemoryOutput>, target: u64, files: impl IntoIterator<Item = Bytes>) -> Merged {
        let mut merger = Merger::new(Arc::<MemoryOutput>::clone(output), target, |n| format!("{n}.parquet"));
        for file in files {
            merger.push("a file", file).unwrap();
        }
        merger.finish().unwrap()
    }

    #[test]
    fn many_are_one_row_for_row() {
        let output = Arc::new(MemoryOutput::default());
        let files = (0..50).map(|n| to_parquet(&rows(n * 10, n * 10 + n % 10)).unwrap());
        let made = merge(&output, 1 << 30, files);
        let files = output.files();
        let merged = read(files["1.parquet"].clone());
        let expected: Vec<i64> = (0..50).flat_map(|n| n * 10..n * 10 + n % 10).collect();
        assert_eq!(merged.column(0).as_ref(), &Int64Array::from(expected));
        assert_eq!((made.files, made.rows, files.len()), (1, merged.num_rows() as u64, 1));
        assert_eq!(made.bytes, files["1.parquet"].len() as u64);
        assert_eq!(merge(&output, 1, [to_parquet(&rows(0, 0)).unwrap()]), Merged::default(), "no rows, no file");
    }

    #[test]
    fn files_have_about_a_size_and_one_schema() {
        let output = Arc::new(MemoryOutput::default());
        let large = |n: i64| to_parquet(&rows(n * 1_500_000, (n + 1) * 1_500_000)).unwrap();
        let other = rows(0, 3).project(&[1]).unwrap();
        let made = merge(&output, 20 << 20, [large(0), to_parquet(&other).unwrap(), large(1)]);
        let files = output.files();
        let found: Vec<usize> = files.values().map(|file| read(file.clone()).num_rows()).collect();
        assert_eq!((made.rows, found.iter().sum::<usize>()), (3_000_003, 3_000_003));
        assert!(found.contains(&3) && found.len() > 2, "{found:?}");
    }

    #[test]
    fn what_is_no_parquet_is_named() {
        let output: Arc<MemoryOutput> = Arc::default();
        let mut merger = Merger::new(Arc::<MemoryOutput>::clone(&output), 1, |n| n.to_string());
        let good = to_parquet(&rows(0, 5)).unwrap();
        merger.push("good", good.clone()).unwrap();
        // Its end is whole, so that its first rows could be read.
        let mut torn = to_parquet(&rows(0, 500_000)).unwrap().to_vec();
        let middle = torn.len() / 2;
        torn[middle..middle + 4_000].fill(0xFF);
        for broken in [Bytes::from_static(b"PAR1 and no more"), torn.into()] {
            let error = merger.push("s3://b/x.parquet", broken).unwrap_err();
            assert!(error.to_string().contains("s3://b/x.parquet"), "{error}");
        }
        merger.push("good", good).unwrap();
        assert_eq!(merger.finish().unwrap().rows, 10, "nothing of what can't be read");
        assert_eq!(output.files().len(), 1);
    }
}
