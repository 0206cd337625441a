//! What brings records: streams, delivery streams, and the mappings between streams and functions.

use aws_sdk_firehose::types::DeliveryStreamStatus;
use aws_sdk_kinesis::types::StreamStatus;
use aws_sdk_lambda::error::ProvideErrorMetadata;

use super::finding::{Finding, Report};
use crate::stack::{Stack, failure};

/// What a mapping says of its last batch when nothing is wrong with it.
const FINE: [&str; 2] = ["OK", "No records processed"];

/// Functions that mappings feed.
const FED: [&str; 4] = ["realtime", "ingest", "cdc", "analytics"];

pub(crate) async fn look(stack: &Stack, functions: &[&str], report: &mut Report) {
    let (kinesis, firehose) = (aws_sdk_kinesis::Client::new(&stack.aws), aws_sdk_firehose::Client::new(&stack.aws));
    for (end, needed) in [("commands", true), ("telemetry", false), ("changes", false)] {
        let name = format!("{}-{end}", stack.name);
        let what = format!("stream {name}");
        match kinesis.describe_stream_summary().stream_name(&name).send().await {
            Ok(told) => {
                let told = told.stream_description_summary();
                let Some(told) = told else { continue };
                let shards = told.open_shard_count();
                report.add(match told.stream_status() {
                    StreamStatus::Active | StreamStatus::Updating => Finding::ok(what, format!("{shards} open shards")),
                    other => Finding::problem(what, format!("it is {other}")).or("deploy the stack again"),
                });
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => missing(what, needed, report),
            Err(error) => report.add(Finding::failed(what, &failure(&error))),
        }
    }
    for end in ["trips", "trips-search", "page-logs"] {
        let name = format!("{}-{end}", stack.name);
        let what = format!("delivery stream {name}");
        match firehose.describe_delivery_stream().delivery_stream_name(&name).send().await {
            Ok(told) => {
                let Some(told) = told.delivery_stream_description() else { continue };
                report.add(match (told.delivery_stream_status(), told.failure_description()) {
                    (DeliveryStreamStatus::Active, None) => Finding::ok(what, "delivers"),
                    (status, failure) => {
                        let why = failure.map_or("Firehose does not say why", |failure| failure.details());
                        Finding::problem(what, format!("it is {status}: {why}")).or("deploy the stack again")
                    }
                });
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => missing(what, end == "trips", report),
            Err(error) => report.add(Finding::failed(what, &failure(&error))),
        }
    }
    for function in FED.iter().filter(|function| functions.contains(function)) {
        mappings(stack, function, report).await;
    }
}

/// Of what not each stack has, nothing is said.
fn missing(what: String, needed: bool, report: &mut Report) {
    if needed {
        report.add(Finding::problem(what, "it is not there").or("deploy the stack again"));
    }
}

async fn mappings(stack: &Stack, function: &str, report: &mut Report) {
    let name = format!("{}-{function}", stack.name);
    let client = aws_sdk_lambda::Client::new(&stack.aws);
    let told = match client.list_event_source_mappings().function_name(&name).send().await {
        Ok(told) => told,
        Err(error) => {
            return report.add(Finding::failed(format!("mappings of {name}"), &failure(&error)));
        }
    };
    if told.event_source_mappings().is_empty() {
        let said = "nothing brings it records";
        report.add(Finding::problem(format!("mappings of {name}"), said).or("deploy the stack again"));
    }
    for mapping in told.event_source_mappings() {
        let stream = mapping.event_source_arn().and_then(|arn| arn.rsplit('/').next()).filter(|name| !name.is_empty());
        let source = stream.or(mapping.topics().first().map(String::as_str)).unwrap_or("its brokers");
        let what = format!("mapping {source} to {name}");
        let (state, last) =
            (mapping.state().unwrap_or("unknown"), mapping.last_processing_result().unwrap_or_default());
        let reason = mapping.state_transition_reason().unwrap_or("Lambda does not say why");
        report.add(judged(what, state, last, reason));
    }
}

/// Of what Lambda says of a mapping: its state, what came of its last batch, and why it is in that state.
fn judged(what: String, state: &str, last: &str, reason: &str) -> Finding {
    const WAITS: &str = "records wait, and are lost when their stream forgets them";
    match (state, last) {
        ("Enabled" | "Updating" | "Creating" | "Enabling", "") => Finding::ok(what, "enabled"),
        ("Enabled" | "Updating" | "Creating" | "Enabling", last) if FINE.contains(&last) => Finding::ok(what, last),
        ("Enabled" | "Updating" | "Creating" | "Enabling", last) => {
            Finding::problem(what, format!("{last}: {WAITS}")).or("see the function above, and its log")
        }
        (state, _) => Finding::problem(what, format!("it is {state} ({reason}): {WAITS}"))
            .or("enable it in Lambda's console, or deploy the stack again"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_lambda_says_of_mappings_is_understood() {
        for (state, last, level) in [
            ("Enabled", "OK", Level::Ok),
            ("Enabled", "No records processed", Level::Ok),
            ("Enabled", "", Level::Ok),
            ("Enabled", "PROBLEM: Function call failed", Level::Problem),
            ("Disabled", "OK", Level::Problem),
            ("Disabling", "", Level::Problem),
        ] {
            let found = judged("mapping".to_owned(), state, last, "USER_INITIATED");
            assert_eq!(found.level, level, "{state} {last}: {found:?}");
            assert!(found.level == Level::Ok || found.way_out.is_some() && found.said.contains("lost"), "{found:?}");
        }
    }
}
