//! What happened, as typed events: one JSON line each on stdout, where Lambda's log agent picks it up.
//!
//! An event is a log line (a sentence, with its facts beside it) and, where it counts something, a CloudWatch metric in
//! the same line by the embedded metric format (EMF), so that metrics cost no API call. WARN means that nothing was lost,
//! ERROR that something was, or that a person must act. Payloads and secrets never go in: an event's fields are ids,
//! places, counts and reasons.

mod emf;
mod trouble;
mod visit;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

pub use emf::{Metric, Unit};
pub use trouble::{DeadLetter, Trouble};
pub use visit::Visit;

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Not as it should be, but nothing is lost.
    Warn,
    /// Something is lost, or a person must act.
    Error,
}

/// Something that happened.
pub trait Event {
    /// How serious.
    fn level(&self) -> Level;
    /// A sentence.
    fn message(&self) -> String;
    /// The facts, a JSON object.
    fn facts(&self) -> Value;
    /// What it counts.
    fn metrics(&self) -> Vec<Metric> {
        Vec::new()
    }
    /// Whether that is counted of the stack as a whole, and not of the function that says it.
    fn of_stack(&self) -> bool {
        false
    }
    /// Of when that is, in milliseconds since the epoch, if not of now.
    fn at_ms(&self) -> Option<u64> {
        None
    }
}

/// Who speaks: put on every line.
#[derive(Debug, Clone)]
pub struct Telemetry {
    function: String,
    namespace: String,
    silent: bool,
}

impl Telemetry {
    /// `function` is the metric dimension; `namespace` the CloudWatch namespace, normally the stack's name.
    pub fn new(function: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { function: function.into(), namespace: namespace.into(), silent: false }
    }

    /// Says nothing: for tests that go through thousands of invocations.
    pub fn silent() -> Self {
        Self { function: String::new(), namespace: String::new(), silent: true }
    }

    /// Writes one event for one invocation.
    pub fn emit(&self, request_id: &str, event: &dyn Event) {
        if self.silent {
            return;
        }
        let line = self.line(request_id, event, now_ms());
        let mut out = std::io::stdout().lock();
        // A log line that can't be written must not fail a job.
        let _ = writeln!(out, "{line}");
    }

    fn line(&self, request_id: &str, event: &dyn Event, now_ms: u64) -> Value {
        let mut line = match event.facts() {
            Value::Object(facts) => facts,
            _ => Map::new(),
        };
        let level = match event.level() {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        };
        for (name, value) in [
            ("level", Value::from(level)),
            ("message", event.message().into()),
            ("timestamp_ms", now_ms.into()),
            ("request_id", request_id.into()),
            ("function", self.function.as_str().into()),
        ] {
            line.insert(name.to_owned(), value);
        }
        let dimensions: &[&str] = if event.of_stack() { &[] } else { &["function"] };
        emf::attach(&mut line, &self.namespace, dimensions, event.at_ms().unwrap_or(now_ms), &event.metrics());
        Value::Object(line)
    }
}

/// Milliseconds since the epoch, by the system's clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failed;
    impl Event for Failed {
        fn level(&self) -> Level {
            Level::Error
        }
        fn message(&self) -> String {
            "The job failed.\nReally".into()
        }
        fn facts(&self) -> Value {
            serde_json::json!({"job_id": "j-1"})
        }
        fn metrics(&self) -> Vec<Metric> {
            vec![Metric::count("JobsFailed", 1), Metric::new("Duration", 12.0, Unit::Milliseconds)]
        }
    }

    struct OfStack;
    impl Event for OfStack {
        fn level(&self) -> Level {
            Level::Warn
        }
        fn message(&self) -> String {
            String::new()
        }
        fn facts(&self) -> Value {
            Value::Null
        }
        fn metrics(&self) -> Vec<Metric> {
            vec![Metric::count("AlertsUnheard", 1)]
        }
        fn of_stack(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_is_of_the_stack_has_no_dimension() {
        let line = Telemetry::new("realtime", "weir").line("r-1", &OfStack, 0);
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], serde_json::json!([[]]));
        assert_eq!(line["function"], "realtime");
    }

    #[test]
    fn an_event_is_one_json_line_with_its_metrics() {
        let line = Telemetry::new("realtime", "weir").line("r-1", &Failed, 1_700_000_000_000).to_string();
        assert!(!line.contains('\n'));
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["job_id"], "j-1");
        assert_eq!(value["JobsFailed"], 1.0);
        assert_eq!(value["_aws"]["Timestamp"], 1_700_000_000_000u64);
        assert_eq!(value["_aws"]["CloudWatchMetrics"][0]["Namespace"], "weir");
        assert_eq!(value["_aws"]["CloudWatchMetrics"][0]["Dimensions"], serde_json::json!([["function"]]));
        assert_eq!(value["_aws"]["CloudWatchMetrics"][0]["Metrics"][1]["Unit"], "Milliseconds");
    }
}
