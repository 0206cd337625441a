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
    /// Whether the table and the views are to be made first, unless they are there.
    pub prepares: bool,
    /// The runs that it replaces in the warehouse.
    pub runs: Vec<RunSums>,
}

/// A run's sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSums {
    /// The run.
    pub run: String,
    /// What the names of its Parquet files begin with, if it made any.
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

/// Why a load was not begun, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBegun {
    /// It was not, for certain.
    Refused(Failure),
    /// It may have been.
    Unheard(Failure),
}

/// Redshift, or its twin.
#[async_trait]
pub trait Warehouse: Send + Sync {
    /// Begins a load, once a token; its id.
    async fn begin(&self, order: &Order) -> Result<String, NotBegun>;
    /// How a load is; `None` if there is none of this id (any more).
    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure>;
    /// Has a load broken off. That it is, [`Warehouse::look`] says.
    async fn cancel(&self, statement: &str) -> Result<(), Failure>;
    /// Names what a dataset's table and views are like: they must be prepared where that is another.
    fn shape(&self, dataset: &str) -> String;
    /// The table that a dataset's sums go to, for people.
    fn table(&self, dataset: &str) -> String;
}
