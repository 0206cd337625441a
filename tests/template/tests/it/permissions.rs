//! Roles may do what the code does, to what it does it to, and no more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_template::Stack;

use crate::alarms::sources;
use crate::worlds::{stacks, template};

/// A statement of a role's, and who has it.
struct Statement {
    role: String,
    /// The policy it is in.
    policy: String,
    effect: String,
    actions: Vec<String>,
    resources: Vec<String>,
    text: String,
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// All that roles of a stack are given.
fn statements(stack: &Stack<'_>) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut add = |role: &str, policy: &Value| {
        for statement in policy["PolicyDocument"]["Statement"].as_array().into_iter().flatten() {
            found.push(Statement {
                role: role.to_owned(),
                policy: policy["PolicyName"].as_str().unwrap_or_default().to_owned(),
                effect: statement["Effect"].as_str().unwrap_or_default().to_owned(),
                actions: texts(&statement["Action"]),
                resources: texts(&statement["Resource"]),
                text: format!("{role}: {statement}"),
            });
        }
    };
    let roles = stack.resources("AWS::IAM::Role");
    for (name, role) in &roles {
        for policy in role["Policies"].as_array().into_iter().flatten() {
            add(name, policy);
        }
        assert!(role["ManagedPolicyArns"].is_null(), "{name}: a managed policy changes without us");
    }
    for (_, policy) in stack.resources("AWS::IAM::Policy") {
        for own in texts(&policy["Roles"]) {
            let (name, _) = roles
                .iter()
                .find(|(name, _)| stack.render(&serde_json::json!({ "Ref": name })).unwrap() == own.as_str())
                .unwrap_or_else(|| panic!("{own} is no role"));
            add(name, &policy);
        }
    }
    found
}

/// Ends of ARNs that name a kind, and none of it.
const ANY: [&str; 11] = [
    ":function:*",
    ":function/*",
    ":stream/*",
    ":table/*",
    ":role/*",
    ":topic/*",
    ":job/*",
    ":database/*",
    ":secret:*",
    ":cluster/*",
    ":::*",
];

/// Actions that take no resource, or of whose resources the names are not known before (Service Authorization Reference).
const WITHOUT_RESOURCE: [&str; 15] = [
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "cloudwatch:PutMetricData",
    "logs:DescribeLogGroups",
    "redshift-data:DescribeStatement",
    "redshift-data:CancelStatement",
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcAttribute",
    "ec2:DescribeVpcs",
    "ec2:UnassignPrivateIpAddresses",
];

#[test]
fn what_can_be_named_is_named() {
    let template = template();
    let mut seen = 0;
    for (world, stack) in stacks(&template) {
        for statement in statements(&stack) {
            seen += 1;
            assert!(!statement.actions.is_empty() && !statement.resources.is_empty(), "{world}: {}", statement.text);
            for action in &statement.actions {
                assert!(!action.contains('*'), "{action}; {world}: {}", statement.text);
                for resource in &statement.resources {
                    // In the place of the resource's own name.
                    let is_any = resource == "*" || ANY.iter().any(|any| resource.ends_with(any));
                    // Flink looks through what there is of these, by its user's query.
                    let is_any = is_any && !(statement.role == "StudioRole" && statement.text.contains("LookAround"));
                    assert!(
                        !is_any || WITHOUT_RESOURCE.contains(&action.as_str()),
                        "{action} on {resource}; {world}: {}",
                        statement.text
                    );
                }
            }
        }
    }
    assert!(seen > 150, "{seen} statements");
}

/// Who may put on roles: services alone, and DMS, Firehose and the like for this account.
#[test]
fn roles_are_taken_by_services_alone() {
    let template = template();
    for (world, stack) in stacks(&template) {
        for (name, role) in stack.resources("AWS::IAM::Role") {
            let trusts = role["AssumeRolePolicyDocument"]["Statement"].as_array().unwrap().clone();
            for trust in trusts {
                // Services that work for whoever asks them are told for whom.
                let for_all = ["firehose.amazonaws.com", "kinesisanalytics.amazonaws.com"];
                let is_bound = trust["Condition"]["StringEquals"]["aws:SourceAccount"] == "123456789012";
                let asks =
                    texts(&trust["Principal"]["Service"]).iter().any(|service| for_all.contains(&service.as_str()));
                assert!(is_bound || !asks, "{name} of {world}: {trust}");
                let principals = trust["Principal"].as_object().unwrap();
                assert!(principals.keys().eq(["Service"]), "{name} of {world}: {trust}");
                for service in texts(&principals["Service"]) {
                    assert!(service.ends_with(".amazonaws.com"), "{name} of {world}: {service}");
                }
            }
        }
    }
}

