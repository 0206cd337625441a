//! What is said about bad documents, and where the documents themselves are kept.
//!
//! One object an invocation, a line a bad document or a record that failed:
//!
//! * `"kept": "here"`: the record went on without this document, which is in `raw_base64`.
//! * `"kept": "firehose"`: the whole record is under Firehose's prefix for what could not be processed, by the same
//!   `raw_sha256`; here are the reasons only, one a document.
//!
//! The object is named by its content, so that a batch that comes again overwrites it.

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use weir_command::Location;
use weir_delivery::Failure;
use weir_delivery::firehose::Record;
use weir_lake::Lake;

use crate::shape::{BadDocument, Shaped};

/// The letters of one invocation.
#[derive(Debug, Default)]
pub struct Letters {
    lines: String,
    first_ms: u64,
}

impl Letters {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// A document whose record goes on without it.
    pub fn keep(&mut self, stream: &str, record: &Record, bad: &BadDocument) {
        let raw = base64_simd::STANDARD.encode_to_string(&bad.raw);
        let kept = json!({"kept": "here", "value": bad.violation.value, "raw_base64": raw});
        self.add(stream, record, [problem(bad), kept]);
    }

    /// A record that Firehose keeps.
    pub fn explain(&mut self, stream: &str, record: &Record, data: &[u8], reason: &str, shaped: Option<&Shaped>) {
        let problems: Vec<Value> = shaped.iter().flat_map(|shaped| &shaped.bad).map(problem).collect();
        let kept = json!({"kept": "firehose", "raw_sha256": sha256(data)});
        self.add(stream, record, [json!({"reason": reason, "problems": problems}), kept]);
    }

    fn add(&mut self, stream: &str, record: &Record, members: [Value; 2]) {
        if self.first_ms == 0 {
            self.first_ms = record.arrived_ms;
        }
        let origin = json!({"delivery_stream": stream, "record_id": record.id, "arrived_ms": record.arrived_ms});
        let mut letter = Map::new();
        for part in members.into_iter().chain([origin]) {
            if let Value::Object(mut part) = part {
                letter.append(&mut part);
            }
        }
        self.lines.push_str(&Value::Object(letter).to_string());
        self.lines.push('\n');
    }

    /// Stores them.
    ///
    /// # Errors
    /// The lake's: then no document may be left to them.
    pub async fn store(&self, lake: &dyn Lake, bucket: &str, stream: &str) -> Result<Location, Failure> {
        let bucket = Location::parse(&format!("s3://{bucket}"))
            .map_err(|error| Failure::internal("Config", error.to_string()))?;
        let mut day = Vec::new();
        let days = i32::try_from(self.first_ms / 86_400_000).unwrap_or_default();
        weir_values::write_date(&mut day, days);
        let day = String::from_utf8_lossy(&day);
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let stream = stream.replace(|c: char| !legal(c), "_");
        let name = sha256(self.lines.as_bytes());
        let at = bucket.join(&format!("poison/firehose/{stream}/{day}/{name}.ndjson"));
        lake.put(&at, Bytes::from(self.lines.clone()), "application/x-ndjson").await?;
        Ok(at)
    }
}

fn problem(bad: &BadDocument) -> Value {
    let BadDocument { index, violation, .. } = bad;
    json!({"document": index, "rule": violation.rule.name(), "field": violation.field, "reason": violation.to_string()})
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
