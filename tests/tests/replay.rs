//! Every file in events/ through the built bootstrap, by the Lambda runtime API.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use weir_command::Location;
use weir_hudi::{Place, Table};
use weir_ledger::{State, Store};
use weir_local::runtime::Answer;
use weir_tests::function::{ANALYTICS, CDC, CDC_COMMIT, Function, REALTIME, failures};
use weir_tests::hudi::{Reader, fetch};
use weir_tests::kafka::{own_database, own_ledger};
use weir_tests::{Failed, Stack, aws};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../events/realtime");

/// What each file's jobs come to; files without one only have their answer looked at.
const JOBS: [(&str, &[(&str, State)]); 9] = [
    (
        "convert.json",
        &[
            ("sample-parquet", State::Done),
            ("sample-ndjson", State::Done),
            ("sample-csv", State::Done),
            ("sample-avro", State::Done),
        ],
    ),
    ("poison-in-the-middle.json", &[("sample-before", State::Done), ("sample-after", State::Done)]),
    (
        "wrong-commands.json",
        &[
            ("sample-wrong-type", State::Failed),
            ("sample-unknown-member", State::Failed),
            ("sample-unknown-command", State::Failed),
            ("sample-no-dest", State::Failed),
            ("sample-opposites", State::Failed),
        ],
    ),
    ("strange-envelopes.json", &[("sample-null-key", State::Done), ("sample-neighbour", State::Done)]),
    ("duplicates.json", &[("sample-twice", State::Done)]),
    (
        "kpl-aggregate.json",
        &[("sample-kpl-first", State::Done), ("sample-kpl-third", State::Done), ("sample-kpl-gzip", State::Done)],
    ),
    (
        "clean.json",
        &[
            ("sample-clean", State::Done),
            ("sample-aggregate", State::Done),
            ("sample-no-dataset", State::Failed),
            ("sample-unknown-dataset", State::Failed),
            ("sample-wrong-dataset", State::Failed),
        ],
    ),
    (
        "cannot-be-done.json",
        &[("sample-missing", State::Failed), ("sample-foreign", State::Failed), ("sample-onto-itself", State::Failed)],
    ),
    ("deferred.json", &[("sample-batch", State::Deferred), ("sample-off-peak", State::Deferred)]),
];

/// The dead letters each file leaves, with a word of each reason, in the order of their keys.
const DEAD_LETTERS: [(&str, &[&str]); 6] = [
    ("poison-in-the-middle.json", &["not JSON"]),
    ("wrong-commands.json", &["`source`", "`colour`", "`cpoy`", "`dest`", "empty", "not JSON", "object", "`mode`"]),
    ("strange-envelopes.json", &["base64", "kinesis"]),
    ("duplicates.json", &["another command"]),
    // The record inside the aggregate, the damaged aggregate as a plain record, the damaged compression.
    ("kpl-aggregate.json", &["not JSON", "not JSON", "gzip"]),
    ("clean.json", &["`dataset` is missing"]),
];

async fn replay(stack: &Stack, function: &Function, name: &str) -> Result<(), Failed> {
    let event = std::fs::read_to_string(Path::new(FOLDER).join(name))?;
    let before = stack.dead_letters().await?;
    // Nothing is to be tried again: what is wrong in these files stays wrong. And a repeat changes nothing.
    for _ in 0..2 {
        assert_eq!(function.invoke(&event, Duration::from_secs(60)).await?, failures(&[]), "{name}");
    }
    for (id, state) in JOBS.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, jobs)| jobs) {
        let job = stack.ledger.get(id).await?.ok_or_else(|| format!("{name}: there is no job {id}"))?;
        assert_eq!((job.state, job.attempts <= 1), (*state, true), "{name}: {id}: {:?}", job.failure);
    }
    let after = stack.dead_letters().await?;
    let fresh: BTreeMap<_, _> = after.into_iter().filter(|(key, _)| !before.contains_key(key)).collect();
    let expected = DEAD_LETTERS.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, words)| words);
    // Of the request that is not ours, each invocation keeps one: it has no place to lie by.
    let expected = if name == "not-ours.json" { &["neither", "neither"] } else { expected };
    assert_eq!(fresh.len(), expected.len(), "{name}: {fresh:?}");
    for ((key, reason), word) in fresh.iter().zip(expected) {
        assert!(reason.contains(word), "{name}: {key}: `{word}` is not in `{reason}`");
    }
    Ok(())
}

