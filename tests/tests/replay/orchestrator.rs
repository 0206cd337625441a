//! What the orchestrator is told, in an order in which no run begins: when something has landed, it waits for off-peak.

use std::time::Duration;

use serde_json::{Value, json};
use weir_ledger::batch::Book;
use weir_local::runtime::Answer;
use weir_tests::function::ORCHESTRATOR;
use weir_tests::kafka::own_ledger;
use weir_tests::sam::By;
use weir_tests::{Failed, Stack, aws};

use crate::{event, names, own_bucket};

/// What each file is answered: these members, or a word of its `error`.
fn answers() -> Vec<(&'static str, Result<Value, &'static str>)> {
    let idle = json!({"lane": "page_logs", "phase": "IDLE", "found": 0, "run": null, "to_load": 0});
    vec![
        ("retry.json", Err("nothing has ever landed")),
        ("run.json", Ok(idle.clone())),
        ("backfill.json", Ok(idle.clone())),
        ("load.json", Ok(idle)),
        ("glue-failed.json", Ok(json!({}))),
        ("glue-succeeded.json", Ok(json!({}))),
        ("redshift-failed.json", Ok(json!({}))),
        ("redshift-finished.json", Ok(json!({}))),
        ("not-ours.json", Err("aws.ec2")),
        ("s3-test.json", Ok(json!({}))),
        ("object-created.json", Ok(json!({}))),
        ("s3-notification.json", Ok(json!({}))),
        ("sweep.json", Ok(json!({"looked_at": 0}))),
    ]
}

pub(crate) async fn every_event(by: By) -> Result<(), Failed> {
    let stack = Stack::open(&format!("replay-runs-{by}")).await?;
    let (table, book) = own_ledger(&stack).await?;
    let letters = own_bucket(&stack).await?;
    // It may be there already.
    let _ = aws(&["s3api", "create-bucket", "--bucket", "weir-sample-raw"]).await;
    // Where nothing is: the stack's own have what other tests left to be loaded.
    let places = ["tables", "events", "runs"].map(|place| format!("s3://{letters}/{place}/"));
    let [tables, events, runs] = places.each_ref().map(String::as_str);
    let own = [
        ("TABLES", tables),
        ("EVENTS", events),
        ("RUNS", runs),
        ("LEDGER_TABLE", table.as_str()),
        ("DEAD_LETTER_BUCKET", &letters),
        ("RAW", "s3://weir-sample-raw/"),
        ("BATCH_WHEN", "off-peak"),
    ];
    let Some(function) = stack.run(by, ORCHESTRATOR, &own).await? else { return Ok(()) };
    let answers = answers();
    assert_eq!(names("orchestrator")?, answers.iter().map(|(name, _)| name.to_string()).collect());
    for (name, expected) in answers {
        let answer = function.invoke(&event("orchestrator", name)?, Duration::from_secs(60)).await?;
        let Answer::Response(answer) = answer else { return Err(format!("{name}: {answer:?}").into()) };
        let answer: Value = serde_json::from_str(&answer)?;
        match expected {
            Err(word) => {
                assert!(answer["error"].as_str().is_some_and(|error| error.contains(word)), "{name}: {answer}")
            }
            Ok(members) => {
                for (member, value) in members.as_object().into_iter().flatten() {
                    assert_eq!(&answer[member], value, "{name}: {member} of {answer}");
                }
                assert_eq!(answer.get("error"), None, "{name}");
            }
        }
    }
    // The same object by both roads is one; a folder's mark is none.
    for (dataset, key) in [("page_logs", "page_logs/2026/11/12/ü +1.json"), ("orders", "orders/a=1.csv")] {
        let waits: Vec<String> = book.pending(dataset, 10).await?.into_iter().map(|landed| landed.uri).collect();
        assert_eq!(waits, [format!("s3://weir-sample-raw/{key}")]);
    }
    let kept = aws(&["s3api", "list-objects-v2", "--bucket", &letters, "--query", "Contents[].Key"]).await?;
    assert_eq!(kept.split_whitespace().count(), 2, "what is not ours, and a notification of no creation: {kept}");
    Ok(())
}
