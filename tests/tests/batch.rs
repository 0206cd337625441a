//! The batch side on real Spark: what landed, each object once; and the same rows as the Lambda makes. In a binary of its own and
//! one test after the other: the laptop has room for one run at a time.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use weir_command::Location;
use weir_lake::Lake;
use weir_ledger::batch::{Book, Phase, Standing};
use weir_ledger::{Job, State, Store};
use weir_tests::batch::{PATIENCE, TURN, duckdb, idle, lane, orchestrator, page_log, raw};
use weir_tests::{Failed, Stack};

#[tokio::test]
async fn objects_that_are_notified_twice_in_any_order_are_each_worked_on_once() -> Result<(), Failed> {
    const OBJECTS: usize = 500;
    let _turn = TURN.lock().await;
    let stack = Stack::open("landed").await?;
    idle(&stack, "page_logs").await?;
    let mut events = Vec::new();
    for n in 0..OBJECTS {
        let (at, rows) =
            (raw("page_logs", &stack.run, &format!("ü +{n}.json"))?, [n * 3, n * 3 + 1, n * 3 + 2].map(page_log));
        stack.lake.put(&at, Bytes::from(rows.concat()), "application/json").await?;
        let info = stack.lake.head(&at).await?;
        let key = at.key().replace('+', "%2B").replace(' ', "+");
        // Out of order: by the remainder, as often as EventBridge tells of it once.
        events.push((
            n * 7919 % OBJECTS,
            json!({"eventName": "ObjectCreated:Put", "s3": {
            "bucket": {"name": at.bucket()},
            "object": {"key": key, "size": info.size, "eTag": info.etag.trim_matches('"')}}}),
        ));
    }
    events.sort_by_key(|(order, _)| *order);
    for some in events.chunks(50) {
        let records: Vec<&Value> = some.iter().map(|(_, record)| record).collect();
        orchestrator(&stack, &json!({"Records": records})).await?;
    }
    idle(&stack, "page_logs").await?;

    let mut runs = std::collections::BTreeMap::new();
    for n in 0..OBJECTS {
        let uri = raw("page_logs", &stack.run, &format!("ü +{n}.json"))?.to_string();
        let object = stack.ledger.object("page_logs", &uri).await?.ok_or("the ledger has no such object")?;
        assert_eq!(object.standing, Standing::Done, "{uri}");
        *runs.entry(object.run.ok_or("no run")?).or_insert(0) += 1;
    }
    let (mut sums, mut rows) = (std::collections::BTreeMap::new(), 0);
    for run in runs.keys() {
        let job = stack.ledger.get(run).await?.ok_or("no job")?;
        assert_eq!(job.state, State::Done, "{run}");
        rows += job.report.and_then(|report| report.rows).unwrap_or(0);
        let place = format!("s3://{}/page_logs/sums/job={run}/", std::env::var("WEIR_TABLES_BUCKET")?);
        for line in duckdb(&["rows", &place]).await?.iter().skip(1) {
            // (day, page, sum_tti, count_tti, sum_ttar, count_ttar, event_count)
            let cells: Vec<&str> = line.trim_matches(['(', ')']).split(", ").collect();
            let number = |from_end: usize| cells[cells.len() - from_end].parse::<u64>();
            let page = cells[cells.len() - 6].trim_matches('\'').to_owned();
            let sum = sums.entry(page).or_insert((0, 0, 0));
            *sum = (sum.0 + number(1)?, sum.1 + number(5)?, sum.2 + number(3)?);
        }
    }
    let expected = duckdb(&["pages", &raw("page_logs", &stack.run, "")?.to_string()]).await?;
    let measured: Vec<String> =
        sums.iter().map(|(page, (count, tti, ttar))| format!("{page} {count} {tti} {ttar}")).collect();
    assert_eq!(measured, expected);
    assert_eq!(rows as usize, (0..OBJECTS * 3).filter(|n| n % 10 != 3).count());
    assert!(runs.len() <= 6, "a run takes all that is pending: {runs:?}");
    Ok(())
}

