//! Commands: each file's answer, its jobs and its dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use weir_command::Location;
use weir_ledger::{DynamoStore, State, Store};
use weir_tests::function::{REALTIME, failures};
use weir_tests::kafka::own_ledger;
use weir_tests::sam::{By, Running};
use weir_tests::{Failed, Stack};

use crate::{event, names, own_bucket};

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

async fn replay(stack: &Stack, own: &Own, function: &Running, name: &str) -> Result<(), Failed> {
    let event = event("realtime", name)?;
    let before = reasons(stack, &own.letters).await?;
    // Nothing is to be tried again: what is wrong in these files stays wrong. And a repeat changes nothing.
    for _ in 0..2 {
        assert_eq!(function.invoke(&event, Duration::from_secs(60)).await?, failures(&[]), "{name}");
    }
    for (id, state) in JOBS.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, jobs)| jobs) {
        let job = own.ledger.get(id).await?.ok_or_else(|| format!("{name}: there is no job {id}"))?;
        assert_eq!((job.state, job.attempts <= 1), (*state, true), "{name}: {id}: {:?}", job.failure);
    }
    let after = reasons(stack, &own.letters).await?;
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

/// Where one run's jobs and letters are.
struct Own {
    ledger: DynamoStore,
    letters: String,
}

/// The reasons of dead letters, by key.
async fn reasons(stack: &Stack, bucket: &str) -> Result<BTreeMap<String, String>, Failed> {
    let mut reasons = BTreeMap::new();
    for (key, letter) in stack.objects(&Location::parse(&format!("s3://{bucket}/"))?).await? {
        let letter: Value = serde_json::from_slice(&letter)?;
        reasons.insert(key, letter["reason"].as_str().unwrap_or_default().to_owned());
    }
    Ok(reasons)
}

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-{by}")).await?;
    stack.samples().await?;
    let (table, ledger) = own_ledger(&stack).await?;
    let own = Own { ledger, letters: own_bucket(&stack).await? };
    let more = [("LEDGER_TABLE", table.as_str()), ("DEAD_LETTER_BUCKET", &own.letters)];
    let Some(function) = stack.run(by, REALTIME, &more).await? else { return Ok(()) };
    let names = names("realtime")?;
    assert!(names.len() >= 10, "{names:?}");
    let told = JOBS.iter().map(|(name, _)| *name).chain(DEAD_LETTERS.iter().map(|(name, _)| *name));
    assert!(told.into_iter().all(|name| names.contains(name)), "a file is gone: {names:?}");
    for name in &names {
        replay(&stack, &own, &function, name).await?;
    }
    Ok(())
}
