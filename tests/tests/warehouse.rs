//! What runs add up, in the warehouse: the statements on a real PostgreSQL by way of Redshift's Data API (local/redshift.py says what
//! of Redshift that is not).

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use weir_command::Location;
use weir_contract::contract;
use weir_lake::Lake;
use weir_ledger::batch::{Lane, Phase};
use weir_orchestrator::warehouse::conformance;
use weir_orchestrator::warehouse::redshift::{DataApi, Redshift, Target};
use weir_orchestrator::warehouse::sql::Place;
use weir_tests::batch::{PATIENCE, TURN, duckdb, idle, lane, orchestrator, page_log, raw};
use weir_tests::{Failed, Stack, aws};

const WORKGROUP: &str =
    "arn:aws:redshift-serverless:us-east-1:000000000000:workgroup/00000000-0000-0000-0000-000000000000";

/// Asks the warehouse as a person would; a line a row.
async fn sql(text: &str) -> Result<Vec<String>, Failed> {
    let data =
        ["redshift-data", "execute-statement", "--workgroup-name", WORKGROUP, "--database", "dev", "--sql", text];
    let id = aws(&[&data[..], &["--query", "Id"]].concat()).await?;
    loop {
        let told = aws(&["redshift-data", "describe-statement", "--id", &id, "--output", "json"]).await?;
        let told: Value = serde_json::from_str(&told)?;
        match told["Status"].as_str() {
            Some("FINISHED") => break,
            Some("FAILED") => return Err(format!("{text}: {}", told["Error"]).into()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let found = aws(&["redshift-data", "get-statement-result", "--id", &id, "--output", "json"]).await?;
    let found: Value = serde_json::from_str(&found)?;
    let rows = found["Records"].as_array().cloned().unwrap_or_default();
    let cell = |cell: &Value| match cell.as_object().and_then(|cell| cell.values().next()) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_f64() => format!("{:?}", number.as_f64().unwrap_or(f64::NAN)),
        Some(other) => other.to_string(),
        None => "?".to_owned(),
    };
    let line = |row: &Value| row.as_array().into_iter().flatten().map(cell).collect::<Vec<_>>().join(" ");
    Ok(rows.iter().map(line).collect())
}

/// What DuckDB makes of the sums on S3 is what the table and its view have.
async fn each_run_once() -> Result<Vec<String>, Failed> {
    let tables = std::env::var("WEIR_TABLES_BUCKET")?;
    let expected = duckdb(&["sums", &format!("s3://{tables}/page_logs/sums/")]).await?;
    let runs = "SELECT run_id, count(*), SUM(sum_tti), SUM(sum_ttar), SUM(event_count) FROM page_logs_sums GROUP BY 1 ORDER BY 1";
    let mut found = sql(runs).await?;
    // As texts: serde_json reads some numbers a last digit off.
    let means = "SELECT page_url, event_count, CAST(avg_tti AS VARCHAR), CAST(avg_ttar AS VARCHAR) FROM page_logs_metrics ORDER BY 1";
    for line in sql(means).await? {
        let mut words = line.rsplitn(3, ' ');
        let (ttar, tti) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (tti, ttar): (f64, f64) = (tti.parse()?, ttar.parse()?);
        found.push(format!("{} {tti:?} {ttar:?}", words.next().unwrap_or_default()));
    }
    assert_eq!(found, expected);
    Ok(found)
}

async fn land(stack: &Stack, name: &str) -> Result<(), Failed> {
    let rows: String = (0..500).map(page_log).collect();
    stack.lake.put(&raw("page_logs", &stack.run, name)?, Bytes::from(rows), "application/json").await?;
    // The notification may come before or after whoever asks.
    lane(stack, "page_logs", |lane| lane.run.is_some() || lane.phase == Phase::Loading).await?;
    Ok(())
}

fn load(all: bool) -> Value {
    json!({"dataset": "page_logs", "load": {"all": all}})
}

/// Until the attempts are used up. The pauses between them are a minute each: someone asks instead.
async fn refused_for_good(stack: &Stack) -> Result<Lane, Failed> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let lane = lane(stack, "page_logs", |lane| matches!(lane.phase, Phase::Loading | Phase::Idle)).await?;
        if lane.phase == Phase::Loading && lane.failure.is_some() {
            orchestrator(stack, &load(false)).await?;
        } else if lane.phase == Phase::Idle && !lane.to_load.is_empty() {
            return Ok(lane);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the load is neither refused nor done".into())
}

#[tokio::test]
async fn each_run_is_in_the_warehouse_once_however_often_it_is_loaded() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("warehouse").await?;
    idle(&stack, "page_logs").await?;
    land(&stack, "a.json").await?;
    let Lane { last_successful_run, to_load, .. } = idle(&stack, "page_logs").await?;
    assert!(to_load.is_empty(), "{to_load:?}");
    let first = each_run_once().await?;
    let run = last_successful_run.ok_or("no run")?;
    assert!(first.iter().any(|line| line.starts_with(&run)), "{run}: {first:?}");

    orchestrator(&stack, &load(true)).await?;
    idle(&stack, "page_logs").await?;
    assert_eq!(each_run_once().await?, first, "loaded again");
    sql("DROP TABLE page_logs_sums CASCADE").await?;
    orchestrator(&stack, &load(true)).await?;
    idle(&stack, "page_logs").await?;
    assert_eq!(each_run_once().await?, first, "made anew");
    Ok(())
}

#[tokio::test]
async fn a_warehouse_that_takes_nothing_holds_up_no_run_and_gets_all_when_it_is_mended() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("no-warehouse").await?;
    land(&stack, "a.json").await?;
    idle(&stack, "page_logs").await?;
    sql("ALTER TABLE page_logs_sums RENAME COLUMN sum_tti TO another").await?;
    land(&stack, "b.json").await?;
    let refused = refused_for_good(&stack).await;
    let status = weir_tests::cli()?.args(["batch", "status", "page_logs"]).output().await?;
    // Whatever came of it: other tests load, too.
    sql("ALTER TABLE page_logs_sums RENAME COLUMN another TO sum_tti").await?;
    let why = refused?.failure.ok_or("no reason")?;
    assert!(why.reason.contains("sum_tti"), "{why}");
    let status = String::from_utf8(status.stdout)?;
    assert!(status.contains("1 run waits for the warehouse: `weir batch load page_logs`"), "{status}");
    let loaded = weir_tests::cli()?.args(["batch", "load", "page_logs", "--wait"]).output().await?;
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    each_run_once().await?;
    Ok(())
}

#[tokio::test]
async fn the_data_api_keeps_the_promises_of_a_warehouse() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("data-api").await?;
    land(&stack, "a.json").await?;
    let run = idle(&stack, "page_logs").await?.last_successful_run.ok_or("no run")?;
    let at = |run: &str| -> Result<Location, Failed> {
        let tables = std::env::var("WEIR_TABLES_BUCKET")?;
        let shape = contract("page_logs")?.by_day().sums_shape();
        Ok(Location::parse(&format!("s3://{tables}/page_logs/sums/job={run}/{shape}"))?)
    };
    let redshift = Redshift {
        target: Target::Workgroup(WORKGROUP.to_owned()),
        database: "dev".to_owned(),
        secret: None,
        place: Place { schema: "public".to_owned(), copy_role: "default".to_owned() },
    };
    let warehouse = DataApi::new(&stack.aws, "tests", redshift);
    let settle = async || tokio::time::sleep(Duration::from_millis(50)).await;
    conformance::suite(&warehouse, &at(&run)?, &at("nowhere")?, &stack.run, settle).await?;
    each_run_once().await?;
    Ok(())
}
