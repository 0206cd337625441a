//! What a function says in its log, and to people.

use std::sync::Arc;

use weir_delivery::Failure;
use weir_ledger::Store;
use weir_telemetry::{Event, Telemetry, Trouble, Visit};

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
            self.say(visit, &Trouble { doing: "publish an alert", failure: &failure });
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
