//! Letters as they lie there: ours as the functions write them, Lambda's and Firehose's as their guides show them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use std::collections::BTreeSet;

use weir_command::Location;

use super::letters::{Known, Letter, Opened, Record, To};

fn known() -> Known {
    let errors = vec![(at("telemetry-errors/trips/"), "weir-trips".to_owned())];
    let streams = ["weir-commands", "weir-changes"].map(str::to_owned).into();
    Known { stack: "weir".to_owned(), errors, streams, topics: ["orders".to_owned()].into() }
}

fn at(key: &str) -> Location {
    Location::parse(&format!("s3://letters/{key}")).unwrap()
}

fn open(key: &str, bytes: &[u8]) -> Result<Opened, String> {
    super::letters::open(&at(key), bytes, &known())
}

fn read(key: &str, bytes: &[u8]) -> Result<Vec<Letter>, String> {
    open(key, bytes).map(|opened| opened.letters)
}

fn one(key: &str, object: &Value) -> Letter {
    let letters = read(key, object.to_string().as_bytes()).unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters[0].clone()
}

/// Bytes that are no text.
const RAW: &[u8] = &[0, 159, 146, 150, b'\n', 255];

#[test]
fn records_of_streams_go_to_their_stream_by_their_key() {
    let mut object = json!({
        "reason": "it is no JSON", "arrived_ms": 1_714_557_600_000u64, "stored_ms": 1_714_557_601_000u64, "raw_base64": STANDARD.encode(RAW),
        "origin": {"stream": "weir-commands", "shard": "shardId-000000000000", "sequence_number": "4956", "index": 0, "partition_key": "k"},
    });
    let key = "poison/weir-commands/shardId-000000000000/4956.json";
    let letter = one(key, &object);
    assert_eq!(letter.to, To::Stream("weir-commands".into(), Some("k".into())));
    assert_eq!((letter.raw.as_deref(), letter.arrived_ms), (Some(RAW), 1_714_557_600_000));
    // As letters were before they had the key, and one whose stream is not known.
    object["origin"].as_object_mut().unwrap().remove("partition_key");
    assert_eq!(one(key, &object).to, To::Stream("weir-commands".into(), None));
    object["origin"]["stream"] = "unknown".into();
    assert!(matches!(one(key, &object).to, To::Nowhere(_)));
    assert!(!open(key, object.to_string().as_bytes()).unwrap().has_parts());
}

#[test]
fn what_our_own_code_keeps_is_read() {
    use weir_delivery::kinesis::read_batch;
    let event = json!({"Records": [{
        "kinesis": {"partitionKey": "k", "sequenceNumber": "49", "data": STANDARD.encode(RAW), "approximateArrivalTimestamp": 1_714_557_600.5},
        "eventID": "shardId-000000000000:49", "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-commands",
    }]});
    let record = read_batch(&event.to_string()).unwrap().remove(0);
    let origin = serde_json::to_value(&record.origin).unwrap();
    let object =
        json!({"reason": "r", "origin": origin, "arrived_ms": record.arrived_ms, "raw_base64": STANDARD.encode(RAW)});
    let letter = one("poison/weir-commands/shardId-000000000000/49.json", &object);
    assert_eq!(letter.to, To::Stream("weir-commands".into(), Some("k".into())));
}

#[test]
fn documents_of_deliveries_are_letters_and_explanations_are_none() {
    let here = json!({
        "document": 0, "rule": "range", "field": "vendor_id", "reason": "vendor_id is -1", "kept": "here", "value": -1,
        "raw_base64": STANDARD.encode(RAW), "delivery_stream": "weir-trips", "record_id": "1", "arrived_ms": 7,
    });
    let elsewhere = json!({"reason": "no JSON", "problems": [], "kept": "firehose", "raw_sha256": "00", "delivery_stream": "weir-trips", "arrived_ms": 7});
    let bytes = format!("{elsewhere}\n{here}\n{here}\n");
    let key = "poison/firehose/weir-trips/2024-05-01/abc.ndjson";
    let letters = read(key, bytes.as_bytes()).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.line).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((&letters[0].to, letters[0].raw.as_deref()), (&To::Delivery("weir-trips".into()), Some(RAW)));
    let opened = open(key, bytes.as_bytes()).unwrap();
    assert!(opened.has_parts());
    let without = |some: &[usize]| opened.without(bytes.as_bytes(), &BTreeSet::from_iter(some.iter().copied()));
    assert_eq!(without(&[1]), Some(format!("{elsewhere}\n{here}\n").into_bytes()));
    assert_eq!(without(&[0, 1, 2]), None);
}

