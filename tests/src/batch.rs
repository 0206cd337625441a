//! The batch side, as tests see it.

use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::json;
use weir_command::Location;
use weir_ledger::batch::{Book, Lane, Phase};

use crate::{Failed, Stack};

/// A run's start-up included, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The local AWS' room for Glue is one; tests take turns.
pub static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What DuckDB finds (tests/rows.py), a line each.
///
/// # Errors
/// What it says.
pub async fn duckdb(arguments: &[&str]) -> Result<Vec<String>, Failed> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/rows.py");
    let done = tokio::process::Command::new("python").arg(script).args(arguments).output().await?;
    if !done.status.success() {
        return Err(format!("rows.py {arguments:?}: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?.lines().map(str::to_owned).collect())
}

/// Invokes the orchestrator.
///
/// # Errors
/// What it says.
pub async fn orchestrator(stack: &Stack, event: &Value) -> Result<Value, Failed> {
    let client = aws_sdk_lambda::Client::new(&stack.aws);
    let payload = aws_sdk_lambda::primitives::Blob::new(event.to_string());
    let answer = client.invoke().function_name("weir-orchestrator").payload(payload).send().await?;
    let told = answer.payload().map(|payload| payload.as_ref()).unwrap_or_default();
    if answer.function_error().is_some() {
        return Err(format!("the orchestrator failed: {}", String::from_utf8_lossy(told)).into());
    }
    Ok(serde_json::from_slice(told)?)
}

/// A lane, once it is so.
///
/// # Errors
/// If it is not in time.
pub async fn lane(stack: &Stack, name: &str, is: impl Fn(&Lane) -> bool) -> Result<Lane, Failed> {
    let begun = Instant::now();
    loop {
        let lane = stack.ledger.lane(name).await?.unwrap_or_else(|| Lane::new(name));
        if is(&lane) {
            return Ok(lane);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the lane is still {lane:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Until nothing runs and nothing is pending.
///
/// # Errors
/// If that takes too long.
pub async fn idle(stack: &Stack, dataset: &str) -> Result<Lane, Failed> {
    loop {
        let lane = lane(stack, dataset, |lane| lane.phase == Phase::Idle).await?;
        if stack.ledger.pending(dataset, 1).await?.is_empty() {
            return Ok(lane);
        }
        orchestrator(stack, &json!({"dataset": dataset})).await?;
    }
}

/// Where a file of a test's own lands.
///
/// # Errors
/// If there is no stack.
pub fn raw(dataset: &str, run: &str, name: &str) -> Result<Location, Failed> {
    let bucket = std::env::var("WEIR_RAW_BUCKET")?;
    Ok(Location::parse(&format!("s3://{bucket}/{dataset}/{run}/{name}"))?)
}

/// A page log; every tenth is bad.
pub fn page_log(n: usize) -> String {
    let url = match n % 4 {
        _ if n % 10 == 3 => "/bad",
        0 => "/a?q=1",
        1 => "/b",
        2 => " /c#x ",
        _ => "/d",
    };
    let tti = if n % 10 == 3 { -1 } else { (n % 700) as i64 };
    let day = n % 3 + 1;
    format!(
        "{{\"event_timestamp\":\"2024-05-0{day}T10:00:00Z\",\"session_id\":\"s-{n}\",\"page_url\":\"{url}\",\"TTI\":{tti},\"TTAR\":{}}}\n",
        n % 900
    )
}
