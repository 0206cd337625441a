//! What the function says in its log, and counts.

use serde_json::{Value, json};
use weir_ledger::batch::{Lane, Phase};
use weir_telemetry::{Event, Level, Metric};

/// A lane came to a phase.
pub struct LaneChanged<'a>(pub &'a Lane);

impl Event for LaneChanged<'_> {
    fn level(&self) -> Level {
        match (self.0.phase, &self.0.failure) {
            (Phase::Halted, _) => Level::Error,
            (_, Some(_)) => Level::Warn,
            _ => Level::Info,
        }
    }

    fn message(&self) -> String {
        let with = match (&self.0.run, &self.0.load) {
            (Some(run), _) => format!(" with {}", run.id),
            (None, Some(load)) => format!(" {} of the runs that wait", load.runs),
            (None, None) => String::new(),
        };
        let why = self.0.failure.as_ref().map_or(String::new(), |failure| format!(": {}", failure.reason));
        format!("Lane {} is {}{with}{why}", self.0.name, self.0.phase)
    }

    fn facts(&self) -> Value {
        json!({"lane": self.0.name, "phase": self.0.phase, "run": self.0.run, "failure": self.0.failure,
               "load": self.0.load, "to_load": self.0.to_load.len()})
    }

    fn metrics(&self) -> Vec<Metric> {
        let name = match (self.0.phase, &self.0.failure) {
            (Phase::Running, _) => "RunsStarted",
            (Phase::Finishing, _) => "RunsDone",
            (Phase::Halted, _) => "RunsHalted",
            // It was given up, for now.
            (Phase::Idle, Some(_)) => "LoadsFailed",
            _ => return Vec::new(),
        };
        vec![Metric::count(name, 1)]
    }
}

/// Events of S3 were taken in.
pub struct Landed {
    /// Objects that wait now.
    pub pending: u64,
    /// Events that came before, or late.
    pub known: u64,
    /// Objects that are none of ours: folder markers, hidden names, other places.
    pub ignored: u64,
    /// Newer versions of objects that runs have.
    pub conflicts: u64,
}

impl Event for Landed {
    fn level(&self) -> Level {
        if self.conflicts > 0 { Level::Error } else { Level::Info }
    }

    fn message(&self) -> String {
        format!("Took in {} objects.", self.pending)
    }

    fn facts(&self) -> Value {
        let Self { pending, known, ignored, conflicts } = self;
        json!({"pending": pending, "known": known, "ignored": ignored, "conflicts": conflicts})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("ObjectsLanded", self.pending), Metric::count("ObjectsInConflict", self.conflicts)]
    }
}