#[test]
fn what_firehose_keeps_goes_to_the_delivery_whose_prefix_it_is() {
    let line = json!({
        "attemptsMade": 4, "arrivalTimestamp": 1_714_557_600_000u64, "errorCode": "Lambda.ProcessingFailedStatus",
        "errorMessage": "ProcessingFailed status set for record", "attemptEndingTimestamp": 1_714_557_700_000u64,
        "rawData": STANDARD.encode(RAW), "lambdaArn": "arn:aws:lambda:us-east-1:123456789012:function:weir-transform",
    });
    let key = "telemetry-errors/trips/processing-failed/2024-05-01/weir-trips-1-2024-05-01-10-00-00-x";
    let letter = one(key, &line);
    assert_eq!((&letter.to, letter.raw.as_deref()), (&To::Delivery("weir-trips".into()), Some(RAW)));
    assert!(letter.reason.starts_with("Lambda.ProcessingFailedStatus: Processing"), "{}", letter.reason);
    assert!(open(key, line.to_string().as_bytes()).unwrap().has_parts());
}

/// Firehose developer guide, "Handle errors for data format conversion".
#[test]
fn what_was_transformed_is_not_sent_to_be_transformed_again() {
    let line = json!({
        "attemptsMade": 4, "arrivalTimestamp": 1_714_557_600_000u64, "lastErrorCode": "DataFormatConversion.MalformedData",
        "lastErrorMessage": "a string where a number should be", "attemptEndingTimestamp": 1_714_557_700_000u64, "rawData": STANDARD.encode(RAW),
        "sequenceNumber": "49", "subSequenceNumber": null, "dataCatalogTable": {"databaseName": "weir", "tableName": "trips"},
    });
    let letter = one("telemetry-errors/trips/format-conversion-failed/2024-05-01/x", &line);
    assert!(letter.reason.contains("MalformedData") && !letter.to.is_somewhere(), "{letter:?}");
}

#[test]
fn kafka_records_keep_key_headers_time_and_that_they_are_tombstones() {
    let mut line = json!({
        "topic": "orders", "partition": 3, "offset": 12, "timestamp_ms": 1_714_557_600_000i64, "rule": "json", "field": null, "reason": "no JSON",
        "value": null, "key_base64": STANDARD.encode(b"key"), "headers": [{"name": "trace", "value_base64": STANDARD.encode(RAW)}],
        "value_base64": STANDARD.encode(RAW),
    });
    let key = "poison/ingest/orders/3/x.ndjson";
    let record = Record {
        topic: "orders".into(),
        partition: 3,
        key: Some(b"key".to_vec()),
        headers: vec![("trace".into(), RAW.to_vec())],
    };
    let letter = one(key, &line);
    assert_eq!((&letter.to, letter.raw.as_deref()), (&To::Topic(record.clone()), Some(RAW)));
    line["value_base64"] = Value::Null;
    assert_eq!((one(key, &line).to, one(key, &line).raw), (To::Topic(record), None));
    line.as_object_mut().unwrap().remove("value_base64");
    line["event_record_base64"] = STANDARD.encode(b"{}").into();
    assert!(matches!(one(key, &line).to, To::Nowhere(_)));
}

