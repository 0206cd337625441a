//! Kafka's batches, each twice: rows in the table, rows set aside, dead letters.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use weir_command::Location;
use weir_local::runtime::Answer;
use weir_tests::batch::duckdb;
use weir_tests::function::{COMPACT, INGEST};
use weir_tests::kafka::{own_database, own_ledger};
use weir_tests::sam::By;
use weir_tests::{Failed, Stack};

use crate::{event, names, own_bucket};

/// The samples: rows in the table, rows in the quarantine, dead letters.
const SAMPLES: [(&str, usize, usize, usize); 4] = [
    ("msk.json", 3, 0, 1),
    ("self-managed.json", 1, 0, 0),
    ("strange-envelopes.json", 2, 1, 5),
    ("sweep.json", 0, 0, 0),
];

/// What the function that compacts is asked, and in how many partitions it makes one file of two.
const COMPACTIONS: [(&str, usize); 2] = [("compact-unfinished.json", 0), ("compact.json", 1)];

async fn compact(stack: &Stack, by: By, own: &[(&str, &str)]) -> Result<(), Failed> {
    let Some(function) = stack.run(by, COMPACT, own).await? else { return Ok(()) };
    for (name, partitions) in COMPACTIONS {
        // The second time there is nothing left to do.
        for partitions in [partitions, 0] {
            let answer = function.invoke(&event("ingest", name)?, Duration::from_secs(60)).await?;
            let Answer::Response(answer) = answer else { return Err(format!("{name}: {answer:?}").into()) };
            let answer: Value = serde_json::from_str(&answer)?;
            let done = answer["partitions"].as_array().ok_or("no partitions")?;
            assert_eq!((done.len(), &answer["left"]), (partitions, &json!(0)), "{name}: {answer}");
            assert!(done.iter().all(|done| (&done["files"], &done["into"]) == (&json!(2), &json!(1))), "{answer}");
        }
    }
    Ok(())
}

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-ingest-{by}")).await?;
    let known = SAMPLES.iter().map(|(name, ..)| *name).chain(COMPACTIONS.map(|(name, _)| name)).map(str::to_owned);
    assert_eq!(names("ingest")?, known.collect(), "a file is untold or gone");
    let ((table, _), database) = (own_ledger(&stack).await?, own_database(&stack).await?);
    let bucket = own_bucket(&stack).await?;
    let aside = Location::parse(&format!("s3://{bucket}/"))?;
    for (name, rows, quarantined, letters) in SAMPLES {
        let place = stack.output(&format!("{name}/"))?;
        let (events, cluster) = (place.join("events/").to_string(), format!("{}-{name}", stack.run));
        let own = [
            ("EVENTS", events.as_str()),
            ("CLUSTER", &cluster),
            ("LEDGER_TABLE", &table),
            ("DATABASE", &database),
            ("DEAD_LETTER_BUCKET", &bucket),
        ];
        let Some(function) = stack.run(by, INGEST, &own).await? else { return Ok(()) };
        // Of a cluster that this ledger has not seen.
        let event = event("ingest", name)?;
        let event = event.replace("6cc0432b-8618-4f44-bccc-e1fbd8fb7c4d-2", &cluster);
        let before = stack.objects(&aside).await?;
        let mut seen = None;
        for _ in 0..2 {
            let answer = function.invoke(&event, Duration::from_secs(60)).await?;
            assert_eq!(answer, Answer::Response(r#"{"batchItemFailures":[]}"#.to_owned()), "{name}");
            let there = stack.objects(&place).await?;
            let lines = |objects: &BTreeMap<String, Vec<u8>>, within: &str| {
                let own = objects.iter().filter(|(key, _)| key.contains(within));
                own.map(|(_, bytes)| bytes.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>()
            };
            let after = stack.objects(&aside).await?;
            let fresh: BTreeMap<_, _> = after.into_iter().filter(|(key, _)| !before.contains_key(key)).collect();
            assert_eq!((lines(&there, "_quarantine/"), lines(&fresh, "")), (quarantined, letters), "{name}");
            let keys: Vec<String> = there.into_keys().chain(fresh.into_keys()).collect();
            assert_eq!(*seen.get_or_insert_with(|| keys.clone()), keys, "{name}: the second time");
        }
        if rows > 0 {
            let found = duckdb(&["rows", &format!("{events}page_logs/")]).await?;
            assert_eq!(found.len(), rows + 1, "{name}: {found:?}");
        }
        if name == "msk.json" {
            compact(&stack, by, &own).await?;
            let found = duckdb(&["rows", &format!("{events}page_logs/generation=1/")]).await?;
            assert_eq!(found.len(), rows + 1, "what was compacted: {found:?}");
        }
    }
    Ok(())
}
