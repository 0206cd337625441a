//! The Firehose transformation: a hundred thousand trips in Firehose-shaped batches through the deployed function.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aws_sdk_lambda::primitives::Blob;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weir_command::Location;
use weir_local::runtime::Answer;
use weir_tests::function::TRANSFORM;
use weir_tests::{Failed, Stack, aws};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../events/transform");

/// With dynamic partitioning on, as `TelemetryPartitioning=event` sets it.
#[tokio::test]
async fn partition_keys_are_given_where_they_are_wanted() -> Result<(), Failed> {
    let stack = Stack::open("transform-keys").await?;
    let function = stack.function_with(TRANSFORM, &[("CONTRACTS", "weir-trips=trips+keys")]).await?;
    let mut event: Value = serde_json::from_str(&std::fs::read_to_string(Path::new(FOLDER).join("direct-put.json"))?)?;
    let records = event["records"].as_array_mut().ok_or("no records")?;
    let data = STANDARD.decode(records[0]["data"].as_str().unwrap_or_default())?;
    let text = String::from_utf8(data)?;
    // Two days in one record: it can go to one of them only.
    let mixed = format!("{text}\n{}", text.replace("2024-01-04", "2024-01-05"));
    assert_ne!(mixed, format!("{text}\n{text}"));
    let record = json!({"recordId": "mixed", "approximateArrivalTimestamp": 1, "data": STANDARD.encode(mixed)});
    records.push(record);
    let Answer::Response(response) = function.invoke(&event.to_string(), Duration::from_secs(60)).await? else {
        return Err("no answer".into());
    };
    let answered: Value = serde_json::from_str(&response)?;
    let keys: Vec<(&str, &Value)> = answered["records"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|record| (record["result"].as_str().unwrap_or_default(), &record["metadata"]["partitionKeys"]))
        .collect();
    let day = json!({"event_date": "2024-01-04", "pickup_hour": "9"});
    assert_eq!(keys, [("Ok", &day), ("Ok", &day), ("ProcessingFailed", &Value::Null)]);
    Ok(())
}

#[tokio::test]
async fn the_table_has_the_contracts_columns() -> Result<(), Failed> {
    let contract = weir_contract::contract("trips")?;
    let table = aws(&["glue", "get-table", "--database-name", "weir", "--name", "trips", "--output", "json"]).await?;
    let table: Value = serde_json::from_str(&table)?;
    let columns: Vec<(String, String)> = table["Table"]["StorageDescriptor"]["Columns"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| {
            (column["Name"].as_str().unwrap_or_default().into(), column["Type"].as_str().unwrap_or_default().into())
        })
        .collect();
    assert_eq!(columns, contract.hive_columns(&[]));
    Ok(())
}

/// A trip, and what it is worth: its duration if it is good.
fn trip(number: u64) -> (String, Option<u64>) {
    let (hour, duration) = (number % 24, 60 + number % 3000);
    let good = format!(
        r#"{{"id":"t{number:07}","vendorId":{vendor},"pickupDate":"2024-03-{day:02} {hour:02}:59:57","dropoffDate":"2024-04-01T00:00:00Z","passengerCount":"{passengers}","pickupLongitude":-73.9,"pickupLatitude":40.8,"dropoffLongitude":-73.9,"dropoffLatitude":40.6,"storeAndFwdFlag":"N","gcDistance":3439.27,"tripDuration":{duration},"source":"meter"}}"#,
        vendor = number % 2 + 1,
        day = number % 28 + 1,
        passengers = number % 6 + 1,
    );
    match number % 500 {
        3 => (good.replace("40.6", "91"), None),
        103 => (good.replace("pickupDate", "pickup"), None),
        203 => (good.replace("2024-04-01T", "2024-02-30T"), None),
        303 => (good.replace("\"N\"", "\"perhaps\""), None),
        403 => (good.replace(",\"source\"", "\"source\""), None),
        _ => (good, Some(duration)),
    }
}

