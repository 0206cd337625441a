//! Firehose's batches: what becomes of each record, and who keeps those that are put aside.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weir_command::Location;
use weir_local::runtime::Answer;
use weir_tests::function::TRANSFORM;
use weir_tests::sam::By;
use weir_tests::{Failed, Stack};

use crate::{event, names, own_bucket};

/// What each file's records come to, and how many documents its `Ok` ones hold.
const RESULTS: [(&str, &[&str], usize); 8] = [
    ("bad-and-good.json", &["Ok", "Failed", "Failed", "Dropped", "Failed", "Ok"], 3),
    ("cloudwatch-logs.json", &["Ok", "Dropped"], 1),
    ("direct-put.json", &["Ok", "Ok"], 2),
    ("kinesis.json", &["Ok", "Ok"], 2),
    ("msk.json", &["Ok", "Ok"], 2),
    ("packed.json", &["Ok", "Ok", "Ok", "Ok"], 10),
    ("strange-envelopes.json", &["Ok", "Failed", "Failed", "Ok"], 2),
    ("unknown-stream.json", &["Failed"], 0),
];

/// The dead letters of all these files, by who keeps the document.
const KEPT: [(&str, usize); 2] = [("firehose", 6), ("here", 2)];

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-transform-{by}")).await?;
    let letters = own_bucket(&stack).await?;
    let Some(function) = stack.run(by, TRANSFORM, &[("DEAD_LETTER_BUCKET", &letters)]).await? else { return Ok(()) };
    assert_eq!(
        names("transform")?,
        RESULTS.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        "a file is untold or gone"
    );
    for (name, results, documents) in RESULTS {
        let event = event("transform", name)?;
        // A batch that comes again is answered again, and leaves nothing twice.
        for _ in 0..2 {
            let Answer::Response(response) = function.invoke(&event, Duration::from_secs(60)).await? else {
                return Err(format!("{name}: no answer").into());
            };
            let (sent, answered): (Value, Value) = (serde_json::from_str(&event)?, serde_json::from_str(&response)?);
            let ids = |batch: &Value| -> Vec<Value> {
                batch["records"].as_array().into_iter().flatten().map(|record| record["recordId"].clone()).collect()
            };
            assert_eq!(ids(&answered), ids(&sent), "{name}");
            let mut lines = 0;
            for (record, expected) in answered["records"].as_array().into_iter().flatten().zip(results) {
                let result = record["result"].as_str().unwrap_or_default();
                assert!(result == *expected || result == format!("Processing{expected}"), "{name}: {record}");
                let member = if name == "msk.json" { "kafkaRecordValue" } else { "data" };
                let data = STANDARD.decode(record[member].as_str().unwrap_or_default())?;
                for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let row: Value = serde_json::from_slice(line)?;
                    assert_eq!(row["event_date"], "2024-01-04", "{name}");
                    lines += 1;
                }
            }
            assert_eq!(lines, documents, "{name}");
        }
    }
    let letters = stack.lines(&Location::parse(&format!("s3://{letters}/"))?).await?;
    let mut kept = BTreeMap::new();
    for letter in &letters {
        *kept.entry(letter["kept"].as_str().unwrap_or_default()).or_insert(0) += 1;
        assert_eq!(letter.get("raw_base64").is_some(), letter["kept"] == "here", "{letter}");
    }
    assert_eq!(kept, BTreeMap::from(KEPT), "{letters:#?}");
    Ok(())
}
