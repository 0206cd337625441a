//! A request of many records of which some are refused, as a shard that is full does it.
//!
//! Source: Kinesis API reference, PutRecords; Firehose API reference, PutRecordBatch.

use std::num::NonZeroU64;

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What is passed on of a request, and which of its records are not.
pub(crate) struct Thinned {
    pub(crate) request: Bytes,
    refused: Vec<bool>,
}

/// Takes every `nth` record out of a request, counted from `number`, which should be another for each request: so a record
/// that comes again by itself gets through. `None` for what has no records.
pub(crate) fn thin(request: &[u8], nth: NonZeroU64, number: u64) -> Option<Thinned> {
    let mut request: Map<String, Value> = serde_json::from_slice(request).ok()?;
    let records = request.get_mut("Records")?.as_array_mut()?;
    let refused: Vec<bool> = (0..records.len() as u64).map(|at| (at + number).is_multiple_of(nth.get())).collect();
    let mut each = refused.iter();
    records.retain(|_| each.next() == Some(&false));
    Some(Thinned { request: Bytes::from(serde_json::to_vec(&request).ok()?), refused })
}

impl Thinned {
    /// Whether anything is left to be passed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.refused.iter().all(|refused| *refused)
    }

    /// The answer to the whole request: refusals where records were taken out, the rest as `answer` has it, which is what
    /// the service said of those that were passed on.
    pub(crate) fn answer(&self, answer: &[u8], firehose: bool) -> Bytes {
        let mut answer: Map<String, Value> = serde_json::from_slice(answer).unwrap_or_default();
        let (records, failed, code) = if firehose {
            ("RequestResponses", "FailedPutCount", "ServiceUnavailableException")
        } else {
            ("Records", "FailedRecordCount", "ProvisionedThroughputExceededException")
        };
        let taken = match answer.remove(records) {
            Some(Value::Array(taken)) => taken,
            _ => Vec::new(),
        };
        let mut taken = taken.into_iter();
        let refusal = json!({"ErrorCode": code, "ErrorMessage": "Rate exceeded; by the fault proxy."});
        let each = self.refused.iter().map(|refused| if *refused { Some(refusal.clone()) } else { taken.next() });
        let all: Vec<Value> = each.flatten().collect();
        let count = all.iter().filter(|record| record.get("ErrorCode").is_some_and(|code| !code.is_null())).count();
        answer.insert(failed.to_owned(), count.into());
        answer.insert(records.to_owned(), Value::Array(all));
        Bytes::from(Value::Object(answer).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(nth: u64) -> NonZeroU64 {
        NonZeroU64::new(nth).unwrap()
    }

    #[test]
    fn some_records_are_refused_and_the_others_answered_as_the_service_did() {
        let request = json!({"StreamName": "s", "Records": [{"Data": "a"}, {"Data": "b"}, {"Data": "c"}]}).to_string();
        let thinned = thin(request.as_bytes(), every(3), 2).unwrap();
        let passed: Value = serde_json::from_slice(&thinned.request).unwrap();
        assert_eq!(passed, json!({"StreamName": "s", "Records": [{"Data": "a"}, {"Data": "c"}]}));
        let said = json!({"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1"}, {"SequenceNumber": "2"}]});
        let answer: Value = serde_json::from_slice(&thinned.answer(said.to_string().as_bytes(), false)).unwrap();
        assert_eq!(answer["FailedRecordCount"], 1);
        assert_eq!(answer["Records"][0]["SequenceNumber"], "1");
        assert_eq!(answer["Records"][1]["ErrorCode"], "ProvisionedThroughputExceededException");
        assert_eq!(answer["Records"][2]["SequenceNumber"], "2");
    }

    #[test]
    fn one_record_alone_is_refused_and_comes_through_the_next_time() {
        let request = br#"{"Records": [{"Data": "a"}]}"#;
        assert!(thin(request, every(2), 0).unwrap().is_empty());
        assert!(!thin(request, every(2), 1).unwrap().is_empty());
        assert!(thin(b"{}", every(2), 0).is_none() && thin(b"", every(2), 0).is_none());
        let answer: Value = serde_json::from_slice(&thin(request, every(1), 0).unwrap().answer(b"", true)).unwrap();
        assert_eq!(answer["FailedPutCount"], 1);
    }
}
