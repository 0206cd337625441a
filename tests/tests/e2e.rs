//! On the deployed stack: real bootstraps, IAM enforced, the stream's mapping driven by Lambda's rules.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use weir_catalog::GlueCatalog;
use weir_lake::Lake;
use weir_ledger::{Job, Speed, State, Store};
use weir_tests::kafka::{own_database, own_ledger};
use weir_tests::{Failed, Stack};

fn record(stack: &Stack, id: &str, source: &str, rest: serde_json::Value) -> Result<Vec<u8>, Failed> {
    let mut record = json!({
        "job_id": format!("{}-{id}", stack.run),
        "source": stack.input(source)?.to_string(),
        "dest": stack.output(&format!("{id}/"))?.to_string(),
        "command": "copy",
    });
    if let (Some(record), Some(rest)) = (record.as_object_mut(), rest.as_object()) {
        record.extend(rest.clone());
    }
    Ok(record.to_string().into_bytes())
}

fn reason(job: &Job) -> String {
    job.failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default()
}

async fn job(stack: &Stack, id: &str) -> Result<Job, Failed> {
    stack.settled(&format!("{}-{id}", stack.run)).await
}

#[tokio::test]
async fn dynamodb_keeps_the_ledgers_promises() -> Result<(), Failed> {
    let stack = Stack::open("ledger").await?;
    // In the stack's own, sweeps would take up the suite's jobs; and of the layout there is one.
    let (_, own) = own_ledger(&stack).await?;
    weir_ledger::conformance::suite(&own).await?;
    weir_ledger::batch::conformance::suite(&own).await?;
    weir_ledger::positions::conformance::suite(&own).await?;
    weir_ledger::backlog::conformance::suite(&own).await?;
    Ok(weir_ledger::layout::conformance::suite(&own).await?)
}

#[tokio::test]
async fn glue_keeps_the_catalogs_promises() -> Result<(), Failed> {
    let stack = Stack::open("catalog").await?;
    let catalog = GlueCatalog::new(aws_sdk_glue::Client::new(&stack.aws), own_database(&stack).await?);
    Ok(weir_catalog::conformance::suite(&catalog, "suite_events", &stack.output("suite/")?).await?)
}

#[tokio::test]
async fn s3_keeps_the_lakes_promises() -> Result<(), Failed> {
    let stack = Stack::open("lake").await?;
    Ok(weir_lake::conformance::suite(&stack.lake, &stack.output("suite/")?).await?)
}

#[tokio::test]
async fn poison_in_the_middle_of_a_batch_leaves_its_neighbours_alone() -> Result<(), Failed> {
    let stack = Stack::open("poison").await?;
    stack.put("a.csv", "id,name\n1,Ann\n2,Bob\n").await?;
    let poison = [
        b"not json at all".to_vec(),
        Vec::from([0xffu8; 100_000]),
        br#"{"source":5,"dest":"s3://x","command":"cpoy","sorce":1}"#.to_vec(),
        record(&stack, "unknown", "a.csv", json!({"colour": "red"}))?,
    ];
    let mut records = vec![record(&stack, "first", "a.csv", json!({}))?];
    records.extend(poison.clone());
    records.push(record(&stack, "last", "a.csv", json!({"command": "convert"}))?);
    let numbers = stack.send(&records).await?;
    assert_eq!(job(&stack, "first").await?.state, State::Done);
    let last = job(&stack, "last").await?;
    assert_eq!((last.state, last.report.and_then(|report| report.rows)), (State::Done, Some(2)));
    for (number, sent) in numbers.iter().skip(1).zip(&poison) {
        let letter = stack.dead_letter(number).await?;
        let raw = STANDARD.decode(letter.get("raw_base64").and_then(|raw| raw.as_str()).unwrap_or_default())?;
        assert_eq!(&raw, sent, "the dead letter is the record, byte for byte");
    }
    let unknown = job(&stack, "unknown").await?;
    assert_eq!(unknown.state, State::Failed);
    assert!(reason(&unknown).contains("unknown member `colour`"), "{}", reason(&unknown));
    Ok(())
}

#[tokio::test]
async fn a_job_sent_again_is_done_once_and_another_under_its_id_refused() -> Result<(), Failed> {
    let stack = Stack::open("again").await?;
    stack.put("a.csv", "id,name\n1,Ann\n2,Bob\n").await?;
    let same = record(&stack, "j", "a.csv", json!({"command": "convert"}))?;
    stack.send(&[same.clone(), same.clone()]).await?;
    let first = job(&stack, "j").await?;
    let other = record(&stack, "j", "a.csv", json!({"command": "convert", "format": "csv"}))?;
    let numbers = stack.send(&[same, other]).await?;
    let letter = stack.dead_letter(numbers.last().map(String::as_str).unwrap_or_default()).await?;
    assert!(letter.to_string().contains("was used before with another command"));
    let after = job(&stack, "j").await?;
    assert_eq!((first.state, first.attempts), (State::Done, 1));
    assert_eq!(after, first, "a finished job does not change");
    Ok(())
}

