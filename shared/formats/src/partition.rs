//! Clean rows by partition: split, collected into row groups, written to a file a partition.
//!
//! A unit of work may hold rows of hundreds of partitions, a few each, and a row group of a few rows is no good to any
//! reader. So rows wait in memory, partition by partition, until there are enough of them or too many in all; then the
//! largest go first.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use crossbeam_channel::unbounded;
use weir_command::{Compression, Format};
use weir_contract::Contract;

use crate::encode::{Chunk, Codec, File, file_name};
use crate::{ConvertError, Output, Settings};

/// A row group is written when it has this many rows: what DuckDB and Spark make, about.
const GROUP_ROWS: usize = 128 << 10;

/// Where rows go: `event_date=2024-01-04/pickup_hour=9/`.
pub(crate) type Partition = Arc<str>;

/// How a contract's rows become files.
pub(crate) struct Plan {
    /// The schema of files: without the columns that are folders.
    pub(crate) schema: SchemaRef,
    kept: Vec<usize>,
    folders: Vec<(usize, String)>,
}

impl Plan {
    pub(crate) fn new(contract: &Contract) -> Result<Self, ArrowError> {
        Self::of(&contract.schema(), &contract.partition_by())
    }

    /// For rows of this schema, and the columns that are folders.
    pub(crate) fn of(schema: &Schema, names: &[&str]) -> Result<Self, ArrowError> {
        let folders = names.iter().map(|name| Ok((schema.index_of(name)?, (*name).to_owned())));
        let folders = folders.collect::<Result<Vec<_>, ArrowError>>()?;
        let kept = (0..schema.fields().len()).filter(|place| folders.iter().all(|(folder, _)| folder != place));
        let kept: Vec<usize> = kept.collect();
        Ok(Self { schema: Arc::new(schema.project(&kept)?), kept, folders })
    }

    /// Splits clean rows; partitions in the order of their first rows.
    pub(crate) fn split(&self, batch: &RecordBatch) -> Result<Vec<(Partition, RecordBatch)>, ArrowError> {
        let rows = batch.project(&self.kept)?;
        let folders: Vec<(&ArrayRef, &str)> = self
            .folders
            .iter()
            .filter_map(|(place, name)| batch.columns().get(*place).map(|array| (array, name.as_str())))
            .collect();
        let options = FormatOptions::new();
        let formatters = folders
            .iter()
            .map(|(array, _)| ArrayFormatter::try_new(array.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        let mut found: Vec<(Partition, Vec<u32>)> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        let (mut path, mut value) = (String::new(), String::new());
        for row in 0..batch.num_rows() {
            path.clear();
            for ((_, name), formatter) in folders.iter().zip(&formatters) {
                value.clear();
                formatter.value(row).write(&mut value)?;
                path.push_str(name);
                path.push('=');
                escape(&mut path, &value);
                path.push('/');
            }
            let at = match known.get(&path) {
                Some(at) => *at,
                None => {
                    known.insert(path.clone(), found.len());
                    found.push((path.as_str().into(), Vec::new()));
                    found.len() - 1
                }
            };
            if let Some((_, indices)) = found.get_mut(at) {
                indices.push(row as u32);
            }
        }
        if let [(partition, _)] = found.as_slice() {
            return Ok(vec![(Arc::clone(partition), rows)]);
        }
        // Each has memory of its own, so that what is written is free.
        let taken = found
            .into_iter()
            .map(|(partition, indices)| Ok((partition, take_record_batch(&rows, &UInt32Array::from(indices))?)));
        taken.collect()
    }
}

/// As Hive writes the values of partitions: what could end a name or be a pattern is percent-encoded.
fn escape(path: &mut String, value: &str) {
    if value.is_empty() {
        return path.push_str("__HIVE_DEFAULT_PARTITION__");
    }
    for c in value.chars() {
        if c.is_control() || "\"#%'*/:=?\\{}[]^,".contains(c) {
            for byte in c.to_string().bytes() {
                let _ = write!(path, "%{byte:02X}");
            }
        } else {
            path.push(c);
        }
    }
}

/// Rows that wait to be encoded. Sizes are counted once: there may be thousands of partitions, of a few rows each.
#[derive(Default)]
pub(crate) struct Waiting {
    partitions: BTreeMap<Partition, Heap>,
    bytes: usize,
}

/// What waits of one partition.
#[derive(Default)]
struct Heap {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

/// A row group to be encoded.
pub(crate) struct Group {
    pub(crate) partition: Partition,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) bytes: usize,
}

impl Waiting {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds rows; a row group, if that makes one.
    pub(crate) fn add(&mut self, partition: Partition, batch: RecordBatch) -> Option<Group> {
        let bytes = batch.get_array_memory_size();
        self.bytes += bytes;
        let heap = self.partitions.entry(Arc::clone(&partition)).or_default();
        heap.rows += batch.num_rows();
        heap.bytes += bytes;
        heap.batches.push(batch);
        if heap.rows >= GROUP_ROWS { self.take(&partition) } else { None }
    }

    fn take(&mut self, partition: &Partition) -> Option<Group> {
        let (partition, Heap { batches, bytes, .. }) = self.partitions.remove_entry(partition)?;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(Group { partition, batches, bytes })
    }

    /// The largest, until no more than this many bytes wait.
    pub(crate) fn take_down_to(&mut self, most_bytes: usize) -> Vec<Group> {
        let mut by_size: Vec<(usize, Partition)> =
            self.partitions.iter().map(|(partition, heap)| (heap.bytes, Arc::clone(partition))).collect();
        by_size.sort_unstable();
        let mut groups = Vec::new();
        while self.bytes > most_bytes
            && let Some((_, partition)) = by_size.pop()
        {
            groups.extend(self.take(&partition));
        }
        groups
    }

    /// Any, in order.
    pub(crate) fn take_next(&mut self) -> Option<Group> {
        let first = self.partitions.first_key_value()?.0;
        self.take(&Arc::clone(first))
    }
}

/// The files of all partitions.
pub(crate) struct Files<'a> {
    pub(crate) codec: &'a Codec,
    output: &'a dyn Output,
    settings: &'a Settings,
    open: BTreeMap<Partition, File>,
    /// Bytes of open files that may all be in memory.
    pending: u64,
    parts: HashMap<Partition, usize>,
    pub(crate) names: Vec<String>,
    pub(crate) bytes: u64,
}

impl<'a> Files<'a> {
    pub(crate) fn new(codec: &'a Codec, output: &'a dyn Output, settings: &'a Settings) -> Self {
        let (open, parts) = (BTreeMap::new(), HashMap::new());
        Self { codec, output, settings, open, pending: 0, parts, names: Vec::new(), bytes: 0 }
    }

