//! The warehouse that runs' sums are loaded into: Amazon Redshift, or its twin in tests. There may be none.

pub mod conformance;
pub mod redshift;
pub mod sql;

use async_trait::async_trait;
use weir_command::Location;
use weir_delivery::Failure;

/// What shall be loaded, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it goes by: the same one again is the same load.
    pub token: String,
    /// The dataset, which is also its lane's name.
    pub dataset: String,
    /// The runs that it replaces in the warehouse.
    pub runs: Vec<RunSums>,
}

/// A run's sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSums {
    /// The run.
    pub run: String,
    /// The prefix of its Parquet files, if it made any.
    pub files: Option<Location>,
}

/// How a load is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// It waits, or goes on.
    Going,
    /// All of it is in the warehouse.
    Done,
    /// None of it is; and why.
    Failed(String),
}

/// Redshift, or its twin.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Begins a load, once a token; its id.
    async fn begin(&self, order: &Order) -> Result<String, Failure>;
    /// How a load is; `None` if there is none of this id (any more).
    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure>;
    /// The table that a dataset's sums go to, for people.
    fn table(&self, dataset: &str) -> String;
}
