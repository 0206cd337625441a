//! Live statistics of a Kinesis stream, by Lambda's tumbling windows: what a dataset's contract says in `[live]`.
//!
//! Lambda cuts each shard's records into windows by when they arrived, and carries what the function answers from one of a
//! window's invocations to the next. So the function itself keeps nothing: a window is a state that comes and goes ([`visit`]).
//! At its end a shard's share of the window becomes a part on S3, and all parts there are of a window become its result
//! ([`publish`]): whichever shard ends last, the result has all of them. Results are rows of JSON under `<dataset>/`, a file a
//! window, which Athena reads.
//!
//! An event is counted once, however often it is delivered. A state knows the last record that is in it, and a state that
//! begins anew (Lambda ends a window early when its state becomes too large) asks the parts that are there already.
//!
//! Where there is an OpenSearch domain, the same binary in another role delivers results to it ([`deliver`]).
//!
//! Records that can't be used are counted, not kept: the stream's other reader, the delivery to the dataset's table, keeps them.

pub mod config;
pub mod deliver;
pub mod handler;
pub mod names;
pub mod publish;
mod recent;
pub mod said;
pub mod visit;

use std::sync::Arc;

use weir_contract::Contract;
use weir_lake::Lake;
use weir_live::Plan;
use weir_search::Index;
use weir_telemetry::Telemetry;

use crate::config::Config;
use crate::deliver::Prepared;
use crate::recent::Recent;

/// Everything it needs, made once per process.
pub struct Analytics {
    /// The function's settings.
    pub config: Config,
    /// The dataset's contract.
    pub contract: Contract,
    /// What is kept of its rows.
    pub plan: Plan,
    /// S3.
    pub lake: Arc<dyn Lake>,
    /// Where results are delivered to, in the function that does.
    pub index: Option<Arc<dyn Index>>,
    /// Log and metrics.
    pub telemetry: Telemetry,
    /// What this process knows of earlier windows.
    pub memory: Memory,
}

/// What a process remembers from one invocation to the next. Nothing goes by it that must be right.
#[derive(Default)]
pub struct Memory {
    recent: Recent,
    prepared: Prepared,
}