/// Batches as Firehose makes them: up to 500 records, and up to 3 MB of them.
#[tokio::test]
async fn a_hundred_thousand_trips_go_through_the_deployed_function_once() -> Result<(), Failed> {
    const TRIPS: u64 = 100_000;
    let stack = Stack::open("transform").await?;
    let lambda = aws_sdk_lambda::Client::new(&stack.aws);
    let (mut number, mut expected) = (0u64, (0u64, 0u64));
    let (mut found, mut failed, mut ids) = ((0u64, 0u64), 0, BTreeSet::new());
    for batch in 0.. {
        // Small records by the hundred, and large ones that fill 3 MB.
        let (records, trips_each) = if batch % 2 == 0 { (500, 1) } else { (400, 20) };
        let mut event = Vec::new();
        while event.len() < records && number < TRIPS {
            let mut data = String::new();
            for _ in 0..trips_each {
                let (document, duration) = trip(number);
                number += 1;
                data += &document;
                data.push('\n');
                if let Some(duration) = duration {
                    expected = (expected.0 + 1, expected.1 + duration);
                }
            }
            let id = format!("{batch}-{}", event.len());
            event.push(json!({"recordId": id, "approximateArrivalTimestamp": 1_704_362_397_000u64, "data": STANDARD.encode(data)}));
        }
        if event.is_empty() {
            break;
        }
        let sent: Vec<Value> = event.iter().map(|record| record["recordId"].clone()).collect();
        let event = json!({"invocationId": stack.run, "region": "us-east-1", "records": event,
            "deliveryStreamArn": "arn:aws:firehose:us-east-1:000000000000:deliverystream/weir-trips"});
        let payload = event.to_string();
        assert!(payload.len() < 6_000_000, "{} bytes are more than Lambda takes", payload.len());
        let answer = lambda.invoke().function_name("weir-transform").payload(Blob::new(payload)).send().await?;
        let answer = answer.payload.map(Blob::into_inner).unwrap_or_default();
        assert!(answer.len() < 6_000_000);
        let answer: Value = serde_json::from_slice(&answer)?;
        let answered: Vec<Value> =
            answer["records"].as_array().into_iter().flatten().map(|record| record["recordId"].clone()).collect();
        assert_eq!(answered, sent);
        for record in answer["records"].as_array().into_iter().flatten() {
            if record["result"] == "ProcessingFailed" {
                failed += 1;
                continue;
            }
            let data = STANDARD.decode(record["data"].as_str().unwrap_or_default())?;
            for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let row: Value = serde_json::from_slice(line)?;
                found = (found.0 + 1, found.1 + row["trip_duration"].as_u64().unwrap_or_default());
                assert!(ids.insert(row["id"].as_str().unwrap_or_default().to_owned()), "{row} came twice");
            }
        }
    }
    assert_eq!((number, expected.0), (TRIPS, TRIPS * 99 / 100));
    assert_eq!(found, expected);
    // Every bad one is accounted for, in one place: a document or a problem of ours each.
    let at = Location::parse(&format!("s3://{}/poison/firehose/weir-trips/2024-01-04/", stack.dead_letters))?;
    let letters = stack.lines(&at).await?;
    let ours = |letter: &&Value| letter["record_id"].as_str().is_some_and(|id| id.contains('-'));
    let (mut here, mut firehose, mut rules) = (0, 0, BTreeMap::new());
    for letter in letters.iter().filter(ours) {
        match letter["kept"].as_str() {
            Some("here") => {
                here += 1;
                *rules.entry(letter["rule"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
            _ => {
                firehose += 1;
                for problem in letter["problems"].as_array().into_iter().flatten() {
                    *rules.entry(problem["rule"].as_str().unwrap_or_default().to_owned()).or_insert(0) += 1;
                }
            }
        }
    }
    assert_eq!(firehose, failed);
    assert!(here > 0 && firehose > 0);
    let each = TRIPS / 500;
    let rules: Vec<(&str, u64)> = rules.iter().map(|(rule, count)| (rule.as_str(), *count)).collect();
    assert_eq!(rules, [("json", each), ("range", each), ("required", each), ("type", 2 * each)]);
    Ok(())
}
