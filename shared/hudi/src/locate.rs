//! Where the rows of keys are: by the keys of every file, or of the key's bucket.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, UInt64Array};
use arrow_ord::ord::make_comparator;
use arrow_schema::{DataType, Field, Schema, SchemaRef, SortOptions};
use arrow_select::concat::concat;
use arrow_select::take::take;
use bytes::{Buf, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};
use twox_hash::XxHash3_128;
use weir_command::Location;
use weir_delivery::Failure;

use crate::base::adapt;
use crate::schema::META_COLUMNS;
use crate::table::Place;
use crate::view::Slice;

/// Bytes from a file's end that hold its footer, mostly; a smaller file is read whole.
const TAIL_BYTES: u64 = 256 << 10;

/// Keys that are remembered at most, 16 bytes each.
const CACHED_KEYS: usize = 2 << 20;

/// The keys of files that were read before, so that files without any of a batch's keys are not read again. A file of a name never
/// changes.
///
/// Keys are kept as their 128-bit hashes: two of a billion keys share one with a chance of 1 in 10²⁰, and who trusts that to tell
/// files apart (git does) may trust it here.
#[derive(Debug, Default)]
pub struct KeyCache(Mutex<HashMap<String, Arc<Vec<u128>>>>);

impl KeyCache {
    fn get(&self, name: &str) -> Option<Arc<Vec<u128>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: &str, mut keys: Vec<u128>) {
        keys.sort_unstable();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count: usize = all.values().map(|keys| keys.len()).sum();
        if count + keys.len() <= CACHED_KEYS {
            all.insert(name.to_owned(), Arc::new(keys));
        }
    }

    /// Forgets a table's files but for these.
    pub(crate) fn retain(&self, table: &Location, slices: &[&Slice]) {
        let folder = table.as_prefix().to_string();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let live: std::collections::HashSet<String> =
            slices.iter().map(|slice| slice.object.location.to_string()).collect();
        all.retain(|name, _| !name.starts_with(&folder) || live.contains(name));
    }
}

/// What is looked for.
pub(crate) struct Keys {
    /// The changes' numbers by key.
    pub(crate) by_key: HashMap<String, usize>,
    hashes: Vec<u128>,
    /// The changes' own values of the ordering.
    pub(crate) ordering: ArrayRef,
}

impl Keys {
    pub(crate) fn new(keys: &[String], ordering: ArrayRef) -> Self {
        let by_key = keys.iter().enumerate().map(|(n, key)| (key.clone(), n)).collect();
        Self { by_key, hashes: keys.iter().map(|key| hash(key)).collect(), ordering }
    }

    fn any_in(&self, sorted: &[u128]) -> bool {
        self.hashes.iter().any(|hash| sorted.binary_search(hash).is_ok())
    }
}

pub(crate) fn hash(key: &str) -> u128 {
    XxHash3_128::oneshot(key.as_bytes())
}

/// What was found in a slice: a row and the change of its key, and whether that is later.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) rows: u64,
    pub(crate) found: Vec<(usize, usize, bool)>,
}

/// Looks in one slice.
pub(crate) async fn look(
    place: &Place,
    slice: &Slice,
    keys: &Arc<Keys>,
    ordering: &Field,
    cache: &KeyCache,
) -> Result<Hits, Failure> {
    let name = slice.object.location.to_string();
    if let Some(known) = cache.get(&name).filter(|known| !keys.any_in(known)) {
        return Ok(Hits { rows: known.len() as u64, found: Vec::new() });
    }
    let unreadable = |error: ParquetError| Failure::user("HudiFile", format!("{name} can't be read: {error}"));
    let mut file = Sparse::open(place, slice).await?;
    let key = Arc::new(Schema::new(vec![Field::new(KEY, DataType::Utf8, true)]));
    file.fetch(place, slice, KEY).await?;
    let (there, wanted) = (file.clone(), Arc::clone(keys));
    let in_keys = tokio::task::spawn_blocking(move || find(&there, &key, &wanted)).await;
    let (hashes, matches) = in_keys.map_err(lost)?.map_err(unreadable)?;
    let rows = hashes.len() as u64;
    cache.keep(&name, hashes);
    if matches.is_empty() {
        return Ok(Hits { rows, found: Vec::new() });
    }
    file.fetch(place, slice, ordering.name()).await?;
    let (ordering, wanted) = (Arc::new(Schema::new(vec![ordering.clone()])), Arc::clone(keys));
    let compared = tokio::task::spawn_blocking(move || compare(&file, &ordering, &wanted, &matches)).await;
    let found = compared.map_err(lost)?.map_err(unreadable)?;
    Ok(Hits { rows, found })
}

fn lost(error: tokio::task::JoinError) -> Failure {
    Failure::internal("Panic", format!("looking for keys broke down: {error}"))
}

const KEY: &str = META_COLUMNS[2];

/// Rows and the changes of their keys.
type Matches = Vec<(usize, usize)>;

