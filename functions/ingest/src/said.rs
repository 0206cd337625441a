//! What the function says in its log, and counts.

use serde_json::{Value, json};
use weir_delivery::Failure;
use weir_ledger::positions::Range;
use weir_telemetry::{Event, Level, Metric, Unit};

use crate::partition::Counts;

/// A batch was answered.
pub struct BatchTaken<'a> {
    /// How many topic-partitions it had.
    pub partitions: usize,
    /// What became of their records, in all.
    pub counts: &'a Counts,
    /// The partitions that are to come again.
    pub held: usize,
    /// How old its oldest record was, in milliseconds.
    pub lag_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl Event for BatchTaken<'_> {
    fn level(&self) -> Level {
        if self.held > 0 { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        let held = if self.held > 0 { format!("; {} come again", self.held) } else { String::new() };
        format!("Took in {} rows of {} partitions{held}.", self.counts.clean, self.partitions)
    }

    fn facts(&self) -> Value {
        let Self { partitions, held, ms, cold_start, .. } = self;
        json!({"partitions": partitions, "held": held, "files": self.counts.files, "ms": ms, "cold_start": cold_start})
    }

    fn metrics(&self) -> Vec<Metric> {
        let Counts { records, known, clean, dropped, bad, poison, tombstones, files, bytes_out } = self.counts;
        vec![
            Metric::count("RecordsReceived", *records),
            Metric::count("RecordsSkipped", known + tombstones),
            Metric::count("RecordsPoison", *poison),
            Metric::count("RowsClean", *clean),
            Metric::count("RowsDropped", *dropped),
            Metric::count("RowsBad", *bad),
            Metric::count("FilesWritten", *files),
            Metric::count("PartitionsHeld", self.held as u64),
            Metric::new("BytesOut", *bytes_out as f64, Unit::Bytes),
            Metric::new("Lag", self.lag_ms as f64, Unit::Milliseconds),
            Metric::new("Duration", self.ms as f64, Unit::Milliseconds),
        ]
    }
}

/// A partition's records must come again.
pub struct Held<'a> {
    /// `topic-number`.
    pub partition: &'a str,
    /// Why.
    pub failure: &'a Failure,
}

impl Event for Held<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("Records of {} must come again: {}", self.partition, self.failure.reason)
    }

    fn facts(&self) -> Value {
        json!({"partition": self.partition, "code": self.failure.code, "fault": self.failure.fault})
    }
}

/// Records that are no rows were put with the dead letters.
pub struct Kept<'a> {
    /// Where.
    pub at: &'a str,
    /// How many.
    pub count: u64,
    /// Of which partition.
    pub position: &'a str,
}

impl Event for Kept<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!("{} records of {} are with the dead letters.", self.count, self.position)
    }

    fn facts(&self) -> Value {
        json!({"at": self.at, "position": self.position})
    }
}

/// Offsets were left out. They may never have had records; or their batch was given up, and lies with the dead letters.
pub struct GapFound<'a> {
    /// The partition's record in the ledger.
    pub position: &'a str,
    /// Which offsets.
    pub gap: Range,
}

impl Event for GapFound<'_> {
    fn level(&self) -> Level {
        if self.gap.to - self.gap.from > 1 { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        let Range { from, to } = self.gap;
        format!(
            "Offsets {from} to {} of {} were never delivered; should they come, they are taken in.",
            to - 1,
            self.position
        )
    }

    fn facts(&self) -> Value {
        json!({"position": self.position, "gap": self.gap})
    }

    fn metrics(&self) -> Vec<Metric> {
        // One offset is a transaction's marker, nearly always.
        let missing = self.gap.to.abs_diff(self.gap.from);
        if missing > 1 { vec![Metric::count("OffsetsMissing", missing)] } else { Vec::new() }
    }
}

/// There are more gaps than are remembered.
pub struct Forgotten<'a> {
    /// The partition's record in the ledger.
    pub position: &'a str,
    /// Which are not remembered any more.
    pub gaps: &'a [Range],
}

impl Event for Forgotten<'_> {
    fn level(&self) -> Level {
        // One offset is a transaction's marker, nearly always.
        if self.gaps.iter().all(|gap| gap.to - gap.from == 1) { Level::Info } else { Level::Error }
    }

    fn message(&self) -> String {
        format!(
            "{} gaps of {} are forgotten: should their records come, they are skipped.",
            self.gaps.len(),
            self.position
        )
    }

    fn facts(&self) -> Value {
        json!({"position": self.position, "gaps": self.gaps})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("GapsForgotten", self.gaps.len() as u64)]
    }
}

/// The list of what a worker left is gone.
pub struct ManifestGone<'a> {
    /// Where it was.
    pub manifest: &'a str,
}

impl Event for ManifestGone<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!("{} is gone: files that it named may lie in the table though they are not committed.", self.manifest)
    }

    fn facts(&self) -> Value {
        json!({"manifest": self.manifest})
    }
}

/// A topic was made anew, it seems.
pub struct Recreated<'a> {
    /// The partition's record in the ledger.
    pub position: &'a str,
    /// The offset that tells.
    pub offset: i64,
}

impl Event for Recreated<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!(
            "The topic of {} seems to have been made anew; nothing of it is read until someone decides.",
            self.position
        )
    }

    fn facts(&self) -> Value {
        json!({"position": self.position, "offset": self.offset})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("TopicsRecreated", 1)]
    }
}
