//! What the function says in its log, and counts.

use serde_json::{Value, json};
use weir_delivery::Failure;
use weir_live::{Counts, Plan, Published, Span, Window};
use weir_telemetry::{Event, Level, Metric, Unit};

use crate::deliver::Report;
use crate::handler::Turn;
use crate::visit::damaged;

/// A batch was counted into its window.
pub struct WindowGrew<'a> {
    /// The window's.
    pub turn: &'a Turn,
    /// What was in it before.
    pub before: Counts,
    /// What is in it now.
    pub counts: Counts,
    /// What is carried on, in bytes.
    pub state_bytes: usize,
    /// How long its oldest record lay in the stream, in milliseconds.
    pub lag_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl Event for WindowGrew<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        let events = self.counts.events - self.before.events;
        format!("Counted {events} events into the window of {}.", self.turn.span.start())
    }

    fn facts(&self) -> Value {
        let Self { turn, state_bytes, lag_ms, ms, cold_start, .. } = self;
        json!({
            "window_start": turn.span.start(), "shard": turn.shard, "is_last": turn.is_last, "state_bytes": state_bytes,
            "lag_ms": lag_ms, "ms": ms, "cold_start": cold_start,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let more = |of: fn(&Counts) -> u64| of(&self.counts) - of(&self.before);
        vec![
            Metric::count("EventsCounted", more(|counts| counts.events)),
            Metric::count("EventsLate", more(|counts| counts.late)),
            Metric::count("EventsBad", more(|counts| counts.bad)),
            Metric::count("EventsDropped", more(|counts| counts.dropped)),
            Metric::count("RecordsUnreadable", more(|counts| counts.unreadable)),
            Metric::count("RecordsRepeated", more(|counts| counts.repeated)),
            Metric::new("StateBytes", self.state_bytes as f64, Unit::Bytes),
            Metric::new("Lag", self.lag_ms as f64, Unit::Milliseconds),
            Metric::new("Duration", self.ms as f64, Unit::Milliseconds),
        ]
    }
}

/// A shard's window has ended, and is in the result. Its metrics are the statistics themselves, at the time of the window: what
/// adds up is the shard's own share (take the sum), everything else the result's, as far as it had come (take the maximum).
pub struct WindowEnded<'a> {
    turn: &'a Turn,
    metrics: Vec<Metric>,
    shards: Value,
    ms: u64,
}

impl<'a> WindowEnded<'a> {
    /// Of a shard's share and of the result.
    ///
    /// # Errors
    /// For a defect of ours.
    pub fn new(
        plan: &Plan,
        turn: &'a Turn,
        share: &mut Window,
        published: &Published,
        ms: u64,
    ) -> Result<Self, Failure> {
        let dataset = plan.dataset();
        let own = share.lines(plan).map_err(|error| damaged(&error))?.all;
        let all = published.all();
        let mut metrics = Vec::new();
        for (name, adds_up) in plan.columns().map(|(name, _)| (name, plan.adds_up(name))) {
            let value = if adds_up { own.get(name) } else { all.and_then(|all| all.get(name)) };
            if let Some(value) = value.and_then(Value::as_f64) {
                metrics.push(Metric::new(format!("{dataset}.{name}"), value, Unit::None));
            }
        }
        let scores = all.and_then(|all| all.get("scores")?.as_object());
        for (name, score) in scores.into_iter().flatten() {
            if let Some(score) = score.as_f64() {
                metrics.push(Metric::new(format!("{dataset}.{name}.score"), score, Unit::None));
            }
        }
        let shards = all.and_then(|all| all.get("shards")).cloned().unwrap_or_default();
        Ok(Self { turn, metrics, shards, ms })
    }
}

impl Event for WindowEnded<'_> {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        format!("The window of {} has ended on {}.", self.turn.span.start(), self.turn.shard)
    }

    fn facts(&self) -> Value {
        json!({"window_start": self.turn.span.start(), "shard": self.turn.shard, "shards": self.shards, "ms": self.ms})
    }

    fn metrics(&self) -> Vec<Metric> {
        self.metrics.clone()
    }

    fn at_ms(&self) -> Option<u64> {
        Some(self.turn.span.start_ms)
    }
}

/// Results were delivered.
pub struct Delivered {
    /// How many.
    pub report: Report,
    /// How long the one has been waiting that waits for longest, in milliseconds.
    pub age_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl Event for Delivered {
    fn level(&self) -> Level {
        Level::Info
    }

    fn message(&self) -> String {
        let Report { windows, documents, .. } = self.report;
        format!("Delivered {documents} documents of {windows} windows.")
    }

    fn facts(&self) -> Value {
        let Self { report, age_ms, ms, cold_start } = self;
        json!({"report": report, "age_ms": age_ms, "ms": ms, "cold_start": cold_start})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![
            Metric::count("WindowsDelivered", self.report.windows),
            Metric::count("DocumentsWritten", self.report.documents),
            Metric::new("DeliveryAge", self.age_ms as f64, Unit::Milliseconds),
            Metric::new("Duration", self.ms as f64, Unit::Milliseconds),
        ]
    }
}

/// OpenSearch does not take documents as they are.
pub struct DocumentsRefused<'a> {
    /// Their window.
    pub span: &'a Span,
    /// How many.
    pub count: u64,
    /// Why the first is not taken.
    pub failure: &'a Failure,
}

impl Event for DocumentsRefused<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        let Self { span, count, failure } = self;
        let (start, reason) = (span.start(), &failure.reason);
        format!("OpenSearch refuses {count} documents of the window of {start}, which stays to be delivered: {reason}")
    }

    fn facts(&self) -> Value {
        json!({"window_start": self.span.start(), "count": self.count, "code": self.failure.code})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("DocumentsRefused", self.count)]
    }
}

/// What was carried on can't be read.
pub struct StateLost<'a> {
    /// The window's.
    pub turn: &'a Turn,
    /// Why.
    pub reason: &'a str,
}

impl Event for StateLost<'_> {
    fn level(&self) -> Level {
        Level::Error
    }

    fn message(&self) -> String {
        format!("The window of {} begins anew and is incomplete: {}", self.turn.span.start(), self.reason)
    }

    fn facts(&self) -> Value {
        json!({"window_start": self.turn.span.start(), "shard": self.turn.shard})
    }

    fn metrics(&self) -> Vec<Metric> {
        vec![Metric::count("StatesLost", 1)]
    }
}