/// Where a function's code is that its role is for: its own, and what it shares, but for the edges, which can do everything.
const CODE: [(&str, &[&str]); 10] = [
    ("RealtimeRole", REALTIME),
    ("WorkerRole", REALTIME),
    ("OrchestratorRole", &["functions/orchestrator/src", "shared/alerts/src/herald.rs"]),
    ("TransformRole", &["functions/transform/src"]),
    (
        "IngestRole",
        &[
            "functions/ingest/src/files.rs",
            "functions/ingest/src/lib.rs",
            "functions/ingest/src/partition.rs",
            "functions/ingest/src/placing.rs",
            "functions/ingest/src/sweep.rs",
            "functions/ingest/src/work.rs",
            "shared/alerts/src/herald.rs",
            "shared/records/src",
        ],
    ),
    ("CompactRole", &["functions/ingest/src/compact"]),
    ("CdcRole", &["functions/cdc/src/stage.rs", "shared/alerts/src/herald.rs", "shared/ledger/src/backlog/mod.rs"]),
    ("CdcCommitRole", &["functions/cdc/src/commit", "shared/alerts/src/herald.rs", "shared/hudi/src"]),
    (
        "AnalyticsRole",
        &[
            "functions/analytics/src/visit.rs",
            "functions/analytics/src/publish.rs",
            "functions/analytics/src/recent.rs",
        ],
    ),
    ("AnalyticsDeliverRole", &["functions/analytics/src/deliver", "functions/analytics/src/login.rs"]),
];
const REALTIME: &[&str] = &[
    "functions/realtime/src",
    "shared/alerts/src",
    "shared/ledger/src/ledger.rs",
    "shared/records/src",
    "shared/work/src",
];

/// By which words of the edges' an action is known. Those of a service that the code asks itself are known by the SDK's.
const USES: [(&str, &[&str]); 20] = [
    (
        "s3:GetObject",
        &["lake.get(", "lake.head(", "find(self.lake", "find(&*", "copy_object(", "Remote::", "ObjectReader"],
    ),
    (
        "s3:PutObject",
        &["lake.put(", "lake.put_new(", "lake.put_if(", "lake.copy(", "copy_object(", "keep(", "Uploader"],
    ),
    ("s3:ListBucket", &["lake.list(", "list_all(", "each_page(", "lake.head(", "find(self.lake", "find(&*"]),
    ("s3:DeleteObject", &["lake.delete("]),
    ("s3:AbortMultipartUpload", &["copy_object(", "Uploads"]),
    // A copy carries tags over.
    ("s3:GetObjectTagging", &["copy_object(", "lake.copy("]),
    ("s3:PutObjectTagging", &["copy_object(", "lake.copy("]),
    ("dynamodb:GetItem", &["store.get(", ".position(", ".backlog(", ".lane("]),
    ("dynamodb:PutItem", &["store.put(", ".put_position(", ".put_backlog(", "change(", ".put_lane("]),
    // How often an alert was raised.
    ("dynamodb:UpdateItem", &["notify(", "counters.count("]),
    ("dynamodb:Query", &["store.due(", ".left_over(", ".due_backlogs(", ".due_lanes(", ".pending("]),
    ("sns:Publish", &["publish(", "notify("]),
    ("lambda:InvokeFunction", &["invoke()"]),
    ("glue:GetTable", &["ensure_table(", "columns_of("]),
    ("glue:CreateTable", &["ensure_table("]),
    ("glue:UpdateTable", &["ensure_table("]),
    ("glue:BatchCreatePartition", &["add_partitions("]),
    ("glue:GetPartition", &["place_of(", "move_to("]),
    ("glue:UpdatePartition", &["move_to("]),
    // The Data API reads it as whoever asks.
    ("secretsmanager:GetSecretValue", &["set_secret_arn("]),
];

/// What is done by the function's role but by Lambda's pollers, its log agent, or a service that the function asks.
const BY_OTHERS: [&str; 22] = [
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "kinesis:DescribeStream",
    "kinesis:DescribeStreamSummary",
    "kinesis:GetRecords",
    "kinesis:GetShardIterator",
    "kinesis:ListShards",
    "kafka:DescribeCluster",
    "kafka:DescribeClusterV2",
    "kafka:GetBootstrapBrokers",
    "kafka-cluster:Connect",
    "kafka-cluster:DescribeClusterDynamicConfiguration",
    "kafka-cluster:DescribeTopic",
    "kafka-cluster:ReadData",
    "kafka-cluster:DescribeGroup",
    "kafka-cluster:AlterGroup",
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "redshift:GetClusterCredentialsWithIAM",
    "redshift-serverless:GetCredentials",
];

