//! What a function says in its log, and to people.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_delivery::Failure;
use weir_ledger::Store;
use weir_telemetry::{Event, Level, Metric, Telemetry, Visit};

use crate::{Notice, Publisher, notify, notify_surely};

/// Speaks for a function.
pub struct Herald {
    /// Log and metrics.
    pub telemetry: Telemetry,
    /// Counts notices.
    pub store: Arc<dyn Store>,
    /// Where notices go.
    pub publisher: Arc<dyn Publisher>,
}

impl Herald {
    /// Writes an event into the log.
    pub fn say(&self, visit: &Visit, event: &dyn Event) {
        self.telemetry.emit(&visit.request_id, event);
    }

    /// Tells people, unless they were told of one alike in this window. If that can't be done, the log says so: it must
    /// not fail the work.
    pub async fn tell(&self, notice: &Notice, visit: &Visit) {
        let told = notify(self.store.as_ref(), self.publisher.as_ref(), notice, visit.now_ms()).await;
        if let Err(failure) = told {
            self.say(visit, &Unheard(&failure));
        }
    }

    /// Tells people whatever they were told before.
    ///
    /// # Errors
    /// The publisher's: then nobody has heard.
    pub async fn tell_surely(&self, notice: &Notice) -> Result<(), Failure> {
        notify_surely(self.publisher.as_ref(), notice).await
    }
}

/// A notice could not be published, and why: people do not know what it was about.
pub struct Unheard<'a>(pub &'a Failure);

impl Event for Unheard<'_> {
    fn level(&self) -> Level {
        Level::Warn
    }

    fn message(&self) -> String {
        format!("Could not publish an alert: {}", self.0.reason)
    }

    fn facts(&self) -> Value {
        json!({"code": self.0.code, "fault": self.0.fault})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("AlertsUnheard", 1)]
    }

    // One alarm for whoever it was.
    fn of_stack(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AlertsUnheardAlarm looks at no function's.
    #[test]
    fn what_nobody_heard_is_counted_of_the_stack() {
        let failure = Failure::passing("NotPublished", "no answer");
        let unheard = Unheard(&failure);
        assert!(unheard.of_stack());
        assert_eq!(unheard.metrics(), [Metric::count("AlertsUnheard", 1)]);
    }
}
