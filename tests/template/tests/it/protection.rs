//! Encryption, TLS, no public access, and logs that end.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::worlds::{stacks, template};

#[test]
fn every_bucket_is_encrypted_private_kept_and_takes_tls_alone() {
    let template = template();
    for (world, stack) in stacks(&template) {
        // The local AWS speaks no TLS.
        let on_aws = stack.holds("OnAws");
        let policies = stack.resources("AWS::S3::BucketPolicy");
        for (name, bucket) in stack.resources("AWS::S3::Bucket") {
            let at = format!("{name} of {world}: {bucket}");
            let rules = &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"];
            assert!(rules[0]["ServerSideEncryptionByDefault"]["SSEAlgorithm"].is_string(), "{at}");
            let block = &bucket["PublicAccessBlockConfiguration"];
            for what in ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"] {
                assert_eq!(block[what], true, "{what} of {at}");
            }
            assert!(bucket["BucketName"].is_null(), "a name of one's own is taken for ever, and by anybody: {at}");
            assert!(bucket["LifecycleConfiguration"]["Rules"][0].is_object(), "{at}");
            for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
                assert_eq!(template.resource(name)[policy], "Retain", "{policy} of {name}");
            }
            let versions = &bucket["VersioningConfiguration"]["Status"];
            let skips = &template.resource(name)["Metadata"]["checkov"]["skip"][0];
            let is_said = skips["id"] == "CKV_AWS_21" && skips["comment"].is_string();
            assert!(versions == "Enabled" || is_said, "what is overwritten is gone, and nobody says why: {at}");
            let own = stack.render(&serde_json::json!({ "Ref": name })).unwrap();
            let denies = policies.iter().find(|(_, policy)| policy["Bucket"] == own);
            assert_eq!(denies.is_some(), on_aws, "{at}");
            if let Some((_, policy)) = denies {
                let statement = &policy["PolicyDocument"]["Statement"][0];
                assert_eq!((&statement["Effect"], &statement["Action"]), (&"Deny".into(), &"s3:*".into()), "{at}");
                assert_eq!(statement["Condition"]["Bool"]["aws:SecureTransport"], "false", "{at}");
                let arn = format!("arn:aws:s3:::{}", own.as_str().unwrap());
                assert_eq!(statement["Resource"], serde_json::json!([arn, format!("{arn}/*")]), "{at}");
            }
        }
    }
}

#[test]
fn what_data_rests_in_is_encrypted() {
    let template = template();
    let mut seen = BTreeSet::new();
    for (world, stack) in stacks(&template) {
        let mut is = |kind: &'static str, what: fn(&Value) -> bool| {
            for (name, resource) in stack.resources(kind) {
                seen.insert(kind);
                assert!(what(&resource), "{name} of {world}: {resource}");
            }
        };
        is("AWS::Kinesis::Stream", |stream| stream["StreamEncryption"]["EncryptionType"] == "KMS");
        is("AWS::DynamoDB::Table", |table| {
            table["SSESpecification"]["SSEEnabled"] == true
                && table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"] == true
        });
        is("AWS::KinesisFirehose::DeliveryStream", |delivery| {
            let from_elsewhere = delivery["DeliveryStreamType"] != "DirectPut";
            from_elsewhere || delivery["DeliveryStreamEncryptionConfigurationInput"]["KeyType"].is_string()
        });
        is("AWS::OpenSearchService::Domain", |domain| {
            domain["EncryptionAtRestOptions"]["Enabled"] == true
                && domain["NodeToNodeEncryptionOptions"]["Enabled"] == true
                && domain["DomainEndpointOptions"]["EnforceHTTPS"] == true
                && domain["DomainEndpointOptions"]["TLSSecurityPolicy"]
                    .as_str()
                    .is_some_and(|tls| tls.contains("TLS-1-2"))
                && domain["AdvancedSecurityOptions"]["Enabled"] == true
        });
        is("AWS::DMS::Endpoint", |endpoint| endpoint["EngineName"] == "kinesis" || endpoint["SslMode"] == "require");
        is("AWS::RedshiftServerless::Workgroup", |workgroup| workgroup["PubliclyAccessible"] == false);
        is("AWS::RedshiftServerless::Namespace", |namespace| {
            namespace["ManageAdminPassword"] == true && namespace["AdminUserPassword"].is_null()
        });
        is("AWS::MSK::ServerlessCluster", |cluster| cluster["ClientAuthentication"]["Sasl"]["Iam"]["Enabled"] == true);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

/// A function without a group of its own would make one that keeps its lines for ever.
#[test]
fn every_function_logs_where_lines_end() {
    let template = template();
    for (world, stack) in stacks(&template) {
        let groups = stack.resources("AWS::Logs::LogGroup");
        for (name, group) in &groups {
            assert!(group["RetentionInDays"].is_number(), "{name} of {world}: {group}");
        }
        let named: BTreeSet<&str> = groups.iter().filter_map(|(_, group)| group["LogGroupName"].as_str()).collect();
        for (name, function) in stack.resources("AWS::Serverless::Function") {
            let group = function["LoggingConfig"]["LogGroup"].as_str().unwrap_or_default();
            assert!(named.contains(group), "{name} of {world} logs to `{group}`");
        }
        for (name, delivery) in stack.resources("AWS::KinesisFirehose::DeliveryStream") {
            let destination = ["ExtendedS3DestinationConfiguration", "AmazonopensearchserviceDestinationConfiguration"];
            let options = destination.iter().map(|kind| &delivery[*kind]["CloudWatchLoggingOptions"]);
            let group = options.filter_map(|options| options["LogGroupName"].as_str()).next().unwrap_or_default();
            assert!(named.contains(group), "{name} of {world} logs to `{group}`");
        }
    }
}

/// Who signs in with a password finds it in a secret; none is written here, and none is a function's variable.
#[test]
fn no_secret_is_in_the_template() {
    let template = template();
    for (world, stack) in stacks(&template) {
        for (name, function) in stack.resources("AWS::Serverless::Function") {
            for (variable, value) in function["Environment"]["Variables"].as_object().into_iter().flatten() {
                let value = value.as_str().unwrap_or_default();
                let is_place = value.is_empty() || value.starts_with("arn:");
                assert!(!variable.contains("PASSWORD"), "{variable} of {name} of {world}");
                assert!(!variable.contains("SECRET") || is_place, "{variable} of {name} of {world}: {value}");
                assert!(!value.contains("{{resolve:"), "{variable} of {name} of {world}");
            }
        }
    }
    for (name, parameter) in template.section("Parameters") {
        let asks = name.contains("Password") && parameter["NoEcho"] != true;
        assert!(!asks, "{name}");
    }
}
