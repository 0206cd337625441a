//! What the function says in its log, and counts.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_changes::{Control, Source};
use weir_delivery::{Failure, Outcome};
use weir_telemetry::{Event, Level, Metric, Unit};

use crate::commit::Done;
use crate::sort::Counts;

/// A batch of the stream was answered.
pub struct BatchStaged<'a> {
    /// One a record.
    pub outcomes: &'a [Outcome],
    /// What they were.
    pub counts: &'a Counts,
    /// Messages about tables that are not taken.
    pub not_taken: u64,
    /// Files that were staged.
    pub files: u64,
    /// How long its oldest record lay in the stream, in milliseconds.
    pub lag_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl BatchStaged<'_> {
    fn count(&self, is: impl Fn(&Outcome) -> bool) -> u64 {
        self.outcomes.iter().filter(|outcome| is(outcome)).count() as u64
    }
}

impl Event for BatchStaged<'_> {
    fn level(&self) -> Level {
        let retried = self.count(|outcome| matches!(outcome, Outcome::Retry(_)));
        if retried > 0 { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        format!("Staged a batch of {} records, for {} tables.", self.outcomes.len(), self.files)
    }

    fn facts(&self) -> Value {
        let Self { outcomes, files, lag_ms, ms, cold_start, .. } = self;
        json!({"records": outcomes.len(), "files": files, "lag_ms": lag_ms, "ms": ms, "cold_start": cold_start})
    }

    fn metrics(&self) -> Vec<Metric> {
        let Counts { loaded, inserted, updated, deleted, controls, skipped } = self.counts;
        vec![
            Metric::count("RecordsReceived", self.outcomes.len() as u64),
            Metric::count("RecordsPoison", self.count(|outcome| matches!(outcome, Outcome::Poison(_)))),
            Metric::count("RecordsRetried", self.count(|outcome| matches!(outcome, Outcome::Retry(_)))),
            Metric::count("RecordsSkipped", skipped + self.not_taken),
            Metric::count("RowsLoaded", *loaded),
            Metric::count("RowsInserted", *inserted),
            Metric::count("RowsUpdated", *updated),
            Metric::count("RowsDeleted", *deleted),
            Metric::count("Controls", *controls),
            Metric::new("Lag", self.lag_ms as f64, Unit::Milliseconds),
            Metric::new("Duration", self.ms as f64, Unit::Milliseconds),
        ]
    }
}

/// Changes came of a table that is not taken. Said once a process.
pub struct NotTaken<'a> {
    /// The table.
    pub source: &'a Source,
    /// How many in this batch.
    pub count: u64,
}

impl Event for NotTaken<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("Changes of {} are left out: ChangeTables does not name it.", self.source)
    }

    fn facts(&self) -> Value {
        json!({"table": self.source.to_string(), "count": self.count})
    }
}

/// Something was said about a table.
pub struct ControlCame<'a>(pub &'a Control);

impl ControlCame<'_> {
    /// Whether rows are gone by it that no message names.
    fn empties(&self) -> bool {
        let word = self.0.operation.to_ascii_lowercase();
        word == "t"
            || ["drop-table", "droptable", "rename-table", "renametable", "truncate"].iter().any(|it| word.contains(it))
    }
}

impl Event for ControlCame<'_> {
    fn level(&self) -> Level {
        if self.empties() { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        let Control { source, operation, .. } = self.0;
        let stay = if self.empties() { " Its rows stay in the Hudi table." } else { "" };
        format!("The database says `{operation}` of {source}.{stay}")
    }

    fn facts(&self) -> Value {
        json!({"table": self.0.source.to_string(), "operation": self.0.operation})
    }

    fn metrics(&self) -> Vec<Metric> {
        if self.empties() { vec![Metric::count("TablesEmptied", 1)] } else { Vec::new() }
    }
}

/// Members came that the table's contract has no column for. Said once a process.
pub struct ColumnsLeftOut<'a> {
    /// The table.
    pub source: &'a Source,
    /// Which.
    pub columns: &'a BTreeSet<&'a str>,
}

impl Event for ColumnsLeftOut<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        format!("Columns of {} are left out that its contract does not have.", self.source)
    }

    fn facts(&self) -> Value {
        json!({"table": self.source.to_string(), "columns": self.columns})
    }
}

/// Staged changes are gone.
pub struct StagedGone<'a> {
    /// The table.
    pub source: &'a Source,
    /// Of which shard.
    pub shard: &'a str,
}

impl Event for StagedGone<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!("Changes of {} that were staged are gone.", self.source)
    }

    fn facts(&self) -> Value {
        json!({"table": self.source.to_string(), "shard": self.shard})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("StagedGone", 1)]
    }
}

/// What waits, when the committer comes.
pub struct Due {
    /// Tables that have something staged and may be tried.
    pub tables: usize,
    /// How long the one has been waiting that waits for longest, in milliseconds.
    pub age_ms: u64,
}

impl Event for Due {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        format!("{} tables have changes staged.", self.tables)
    }

    fn facts(&self) -> Value {
        json!({"tables": self.tables, "age_ms": self.age_ms})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::new("StagedAge", self.age_ms as f64, Unit::Milliseconds)]
    }
}

/// A table has a new commit.
pub struct Committed<'a> {
    /// The table.
    pub source: &'a Source,
    /// The commit.
    pub commit: &'a Done,
}

impl Event for Committed<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        let Done { counts, instant, .. } = self.commit;
        let changed = counts.inserted + counts.updated + counts.deleted;
        format!("Committed {changed} changes of {} at {instant}.", self.source)
    }

    fn facts(&self) -> Value {
        let Done { instant, counts, bad, staged, files, bytes, lag_ms, ms, .. } = self.commit;
        json!({
            "table": self.source.to_string(), "instant": instant.to_string(), "inserted": counts.inserted, "updated": counts.updated,
            "deleted": counts.deleted, "moved": counts.moved, "late": counts.late, "absent": counts.absent, "bad": bad,
            "staged": staged, "files": files, "bytes": bytes, "lag_ms": lag_ms, "ms": ms,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let Done { counts, bad, dropped, files, bytes, lag_ms, ms, .. } = self.commit;
        vec![
            Metric::count("RowsInserted", counts.inserted),
            Metric::count("RowsUpdated", counts.updated),
            Metric::count("RowsDeleted", counts.deleted),
            Metric::count("ChangesLate", counts.late),
            Metric::count("RowsBad", *bad),
            Metric::count("RowsDropped", *dropped),
            Metric::count("FilesWritten", *files),
            Metric::new("BytesOut", *bytes as f64, Unit::Bytes),
            Metric::new("Lag", *lag_ms as f64, Unit::Milliseconds),
            Metric::new("Duration", *ms as f64, Unit::Milliseconds),
        ]
    }
}

/// A table can't be written.
pub struct TableHeld<'a> {
    /// The table, as the ledger calls it.
    pub table: &'a str,
    /// Why.
    pub failure: &'a Failure,
    /// Whether that may well pass.
    pub is_quiet: bool,
}

impl Event for TableHeld<'_> {
    fn level(&self) -> Level {
        if self.is_quiet { Level::Warn } else { Level::Error }
    }

    fn message(&self) -> String {
        format!("Changes of {} wait: {}", self.table, self.failure.reason)
    }

    fn facts(&self) -> Value {
        json!({"table": self.table, "code": self.failure.code, "fault": self.failure.fault})
    }

    fn metrics(&self) -> Vec<Metric> {
        if self.is_quiet { Vec::new() } else { vec![Metric::count("TablesHeld", 1)] }
    }
}
