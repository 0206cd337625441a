//! The time there is.

use std::time::Duration;

use weir_telemetry::now_ms;

/// One invocation: who it is, and when Lambda ends it.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Lambda's request id.
    pub request_id: String,
    /// When Lambda kills it, in milliseconds since the epoch.
    pub deadline_ms: u64,
}

/// What an invocation keeps for handing on, cleaning up and answering.
const RESERVE_MS: u64 = 4_000;

impl Invocation {
    /// When work must stop: a reserve before the deadline, or half of what there is if that is less.
    pub fn stop_ms(&self) -> u64 {
        let left = self.deadline_ms.saturating_sub(now_ms());
        self.deadline_ms - RESERVE_MS.min(left / 2)
    }

    /// How long until then.
    pub fn working_time(&self) -> Duration {
        Duration::from_millis(self.stop_ms().saturating_sub(now_ms()))
    }
}
