//! A function that is killed in the middle of a job. In a binary of its own: it kills every process of the function.

use std::time::{Duration, Instant};

use serde_json::json;
use weir_ledger::{Speed, State, Store};
use weir_local::chaos;
use weir_tests::{Failed, Stack};

#[tokio::test]
async fn a_killed_functions_job_is_done_once_by_the_worker() -> Result<(), Failed> {
    const ROWS: usize = 1_500_000;
    let stack = Stack::open("killed").await?;
    let text: String = std::iter::once("id,name,price\n".to_owned())
        .chain((0..ROWS).map(|n| format!("{n},name {n},{n}.5\n")))
        .collect();
    stack.put("large.csv", &text).await?;
    let id = format!("{}-j", stack.run);
    let record = json!({
        "job_id": id, "command": "convert",
        "source": stack.input("large.csv")?.to_string(), "dest": stack.output("large/")?.to_string(),
    });
    stack.send(&[record.to_string().into_bytes()]).await?;

    let begun = Instant::now();
    while stack.ledger.get(&id).await?.is_none_or(|job| job.state != State::Running) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the job was never seen running");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(chaos::kill("weir-realtime")? > 0, "there was no function to kill");

    // The lease must end and the sweep must come: 20 + 2 s, and up to 70 s.
    let job = loop {
        match stack.ledger.get(&id).await? {
            Some(job) if job.state.is_final() => break job,
            _ if begun.elapsed() > Duration::from_secs(180) => return Err("nobody took the job over".into()),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    assert_eq!((job.state, job.speed, job.attempts, job.fence), (State::Done, Some(Speed::Worker), 2, 2));
    assert_eq!(job.report.and_then(|report| report.rows), Some(ROWS as u64));
    Ok(())
}
