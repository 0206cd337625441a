//! One invocation.

/// Who asks, and until when.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Lambda's request id.
    pub request_id: String,
    /// When Lambda kills it, in milliseconds since the epoch.
    pub deadline_ms: u64,
    /// What time it is, in the same.
    pub clock: fn() -> u64,
    /// Whether it is this process's first.
    pub cold_start: bool,
}

impl Visit {
    /// Milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        (self.clock)()
    }

    /// Whether there is more time than that until the deadline.
    pub fn has_left(&self, ms: u64) -> bool {
        self.now_ms() + ms < self.deadline_ms
    }
}