#[test]
fn no_function_may_do_what_its_code_does_not() {
    let template = template();
    let code: BTreeMap<&str, String> = CODE.iter().map(|(role, folders)| (*role, sources(folders))).collect();
    let (mut roles, mut unused) = (BTreeSet::new(), BTreeSet::new());
    for (world, stack) in stacks(&template) {
        for (name, function) in stack.resources("AWS::Serverless::Function") {
            let role = &template.resource(name)["Properties"]["Role"]["Fn::GetAtt"][0];
            let role =
                role.as_str().unwrap_or_else(|| panic!("{name} has a role that is not ours: {}", function["Role"]));
            roles.insert(role.to_owned());
            assert!(code.contains_key(role), "where is the code of {role}? Say so in this test");
        }
        // What Lambda's pollers do by a function's role is in policies of their own.
        let own = |statement: &&Statement| statement.effect == "Allow" && statement.policy != "poll";
        for statement in statements(&stack).iter().filter(own) {
            let Some(code) = code.get(statement.role.as_str()) else { continue };
            for action in &statement.actions {
                if BY_OTHERS.contains(&action.as_str()) || action.starts_with("ec2:") || action.starts_with("es:") {
                    continue;
                }
                let by_sdk = action.split_once(':').map(|(_, name)| format!("{}()", snake(name))).unwrap();
                let known = USES.iter().find(|(known, _)| known == action).map(|(_, words)| *words).unwrap_or_default();
                let is_used = code.contains(&by_sdk) || known.iter().any(|word| code.contains(word));
                if !is_used {
                    unused.insert(format!("{}: {action} ({world})", statement.role));
                }
            }
        }
    }
    assert_eq!(roles.len(), CODE.len(), "{roles:?}");
    assert!(unused.is_empty(), "by what does the code do this?\n{}", Vec::from_iter(unused).join("\n"));
}

/// `BatchExecuteStatement`, as the SDK calls it.
fn snake(name: &str) -> String {
    let mut said = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !said.is_empty() {
            said.push('_');
        }
        said.push(letter.to_ascii_lowercase());
    }
    said
}

/// What came is deleted by nobody who works with it, and what Firehose wrote and failed by nobody but Firehose.
#[test]
fn data_that_cannot_be_had_again_is_not_deleted() {
    let template = template();
    let mut seen = 0;
    for (world, stack) in stacks(&template) {
        let all = statements(&stack);
        let is_denied = |role: &str, resource: &str| {
            let denies = |one: &&Statement| {
                one.effect == "Deny" && one.role == role && one.resources.iter().any(|it| it == resource)
            };
            all.iter().find(denies).is_some_and(|one| {
                ["s3:PutObject", "s3:DeleteObject"].iter().all(|it| one.actions.iter().any(|own| own == it))
            })
        };
        let deletes =
            |one: &&Statement| one.effect == "Allow" && one.actions.iter().any(|action| action == "s3:DeleteObject");
        for statement in all.iter().filter(deletes) {
            for resource in &statement.resources {
                for kept in ["inputbucket", "rawbucket", "deadletterbucket", "batchbucket"] {
                    assert!(!resource.contains(kept), "{world}: {}", statement.text);
                }
                if let Some(bucket) = resource.strip_suffix("/*").filter(|bucket| bucket.contains("outputbucket")) {
                    seen += 1;
                    for folder in ["telemetry", "telemetry-errors"] {
                        assert!(
                            is_denied(&statement.role, &format!("{bucket}/{folder}/*")),
                            "{folder}; {world}: {}",
                            statement.text
                        );
                    }
                }
            }
        }
    }
    assert!(seen >= 15, "{seen}");
}

fn is_inline(stack: &Stack<'_>, role: &str, policy: &str) -> bool {
    let roles = stack.resources("AWS::IAM::Role");
    let role = roles.iter().find(|(name, _)| *name == role).map(|(_, role)| &role["Policies"]);
    role.and_then(Value::as_array).into_iter().flatten().any(|own| own["PolicyName"] == policy)
}

#[test]
fn who_is_traced_may_say_so_and_nobody_else() {
    let template = template();
    let mut traced = 0;
    for (world, stack) in stacks(&template) {
        let may: BTreeSet<String> = statements(&stack)
            .into_iter()
            .filter(|statement| statement.actions.contains(&"xray:PutTraceSegments".to_owned()))
            // Of the role itself: Lambda refuses a function that may not yet, and follows its role alone.
            .filter(|statement| is_inline(&stack, &statement.role, &statement.policy))
            .map(|statement| statement.role)
            .collect();
        let is_active = stack.render(&serde_json::json!({ "Ref": "Tracing" })).unwrap() == "Active";
        let functions = stack.resources("AWS::Serverless::Function");
        let roles = functions.iter().map(|(name, _)| {
            template.resource(name)["Properties"]["Role"]["Fn::GetAtt"][0].as_str().unwrap().to_owned()
        });
        let expected: BTreeSet<String> = roles.filter(|_| is_active).collect();
        assert_eq!(may, expected, "{world}");
        traced += expected.len();
    }
    assert!(traced >= 10, "{traced} roles of a stack with all parts");
}
