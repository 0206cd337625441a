//! The stack's functions: whether they are there, and what they say when they are called with what a sweep's schedule sends, or with an
//! empty batch: nothing that schedules don't do every few minutes anyway (the worker sweeps as `realtime` does). But for `cdc-commit`, whose schedule is the stack's to say, and
//! which writes: that is not called, and the ledger says how it does.

use std::time::Instant;

use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::types::{LastUpdateStatus, State};
use serde_json::{Value, json};

use super::finding::{Finding, Report};
use crate::stack::{Called, Stack, failure, named};

/// A stack's functions, and whether each stack has it.
const FUNCTIONS: [(&str, bool); 10] = [
    ("realtime", true),
    ("worker", true),
    ("transform", true),
    ("orchestrator", true),
    ("ingest", false),
    ("compact", false),
    ("cdc", false),
    ("cdc-commit", false),
    ("analytics", false),
    ("analytics-deliver", false),
];

/// What a function is called with; nothing if it can't be called without doing something.
fn event(function: &str, stack: &str) -> Option<Value> {
    Some(match function {
        "realtime" | "worker" | "orchestrator" | "ingest" => json!({"sweep": {}}),
        "compact" => json!({"compact": {"unfinished": true}}),
        "cdc-commit" => return None,
        "analytics-deliver" => json!({"deliver": {}}),
        "analytics" => json!({
            "Records": [], "state": {}, "window": {"start": "2024-05-01T10:00:00Z", "end": "2024-05-01T10:01:00Z"}, "shardId": "doctor",
            "eventSourceARN": format!("arn:aws:kinesis:doctor:0:stream/{stack}-telemetry"),
            "isFinalInvokeForWindow": false, "isWindowTerminatedEarly": false,
        }),
        "transform" => json!({
            "invocationId": "doctor", "region": "doctor", "records": [],
            "deliveryStreamArn": format!("arn:aws:firehose:doctor:0:deliverystream/{stack}-trips"),
        }),
        _ => json!({"Records": []}),
    })
}

impl Called {
    /// How it failed, and what it logged that is no mere information, as `code: message`.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.log.lines().filter_map(complaint).collect();
        if let Err(fault) = &self.answer {
            // It logs that as well (weir-entry).
            let logged = format!("{}: Could not answer an invocation: {}", fault.kind, fault.said);
            wrong.retain(|complaint| *complaint != logged);
            wrong.insert(0, fault.to_string());
        }
        wrong
    }
}

/// Of a line of a log, what is wrong; nothing if it is no warning and no error. The tail's first line may be half of one.
fn complaint(line: &str) -> Option<String> {
    // What a process writes before it ends.
    if let Some(ended) = line.strip_prefix("Error: ") {
        return Some(ended.to_owned());
    }
    let line: Value = serde_json::from_str(line).ok()?;
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    if !matches!(text("level"), Some("WARN" | "ERROR")) {
        return None;
    }
    let message = text("message").unwrap_or_default();
    Some(text("code").map_or_else(|| message.to_owned(), |code| format!("{code}: {message}")))
}

/// Looks at all of them; the names of those that are there.
pub(crate) async fn look(stack: &Stack, report: &mut Report) -> Vec<&'static str> {
    let client = aws_sdk_lambda::Client::new(&stack.aws);
    let mut there = Vec::new();
    for (function, is_needed) in FUNCTIONS {
        let name = format!("{}-{function}", stack.name);
        let what = format!("function {name}");
        let found = client.get_function_configuration().function_name(&name).send().await;
        let found = match found {
            Ok(found) => found,
            Err(error) if error.code() == Some("ResourceNotFoundException") => {
                if is_needed {
                    let said = "it is not there";
                    report.add(Finding::problem(what, said).or("is the stack called so (--stack)? Deploy it again"));
                }
                continue;
            }
            Err(error) => {
                report.add(Finding::failed(what, &failure(&error)));
                continue;
            }
        };
        there.push(function);
        let updated = found.last_update_status().is_none_or(|status| *status == LastUpdateStatus::Successful);
        if !updated || found.state().is_some_and(|state| *state != State::Active && *state != State::Inactive) {
            let reason =
                found.last_update_status_reason().or(found.state_reason()).unwrap_or("Lambda does not say why");
            let state = found.state().map_or("unknown", State::as_str);
            let update = found.last_update_status().map_or("unknown", LastUpdateStatus::as_str);
            let said = format!("it is {state}, its last update {update}: {reason}");
            report.add(Finding::problem(&what, said).or("wait a moment, and look again; or deploy again"));
        }
        let Some(event) = event(function, &stack.name) else {
            if updated {
                report.add(Finding::ok(what, "is there"));
            }
            continue;
        };
        let begun = Instant::now();
        match stack.call(function, &event).await {
            Err(error) if error.code() == Some("TooManyRequestsException") => {
                let way_out = "does something else take the account's concurrency, or is its own reserved one 0?";
                report.add(Finding::problem(what, named(&failure(&error))).or(way_out));
            }
            Err(error) => report.add(Finding::failed(what, &failure(&error))),
            Ok(called) => {
                let logs = format!("see its log, /weir/{}/{function}", stack.name);
                let wrong = called.wrong();
                if wrong.is_empty() {
                    report.add(Finding::ok(what, format!("answers in {} ms", begun.elapsed().as_millis())));
                } else {
                    wrong.into_iter().for_each(|said| report.add(Finding::problem(&what, said).or(&logs)));
                }
            }
        }
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_from_information() {
        let line = r#"{"level":"WARN","code":"AccessDenied","message":"could not read"}"#;
        assert_eq!(complaint(line), Some("AccessDenied: could not read".to_owned()));
        assert_eq!(complaint(r#"{"level":"ERROR","message":"lost"}"#), Some("lost".to_owned()));
        assert_eq!(complaint(r#"Error: "CONTRACTS is missing""#), Some("\"CONTRACTS is missing\"".to_owned()));
        for quiet in [r#"{"level":"INFO","message":"Answered"}"#, "el\":\"WARN\"}", "REPORT RequestId: 1", ""] {
            assert_eq!(complaint(quiet), None, "{quiet}");
        }
    }
}
