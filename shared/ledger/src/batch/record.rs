//! A lane's record, as the ledger keeps it.

use std::fmt;

use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

use super::load::{Load, ToLoad};

/// What the name of a single job's lane begins with.
const JOB: &str = "job:";

/// A lane's record. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// The dataset's name, or `job:<id>`.
    pub name: String,
    /// Counts the writes of this record: what compare-and-swap compares.
    pub version: u64,
    /// Names the write that made this version.
    pub write_token: String,
    /// Where its run stands.
    pub phase: Phase,
    /// The run, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// When the sweep shall look at it, if nothing else has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_at_ms: Option<u64>,
    /// The id of the last run that did its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_run: Option<String>,
    /// When the newest object landed that a run has done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark_ms: Option<u64>,
    /// When something landed last, to about [`NOTED_MS`](super::lane::NOTED_MS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed_ms: Option<u64>,
    /// Why it waits, or why it is halted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Runs whose sums are not in the warehouse yet, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to_load: Vec<ToLoad>,
    /// The load, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// What the warehouse's table and views are known to be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// When DynamoDB may forget it, in *seconds* since the epoch: the lane of a single job, once that is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
}

/// Where a lane's run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// There is none.
    Idle,
    /// Its objects are being claimed.
    Claiming,
    /// Glue is being asked, or will be.
    Starting,
    /// Glue has it.
    Running,
    /// It is done; its objects and records are being moved.
    Finishing,
    /// It is over; what it added up is being loaded into the warehouse.
    Loading,
    /// It failed too often. A person must look at it.
    Halted,
}

impl fmt::Display for Phase {
    /// As it is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_uppercase())
    }
}

/// A run. It keeps its name over all its starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its name, which is the id of its job and part of every path it writes.
    pub id: String,
    /// The number of its claim: the lane's version then. One that is made again has a higher one.
    pub claim: u64,
    /// What the present start goes by; unlike that of any other start of any run.
    pub token: String,
    /// How many starts there were, this one included.
    pub starts: u32,
    /// How many of them failed since a person last looked.
    pub failed: u32,
    /// Glue's id, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glue_run: Option<String>,
    /// Until when whoever is starting it has it to itself; 0: nobody is.
    pub lease_until_ms: u64,
    /// When it was claimed.
    pub claimed_ms: u64,
    /// How many objects it works on.
    pub objects: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Lane {
    /// A lane that has never had a run.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 0,
            write_token: String::new(),
            phase: Phase::Idle,
            run: None,
            look_at_ms: None,
            last_successful_run: None,
            watermark_ms: None,
            landed_ms: None,
            failure: None,
            to_load: Vec::new(),
            load: None,
            shape: None,
            expires_s: None,
        }
    }

    /// The job that this is the lane of, if it is one's.
    pub fn job_id(&self) -> Option<&str> {
        self.name.strip_prefix(JOB)
    }

    /// The lane of a deferred job.
    pub fn of_job(id: &str) -> Self {
        Self::new(&format!("{JOB}{id}"))
    }

    pub(super) fn step(&self, phase: Phase, look_at_ms: Option<u64>) -> Self {
        Self { phase, look_at_ms, version: self.version + 1, ..self.clone() }
    }

    pub(super) fn with_run(mut self, change: impl FnOnce(&mut Run)) -> Self {
        if let Some(run) = &mut self.run {
            change(run);
        }
        self
    }
}
