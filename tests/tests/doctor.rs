//! A stack in which one thing after the other is broken: what `weir doctor` says of it, and what the functions' logs do. The deployed
//! stack, by its own roles and settings.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_ledger::State;
use weir_local::faults::{Fault, Rule};
use weir_tests::function::kinesis_event;
use weir_tests::{Failed, Stack, aws, cli};

/// Asks the proxy that deployed functions call AWS through.
async fn proxy(method: &str, body: &str) -> Result<(), Failed> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL")?;
    let port: u16 = endpoint.rsplit(':').next().ok_or("no port")?.parse()?;
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port + 1)).await?;
    let request = format!("{method} /_faults HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.write_all(request.as_bytes()).await?;
    let mut said = String::new();
    connection.read_to_string(&mut said).await?;
    if said.contains(" 200 ") { Ok(()) } else { Err(said.into()) }
}

async fn break_calls(contains: &[&str], fault: Fault) -> Result<(), Failed> {
    let contains = contains.iter().map(ToString::to_string).collect();
    proxy("POST", &serde_json::to_string(&Rule { contains, fault, after: 0, times: None })?).await
}

/// What it finds, and whether there is a problem.
async fn doctor(arguments: &[&str]) -> Result<(Vec<Value>, bool), Failed> {
    let asked = cli()?.args(["doctor", "--json"]).args(arguments).output().await?;
    let code = asked.status.code();
    if !matches!(code, Some(0 | 1)) {
        return Err(format!("{code:?}: {}", String::from_utf8_lossy(&asked.stderr)).into());
    }
    let said = String::from_utf8(asked.stdout)?;
    let findings = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok((findings, code == Some(1)))
}

/// The finding of something, with all of these words; it names the way out.
fn problem<'a>(findings: &'a [Value], what: &str, words: &[&str]) -> Result<&'a str, Failed> {
    let said = |finding: &&Value| {
        let said = finding["said"].as_str().unwrap_or_default();
        finding["level"] == "problem" && finding["what"] == what && words.iter().all(|word| said.contains(word))
    };
    let found = findings.iter().find(said).ok_or_else(|| format!("{what}: no {words:?} in {findings:#?}"))?;
    Ok(found["way_out"].as_str().ok_or_else(|| format!("no way out: {found}"))?)
}

/// Lines of a function's log since a moment that are no information.
async fn complaints(function: &str, since_ms: u64) -> Result<Vec<Value>, Failed> {
    let group = format!("/weir/weir/{function}");
    let since = since_ms.to_string();
    let asked = ["logs", "filter-log-events", "--log-group-name", &group, "--start-time", &since, "--output", "json"];
    let told: Value = serde_json::from_str(&aws(&asked).await?)?;
    let lines = told["events"].as_array().ok_or("no events")?.iter().filter_map(|event| event["message"].as_str());
    let lines = lines.flat_map(str::lines).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["level"] == "WARN" || line["level"] == "ERROR").collect())
}

fn now_ms() -> Result<u64, Failed> {
    Ok(u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?)
}

/// Well before, and well after: whatever was broken.
async fn is_well() -> Result<(), Failed> {
    let (findings, _) = doctor(&["--probe"]).await?;
    // What tests before this one left in the ledger and in dead letters is not meant.
    let now = |finding: &&Value| {
        let what = finding["what"].as_str().unwrap_or_default();
        ["function", "delivery", "probe"].iter().any(|part| what.starts_with(part))
    };
    let (now, parts): (Vec<&Value>, _) = (findings.iter().filter(now).collect(), ["function weir-realtime", "probe"]);
    assert!(now.iter().all(|finding| finding["level"] == "ok"), "{now:#?}");
    for part in parts {
        assert!(now.iter().any(|finding| finding["what"] == part), "{part}: {now:#?}");
    }
    Ok(())
}

