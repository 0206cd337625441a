//! What the ledger keeps of a job.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

/// A job's record. Times are milliseconds since the epoch, sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The idempotency key.
    pub id: String,
    /// The command as canonical JSON (`Command::to_json`), or empty where the record was not a command.
    pub command: String,
    /// SHA-256 of `command`, in hex: the same id with another command is an error of the sender.
    pub payload_hash: String,
    /// The stream, shard and sequence number it came by, for a person.
    pub origin: String,
    /// Where it stands.
    pub state: State,
    /// Who does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Counts the writes of this record: what compare-and-swap compares.
    pub version: u64,
    /// Names the write that made this version, so that a repeated write knows itself.
    pub write_token: String,
    /// The invocation that holds the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Rises with every claim.
    pub fence: u64,
    /// Until when the owner may work on it unasked.
    pub lease_until_ms: u64,
    /// How often it was begun.
    pub attempts: u32,
    /// When the sweep shall look at it again, if nothing else has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at_ms: Option<u64>,
    /// When the ledger first heard of it.
    pub received_ms: u64,
    /// When the latest attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    /// When it was done or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// How far a job came that hands itself on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
    /// Why it failed, or why it will be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When DynamoDB may forget it, in *seconds* since the epoch (the table's TTL attribute).
    pub expires_s: u64,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// An owner has it until its lease ends.
    Running,
    /// An attempt failed in a way that passes; the next may begin at any time.
    Waiting,
    /// Recorded for the worker, which was or will be called.
    Handed,
    /// Recorded for the batch side.
    Deferred,
    /// Done.
    Done,
    /// Given up, with a reason.
    Failed,
}

impl State {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }

    /// All of them, in the order a job may see them.
    pub const ALL: [Self; 6] = [Self::Running, Self::Waiting, Self::Handed, Self::Deferred, Self::Done, Self::Failed];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Handed => "HANDED",
            Self::Deferred => "DEFERRED",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
        })
    }
}

/// Who does a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// The stream's own invocation.
    Stream,
    /// The worker function.
    Worker,
    /// The batch side.
    Batch,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stream => "stream",
            Self::Worker => "worker",
            Self::Batch => "batch",
        })
    }
}

/// How far a copy under a prefix has come: everything up to and including `after_key` is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// The last source key in listing order that is done, with all before it.
    pub after_key: String,
    /// Objects done.
    pub objects: u64,
    /// Bytes done.
    pub bytes: u64,
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Where the output is.
    pub output: String,
    /// Objects read.
    pub objects: u64,
    /// Files written.
    pub files: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Rows written; absent for copy, which does not look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Rows that the contract drops.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Rows put aside.
    pub quarantined: u64,
    /// Where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
    /// How often a wider type made it begin again.
    pub restarts: u32,
    /// Milliseconds in the attempt that finished it.
    pub ms: u64,
    /// What a person should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}
