//! What every function says when something beside its work went wrong.

use serde_json::{Value, json};
use weir_delivery::Failure;

use crate::{Event, Level};

/// Something did not work; nothing is lost, and it will be tried again.
pub struct Trouble<'a> {
    /// What was being done.
    pub doing: &'a str,
    /// Why it failed.
    pub failure: &'a Failure,
}

impl Event for Trouble<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("Could not {}: {}", self.doing, self.failure.reason)
    }

    fn facts(&self) -> Value {
        json!({"code": self.failure.code, "fault": self.failure.fault})
    }
}