async fn a_permission_that_is_missing() -> Result<(), Failed> {
    let role = ["lambda", "get-function-configuration", "--function-name", "weir-realtime", "--query", "Role"];
    let role = aws(&role).await?;
    let role = role.rsplit('/').next().ok_or("no role")?;
    let deny = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Deny", "Action": ["dynamodb:PutItem", "dynamodb:UpdateItem"], "Resource": "*"}]});
    let name = ["--role-name", role, "--policy-name", "broken"];
    let policy = deny.to_string();
    aws(&[&["iam", "put-role-policy", "--policy-document", &policy][..], &name].concat()).await?;
    let since = now_ms()?;
    let found = doctor(&["--probe"]).await;
    // What was put still waits.
    let late = doctor(&["--late", "5"]).await;
    aws(&[&["iam", "delete-role-policy"][..], &name].concat()).await?;
    let (findings, _) = found?;
    problem(&findings, "probe", &["not done"])?;
    problem(&late?.0, "stream weir-commands, shardId-000000000000", &["no job and no dead letter yet"])?;
    let way_out = problem(&findings, "function weir-realtime", &["AccessDenied", "dynamodb:"])?;
    assert!(way_out.contains("permission"), "{way_out}");
    let logged = complaints("realtime", since).await?;
    assert!(
        logged.iter().any(|line| line["code"].as_str().is_some_and(|code| code.contains("AccessDenied"))),
        "{logged:#?}"
    );
    Ok(())
}

async fn a_setting_that_is_wrong() -> Result<(), Failed> {
    let which = ["--function-name", "weir-transform"];
    let asked = ["lambda", "get-function-configuration", "--query", "Environment", "--output", "json"];
    let right = aws(&[&asked[..], &which].concat()).await?;
    let mut wrong: Value = serde_json::from_str(&right)?;
    wrong["Variables"]["CONTRACTS"] = "weir-trips=tripz".into();
    let wrong = wrong.to_string();
    aws(&[&["lambda", "update-function-configuration", "--environment", &wrong][..], &which].concat()).await?;
    let found = doctor(&[]).await;
    aws(&[&["lambda", "update-function-configuration", "--environment", &right][..], &which].concat()).await?;
    let (findings, failed) = found?;
    assert!(failed, "it is a problem");
    let way_out = problem(&findings, "function weir-transform", &["CONTRACTS", "tripz", "trips"])?;
    assert!(way_out.contains("setting"), "{way_out}");
    // By the end of its log, which the call gives; the local AWS keeps no more than that of a function that does not start.
    Ok(())
}

