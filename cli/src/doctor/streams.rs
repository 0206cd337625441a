//! What brings records: streams, delivery streams, and the mappings between streams and functions.

use aws_sdk_firehose::types::DeliveryStreamStatus;
use aws_sdk_kinesis::types::StreamStatus;
use aws_sdk_lambda::error::{DisplayErrorContext, ProvideErrorMetadata};

use super::finding::Finding;
use crate::Stack;

/// What a mapping says of its last batch when nothing is wrong with it.
const FINE: [&str; 2] = ["OK", "No records processed"];

/// Functions that mappings feed.
const FED: [&str; 4] = ["realtime", "ingest", "cdc", "analytics"];

pub(crate) async fn look(stack: &Stack, functions: &[&str], findings: &mut Vec<Finding>) {
    let (kinesis, firehose) = (aws_sdk_kinesis::Client::new(&stack.aws), aws_sdk_firehose::Client::new(&stack.aws));
    for (end, needed) in [("commands", true), ("telemetry", false), ("changes", false)] {
        let name = format!("{}-{end}", stack.name);
        let what = format!("stream {name}");
        match kinesis.describe_stream_summary().stream_name(&name).send().await {
            Ok(told) => {
                let told = told.stream_description_summary();
                let Some(told) = told else { continue };
                let shards = told.open_shard_count();
                findings.push(match told.stream_status() {
                    StreamStatus::Active | StreamStatus::Updating => Finding::ok(what, format!("{shards} open shards")),
                    other => Finding::problem(what, format!("it is {other}")).or("deploy the stack again"),
                });
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") && !needed => {}
            Err(error) => findings.push(Finding::problem(what, DisplayErrorContext(error).to_string())),
        }
    }
    for end in ["trips", "trips-search", "page-logs"] {
        let name = format!("{}-{end}", stack.name);
        let what = format!("delivery stream {name}");
        match firehose.describe_delivery_stream().delivery_stream_name(&name).send().await {
            Ok(told) => {
                let Some(told) = told.delivery_stream_description() else { continue };
                findings.push(match (told.delivery_stream_status(), told.failure_description()) {
                    (DeliveryStreamStatus::Active, None) => Finding::ok(what, "delivers"),
                    (status, failure) => {
                        let why = failure.map_or("Firehose does not say why", |failure| failure.details());
                        Finding::problem(what, format!("it is {status}: {why}")).or("deploy the stack again")
                    }
                });
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") && end != "trips" => {}
            Err(error) => findings.push(Finding::problem(what, DisplayErrorContext(error).to_string())),
        }
    }
    for function in FED.iter().filter(|function| functions.contains(function)) {
        mappings(stack, function, findings).await;
    }
}

async fn mappings(stack: &Stack, function: &str, findings: &mut Vec<Finding>) {
    let name = format!("{}-{function}", stack.name);
    let client = aws_sdk_lambda::Client::new(&stack.aws);
    let told = match client.list_event_source_mappings().function_name(&name).send().await {
        Ok(told) => told,
        Err(error) => {
            let said = DisplayErrorContext(error).to_string();
            return findings.push(Finding::problem(format!("mappings of {name}"), said));
        }
    };
    if told.event_source_mappings().is_empty() {
        let said = "nothing brings it records";
        findings.push(Finding::problem(format!("mappings of {name}"), said).or("deploy the stack again"));
    }
    for mapping in told.event_source_mappings() {
        let stream = mapping.event_source_arn().and_then(|arn| arn.rsplit('/').next()).filter(|name| !name.is_empty());
        let source = stream.or(mapping.topics().first().map(String::as_str)).unwrap_or("its brokers");
        let what = format!("mapping {source} to {name}");
        let (state, last) =
            (mapping.state().unwrap_or("unknown"), mapping.last_processing_result().unwrap_or_default());
        findings.push(match (state, last) {
            ("Enabled" | "Updating" | "Creating" | "Enabling", last) if last.is_empty() || FINE.contains(&last) => {
                Finding::ok(what, if last.is_empty() { "enabled" } else { last })
            }
            ("Enabled" | "Updating" | "Creating" | "Enabling", last) => Finding::problem(what, last)
                .or(format!("see the log of {function}: records wait, and are lost when the stream forgets them")),
            (state, _) => {
                let reason = mapping.state_transition_reason().unwrap_or("Lambda does not say why");
                Finding::problem(
                    what,
                    format!("it is {state} ({reason}): records wait, and are lost when the stream forgets them"),
                )
                .or("enable it in Lambda's console, or deploy the stack again")
            }
        });
    }
}
