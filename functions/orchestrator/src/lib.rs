//! The batch side's mind: what has landed becomes runs on Spark, one at a time a dataset, each object once.
//!
//! Whatever wakes the function ([`envelope`]), it does the same: it records what it was told ([`landing`]) and then takes the
//! lanes concerned as far as they go ([`drive`], [`claim`]). What may happen next is decided by pure functions
//! ([`weir_ledger::batch::lane`]); here are the effects. Events only say *when* to look: what happened is always asked of the
//! ledger, Glue and S3, because an event may be lost, late or doubled.

pub mod claim;
pub mod config;
pub mod drive;
pub mod envelope;
pub mod glue;
pub mod handler;
pub mod landing;
pub mod load;
pub mod manifest;
pub mod run;
pub mod said;
pub mod spark;
pub mod warehouse;
pub mod window;

use std::sync::Arc;

use weir_alerts::Herald;
use weir_lake::Lake;
use weir_ledger::batch::Book;
use weir_ledger::{Ledger, Writer};

use crate::config::Config;
use crate::spark::Spark;
use crate::warehouse::Warehouse;

/// Everything it needs, made once per process.
pub struct Orchestrator {
    /// The function's settings.
    pub config: Config,
    /// S3.
    pub lake: Arc<dyn Lake>,
    /// Jobs.
    pub ledger: Ledger,
    /// Lanes and objects.
    pub book: Arc<dyn Book>,
    /// Who runs jobs.
    pub spark: Arc<dyn Spark>,
    /// What runs' sums are loaded into, if anything.
    pub warehouse: Option<Arc<dyn Warehouse>>,
    /// Log, metrics and notices.
    pub herald: Herald,
    /// Makes write tokens.
    pub writer: Arc<Writer>,
}

/// With less than this there is hardly any time left: the sweep goes on from here.
pub(crate) const LAST_MS: u64 = 10_000;
