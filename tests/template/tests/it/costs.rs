//! What costs while nothing happens is there only where somebody asked for it.

use std::collections::BTreeSet;

use crate::worlds::{stacks, template};

/// What is billed by the hour, used or not.
const COSTLY: [&str; 10] = [
    "AWS::CloudWatch::Dashboard",
    "AWS::MSK::ServerlessCluster",
    "AWS::OpenSearchService::Domain",
    "AWS::DMS::ReplicationConfig",
    "AWS::RedshiftServerless::Workgroup",
    "AWS::KinesisAnalyticsV2::Application",
    "AWS::SecretsManager::Secret",
    "AWS::EC2::NatGateway",
    "AWS::EC2::VPCEndpoint",
    "AWS::RDS::DBInstance",
];

/// What is billed by use alone, for nothing, or by ten cents a month (an alarm).
const FREE_WHILE_IDLE: [&str; 26] = [
    "AWS::CloudWatch::Alarm",
    "AWS::DMS::Endpoint",
    "AWS::DMS::ReplicationSubnetGroup",
    "AWS::DynamoDB::Table",
    "AWS::Glue::Database",
    "AWS::Glue::Job",
    "AWS::Glue::Table",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KinesisAnalyticsV2::ApplicationCloudWatchLoggingOption",
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Permission",
    "AWS::Logs::LogGroup",
    "AWS::Logs::LogStream",
    "AWS::Logs::MetricFilter",
    "AWS::RDS::DBParameterGroup",
    "AWS::RedshiftServerless::Namespace",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::Serverless::Function",
];

#[test]
fn what_costs_while_idle_is_asked_for() {
    let template = template();
    let stacks = stacks(&template);
    let (_, plain) = &stacks[0];
    for (name, resource) in template.section("Resources") {
        let kind = resource["Type"].as_str().unwrap();
        if COSTLY.contains(&kind) {
            assert!(!plain.has(name), "{name} costs by the hour, and is there though nobody asked for it");
        } else if kind != "AWS::Kinesis::Stream" {
            assert!(FREE_WHILE_IDLE.contains(&kind), "{name}: does {kind} cost while it is idle? Say so in this test");
        }
    }
    // The one shard that commands come by.
    let streams = plain.resources("AWS::Kinesis::Stream");
    assert_eq!(streams.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["CommandStream"]);
    assert_eq!(streams[0].1["ShardCount"], 1);
    // Provisioned pollers, warm functions and tables with capacity cost as well.
    for (name, function) in plain.resources("AWS::Serverless::Function") {
        let kept =
            ["ProvisionedConcurrencyConfig", "VpcConfig", "SnapStart"].iter().find(|kept| !function[**kept].is_null());
        assert_eq!(kept, None, "{name}");
    }
    for (name, table) in plain.resources("AWS::DynamoDB::Table") {
        assert_eq!(table["BillingMode"], "PAY_PER_REQUEST", "{name}");
    }
    assert!(plain.resources("AWS::Lambda::EventSourceMapping").is_empty());
}

/// Every switch says what it costs, if it makes something that costs.
#[test]
fn parameters_that_make_something_costly_say_what() {
    let template = template();
    let made: BTreeSet<&str> =
        template.section("Parameters").map(|(name, _)| name).filter(|name| name.starts_with("Create")).collect();
    assert!(made.len() >= 4, "{made:?}");
    for name in made.into_iter().chain(["CommandStreamMode", "TelemetrySource", "ChangeStreamShards", "KafkaPollers"]) {
        let description = template.root["Parameters"][name]["Description"].as_str().unwrap_or_default();
        assert!(description.contains("cost") || description.contains("$"), "{name}: {description}");
    }
}