#[tokio::test]
async fn every_event_is_answered_as_it_should_be() -> Result<(), Failed> {
    let stack = Stack::open("replay").await?;
    stack.samples().await?;
    // Dead letters of its own, in a bucket of its own: other tests leave theirs meanwhile.
    let letters = [("DEAD_LETTER_BUCKET", weir_tests::SAMPLE_DEAD_LETTERS)];
    let function = stack.function_with(REALTIME, &letters).await?;
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(FOLDER)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    let told = JOBS.iter().map(|(name, _)| *name).chain(DEAD_LETTERS.iter().map(|(name, _)| *name));
    assert!(told.into_iter().all(|name| names.iter().any(|there| there == name)), "a file is gone: {names:?}");
    for name in &names {
        replay(&stack, &function, name).await?;
    }
    Ok(())
}

/// Changes in the shapes of DMS and Debezium, each batch twice, and what they come to.
#[tokio::test]
async fn every_event_of_changes_is_answered_as_it_should_be() -> Result<(), Failed> {
    let stack = Stack::open("replay-changes").await?;
    let (table, _) = own_ledger(&stack).await?;
    let (database, changes, letters) = (own_database(&stack).await?, stack.output("changes/")?, stack.run.clone());
    aws(&["s3api", "create-bucket", "--bucket", &letters]).await?;
    let place = changes.to_string();
    let own = [
        ("LEDGER_TABLE", table.as_str()),
        ("CHANGES", &place),
        ("DATABASE", &database),
        ("DEAD_LETTER_BUCKET", &letters),
        ("TABLES", "public.customers=customers"),
        // A commit must have so much of its lease left.
        ("LEASE_GRACE_SECONDS", "30"),
    ];
    let (stage, commit) = (stack.function_with(CDC, &own).await?, stack.function_with(CDC_COMMIT, &own).await?);
    let event = |name: &str| std::fs::read_to_string(Path::new(FOLDER).join(format!("../cdc/{name}.json")));
    let minute = Duration::from_secs(60);
    for name in ["dms-load", "dms-changes", "empty-batch", "debezium", "poison-in-the-middle", "other-tables"] {
        for _ in 0..2 {
            assert_eq!(stage.invoke(&event(name)?, minute).await?, failures(&[]), "{name}");
        }
        if name == "dms-load" || name == "other-tables" {
            let done = commit.invoke(&event("commit")?, minute).await?;
            assert_eq!(done, Answer::Response(r#"{"commits":1,"busy":0,"held":0}"#.to_owned()), "{name}");
        }
    }
    for function in [&stage, &commit] {
        let Answer::Error(error) = function.invoke(&event("not-ours")?, minute).await? else {
            return Err("what is not ours was taken".into());
        };
        assert!(error.contains("NotChanges") && !error.contains("hello"), "{error}");
    }
    let lake = std::sync::Arc::new(stack.lake.clone());
    let place = Place { lake, at: changes.join("customers/") };
    let verdict = Table::open(&place).await?.ok_or("there is no table")?.verify().await?;
    assert_eq!((verdict.rows, verdict.broken), (7, vec![]));
    let folder = tempfile::tempdir()?;
    fetch(&place, folder.path()).await?;
    let rows = Reader::start("rs.py", &[folder.path().to_str().ok_or("no path")?])?.ask(&json!({})).await?;
    let told = rows.as_array().ok_or("no rows")?.iter().map(|row| {
        let text = |name: &str| row.get(name).and_then(|text| text.as_str()).unwrap_or("-").to_owned();
        format!("{} {} {}", text("id"), text("name"), text("gender"))
    });
    let expected = ["1 Ann f", "11 after m", "2 last m", "5 no gender -", "6 wrapped f", "7 Debbie f", "8 before m"];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    let kept = aws(&["s3api", "list-objects-v2", "--bucket", &letters, "--query", "Contents[].Key"]).await?;
    assert_eq!(
        kept.split_whitespace().count(),
        5,
        "no JSON, no base64, no key, no table, a value that is not said: {kept}"
    );
    let aside = weir_lake::list_all(&stack.lake, &changes.join("_quarantine/")).await?;
    assert_eq!(aside.len(), 1, "a row with a time that is none");
    Ok(())
}

/// A window's invocations, one after the other, each twice, and what they come to.
#[tokio::test]
async fn every_event_of_windows_is_answered_as_it_should_be() -> Result<(), Failed> {
    let stack = Stack::open("replay-live").await?;
    let statistics = format!("s3://{}/live/tests/{}/", std::env::var("WEIR_TABLES_BUCKET")?, stack.run);
    let function = stack.function_with(ANALYTICS, &[("STATISTICS", &statistics)]).await?;
    let folder = Path::new(FOLDER).with_file_name("analytics");
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    // In the order in which Lambda would send them; what the one answers, the next is given.
    let windows = ["window.json", "poison.json", "last.json", "last-empty.json", "early.json"];
    let others = ["no-window.json", "not-ours.json"];
    let mut known: Vec<&str> = windows.iter().chain(&others).copied().collect();
    known.sort_unstable();
    assert_eq!(names, known);
    let mut state = json!({});
    for name in windows {
        let mut event: Value = serde_json::from_slice(&std::fs::read(folder.join(name))?)?;
        if let (Some(carried), Some(given)) = (state.as_object(), event["state"].as_object_mut()) {
            given.extend(carried.clone());
        }
        for _ in 0..2 {
            let answer = function.invoke(&event.to_string(), Duration::from_secs(60)).await?;
            let Answer::Response(answer) = answer else { return Err(format!("{name}: {answer:?}").into()) };
            let answer: Value = serde_json::from_str(&answer)?;
            assert_eq!(answer["batchItemFailures"], json!([]), "{name}");
            state = answer["state"].clone();
        }
    }
    for name in others {
        let answer = function.invoke(&std::fs::read_to_string(folder.join(name))?, Duration::from_secs(60)).await?;
        assert!(
            matches!(&answer, Answer::Error(error) if error.contains("TumblingWindowInSeconds")),
            "{name}: {answer:?}"
        );
    }
    let at = Location::parse(&format!("{statistics}trips/"))?;
    let lines = stack.lines(&at).await?;
    let all = &lines[0];
    let said =
        ["trips", "passengers", "total_duration", "late", "bad", "dropped", "unreadable", "shards", "different_trips"]
            .map(|name| all[name].as_u64().unwrap_or(u64::MAX));
    // Four of the window, one gzipped, one late, two of a shard whose window was ended early.
    let trips = [0, 1, 2, 20, 6, 9, 20, 21];
    let sum = |of: fn(u64) -> u64| trips.iter().map(|n| of(*n)).sum::<u64>();
    assert_eq!(said, [8, sum(|n| 1 + n % 4), sum(|n| 455 + n), 1, 2, 1, 1, 2, 7], "{all}");
    assert_eq!(
        all["dropoff_cells"],
        json!([{"value": "40.77,-73.96", "count": 8, "at_least": 8}]),
        "coordinates are masked"
    );
    assert_eq!(all["peak_hour"], json!([{"value": "9", "count": 8, "at_least": 8}]));
    assert_eq!(lines.len(), 3, "all, and each vendor");
    Ok(())
}
