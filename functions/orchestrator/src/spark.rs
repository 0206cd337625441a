//! Who runs a job on Spark.

use async_trait::async_trait;
use weir_delivery::Failure;

/// A run to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The lane it is of.
    pub lane: String,
    /// What this start goes by.
    pub token: String,
    /// Its manifest.
    pub manifest: String,
    /// What it may do, beside what the job may: an IAM policy.
    pub policy: String,
    /// Whether it may wait for cheap machines.
    pub flexible: bool,
}

/// A run that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How it is.
    pub state: SparkState,
    /// The lane it is of, if it is one of ours.
    pub lane: Option<String>,
    /// What is said of its end.
    pub message: String,
    /// Where its log can be read.
    pub log: String,
}

/// How a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SparkState {
    /// It waits, starts, runs or stops.
    Going,
    /// It is over, and says that it did its work.
    Succeeded,
    /// It is over, and did not.
    Failed,
}

/// Glue, or its twin.
#[async_trait]
pub trait Spark: Send + Sync {
    /// Starts a run, once: a failure that is `External` may have started one all the same.
    async fn start(&self, start: &Start) -> Result<String, Failure>;
    /// A recent run with this token.
    async fn find(&self, token: &str) -> Result<Option<String>, Failure>;
    /// How a run is; `None` if there is none of this id.
    async fn look(&self, run: &str) -> Result<Option<Seen>, Failure>;
}
