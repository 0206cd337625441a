//! What a compaction says in the log, and counts.

use serde_json::{Value, json};
use weir_delivery::Failure;
use weir_telemetry::{Event, Level, Metric, Unit};

use super::Compacted;

/// A partition was compacted.
pub struct PartitionMoved<'a> {
    /// What became of it.
    pub compacted: &'a Compacted,
    /// Its generation.
    pub generation: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Event for PartitionMoved<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        let Compacted { folder, files, into, .. } = self.compacted;
        format!("{files} files of {folder} are {into} now.")
    }

    fn facts(&self) -> Value {
        json!({"folder": self.compacted.folder, "generation": self.generation, "ms": self.ms})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::count("PartitionsCompacted", 1),
            Metric::count("FilesCompacted", self.compacted.files),
            Metric::count("FilesWritten", self.compacted.into),
            Metric::new("BytesOut", self.compacted.bytes as f64, Unit::Bytes),
            Metric::new("Duration", self.ms as f64, Unit::Milliseconds),
        ]
    }
}

/// A small file can't be read: it is copied as it is.
pub struct NotMerged<'a> {
    /// Where to.
    pub to: &'a str,
    /// Why.
    pub failure: &'a Failure,
}

impl Event for NotMerged<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("A file can't be read and is copied to {} as it is: {}", self.to, self.failure.reason)
    }

    fn facts(&self) -> Value {
        json!({"to": self.to, "code": self.failure.code})
    }
}

/// Files that nobody reads any more were deleted.
pub struct FolderDeleted<'a> {
    /// Where they were.
    pub at: &'a str,
    /// How many.
    pub files: u64,
}

impl Event for FolderDeleted<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        format!("{} files under {} are deleted: their rows are elsewhere.", self.files, self.at)
    }

    fn facts(&self) -> Value {
        json!({"at": self.at, "files": self.files})
    }
}

/// Readers were shown a folder that is not the newest.
pub struct Misplaced<'a> {
    /// Of which partition.
    pub folder: &'a str,
    /// What they were shown.
    pub was: &'a str,
    /// What they are shown now.
    pub is: &'a str,
}

impl Event for Misplaced<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("The catalog had {} at {}; it is at {} again.", self.folder, self.was, self.is)
    }

    fn facts(&self) -> Value {
        json!({"folder": self.folder, "was": self.was, "is": self.is})
    }
}