/// All keys, hashed, and those that are looked for: row, change.
fn find(file: &Sparse, key: &SchemaRef, wanted: &Keys) -> Result<(Vec<u128>, Matches), ParquetError> {
    let (mut hashes, mut matches) = (Vec::new(), Vec::new());
    for column in file.read(key)? {
        for text in column?.as_string::<i32>() {
            let text = text.unwrap_or_default();
            if let Some(change) = wanted.by_key.get(text) {
                matches.push((hashes.len(), *change));
            }
            hashes.push(hash(text));
        }
    }
    Ok((hashes, matches))
}

/// Whether the changes are later than the rows that they were found at.
fn compare(
    file: &Sparse,
    ordering: &SchemaRef,
    wanted: &Keys,
    matches: &[(usize, usize)],
) -> Result<Vec<(usize, usize, bool)>, ParquetError> {
    let arrays = file.read(ordering)?.collect::<Result<Vec<ArrayRef>, _>>()?;
    let refs: Vec<&dyn arrow_array::Array> = arrays.iter().map(AsRef::as_ref).collect();
    let all = concat(&refs)?;
    let indices =
        |each: fn(&(usize, usize)) -> usize| UInt64Array::from_iter_values(matches.iter().map(|one| each(one) as u64));
    let there = take(&all, &indices(|(row, _)| *row), None)?;
    let comes = take(&wanted.ordering, &indices(|(_, change)| *change), None)?;
    let nulls_first = SortOptions { descending: false, nulls_first: true };
    let compare = make_comparator(&comes, &there, nulls_first)?;
    Ok(matches.iter().enumerate().map(|(n, (row, change))| (*row, *change, compare(n, n).is_gt())).collect())
}

/// The parts of a file that were fetched.
#[derive(Debug, Clone)]
struct Sparse {
    size: u64,
    footer: Arc<ParquetMetaData>,
    parts: Vec<(u64, Bytes)>,
}

impl Sparse {
    async fn open(place: &Place, slice: &Slice) -> Result<Self, Failure> {
        let (at, size) = (&slice.object.location, slice.object.size);
        let get = |from: u64| place.lake.get(at, Some(&slice.object.etag), from, size - from);
        let mut from = size.saturating_sub(TAIL_BYTES);
        loop {
            let tail = get(from).await?;
            let mut reader = ParquetMetaDataReader::new();
            match reader.try_parse_sized(&tail, size) {
                Ok(()) => {
                    let footer = reader
                        .finish()
                        .map_err(|error| Failure::user("HudiFile", format!("{at} can't be read: {error}")))?;
                    return Ok(Self { size, footer: Arc::new(footer), parts: vec![(from, tail)] });
                }
                Err(ParquetError::NeedMoreData(needed)) if from > 0 => from = size.saturating_sub(needed as u64),
                Err(error) => return Err(Failure::user("HudiFile", format!("{at} can't be read: {error}"))),
            }
        }
    }

    /// Fetches a column, if it is in the file.
    async fn fetch(&mut self, place: &Place, slice: &Slice, column: &str) -> Result<(), Failure> {
        let chunks = self.footer.row_groups().iter().flat_map(|group| group.columns());
        let wanted = chunks.filter(|chunk| chunk.column_path().string() == column).filter_map(range_of);
        let missing: Vec<Range<u64>> = wanted.filter(|range| self.part(range.start, range.end).is_none()).collect();
        let object = &slice.object;
        let fetches = missing
            .iter()
            .map(|range| place.lake.get(&object.location, Some(&object.etag), range.start, range.end - range.start));
        let fetched = futures::future::try_join_all(fetches).await?;
        self.parts.extend(missing.iter().map(|range| range.start).zip(fetched));
        Ok(())
    }

    fn part(&self, from: u64, to: u64) -> Option<Bytes> {
        self.parts.iter().find_map(|(at, bytes)| {
            let (start, end) = (from.checked_sub(*at)?, to.checked_sub(*at)?);
            (end <= bytes.len() as u64).then(|| bytes.slice(start as usize..end as usize))
        })
    }

    /// The one column of this schema, in batches.
    fn read(
        &self,
        schema: &SchemaRef,
    ) -> Result<impl Iterator<Item = Result<ArrayRef, ParquetError>> + use<>, ParquetError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&self.footer), options)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(self.clone(), metadata);
        let mask = ProjectionMask::columns(
            builder.parquet_schema(),
            schema.fields().iter().map(|field| field.name().as_str()),
        );
        let schema = Arc::clone(schema);
        let batches = builder.with_projection(mask).build()?;
        Ok(batches.map(move |rows| Ok(Arc::clone(adapt(&rows?, &schema)?.column(0)))))
    }
}

/// Where a column chunk is; nothing if its footer says nonsense.
fn range_of(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let from = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
    let (from, length) = (u64::try_from(from).ok()?, u64::try_from(chunk.compressed_size()).ok()?);
    Some(from..from.checked_add(length)?)
}

impl Length for Sparse {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Sparse {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let part = self.parts.iter().find(|(at, bytes)| *at <= start && start < at + bytes.len() as u64);
        let (at, bytes) = part.ok_or_else(|| ParquetError::General("a part of the file was not fetched".to_owned()))?;
        Ok(bytes.slice((start - at) as usize..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let part = self.part(start, start + length as u64);
        part.ok_or_else(|| ParquetError::General("a part of the file was not fetched".to_owned()))
    }
}
