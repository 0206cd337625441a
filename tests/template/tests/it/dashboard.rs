//! The dashboard shows what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::alarms::sources;
use crate::worlds::{stacks, template};

/// What AWS says of each service that is shown (CloudWatch metrics of Lambda, Firehose, Kinesis and DynamoDB).
const THEIRS: [(&str, &str, &[&str]); 4] = [
    ("AWS/Lambda", "FunctionName", &["IteratorAge", "Errors", "Throttles", "Duration"]),
    ("AWS/Firehose", "DeliveryStreamName", &["IncomingBytes", "DeliveryToS3.DataFreshness"]),
    ("AWS/Kinesis", "StreamName", &["IncomingBytes", "WriteProvisionedThroughputExceeded"]),
    ("AWS/DynamoDB", "TableName", &["ConsumedWriteCapacityUnits", "WriteThrottleEvents", "ReadThrottleEvents"]),
];

#[test]
fn what_it_shows_is_said_by_somebody() {
    let (template, said) = (template(), sources(&["functions", "shared"]));
    let stacks = stacks(&template);
    let (_, stack) = stacks.iter().find(|(world, _)| *world == "everything made").unwrap();
    let functions: BTreeSet<String> = stack
        .resources("AWS::Serverless::Function")
        .iter()
        .map(|(_, function)| function["FunctionName"].as_str().unwrap().to_owned())
        .collect();
    let dashboards = stack.resources("AWS::CloudWatch::Dashboard");
    let [(_, dashboard)] = dashboards.as_slice() else { panic!("{dashboards:?}") };
    let body: Value = serde_json::from_str(dashboard["DashboardBody"].as_str().unwrap()).unwrap();
    let streams: BTreeSet<String> = stack
        .resources("AWS::Kinesis::Stream")
        .iter()
        .map(|(_, stream)| stream["Name"].as_str().unwrap().to_owned())
        .collect();
    let (mut ours, mut theirs, mut failed, mut refused) = (0, 0, BTreeSet::new(), BTreeSet::new());
    for widget in body["widgets"].as_array().unwrap() {
        let mut last: Vec<Value> = Vec::new();
        for line in widget["properties"]["metrics"].as_array().unwrap() {
            let line = line.as_array().unwrap();
            if let Some(found) = line[0]["expression"].as_str() {
                let name = found.split("MetricName=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
                assert!(found.starts_with("SEARCH('{\"weir\",function} "), "the stack's own: {found}");
                assert!(
                    said.contains(&format!("Metric::count(\"{name}\""))
                        || said.contains(&format!("Metric::new(\"{name}\"")),
                    "nobody says {name}"
                );
                ours += 1;
                continue;
            }
            // A point is what stands there in the line before.
            let full: Vec<Value> = line
                .iter()
                .enumerate()
                .map(|(n, one)| if one == "." { last[n].clone() } else { one.clone() })
                .collect();
            let [namespace, metric, dimension, of] = [0, 1, 2, 3].map(|n| full[n].as_str().unwrap());
            let known = THEIRS
                .iter()
                .any(|(space, name, all)| *space == namespace && *name == dimension && all.contains(&metric));
            assert!(known, "{full:?}");
            assert!(namespace != "AWS/Lambda" || functions.contains(of), "there is no function {of}");
            failed.extend((metric == "Errors").then(|| of.to_owned()));
            refused.extend((metric == "WriteProvisionedThroughputExceeded").then(|| of.to_owned()));
            theirs += 1;
            last = full;
        }
    }
    assert_eq!((failed, refused), (functions, streams), "each function's errors, each stream's refusals");
    assert!(ours >= 10 && theirs >= 30, "{ours} and {theirs}");
}
