//! The catalog edge: tables of Parquet files, and where each of their partitions is.
//!
//! [`Catalog`] is what the functions need of a catalog; `GlueCatalog` is AWS Glue's, by which Athena, Spark and Redshift Spectrum
//! read, and [`MemoryCatalog`] its twin for unit tests. Both pass [`conformance`].

pub mod conformance;
#[cfg(feature = "glue")]
mod glue;
mod memory;
mod table;

use async_trait::async_trait;
use weir_command::Location;
use weir_delivery::Failure;

#[cfg(feature = "glue")]
pub use glue::GlueCatalog;
pub use memory::MemoryCatalog;
pub use table::{Format, Partition, Table, values_of};

/// A catalog.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Makes a table, or adds the columns that it lacks. What somebody has changed about it otherwise stays. A Hudi table's columns get
    /// the types that it says: they may have widened. `OtherTable` if there is one of another format by this name.
    async fn ensure_table(&self, table: &Table) -> Result<(), Failure>;

    /// Makes those partitions of a table that are not there. Those that are stay where they are.
    async fn add_partitions(&self, table: &Table, partitions: &[Partition]) -> Result<(), Failure>;

    /// A table's columns but for those that are folders; `None` if there is no table.
    async fn columns_of(&self, table: &str) -> Result<Option<Vec<(String, String)>>, Failure>;

    /// Where a partition is; `None` if there is none.
    async fn place_of(&self, table: &str, values: &[String]) -> Result<Option<Location>, Failure>;

    /// Says that a partition is there now: one change, which readers see or don't. `NoSuchPartition` if there is none.
    async fn move_to(&self, table: &str, partition: &Partition) -> Result<(), Failure>;
}