/// Lambda developer guide, "Retaining discarded batch records for a Kinesis event source in Lambda".
fn given_up(function: &str, payload: &Value) -> Value {
    json!({
        "requestContext": {"requestId": "c9b8fa9f", "functionArn": format!("arn:aws:lambda:us-east-1:123456789012:function:{function}"),
            "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0", "timestamp": "2024-05-01T10:00:00.000Z",
        "KinesisBatchInfo": {"shardId": "shardId-000000000001", "startSequenceNumber": "1", "endSequenceNumber": "2", "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-changes"},
        "payload": payload.to_string(),
    })
}

#[test]
fn what_a_mapping_gave_up_goes_to_its_stream_unless_others_have_it() {
    let record = |number: &str, stream: &str| {
        json!({
            "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": number, "data": STANDARD.encode(RAW), "approximateArrivalTimestamp": 5.0},
            "eventID": format!("shardId-000000000001:{number}"), "eventSourceARN": format!("arn:aws:kinesis:us-east-1:123456789012:stream/{stream}"),
        })
    };
    let key = "aws/lambda/0a1b/shardId-000000000001/2024/05/01/2024-05-01T10.00.00-x";
    let payload = json!({"Records": [record("1", "weir-changes"), record("2", "weir-changes")]});
    let letters = read(key, given_up("weir-cdc", &payload).to_string().as_bytes()).unwrap();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|letter| letter.to == To::Stream("weir-changes".into(), Some("k".into()))));
    assert!(
        letters
            .iter()
            .all(|letter| letter.raw.as_deref() == Some(RAW) && letter.reason.contains("RetryAttemptsExhausted"))
    );
    // Sent again, these would be in the table twice.
    let payload = json!({"Records": [record("1", "weir-telemetry")]});
    let letter = one(key, &given_up("weir-analytics", &payload));
    assert!(matches!(letter.to, To::Nowhere(_)), "{letter:?}");
}

#[test]
fn what_a_kafka_mapping_gave_up_goes_to_its_topic() {
    let payload = json!({
        "eventSource": "SelfManagedKafka", "bootstrapServers": "one:9096",
        "records": {"orders-1": [{"topic": "orders", "partition": 1, "offset": 9, "timestamp": 7, "timestampType": "CREATE_TIME",
            "key": STANDARD.encode(b"key"), "value": STANDARD.encode(RAW), "headers": [{"trace": [1, 2]}]}]},
    });
    let mut object = given_up("weir-ingest", &payload);
    object.as_object_mut().unwrap().remove("KinesisBatchInfo");
    let letter = one("aws/lambda/0a1b/orders/1/x", &object);
    let To::Topic(record) = &letter.to else { panic!("{letter:?}") };
    assert_eq!((record.topic.as_str(), record.partition, record.key.as_deref()), ("orders", 1, Some(&b"key"[..])));
    assert_eq!((letter.raw.as_deref(), &record.headers), (Some(RAW), &vec![("trace".to_owned(), vec![1, 2])]));
}

/// Lambda developer guide, "Capturing records of Lambda asynchronous invocations".
#[test]
fn asynchronous_calls_are_made_again_byte_for_byte() {
    let object = r#"{"version":"1.0","timestamp":"2024-05-01T10:00:00.000Z","requestContext":{"requestId":"e4b46cbf","functionArn":"arn:aws:lambda:us-east-1:123456789012:function:weir-orchestrator:$LATEST","condition":"RetriesExhausted","approximateInvokeCount":3},"requestPayload":{"b": 1,  "a":1.0},"responseContext":{"statusCode":200,"executedVersion":"$LATEST","functionError":"Unhandled"},"responsePayload":{"errorMessage":"throttled"}}"#;
    let letters = read("aws/lambda/async/weir-orchestrator/2024/05/01/x", object.as_bytes()).unwrap();
    assert_eq!(letters[0].to, To::Function("weir-orchestrator".into()));
    assert_eq!(letters[0].raw.as_deref(), Some(&br#"{"b": 1,  "a":1.0}"#[..]));
    assert!(letters[0].reason.contains("RetriesExhausted") && letters[0].reason.contains("throttled"));
    let buried = json!({"reason": "it is no event", "request_id": "r", "stored_ms": 5, "raw": r#"{"x": 1}"#});
    let letter = one("poison/orchestrator/abc.json", &buried);
    assert_eq!(
        (letter.to, letter.raw.as_deref()),
        (To::Function("weir-orchestrator".into()), Some(&br#"{"x": 1}"#[..]))
    );
}

#[test]
fn what_is_no_letter_is_said_or_left_alone() {
    assert!(read("poison/weir-commands/s/1.json", b"{").is_err());
    assert!(read("aws/lambda/x/y/z", b"{}").is_err());
    let said = read("poison/firehose/weir-trips/d/x.ndjson", b"{}\n").unwrap_err();
    assert!(said.contains("line 1"), "{said}");
    assert_eq!(read("notes.txt", b"hello"), Ok(Vec::new()));
}
