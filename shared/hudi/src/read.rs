//! A table's rows: now, as of an instant, and what has changed since one. For tests, the command line and checks; who queries tables
//! has better readers.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use weir_delivery::Failure;

use crate::base::{decode, meta_index};
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

    /// All rows, as of an instant or now.
    ///
    /// # Errors
    /// The lake's; `HudiFile`; `HudiAsOf`: what is asked for is no longer kept.
    pub async fn rows(&self, as_of: Option<&Instant>) -> Result<Vec<RecordBatch>, Failure> {
        if let (Some(asked), Some(first)) = (as_of, self.view.timeline.commits().next())
            && asked < first
        {
            let reason = format!("{} is kept from {first} on, and {asked} is before that", self.place.at);
            return Err(Failure::user("HudiAsOf", reason));
        }
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
        let after = after.to_string();
        let all = self.rows(until).await?;
        let later = all.iter().map(|rows| {
            let times = Arc::clone(rows.column(meta_index("_hoodie_commit_time")));
            let mask: BooleanArray = times
                .as_string::<i32>()
                .iter()
                .map(|time| Some(time.is_some_and(|time| time > after.as_str())))
                .collect();
            filter_record_batch(rows, &mask).map_err(|error| Failure::internal("HudiRows", error.to_string()))
        });
        later.filter(|rows| rows.as_ref().map_or(true, |rows| rows.num_rows() > 0)).collect()
    }
}
