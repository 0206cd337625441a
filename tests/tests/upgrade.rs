//! A stack from its first deploy to its end: what people have deployed, with data in it; then this template over it; then deleted.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use weir_command::Location;
use weir_lake::Lake;
use weir_tests::{Failed, Stack, aws};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What holds something that can't be made again.
const STATEFUL: [&str; 5] =
    ["AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::Kinesis::Stream", "AWS::Glue::Database", "AWS::SNS::Topic"];

async fn sam(arguments: &[&str]) -> Result<String, Failed> {
    let asked = tokio::process::Command::new("sam").args(arguments).env("SAM_CLI_TELEMETRY", "0").output().await;
    let asked = asked.map_err(|error| format!("sam: {error}; is .venv/bin in PATH, as `make test` has it?"))?;
    let said = [asked.stdout, asked.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    // The last lines: before them are uploads.
    let end: Vec<&str> = said.lines().rev().take(25).collect();
    if asked.status.success() { Ok(said) } else { Err(format!("sam {arguments:?}: {end:#?}").into()) }
}

/// A template whose functions are those that were built for the local stack.
fn with_code(template: &Path, folder: &Path) -> Result<PathBuf, Failed> {
    let text = std::fs::read_to_string(template)?;
    let (mut made, mut function) = (String::new(), String::new());
    for line in text.lines() {
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'));
        if let Some(name) = name.filter(|name| !name.starts_with(' ')) {
            function = name.to_owned();
        }
        match line.split_once("CodeUri:") {
            Some((indent, _)) => made += &format!("{indent}CodeUri: {ROOT}/.aws-sam/build/{function}\n"),
            None => made += &format!("{line}\n"),
        }
    }
    let path = folder.join(template.file_name().ok_or("no name")?);
    std::fs::write(&path, made)?;
    Ok(path)
}

async fn deploy(template: &Path, name: &str) -> Result<String, Failed> {
    let database = format!("DatabaseName={}", name.replace('-', "_"));
    let template = template.to_str().ok_or("no path")?;
    let how =
        ["--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-fail-on-empty-changeset"];
    let what = ["deploy", "--template-file", template, "--stack-name", name, "--region", "us-east-1"];
    let overrides = ["--parameter-overrides", "Laptop=true", &database];
    sam(&[&what[..], &how, &overrides].concat()).await
}

/// A stack's resources that hold something, by their logical names.
async fn stateful(name: &str) -> Result<BTreeMap<String, String>, Failed> {
    let said = aws(&["cloudformation", "describe-stack-resources", "--stack-name", name, "--output", "json"]).await?;
    let said: Value = serde_json::from_str(&said)?;
    let all = said["StackResources"].as_array().ok_or("no resources")?;
    let text = |one: &Value, member: &str| one[member].as_str().unwrap_or_default().to_owned();
    let kept = all.iter().filter(|one| STATEFUL.contains(&one["ResourceType"].as_str().unwrap_or_default()));
    Ok(kept.map(|one| (text(one, "LogicalResourceId"), text(one, "PhysicalResourceId"))).collect())
}

fn place(bucket: &str) -> Result<Location, Failed> {
    Ok(Location::parse(&format!("s3://{bucket}/trips/kept.csv"))?)
}

#[tokio::test]
async fn a_deploy_over_the_last_release_keeps_everything_and_a_delete_leaves_the_data() -> Result<(), Failed> {
    let stack = Stack::open("up").await?;
    let name = stack.run.clone();
    let folder = tempfile::tempdir()?;
    let released = with_code(&Path::new(ROOT).join("tests/fixtures/released.yaml"), folder.path())?;
    let ours = with_code(&Path::new(ROOT).join("template.yaml"), folder.path())?;
    deploy(&released, &name).await?;
    let before = stateful(&name).await?;
    let buckets: Vec<&String> = before.iter().filter(|(name, _)| name.ends_with("Bucket")).map(|(_, id)| id).collect();
    assert_eq!(buckets.len(), 6, "{before:?}");
    for bucket in &buckets {
        stack.lake.put(&place(bucket)?, Bytes::from_static(b"id\n1\n"), "text/csv").await?;
    }
    let table = format!("{name}-ledger");
    let item = json!({"pk": {"S": "job#kept"}, "state": {"S": "DONE"}}).to_string();
    aws(&["dynamodb", "put-item", "--table-name", &table, "--item", &item]).await?;
    aws(&[
        "kinesis",
        "put-record",
        "--stream-name",
        &format!("{name}-commands"),
        "--partition-key",
        "k",
        "--data",
        "e30=",
    ])
    .await?;

    deploy(&ours, &name).await?;
    let after = stateful(&name).await?;
    for (resource, id) in &before {
        assert_eq!(after.get(resource), Some(id), "{resource} was replaced, and what it held with it");
    }
    for bucket in &buckets {
        assert_eq!(stack.lake.head(&place(bucket)?).await?.size, 5, "{bucket}");
    }
    let key = json!({"pk": {"S": "job#kept"}}).to_string();
    let kept = aws(&["dynamodb", "get-item", "--table-name", &table, "--key", &key, "--output", "json"]).await?;
    assert!(kept.contains("DONE"), "{kept}");
    let shards = stack.kinesis.list_shards().stream_name(format!("{name}-commands")).send().await?;
    let shard = shards.shards().first().ok_or("no shard")?.shard_id();
    let all = stack.kinesis.get_shard_iterator().stream_name(format!("{name}-commands")).shard_id(shard);
    let all = all.shard_iterator_type(aws_sdk_kinesis::types::ShardIteratorType::TrimHorizon).send().await?;
    let waiting = stack.kinesis.get_records().set_shard_iterator(all.shard_iterator).send().await?;
    assert_eq!(waiting.records().len(), 1, "commands that waited still wait");
    // A second time nothing is left to change.
    let said = deploy(&ours, &name).await?;
    assert!(said.contains("No changes to deploy"), "{said}");

    let deleted =
        tokio::process::Command::new("tools/delete.sh").args([&name, "--no-prompts"]).current_dir(ROOT).output();
    let said = String::from_utf8(deleted.await?.stdout)?;
    assert!(buckets.iter().all(|bucket| said.contains(bucket.as_str())), "what stays is said: {said}");
    assert!(aws(&["cloudformation", "describe-stacks", "--stack-name", &name]).await.is_err(), "the stack is gone");
    for bucket in &buckets {
        assert_eq!(stack.lake.head(&place(bucket)?).await?.size, 5, "{bucket} and what is in it stay");
    }
    assert!(
        aws(&["dynamodb", "describe-table", "--table-name", &table]).await.is_err(),
        "the ledger goes with its stack"
    );
    Ok(())
}
