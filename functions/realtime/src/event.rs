//! What the function says in its log, and counts.

use serde_json::{Value, json};
use weir_delivery::{Failure, Outcome};
use weir_ledger::{Job, State};
use weir_telemetry::{Event, Level, Metric, Unit};

/// A job came to a state.
pub struct JobChanged<'a>(pub &'a Job);

impl Event for JobChanged<'_> {
    fn level(&self) -> Level {
        match self.0.state {
            State::Failed => Level::Error,
            State::Waiting => Level::Warn,
            _ => Level::Info,
        }
    }

    fn message(&self) -> String {
        let Job { id, failure, .. } = self.0;
        let why = failure.as_ref().map_or(String::new(), |failure| format!(": {}", failure.reason));
        match self.0.state {
            State::Running => format!("Job {id} is running."),
            State::Waiting => format!("Job {id} waits for its next attempt{why}"),
            State::Handed => format!("Job {id} is handed to the worker."),
            State::Deferred => format!("Job {id} is deferred to batch."),
            State::Done => format!("Job {id} is done."),
            State::Failed => format!("Job {id} failed{why}"),
        }
    }

    fn facts(&self) -> Value {
        let Job { id, state, attempts, fence, failure, report, .. } = self.0;
        let (code, fault) = failure.as_ref().map_or((None, None), |f| (Some(&f.code), Some(f.fault)));
        json!({"job_id": id, "state": state, "attempts": attempts, "fence": fence, "code": code, "fault": fault, "report": report})
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![match self.0.state {
            State::Done => Metric::count("JobsDone", 1),
            State::Failed => Metric::count("JobsFailed", 1),
            State::Handed => Metric::count("JobsHanded", 1),
            State::Deferred => Metric::count("JobsDeferred", 1),
            State::Waiting => Metric::count("JobsRetried", 1),
            State::Running => return Vec::new(),
        }];
        if let (State::Done, Some(report)) = (self.0.state, &self.0.report) {
            metrics.push(Metric::new("BytesIn", report.bytes_in as f64, Unit::Bytes));
            metrics.push(Metric::new("JobDuration", report.ms as f64, Unit::Milliseconds));
        }
        metrics
    }
}

/// A batch was answered.
pub struct BatchAnswered<'a> {
    /// One a record.
    pub outcomes: &'a [Outcome],
    /// How long its oldest record lay in the stream, in milliseconds.
    pub lag_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl BatchAnswered<'_> {
    /// Why records are to come again.
    fn retried(&self) -> impl Iterator<Item = &Failure> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Retry(failure) => Some(failure),
            _ => None,
        })
    }
}

impl Event for BatchAnswered<'_> {
    fn level(&self) -> Level {
        if self.retried().next().is_some() { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        let count = self.outcomes.len();
        match self.retried().next() {
            None => format!("Answered a batch of {count} records."),
            Some(first) => {
                let again = self.retried().count();
                format!("Answered a batch of {count} records; {again} are to come again: {}", first.reason)
            }
        }
    }

    fn facts(&self) -> Value {
        let first = self.retried().next();
        let (code, fault) = first.map_or((None, None), |failure| (Some(&failure.code), Some(failure.fault)));
        json!({
            "records": self.outcomes.len(), "lag_ms": self.lag_ms, "ms": self.ms, "cold_start": self.cold_start, "code": code, "fault": fault,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let count = |is: fn(&Outcome) -> bool| self.outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
        vec![
            Metric::count("RecordsReceived", self.outcomes.len() as u64),
            Metric::count("RecordsDone", count(|outcome| matches!(outcome, Outcome::Done))),
            Metric::count("RecordsSkipped", count(|outcome| matches!(outcome, Outcome::Skipped(_)))),
            Metric::count("RecordsPoison", count(|outcome| matches!(outcome, Outcome::Poison(_)))),
            Metric::count("RecordsRetried", count(|outcome| matches!(outcome, Outcome::Retry(_)))),
            Metric::new("Lag", self.lag_ms as f64, Unit::Milliseconds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_records_come_again_is_said() {
        let denied = Failure::aws(Some("AccessDeniedException"), Some(400), "write the ledger: not authorized");
        let outcomes = [Outcome::Done, Outcome::Retry(denied.clone()), Outcome::Retry(denied)];
        let said = BatchAnswered { outcomes: &outcomes, lag_ms: 1, ms: 1, cold_start: false };
        assert_eq!(said.level(), Level::Warn);
        assert_eq!(said.facts()["code"], "AccessDeniedException");
        assert_eq!(
            said.message(),
            "Answered a batch of 3 records; 2 are to come again: write the ledger: not authorized"
        );
        let said = BatchAnswered { outcomes: &outcomes[..1], ..said };
        assert_eq!((said.level(), said.facts()["code"].is_null()), (Level::Info, true));
    }
}