/// A dead letter that was sent again is there no more, but as a version: its record does not wait. Without that, it would.
async fn a_letter_that_was_sent_again(stack: &Stack) -> Result<(), Failed> {
    let sent = stack.send(&[br#"{"this is": "no command"}"#.to_vec()]).await?;
    let number = sent.first().ok_or("nothing was sent")?;
    stack.dead_letter(number).await?;
    let letters = ["--bucket", &std::env::var("WEIR_DEAD_LETTER_BUCKET")?];
    let found = ["s3api", "list-object-versions", "--output", "json", "--query"];
    let found = aws(&[&found[..], &[&format!("Versions[?contains(Key, '{number}')]")], &letters].concat()).await?;
    let found: Value = serde_json::from_str(&found)?;
    let key = found[0]["Key"].as_str().ok_or_else(|| format!("no letter: {found}"))?;
    let waits = async || -> Result<bool, Failed> {
        let (findings, _) = doctor(&["--late", "5"]).await?;
        Ok(findings.iter().any(|finding| finding["said"].as_str().is_some_and(|said| said.contains(number))))
    };
    let deleted = [&["s3api", "delete-object", "--key", key][..], &letters].concat();
    let marker = aws(&[&deleted[..], &["--query", "VersionId"]].concat()).await?;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(!waits().await?, "a record whose letter was sent again");
    for version in [marker.trim().trim_matches('"'), found[0]["VersionId"].as_str().ok_or("no version")?] {
        aws(&[&deleted[..], &["--version-id", version]].concat()).await?;
    }
    assert!(waits().await?, "a record of which there never was a letter");
    Ok(())
}

async fn a_table_that_is_throttled() -> Result<(), Failed> {
    let (since, refused) = (now_ms()?, Fault::Refuse("ProvisionedThroughputExceededException".to_owned()));
    break_calls(&["DynamoDB_20120810.", "weir-ledger"], refused).await?;
    let found = doctor(&[]).await;
    proxy("DELETE", "").await?;
    let (findings, failed) = found?;
    assert!(failed, "it is a problem");
    for function in ["worker", "orchestrator"] {
        let what = format!("function weir-{function}");
        let way_out = problem(&findings, &what, &["ProvisionedThroughputExceeded"])?;
        assert!(way_out.contains("too many calls"), "{way_out}");
        let logged = complaints(function, since).await?;
        assert!(logged.iter().any(|line| line["code"] == "ProvisionedThroughputExceededException"), "{logged:#?}");
    }
    Ok(())
}

async fn an_s3_that_is_busy() -> Result<(), Failed> {
    let since = now_ms()?;
    break_calls(&["PUT /", "/doctor/doctor-"], Fault::Status(503)).await?;
    let found = doctor(&["--probe"]).await;
    proxy("DELETE", "").await?;
    let (findings, failed) = found?;
    assert!(failed, "it is a problem");
    let way_out = problem(&findings, "probe", &["WAITING", "503"])?;
    assert!(way_out.contains("busy"), "{way_out}");
    let logged = complaints("realtime", since).await?;
    assert!(logged.iter().any(|line| line["code"] == "Http503"), "{logged:#?}");
    Ok(())
}

/// Nobody hears of failed jobs for a while; but they are answered in time, and the log says what nobody heard.
async fn a_topic_that_is_slow(stack: &Stack) -> Result<(), Failed> {
    stack.unannounce("copy", "NoSuchKey").await?;
    let (source, dest) = (stack.input("nothing.csv")?.to_string(), stack.output("nothing.csv")?.to_string());
    // So many that the function would run out of its time if it told of each that nobody heard.
    let ids: Vec<String> = (0..80).map(|n| format!("{}-unheard-{n}", stack.run)).collect();
    let command =
        |id| json!({"source": source, "dest": dest, "command": "copy", "job_id": id}).to_string().into_bytes();
    let event = kinesis_event(now_ms()?, &ids.iter().map(command).collect::<Vec<_>>());
    let (since, begun) = (now_ms()?, Instant::now());
    break_calls(&["Action=Publish"], Fault::Delay(60_000)).await?;
    let lambda = aws_sdk_lambda::Client::new(&stack.aws);
    let answered = lambda.invoke().function_name("weir-realtime").payload(Blob::new(event)).send().await;
    proxy("DELETE", "").await?;
    let answered = answered?;
    let told = answered.payload().map(|told| String::from_utf8_lossy(told.as_ref()).into_owned()).unwrap_or_default();
    assert_eq!(answered.function_error(), None, "{told} after {:?}", begun.elapsed());
    assert_eq!(serde_json::from_str::<Value>(&told)?["batchItemFailures"], json!([]));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for id in &ids {
        assert_eq!(stack.settled(id).await?.state, State::Failed);
    }
    let logged = complaints("realtime", since).await?;
    let unheard = |line: &&Value| line["message"].as_str().is_some_and(|message| message.contains("publish an alert"));
    let line = logged.iter().find(unheard).ok_or_else(|| format!("{logged:#?}"))?;
    assert_eq!(line["level"], "WARN", "{line}");
    // What AlertsUnheardAlarm looks at: a metric of the stack as a whole.
    let metrics = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!((&metrics["Namespace"], &metrics["Dimensions"]), (&json!("weir"), &json!([[]])), "{line}");
    assert_eq!(line["AlertsUnheard"], 1.0, "{line}");
    // Then it is left alone for ten seconds. After that, people hear again.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let queue = stack.subscribe().await?;
    let id = format!("{}-heard", stack.run);
    stack.send(&[command(&id)]).await?;
    assert_eq!(stack.settled(&id).await?.state, State::Failed);
    assert_eq!(stack.heard(&queue, &id).await?.len(), 1);
    let (findings, _) = doctor(&["--all"]).await?;
    let alerts = |finding: &&Value| finding["what"].as_str().is_some_and(|what| what.starts_with("alerts by "));
    let found = findings.iter().find(alerts).ok_or_else(|| format!("{findings:#?}"))?;
    assert!(
        found["level"] == "ok" && found["said"].as_str().is_some_and(|said| said.ends_with("subscribed")),
        "{found}"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_broken_is_named_with_its_cause() -> Result<(), Failed> {
    let stack = Stack::open("doctor").await?;
    is_well().await?;
    a_permission_that_is_missing().await?;
    a_setting_that_is_wrong().await?;
    a_table_that_is_throttled().await?;
    an_s3_that_is_busy().await?;
    a_letter_that_was_sent_again(&stack).await?;
    a_topic_that_is_slow(&stack).await?;
    is_well().await
}
