//! What the function says in its log, and counts.

use serde_json::{Value, json};
use weir_telemetry::{Event, Level, Metric, Unit};

/// A batch was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchShaped {
    /// The delivery stream.
    pub stream: String,
    /// Records answered `Ok`, `Dropped` and `ProcessingFailed`.
    pub records: [u64; 3],
    /// Documents that were clean, dropped and bad.
    pub documents: [u64; 3],
    /// Records given back because the response was full.
    pub shed: u64,
    /// The payloads' size in bytes.
    pub bytes_in: u64,
    /// Where the dead letters are.
    pub letters: Option<String>,
    /// Why dead letters could not be stored: their records were left to Firehose whole.
    pub letters_failed: Option<String>,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// Whether it was this process's first.
    pub cold_start: bool,
}

impl Event for BatchShaped {
    fn level(&self) -> Level {
        if self.letters_failed.is_some() || self.shed > 0 { Level::Warn } else { Level::Info }
    }

    fn message(&self) -> String {
        let count: u64 = self.records.iter().sum();
        match &self.letters_failed {
            Some(why) => format!(
                "Answered a batch of {count} records; dead letters could not be stored, and Firehose keeps their records: {why}"
            ),
            None => format!("Answered a batch of {count} records."),
        }
    }

    fn facts(&self) -> Value {
        json!({"delivery_stream": self.stream, "shed": self.shed, "dead_letters": self.letters, "ms": self.ms, "cold_start": self.cold_start})
    }

    fn metrics(&self) -> Vec<Metric> {
        let ([ok, dropped, failed], [clean, ignored, bad]) = (self.records, self.documents);
        let judged = clean + bad;
        let percent = if judged == 0 { 0.0 } else { 100.0 * bad as f64 / judged as f64 };
        vec![
            Metric::count("RecordsReceived", ok + dropped + failed),
            Metric::count("RecordsDone", ok),
            Metric::count("RecordsSkipped", dropped),
            Metric::count("RecordsPoison", failed),
            Metric::count("RowsClean", clean),
            Metric::count("RowsDropped", ignored),
            Metric::count("RowsBad", bad),
            Metric::new("RowsBadPercent", percent, Unit::Percent),
            Metric::new("BytesIn", self.bytes_in as f64, Unit::Bytes),
        ]
    }
}
