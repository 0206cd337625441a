//! A table's rows: now, as of an instant, and what has changed since one. For tests, the command line and checks; who queries tables
//! has better readers.

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use weir_delivery::Failure;

use crate::base::decode;
use crate::schema::with_meta;
use crate::table::Table;
use crate::timeline::Instant;
use crate::view::Slice;

impl Table {
    /// A slice's rows, with Hudi's columns, in the table's columns as they are now.
    ///
    /// # Errors
    /// The lake's; `HudiFile`: it can't be read.
    pub async fn rows_of(&self, slice: &Slice) -> Result<Vec<RecordBatch>, Failure> {
        let object = &slice.object;
        let bytes = self.place.lake.get(&object.location, Some(&object.etag), 0, object.size).await?;
        let (schema, name) = (with_meta(&self.schema), object.location.to_string());
        let read = tokio::task::spawn_blocking(move || decode(bytes, &name, schema)?.collect()).await;
        read.map_err(|error| Failure::internal("Panic", format!("reading a file broke down: {error}")))?
    }

    /// Whether the table as of this instant is still kept.
    ///
    /// # Errors
    /// `HudiAsOf`: it is not, and since when it is.
    pub fn asks_for(&self, as_of: Option<&Instant>) -> Result<(), Failure> {
        match (as_of, self.view.timeline.commits().next()) {
            (Some(asked), Some(first)) if asked < first => {
                let reason = format!("{} is kept from {first} on, and {asked} is before that", self.place.at);
                Err(Failure::user("HudiAsOf", reason))
            }
            _ => Ok(()),
        }
    }

    /// All rows, as of an instant or now.
    ///
    /// # Errors
    /// The lake's; `HudiFile`; `HudiAsOf`: what is asked for is no longer kept.
    pub async fn rows(&self, as_of: Option<&Instant>) -> Result<Vec<RecordBatch>, Failure> {
        self.asks_for(as_of)?;
        let mut all = Vec::new();
        for slice in self.view.slices(as_of) {
            all.extend(self.rows_of(slice).await?);
        }
        Ok(all)
    }

    /// Rows whose newest version was committed after the one instant and not after the other. Those that were deleted are in no
    /// commit's rows.
    ///
    /// # Errors
    /// As of [`Table::rows`].
    pub async fn rows_between(&self, after: &Instant, until: Option<&Instant>) -> Result<Vec<RecordBatch>, Failure> {
        let all = self.rows(until).await?;
        let later = all.iter().map(|rows| committed_after(rows, after));
        later.filter(|rows| rows.as_ref().map_or(true, |rows| rows.num_rows() > 0)).collect()
    }
}

/// Of a table's rows those whose version was committed after that.
///
/// # Errors
/// `HudiRows`: they are of no table.
pub fn committed_after(rows: &RecordBatch, after: &Instant) -> Result<RecordBatch, Failure> {
    let after = after.to_string();
    let times = rows.column_by_name("_hoodie_commit_time").and_then(|times| times.as_string_opt::<i32>());
    let times = times.ok_or_else(|| Failure::internal("HudiRows", "the rows are of no table"))?;
    let mask: BooleanArray = times.iter().map(|time| Some(time.is_some_and(|time| time > after.as_str()))).collect();
    filter_record_batch(rows, &mask).map_err(|error| Failure::internal("HudiRows", error.to_string()))
}
