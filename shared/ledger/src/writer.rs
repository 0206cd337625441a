//! Who writes: a name for each write, unlike that of any other write of any process.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes write tokens, by which a write that is repeated because its answer was lost knows itself.
#[derive(Debug)]
pub struct Writer {
    name: String,
    writes: AtomicU64,
}

impl Writer {
    /// `name` must be unlike that of any other process.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), writes: AtomicU64::new(0) }
    }

    /// Of this process: Lambda reuses neither the log stream's name nor, within one, the time of the start.
    pub fn of_process(log_stream: &str, started_ms: u64) -> Self {
        Self::new(format!("{log_stream}-{}-{started_ms}", std::process::id()))
    }

    /// The next.
    pub fn token(&self) -> String {
        format!("{}-{}", self.name, self.writes.fetch_add(1, Ordering::Relaxed))
    }
}