/// Files that are not nice, each a dataset and a name.
fn nasty() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let logs = [
        r#"{"event_timestamp":"2024-02-29T23:59:59.999999+14:00","session_id":"é\u0000\ud83d\ude00","page_url":"https://x.test/?a=1#b","TTI":"12","TTAR":1e2}"#,
        r#"{"event_timestamp":1709251199999,"session_id":" s ","page_url":"/a","TTI":0,"TTAR":3600000,"TTI":5}"#,
        r#"{"event_timestamp":"2023-02-29T00:00:00Z","session_id":"s","page_url":"/a","TTI":1,"TTAR":1}"#,
        r#"{"event_timestamp":"2024-01-01","session_id":"s","page_url":"/a","TTI":NaN,"TTAR":1}"#,
        r#"{"event_timestamp":"9999-12-31T23:59:59Z","session_id":"s","page_url":"/a","TTI":-0.0,"TTAR":9223372036854775808}"#,
        r#"{"event_timestamp":"0001-01-01T00:00:00Z","session_id":"s","page_url":"/a","TTI":1.5,"TTAR":1}"#,
        r#"{"event_timestamp":"2024-01-01T00:00:00Z","session_id":"\ud800","page_url":"/a","TTI":1,"TTAR":1}"#,
        r#"{"event_timestamp":"2024-01-01T00:00:00Z","session_id":"s","page_url":"","TTI":1,"TTAR":1}"#,
        r#"[1,2]"#,
        r#"{"event_timestamp":"2024-01-01T00:00:00Z","session_id":"s","page_url":"/a","TTI":1,"TTAR":1,"deep":[[[[{"a":[1,{"b":null}]}]]]]}"#,
        "",
        r#"{"event_timestamp":"2024-01-01T00:00:00Z","session_id":"s","page_url":"/ä/%C3%A4","TTI":1,"TTAR":1,"user_id":null}"#,
        r#"{"cut off"#,
    ];
    let orders = "transactionId,customerId,productId,quantity,price,transactionTime,shippingAddress,paymentMethod\r\n\
        t-1,1,7,2,9.99,2024-03-10T02:30:00,\"1 Main St\r\nSpringfield, \"\"OH\"\"\",card\r\n\
        t-2,2,7,x,9.99,2024-03-10T02:30:00,addr,card\r\n\
        t-3,3,7,1,1e309,2024-03-10T02:30:00,addr,card\r\n\
        t-4,4,7,1,0.10,2024-03-10 02:30:00.5,,card,too,many\r\n\
        t-5,5,7,1,0.30,2024-03-31T02:30:00,\"\",card\r\n";
    vec![
        ("page_logs", "nasty.json", logs.join("\n").into_bytes()),
        ("orders", "nasty.csv", [b"\xef\xbb\xbf", orders.as_bytes()].concat()),
    ]
}

