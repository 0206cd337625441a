//! What every function says when something went wrong beside its work, or with what it was given.

use serde_json::{Value, json};
use weir_delivery::Failure;

use crate::{Event, Level, Metric};

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

/// A record, or an invocation, can never succeed, and lies with the dead letters.
pub struct DeadLetter<'a> {
    /// Where it is.
    pub at: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The metric that counts it, where no batch's does.
    pub counted: Option<&'static str>,
}

impl Event for DeadLetter<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!("What came can never succeed and lies with the dead letters: {}", self.reason)
    }

    fn facts(&self) -> Value {
        json!({"dead_letter": self.at})
    }

    fn metrics(&self) -> Vec<Metric> {
        self.counted.iter().map(|name| Metric::count(name, 1)).collect()
    }
}