    /// How many partitions have been written to.
    pub(crate) fn partitions(&self) -> usize {
        self.parts.len()
    }

    pub(crate) fn append(&mut self, partition: &Partition, chunk: Chunk) -> Result<(), ConvertError> {
        let file = match self.open.get_mut(partition) {
            Some(file) => file,
            None => {
                let part = self.parts.entry(Arc::clone(partition)).or_default();
                let name = format!("{partition}{}", file_name(Format::Parquet, Compression::Snappy, *part));
                *part += 1;
                let file = self.codec.open(self.output.create(&name)?)?;
                self.names.push(name);
                self.open.entry(Arc::clone(partition)).or_insert(file)
            }
        };
        let before = pending(file);
        file.append(chunk)?;
        self.pending += pending(file) - before;
        if file.written() >= self.settings.target_file_bytes {
            self.close(&Arc::clone(partition))?;
        }
        self.bound()
    }

    /// When too much is held back, the largest files are closed, down to half: readers see those before the end of the
    /// job, and what comes later for them goes to another part.
    fn bound(&mut self) -> Result<(), ConvertError> {
        if self.pending <= self.settings.open_bytes {
            return Ok(());
        }
        let mut by_size: Vec<(u64, Partition)> =
            self.open.iter().map(|(partition, file)| (pending(file), Arc::clone(partition))).collect();
        by_size.sort_unstable();
        while self.pending > self.settings.open_bytes / 2
            && let Some((_, largest)) = by_size.pop()
        {
            self.close(&largest)?;
        }
        Ok(())
    }

    fn close(&mut self, partition: &Partition) -> Result<(), ConvertError> {
        if let Some(file) = self.open.remove(partition) {
            self.pending = self.pending.saturating_sub(pending(&file));
            self.bytes += file.finish()?;
        }
        Ok(())
    }

    /// Makes all files visible.
    pub(crate) fn finish(&mut self) -> Result<(), ConvertError> {
        self.bytes += finish_all(std::mem::take(&mut self.open).into_values(), self.settings)?;
        Ok(())
    }
}

/// A file's end is a wait for the network, and there may be thousands.
const FINISHED_AT_ONCE: usize = 16;

/// Makes files visible; their bytes. After one that can't be finished, or out of time, those that are not begun are given up.
fn finish_all(files: impl ExactSizeIterator<Item = File>, settings: &Settings) -> Result<u64, ConvertError> {
    let threads = files.len().min(FINISHED_AT_ONCE);
    let (give, files_out) = unbounded();
    files.for_each(|file| drop(give.send(file)));
    drop(give);
    let finish = || {
        let mut bytes = 0;
        for file in &files_out {
            let finished = if settings.stopped() { Err(ConvertError::Stopped) } else { file.finish() };
            bytes += finished.inspect_err(|_| files_out.try_iter().for_each(drop))?;
        }
        Ok(bytes)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(finish)).collect();
        let broke = |_| ConvertError::Internal("a thread that finishes files broke down".to_owned());
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().map_err(broke).flatten()).collect();
        ended.into_iter().sum()
    })
}

/// An upload holds back up to a part of this size.
const MOST_PENDING_BYTES: u64 = 8 << 20;

fn pending(file: &File) -> u64 {
    file.written().min(MOST_PENDING_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_paths_are_escaped_as_hive_does() {
        let escaped = |value: &str| {
            let mut path = String::new();
            escape(&mut path, value);
            path
        };
        assert_eq!(escaped("2024-01-04"), "2024-01-04");
        assert_eq!(escaped("a/b=c d%é\n"), "a%2Fb%3Dc d%25é%0A");
        assert_eq!(escaped(""), "__HIVE_DEFAULT_PARTITION__");
    }
}