async fn finished(stack: &Stack, id: &str) -> Result<Job, Failed> {
    let begun = Instant::now();
    loop {
        if let Some(job) = stack.ledger.get(id).await?.filter(|job| job.state.is_final()) {
            return Ok(job);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("job {id} is still {:?}", stack.ledger.get(id).await?.map(|job| job.state)).into());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// The lines of a job's quarantine, without where the job is.
async fn quarantine(stack: &Stack, output: &Location) -> Result<Vec<Value>, Failed> {
    let mut lines = stack.lines(&output.join("_quarantine/")).await.unwrap_or_default();
    lines.sort_by_key(Value::to_string);
    Ok(lines)
}

#[tokio::test]
async fn objects_that_can_not_be_read_are_put_aside_and_their_neighbours_are_worked_on() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("unreadable").await?;
    idle(&stack, "page_logs").await?;
    // More than a part is begun again for.
    let objects: Vec<(Location, bool)> = (0..9)
        .map(|n| Ok::<_, Failed>((raw("page_logs", &stack.run, &format!("{n}.data"))?, n % 3 == 1)))
        .collect::<Result<_, _>>()?;
    for (at, good) in &objects {
        let body = if *good { page_log(1) } else { "PAR1 and then nothing".to_owned() };
        stack.lake.put(at, Bytes::from(body), "application/octet-stream").await?;
    }
    let begun = Instant::now();
    let mut runs = std::collections::BTreeSet::new();
    for (at, good) in &objects {
        let uri = at.to_string();
        let object = loop {
            match stack.ledger.object("page_logs", &uri).await? {
                Some(object) if matches!(object.standing, Standing::Done | Standing::Refused) => break object,
                _ if begun.elapsed() > PATIENCE => return Err(format!("{uri} is not worked on").into()),
                _ => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let expected = if *good { Standing::Done } else { Standing::Refused };
        assert_eq!(object.standing, expected, "{uri}");
        runs.insert(object.run.ok_or("no run")?);
    }
    idle(&stack, "page_logs").await?;
    let (mut rows, mut notes) = (0, Vec::new());
    for run in &runs {
        let report = stack.ledger.get(run).await?.and_then(|job| job.report).ok_or("no report")?;
        rows += report.rows.unwrap_or(0);
        notes.extend(report.notes);
    }
    assert_eq!(rows, 3);
    assert_eq!(notes.iter().filter(|note| note.starts_with("not read: ")).count(), 6, "{notes:?}");
    Ok(())
}

#[tokio::test]
async fn rust_in_a_lambda_and_rust_in_spark_make_the_same_of_every_command() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("same").await?;
    let mut jobs = Vec::new();
    for (dataset, name, bytes) in nasty() {
        let text = |at: &Location| at.to_string();
        stack.lake.put(&stack.input(name)?, Bytes::from(bytes), "text/plain").await?;
        let commands: &[&str] =
            if dataset == "page_logs" { &["clean", "aggregate", "convert", "copy"] } else { &["clean"] };
        for command in commands {
            let ids = ["realtime", "batch"].map(|mode| format!("{}-{dataset}-{command}-{mode}", stack.run));
            for (id, mode) in ids.iter().zip(["realtime", "batch"]) {
                let mut record = json!({
                    "job_id": id, "command": command, "dataset": dataset, "mode": mode,
                    "source": text(&stack.input(name)?), "dest": text(&stack.output(&format!("{mode}/{dataset}/{command}/"))?),
                });
                if mode == "batch" {
                    record["when"] = "now".into();
                }
                stack.send(&[record.to_string().into_bytes()]).await?;
            }
            jobs.push((dataset, *command, ids));
        }
    }
    for (_, _, ids) in &jobs {
        stack.settled(&ids[0]).await?;
        assert_eq!(stack.settled(&ids[1]).await?.state, State::Deferred);
    }
    // One finds room, the others wait for theirs.
    orchestrator(&stack, &json!({"sweep": {}})).await?;
    for (dataset, command, [realtime, batch]) in &jobs {
        let (here, there) = (finished(&stack, realtime).await?, finished(&stack, batch).await?);
        assert_eq!((here.state, there.state), (State::Done, State::Done), "{:?} {:?}", here.failure, there.failure);
        let of = |job: &Job| job.report.clone().ok_or("no report");
        let (here, there) = (of(&here)?, of(&there)?);
        let counts = |report: &weir_ledger::Report| {
            (report.objects, report.rows, report.dropped, report.quarantined, report.bytes_in)
        };
        assert_eq!(counts(&here), counts(&there), "{dataset} {command}");
        if *command == "copy" {
            let bytes = |mode: &'static str| {
                let (lake, at) = (stack.lake.clone(), stack.output(&format!("{mode}/{dataset}/copy/nasty.json")));
                async move {
                    let at = at?;
                    let size = lake.head(&at).await?.size;
                    Ok::<Bytes, Failed>(lake.get(&at, None, 0, size).await?)
                }
            };
            assert_eq!(bytes("realtime").await?, bytes("batch").await?);
            continue;
        }
        // When a row was cleaned is the one thing that differs.
        let without: &[&str] =
            if (*dataset, *command) == ("page_logs", "clean") { &["processing_timestamp"] } else { &[] };
        let (a, b) = (
            duckdb(&[&["rows", &here.output], without].concat()).await?,
            duckdb(&[&["rows", &there.output], without].concat()).await?,
        );
        assert!(a.len() > 1, "there are rows: {a:?}");
        assert_eq!(a, b, "{dataset} {command}");
        let aside = |output: &str| Location::parse(output);
        let (a, b) =
            (quarantine(&stack, &aside(&here.output)?).await?, quarantine(&stack, &aside(&there.output)?).await?);
        assert_eq!(a, b, "{dataset} {command}");
        assert_eq!(a.len() as u64, here.quarantined);
    }
    Ok(())
}

/// Kills the process of the run that is going, once it is there.
async fn kill_run(token: &str) -> Result<(), Failed> {
    let begun = Instant::now();
    loop {
        let killed = tokio::process::Command::new("pkill").args(["-9", "-f", token]).status().await?;
        if killed.success() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("there is no process of {token}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn killed_twice_and_its_end_never_told_a_run_still_ends() -> Result<(), Failed> {
    let _turn = TURN.lock().await;
    let stack = Stack::open("killed-batch").await?;
    idle(&stack, "orders").await?;
    let _silence = Silence::begin()?;
    killed_twice(&stack).await
}

/// Runs end without a word while this is there (local/glue.py).
struct Silence;

const SILENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/local/glue/no-events");

impl Silence {
    fn begin() -> Result<Self, Failed> {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/local/glue"))?;
        std::fs::write(SILENCE, "")?;
        Ok(Self)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(SILENCE);
    }
}

async fn killed_twice(stack: &Stack) -> Result<(), Failed> {
    let rows = "transactionId,customerId,productId,quantity,price,transactionTime,shippingAddress,paymentMethod\n\
        t-1,1,7,2,9.99,2024-03-10T02:30:00,a,card\n";
    let at = raw("orders", &stack.run, "o.csv")?;
    stack.lake.put(&at, Bytes::from_static(rows.as_bytes()), "text/csv").await?;
    let mut tokens = Vec::new();
    for attempt in 0..2 {
        let running = lane(stack, "orders", |lane| {
            lane.phase == Phase::Running && lane.run.as_ref().is_some_and(|run| !tokens.contains(&run.token))
        });
        let run = running.await?.run.ok_or("no run")?;
        kill_run(&run.token).await?;
        tokens.push(run.token);
        // Nobody says so: asking does.
        let begun = Instant::now();
        while stack
            .ledger
            .lane("orders")
            .await?
            .and_then(|lane| lane.run)
            .is_some_and(|now| tokens.contains(&now.token))
        {
            assert!(begun.elapsed() < PATIENCE, "attempt {attempt} is not missed");
            orchestrator(stack, &json!({"dataset": "orders"})).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    // Two at once ask, again and again; one start is made, and it is found to be over.
    let begun = Instant::now();
    while stack.ledger.lane("orders").await?.is_some_and(|lane| lane.run.is_some()) {
        assert!(begun.elapsed() < PATIENCE, "the third start never ends");
        let event = json!({"dataset": "orders"});
        let both = futures::future::join_all((0..4).map(|_| orchestrator(stack, &event))).await;
        both.into_iter().collect::<Result<Vec<_>, _>>()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let object = stack.ledger.object("orders", &at.to_string()).await?.ok_or("no object")?;
    assert_eq!(object.standing, Standing::Done);
    let run = object.run.ok_or("no run")?;
    let job = stack.ledger.get(&run).await?.ok_or("no job")?;
    assert_eq!((job.state, job.report.and_then(|report| report.rows)), (State::Done, Some(1)));
    let aws = weir_tests::aws(&["glue", "get-job-runs", "--job-name", "weir-batch", "--output", "json"]).await?;
    let runs: Value = serde_json::from_str(&aws)?;
    let ours = |one: &&Value| {
        one.pointer("/Arguments/--token").and_then(Value::as_str).is_some_and(|token| token.contains(&run))
    };
    let starts = runs["JobRuns"].as_array().ok_or("no runs")?.iter().filter(ours).count();
    assert_eq!(starts, 3, "killed twice, done once");
    let place = format!("s3://{}/orders/rows/job={run}/", std::env::var("WEIR_TABLES_BUCKET")?);
    assert_eq!(duckdb(&["rows", &place]).await?.len(), 2, "a line of columns and a row");
    Ok(())
}