#[tokio::test]
async fn what_a_person_must_mend_fails_at_once_and_says_what() -> Result<(), Failed> {
    let stack = Stack::open("mend").await?;
    stack.put("folder/a.csv", "a,b\n1,2\n").await?;
    stack.put("empty.csv", "").await?;
    let elsewhere = "s3://some-other-bucket/x/";
    let cases = [
        ("missing", record(&stack, "missing", "nothing.csv", json!({}))?, "there is no such object"),
        ("slash", record(&stack, "slash", "folder", json!({}))?, "end the source with `/`"),
        ("outside", record(&stack, "outside", "folder/", json!({"dest": elsewhere}))?, "DestAllowList"),
        ("foreign", record(&stack, "foreign", "folder/", json!({"source": elsewhere}))?, "SourceAllowList"),
        ("empty", record(&stack, "empty", "empty.csv", json!({"command": "convert"}))?, "no bytes at all"),
    ];
    let records: Vec<Vec<u8>> = cases.iter().map(|(_, record, _)| record.clone()).collect();
    stack.send(&records).await?;
    for (id, _, word) in cases {
        let job = job(&stack, id).await?;
        assert_eq!((job.state, job.attempts), (State::Failed, 1), "{id}");
        assert!(reason(&job).contains(word), "{id}: {}", reason(&job));
    }
    Ok(())
}

#[tokio::test]
async fn the_three_speeds() -> Result<(), Failed> {
    let stack = Stack::open("speeds").await?;
    for n in 0..120 {
        stack.put(&format!("many/{n:03}.csv"), &format!("id,name\n{n},n{n}\n")).await?;
    }
    let records = [
        record(&stack, "worker", "many/", json!({"command": "convert"}))?,
        record(&stack, "stream", "many/000.csv", json!({"command": "convert"}))?,
        record(&stack, "batch", "many/000.csv", json!({"command": "convert", "when": "off-peak"}))?,
    ];
    stack.send(&records).await?;
    let stream = job(&stack, "stream").await?;
    assert_eq!((stream.state, stream.speed), (State::Done, Some(Speed::Stream)));
    let worker = job(&stack, "worker").await?;
    assert_eq!(
        (worker.state, worker.speed, worker.report.and_then(|report| report.rows)),
        (State::Done, Some(Speed::Worker), Some(120))
    );
    assert_eq!(job(&stack, "batch").await?.state, State::Deferred);
    Ok(())
}

#[tokio::test]
async fn a_prefix_is_copied_byte_for_byte() -> Result<(), Failed> {
    let stack = Stack::open("prefix").await?;
    for n in 0..30 {
        stack.put(&format!("in/{}/ü {n}.csv", n % 3), &format!("row {n}")).await?;
    }
    stack.send(&[record(&stack, "all", "in/", json!({}))?]).await?;
    assert_eq!(job(&stack, "all").await?.report.map(|report| report.objects), Some(30));
    for n in 0..30 {
        let at = stack.output(&format!("all/{}/ü {n}.csv", n % 3))?;
        let info = stack.lake.head(&at).await?;
        assert_eq!(info.attributes.content_type.as_deref(), Some("text/csv"));
        assert_eq!(stack.lake.get(&at, None, 0, info.size).await?, format!("row {n}"));
    }
    Ok(())
}

#[tokio::test]
async fn five_records_do_not_wait_behind_a_gigabyte() -> Result<(), Failed> {
    const BYTES: usize = 1 << 30;
    let stack = Stack::open("behind").await?;
    stack.put("five.csv", "id,name\n1,Ann\n2,Bob\n3,Cy\n4,Di\n5,Eve\n").await?;
    let row = "12345,a name that is neither short nor long,2024-05-06 07:08:09,1234.5\n";
    let mut text = String::with_capacity(BYTES + 100);
    text.push_str("id,name,at,price\n");
    while text.len() < BYTES {
        text.push_str(row);
    }
    let rows = (text.len() - 17) / row.len();
    stack.put("gigabyte.csv", &text).await?;
    drop(text);
    let convert = json!({"command": "convert"});
    let (big, small) =
        (record(&stack, "big", "gigabyte.csv", convert.clone())?, record(&stack, "small", "five.csv", convert)?);
    stack.send(&[big, small]).await?;
    let small = job(&stack, "small").await?;
    let meanwhile = stack.ledger.get(&format!("{}-big", stack.run)).await?;
    assert!(meanwhile.is_some_and(|job| !job.state.is_final()), "the large job is still under way");
    let big = stack.settled_within(&format!("{}-big", stack.run), Duration::from_secs(240)).await?;
    assert_eq!((small.state, small.speed), (State::Done, Some(Speed::Stream)));
    assert_eq!((big.state, big.speed), (State::Done, Some(Speed::Worker)), "{}", reason(&big));
    assert_eq!(big.report.and_then(|report| report.rows), Some(rows as u64));
    Ok(())
}

#[tokio::test]
async fn of_many_alike_failures_people_hear_once() -> Result<(), Failed> {
    let stack = Stack::open("alert").await?;
    let queue = stack.subscribe().await?;
    // No other test of this binary fails in this way.
    stack.unannounce("convert", "NoSuchKey").await?;
    let missing = |id: &str| record(&stack, id, "nothing.csv", json!({"command": "convert"}));
    stack.send(&[missing("one")?]).await?;
    job(&stack, "one").await?;
    // The same place, and the same failure.
    let again = missing("one")?;
    let again = String::from_utf8(again)?.replace("-one\"", "-two\"");
    stack.send(&[again.into_bytes()]).await?;
    job(&stack, "two").await?;
    let heard = stack.heard(&queue, "nothing.csv").await?;
    let [notice] = heard.as_slice() else { return Err(format!("not one notice: {heard:?}").into()) };
    for word in ["convert", "there is no such object", &format!("{}-one", stack.run), "send the command again"] {
        assert!(notice.contains(word), "`{word}` is not in {notice}");
    }
    Ok(())
}
