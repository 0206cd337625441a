//! Cleaning into many partitions is killed with some of its files written; what is there at the end is there once.

use std::time::Duration;

use serde_json::json;
use weir_command::Location;
use weir_lake::Lake;
use weir_ledger::State;
use weir_local::faults::{Fault, Rule};
use weir_local::runtime::Answer;
use weir_tests::function::{REALTIME, kinesis_event};
use weir_tests::{Failed, Stack};

const DAYS: usize = 20;
const ROWS: usize = 4_000;

/// Page logs of some days, every hundredth bad.
fn page_logs() -> String {
    let row = |number: usize| {
        let tti = if number % 100 == 7 { -1 } else { 100 };
        let day = number % DAYS + 1;
        format!(
            "{{\"event_timestamp\":\"2024-03-{day:02}T12:00:00Z\",\"session_id\":\"s-{number}\",\"page_url\":\"/home\",\"TTI\":{tti},\"TTAR\":200}}\n"
        )
    };
    (0..ROWS).map(row).collect()
}

#[tokio::test]
async fn a_cleaning_that_is_killed_between_its_files_is_done_once() -> Result<(), Failed> {
    let stack = Stack::open("clean-killed").await?;
    stack.put("page_logs.json", &page_logs()).await?;
    let id = format!("{}-j", stack.run);
    let record = json!({
        "job_id": id, "command": "clean", "dataset": "page_logs",
        "source": stack.input("page_logs.json")?.to_string(), "dest": stack.output("clean/")?.to_string(),
    });
    let event = kinesis_event(1, &[record.to_string().into_bytes()]);
    let output = stack.output(&format!("clean/job={id}/"))?;
    let function = stack.function(REALTIME).await?;
    // Some files are there, and no more come.
    let contains = vec!["PUT /".to_owned(), format!("{}/clean/job", stack.run)];
    let rule = function.proxy.faults.add(Rule { contains, fault: Fault::Hold, after: 5, times: None });
    let (answer, killed) = tokio::join!(function.invoke(&event, Duration::from_secs(3)), async {
        function.held(rule).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let half = stack.lake.list(&output, None).await?.objects.len();
        function.kill()?;
        Ok::<usize, Failed>(half)
    });
    let half = killed?;
    assert!((1..=5).contains(&half), "{half} files are there");
    assert_eq!(answer?, Answer::Nothing);
    // What an attempt leaves behind that had other names.
    let stray = Location::parse(&format!("{output}event_date=1999-01-01/part-00000.parquet"))?;
    stack.lake.put(&stray, "left behind".into(), "text/plain").await?;

    stack.taken_over(&id).await?;
    let job = stack.settled(&id).await?;
    assert_eq!((job.state, job.attempts), (State::Done, 2));
    let report = job.report.ok_or("no report")?;
    let bad = (0..ROWS).filter(|number| number % 100 == 7).count();
    assert_eq!((report.rows, report.quarantined), (Some((ROWS - bad) as u64), bad as u64));
    let page = stack.lake.list(&output, None).await?;
    let (files, aside): (Vec<_>, Vec<_>) =
        page.objects.iter().partition(|object| object.location.key().ends_with(".parquet"));
    assert_eq!((files.len(), aside.len()), (DAYS, 1), "{:?}", page.objects);
    assert_eq!(files.iter().map(|file| file.size).sum::<u64>(), report.bytes_out);
    Ok(())
}
