//! Alarms look at metrics that there are, tell somebody, and are explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::worlds::{stacks, template};

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Rust sources under folders of the repository, without tests of their own.
pub(crate) fn sources(folders: &[&str]) -> String {
    read(folders, |source| source.split("#[cfg(test)]").next().unwrap())
}

/// With them.
pub(crate) fn whole_sources(folders: &[&str]) -> String {
    read(folders, |source| source)
}

fn read(folders: &[&str], of: fn(&str) -> &str) -> String {
    let mut text = String::new();
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| Path::new(ROOT).join(folder)).collect();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            text += of(&source);
        }
    }
    assert!(!text.is_empty(), "{folders:?} are no sources");
    text
}

/// Where a function's own events are, by the name it speaks under.
const SPEAKERS: [(&str, &str); 8] = [
    ("realtime", "functions/realtime/src"),
    ("orchestrator", "functions/orchestrator/src"),
    ("transform", "functions/transform/src"),
    ("ingest", "functions/ingest/src"),
    ("cdc", "functions/cdc/src"),
    ("cdc-commit", "functions/cdc/src"),
    ("analytics", "functions/analytics/src"),
    ("analytics-deliver", "functions/analytics/src"),
];

#[test]
fn alarms_look_at_metrics_that_there_are() {
    let template = template();
    let shared = sources(&["shared/telemetry/src", "shared/alerts/src", "shared/records/src"]);
    let mut seen = BTreeMap::new();
    for (world, stack) in stacks(&template) {
        let functions: BTreeSet<String> = stack
            .resources("AWS::Serverless::Function")
            .iter()
            .map(|(_, function)| function["FunctionName"].as_str().unwrap().to_owned())
            .collect();
        for (name, alarm) in stack.resources("AWS::CloudWatch::Alarm") {
            seen.insert(name, ());
            let at = format!("{name} of {world}: {alarm}");
            let (metric, dimension) = (alarm["MetricName"].as_str().unwrap(), &alarm["Dimensions"][0]);
            let Some(of) = dimension["Value"].as_str() else {
                // Of the stack as a whole, whoever says it.
                assert_eq!((&alarm["Namespace"], &alarm["Dimensions"]), (&"weir".into(), &Value::Null), "{at}");
                let said = format!("\"{metric}\"");
                assert!(shared.contains(&said), "nobody says {metric}; {at}");
                continue;
            };
            match alarm["Namespace"].as_str().unwrap() {
                "AWS/Lambda" => {
                    assert_eq!(dimension["Name"], "FunctionName", "{at}");
                    assert!(functions.contains(of), "{at}");
                    assert!(["Errors", "IteratorAge", "Throttles", "Duration"].contains(&metric), "{at}");
                }
                "weir" => {
                    assert_eq!(dimension["Name"], "function", "{at}");
                    let (_, folder) =
                        SPEAKERS.iter().find(|(speaker, _)| *speaker == of).unwrap_or_else(|| panic!("{at}"));
                    let said = format!("\"{metric}\"");
                    assert!(sources(&[folder]).contains(&said) || shared.contains(&said), "nobody says {metric}; {at}");
                    assert!(sources(&[folder]).contains(&format!("\"{of}\"")), "nobody speaks as {of}; {at}");
                }
                other => panic!("{other}; {at}"),
            }
        }
    }
    assert!(seen.len() >= 25, "{} alarms", seen.len());
}

#[test]
fn alarms_tell_somebody_and_say_what_they_mean() {
    let template = template();
    for (name, alarm) in template.of_type("AWS::CloudWatch::Alarm") {
        let alarm = &alarm["Properties"];
        assert_eq!(alarm["AlarmActions"], serde_json::json!([{ "Ref": "AlertTopic" }]), "{name}");
        let description = alarm["AlarmDescription"].as_str().unwrap_or_default();
        assert!(description.len() > 30 && description.ends_with('.'), "{name}: {description}");
        for set in ["Statistic", "Period", "EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData"] {
            assert!(!alarm[set].is_null(), "{set} of {name}");
        }
        // CloudWatch looks back a day at most.
        let seconds = alarm["Period"].as_u64().unwrap() * alarm["EvaluationPeriods"].as_u64().unwrap();
        assert!(seconds <= 86_400, "{name}");
    }
}

/// Whoever is woken by one finds out what to do, and nothing there is of an alarm that is gone.
#[test]
fn every_alarm_is_in_the_runbook() {
    let template = template();
    let runbook = std::fs::read_to_string(format!("{ROOT}/docs/operations.md")).unwrap();
    let explained: BTreeMap<&str, &str> =
        runbook.split("\n### ").skip(1).filter_map(|section| section.split("\n## ").next()?.split_once('\n')).collect();
    let alarms: BTreeSet<&str> = template.of_type("AWS::CloudWatch::Alarm").map(|(name, _)| name).collect();
    assert_eq!(explained.keys().copied().collect::<BTreeSet<_>>(), alarms);
    for (name, text) in explained {
        assert!(text.trim().len() > 80, "{name}: {text}");
    }
}

/// A function that nobody watches fails in silence.
#[test]
fn every_function_is_watched() {
    let template = template();
    let watched: BTreeSet<String> = template
        .of_type("AWS::CloudWatch::Alarm")
        .filter(|(_, alarm)| alarm["Properties"]["MetricName"] == "Errors")
        .filter_map(|(name, alarm)| {
            let function = alarm["Properties"]["Dimensions"][0]["Value"]["Ref"].as_str()?;
            assert_eq!(alarm["Condition"], template.resource(function)["Condition"], "{name} watches {function}");
            Some(function.to_owned())
        })
        .collect();
    for (name, _) in template.of_type("AWS::Serverless::Function") {
        assert!(watched.contains(name), "no alarm says that {name} fails: {watched:?}");
    }
    let lag = |name: &str| {
        template.of_type("AWS::CloudWatch::Alarm").any(|(_, alarm)| {
            let alarm = &alarm["Properties"];
            alarm["MetricName"] == "IteratorAge" && alarm["Dimensions"][0]["Value"]["Ref"] == name
        })
    };
    for (name, function) in template.of_type("AWS::Serverless::Function") {
        let events = function["Properties"]["Events"].as_object();
        let reads_a_stream = events.into_iter().flatten().any(|(_, event): (_, &Value)| event["Type"] == "Kinesis");
        assert!(!reads_a_stream || lag(name), "no alarm says that {name} is behind its stream");
    }
}
