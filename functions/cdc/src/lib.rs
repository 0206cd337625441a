//! Database changes (AWS DMS' or Debezium's, on Kinesis) into Hudi tables, in two steps: each batch is reduced and staged by table, then
//! acknowledged ([`stage`]); and what is staged of a table becomes one commit, every minute or so ([`commit`]).
//!
//! So a table that can't be written holds back no other, and not the stream; and a table is written once a minute, however often it
//! changes.
//!
//! * [`routes`]: which tables are taken, and how.
//! * [`staged`]: what lies between the two steps.
//! * [`rows`]: what changes come to as rows of a table, purely.

pub mod columns;
pub mod commit;
pub mod config;
pub mod handler;
pub mod routes;
pub mod rows;
pub mod said;
pub mod sort;
pub mod stage;
pub mod staged;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use weir_alerts::Herald;
use weir_catalog::Catalog;
use weir_hudi::{KeyCache, Limits};
use weir_lake::Lake;
use weir_ledger::Writer;
use weir_ledger::backlog::Backlogs;

use crate::config::Config;

/// Everything it needs, made once per process.
pub struct Cdc {
    /// The function's settings.
    pub config: Config,
    /// S3.
    pub lake: Arc<dyn Lake>,
    /// What is staged of which table.
    pub backlogs: Arc<dyn Backlogs>,
    /// By which readers find the tables.
    pub catalog: Arc<dyn Catalog>,
    /// Log, metrics and notices.
    pub herald: Herald,
    /// Makes write tokens, and owners of leases.
    pub writer: Writer,
    /// How large files become, and how much memory writing them may take.
    pub limits: Limits,
    /// What this process remembers.
    pub memory: Memory,
}

/// What a process remembers from one invocation to the next. Nothing goes by it that must be right.
#[derive(Debug, Default)]
pub struct Memory {
    /// Keys of files that do not change.
    keys: KeyCache,
    /// What was said, and need not be said every minute.
    said: Mutex<HashSet<String>>,
    /// Tables and partitions that are in the catalog.
    shown: Mutex<HashSet<String>>,
}

/// Texts that a process remembers.
const MOST_REMEMBERED: usize = 100_000;

impl Memory {
    /// Whether this is said for the first time.
    fn is_news(&self, text: String) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() > MOST_REMEMBERED {
            said.clear();
        }
        said.insert(text)
    }
}
