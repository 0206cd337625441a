//! What Lambda does with a batch that fails is said, of every mapping: nothing is left to defaults, by which a batch blocks its
//! shard for days and then is gone.

use serde_json::Value;
use weir_template::Stack;

use crate::worlds::{stacks, template};

/// Kinesis events of a stack's functions: the function's logical name, and the mapping's properties.
fn kinesis(stack: &Stack<'_>) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (function, properties) in stack.resources("AWS::Serverless::Function") {
        for (name, event) in properties["Events"].as_object().into_iter().flatten() {
            if event["Type"] == "Kinesis" {
                found.push((format!("{function}.{name}"), event["Properties"].clone()));
            }
        }
    }
    found
}

#[test]
fn every_stream_mapping_says_what_becomes_of_failures() {
    let template = template();
    let mut seen = 0;
    for (world, stack) in stacks(&template) {
        for (name, mapping) in kinesis(&stack) {
            seen += 1;
            let at = format!("{name} of {world}: {mapping}");
            let number = |name: &str| mapping[name].as_i64().unwrap_or_else(|| panic!("{name} is not set; {at}"));
            assert_eq!(mapping["FunctionResponseTypes"][0], "ReportBatchItemFailures", "{at}");
            assert_eq!(mapping["BisectBatchOnFunctionError"], true, "{at}");
            assert!(number("MaximumRetryAttempts") > 0, "{at}");
            // It gives up before the stream forgets, so that what is given up lies whole in the bucket.
            let stream = stack
                .resources("AWS::Kinesis::Stream")
                .into_iter()
                .map(|(_, stream)| stream["RetentionPeriodHours"].as_i64().unwrap_or(24) * 3600);
            let shortest = stream.min().unwrap_or_else(|| panic!("a mapping without a stream; {at}"));
            let age = number("MaximumRecordAgeInSeconds");
            assert!((3600..shortest).contains(&age), "{at}");
            assert_eq!(
                mapping["DestinationConfig"]["OnFailure"]["Type"], "S3",
                "a queue keeps only where it was; {at}"
            );
            assert!(
                mapping["DestinationConfig"]["OnFailure"]["Destination"].as_str().unwrap().contains("deadletter"),
                "{at}"
            );
            assert!(number("ParallelizationFactor") >= 1 && number("BatchSize") >= 1, "{at}");
            assert_eq!(mapping["StartingPosition"], "TRIM_HORIZON", "what came before the mapping is data, too; {at}");
        }
    }
    assert!(seen >= 5, "{seen} mappings");
}

/// Kafka's: without pollers Lambda knows no partial answers, and with a destination it would give up after ten tries.
#[test]
fn kafka_mappings_never_lose_a_batch() {
    let template = template();
    let mut seen = (0, 0);
    for (world, stack) in stacks(&template) {
        for (name, mapping) in stack.resources("AWS::Lambda::EventSourceMapping") {
            let at = format!("{name} of {world}: {mapping}");
            let (answers, destination) =
                (&mapping["FunctionResponseTypes"], &mapping["DestinationConfig"]["OnFailure"]);
            if mapping["ProvisionedPollerConfig"].is_null() {
                seen.0 += 1;
                assert!(answers.is_null() && destination.is_null(), "{at}");
                assert!(mapping["MaximumRetryAttempts"].is_null(), "it comes until it is taken; {at}");
            } else {
                seen.1 += 1;
                assert_eq!(answers[0], "ReportBatchItemFailures", "{at}");
                assert!(destination["Destination"].as_str().unwrap().contains("deadletter"), "{at}");
                assert!(mapping["MaximumRetryAttempts"].as_i64().unwrap() >= 1000, "{at}");
            }
        }
    }
    assert!(seen.0 > 0 && seen.1 > 0, "{seen:?}");
}

/// What calls a function by itself and is not a stream says how often it tries again.
#[test]
fn schedules_and_asynchronous_functions_say_how_often_they_try() {
    let template = template();
    for (name, function) in template.of_type("AWS::Serverless::Function") {
        let events = function["Properties"]["Events"].as_object();
        for (event, of) in events.into_iter().flatten() {
            if of["Type"] == "ScheduleV2" {
                assert_eq!(
                    of["Properties"]["RetryPolicy"]["MaximumRetryAttempts"], 0,
                    "{name}.{event}: the next one comes"
                );
            }
            if of["Type"] == "EventBridgeRule" {
                let tries = &function["Properties"]["EventInvokeConfig"]["MaximumRetryAttempts"];
                assert!(tries.is_number(), "{name}.{event}");
            }
        }
    }
}
