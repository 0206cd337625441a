//! Changes in the shapes of DMS and Debezium, each batch twice, and what they come to.

use std::time::Duration;

use serde_json::{Value, json};
use weir_hudi::{Place, Table};
use weir_local::runtime::Answer;
use weir_tests::function::{CDC, CDC_COMMIT, failures};
use weir_tests::hudi::{Reader, fetch};
use weir_tests::kafka::{own_database, own_ledger};
use weir_tests::sam::By;
use weir_tests::{Failed, Stack, aws};

use crate::{event, names, own_bucket};

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-changes-{by}")).await?;
    let (table, _) = own_ledger(&stack).await?;
    let (database, changes, letters) =
        (own_database(&stack).await?, stack.output("changes/")?, own_bucket(&stack).await?);
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
    let Some(stage) = stack.run(by, CDC, &own).await? else { return Ok(()) };
    let Some(commit) = stack.run(by, CDC_COMMIT, &own).await? else { return Ok(()) };
    let event = |name: &str| event("cdc", &format!("{name}.json"));
    let minute = Duration::from_secs(60);
    let batches = ["dms-load", "dms-changes", "empty-batch", "debezium", "poison-in-the-middle", "other-tables"];
    let known = batches.iter().chain(&["commit", "not-ours"]).map(|name| format!("{name}.json")).collect();
    assert_eq!(names("cdc")?, known, "a file is untold or gone");
    for name in batches {
        for _ in 0..2 {
            assert_eq!(stage.invoke(&event(name)?, minute).await?, failures(&[]), "{name}");
        }
        if name == "dms-load" || name == "other-tables" {
            let done = commit.invoke(&event("commit")?, minute).await?;
            let Answer::Response(done) = done else { return Err(format!("{name}: {done:?}").into()) };
            let done: Value = serde_json::from_str(&done)?;
            assert_eq!(done, json!({"commits": 1, "busy": 0, "held": 0}), "{name}");
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
