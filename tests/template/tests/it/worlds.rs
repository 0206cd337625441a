//! Stacks as people deploy them: between them they have every part there is.

use weir_template::{Stack, Template};

/// A stack's name, and its parameters.
pub(crate) const WORLDS: [(&str, &[(&str, &str)]); 5] = [
    ("nothing said", &[]),
    (
        "everything made",
        &[
            ("CommandStreamMode", "ON_DEMAND"),
            ("TelemetrySource", "KINESIS"),
            ("TelemetryPartitioning", "event"),
            ("SourceAllowList", "s3://landing/in/"),
            ("DestAllowList", "s3://lake/out/"),
            ("ExtraSourceArn", "arn:aws:s3:::landing"),
            ("ExtraDestArn", "arn:aws:s3:::lake"),
            ("ExtraKmsKeyArn", "arn:aws:kms:us-east-1:123456789012:key/1a2b"),
            ("CreateRedshift", "sums"),
            ("RedshiftSubnetIds", "subnet-1,subnet-2,subnet-3"),
            ("RedshiftSecurityGroupIds", "sg-1"),
            ("CreateKafka", "events"),
            ("KafkaSubnetIds", "subnet-1,subnet-2"),
            ("KafkaSecurityGroupIds", "sg-1"),
            ("KafkaPollers", "2"),
            ("KafkaDelivery", "PRIVATE"),
            ("CompactSchedule", "cron(0 3 * * ? *)"),
            ("ChangeTables", "public.customers=customers,public.items/16"),
            ("ChangeDatabaseSecretArn", "arn:aws:secretsmanager:us-east-1:123456789012:secret:db-1a2b"),
            ("ChangeSubnetIds", "subnet-1,subnet-2"),
            ("ChangeSecurityGroupIds", "sg-1"),
            ("ChangeParameterGroupFamily", "postgres17"),
            ("AnalyticsWindowSeconds", "60"),
            ("CreateSearch", "live"),
            ("SearchSubnetIds", "subnet-1"),
            ("SearchSecurityGroupIds", "sg-1"),
            ("SearchTrips", "true"),
            ("CreateStudio", "notes"),
            ("CreateDashboard", "true"),
            ("Tracing", "Active"),
            ("AlertEmail", "data@example.com"),
        ],
    ),
    (
        "what there is already",
        &[
            ("TelemetrySource", "KINESIS"),
            ("RedshiftWorkgroupArn", "arn:aws:redshift-serverless:us-east-1:123456789012:workgroup/1a2b"),
            ("RedshiftCopyRoleArn", "default"),
            ("RedshiftSecretArn", "arn:aws:secretsmanager:us-east-1:123456789012:secret:warehouse-1a2b"),
            ("KafkaClusterArn", "arn:aws:kafka:us-east-1:123456789012:cluster/events/1a2b-3"),
            ("KafkaSecretArn", "arn:aws:secretsmanager:us-east-1:123456789012:secret:AmazonMSK_1a2b"),
            ("KafkaSecretKeyArn", "arn:aws:kms:us-east-1:123456789012:key/1a2b"),
            ("KafkaOrdersTopic", ""),
            ("AnalyticsWindowSeconds", "300"),
            ("SearchEndpoint", "https://search.example.com"),
            ("SearchDomainArn", "arn:aws:es:us-east-1:123456789012:domain/search"),
        ],
    ),
    (
        "brokers and a cluster of one's own",
        &[
            ("RedshiftCluster", "warehouse"),
            ("RedshiftCopyRoleArn", "arn:aws:iam::123456789012:role/copy"),
            ("KafkaBrokers", "one.example.com:9096,two.example.com:9096"),
            ("KafkaSubnetIds", "subnet-1"),
            ("KafkaSecurityGroupIds", "sg-1"),
            ("KafkaPageLogsTopic", ""),
            ("TelemetrySource", "KINESIS"),
            ("AnalyticsWindowSeconds", "60"),
            ("SearchEndpoint", "https://search.example.com"),
            ("SearchSecretArn", "arn:aws:secretsmanager:us-east-1:123456789012:secret:search-1a2b"),
        ],
    ),
    ("a laptop", &[("Laptop", "true")]),
];

/// The repository's.
pub(crate) fn template() -> Template {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml")).unwrap();
    Template::parse(&text).unwrap()
}

/// Each of the stacks, by name.
pub(crate) fn stacks(template: &Template) -> Vec<(&'static str, Stack<'_>)> {
    WORLDS.iter().map(|(name, set)| (*name, Stack::new(template, set).unwrap())).collect()
}

/// Else what the others find of them says nothing.
#[test]
fn every_condition_holds_in_one_and_not_in_another() {
    let template = template();
    let stacks = stacks(&template);
    for (condition, _) in template.section("Conditions") {
        let holds = stacks.iter().filter(|(_, stack)| stack.holds(condition)).count();
        assert!(holds > 0, "{condition} holds in no stack of this test: add one");
        assert!(holds < stacks.len(), "{condition} holds in all stacks of this test: add one");
    }
}
