//! Kafka to Parquet on a real broker: whatever dies or stalls, each offset is there once.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use weir_ledger::DynamoStore;
use weir_ledger::positions::Positions;
use weir_local::chaos::{Chaos, Dice};
use weir_local::invoker::Deployed;
use weir_local::kafka::{Mapping, make_topics, mappings, poll};
use weir_local::runtime::Answer;
use weir_tests::batch::{TURN, duckdb, idle};
use weir_tests::function::INGEST;
use weir_tests::kafka::{brokers, own_database, own_ledger};
use weir_tests::processes::Processes;
use weir_tests::{Failed, Stack, cli};

const EVENTS: u64 = 1_000_000;
const PARTITIONS: i32 = 8;

/// How long everything dies and stalls.
const STORM: Duration = Duration::from_secs(60);

/// Until everything must be there.
const PATIENCE: Duration = Duration::from_secs(240);

async fn produce(file: &str, topic: &str, dataset: &str, rate: Option<u64>) -> Result<(), Failed> {
    let rate = rate.map_or(Vec::new(), |rate| vec!["--rate".to_owned(), rate.to_string()]);
    let brokers = brokers()?;
    let produced = cli()?
        .args(["produce", file, "--kafka", &brokers, "--topic", topic, "--dataset", dataset])
        .args(rate)
        .stdin(Stdio::null())
        .output()
        .await?;
    if produced.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&produced.stderr).into()) }
}

fn poller(mapping: &Mapping, processes: &Processes, dice: &Arc<Dice>) -> JoinHandle<()> {
    let (mapping, processes, dice) = (mapping.clone(), processes.clone(), Arc::clone(dice));
    tokio::spawn(async move {
        if let Err(error) = poll(&mapping, &processes, &dice).await {
            eprintln!("a poller ended: {error}");
        }
    })
}

/// A topic of a test's own, how it is read, and by what.
struct Own {
    mapping: Mapping,
    processes: Processes,
    ledger: DynamoStore,
    events: String,
    database: String,
}

/// `reports`: whether answers name the partitions that are to come again.
async fn topic(stack: &Stack, dataset: &str, reports: bool) -> Result<Own, Failed> {
    let topic = format!("{dataset}-{}", stack.run);
    let (brokers, events) = (brokers()?, stack.output("events/")?.to_string());
    make_topics(&brokers, std::slice::from_ref(&topic), PARTITIONS).await?;
    let (table, ledger) = own_ledger(stack).await?;
    let database = own_database(stack).await?;
    let own = [
        ("TOPICS", format!("{topic}={dataset}")),
        ("PARTIAL_FAILURES", if reports { topic.clone() } else { String::new() }),
        ("EVENTS", events.clone()),
        ("CLUSTER", stack.run.clone()),
        ("LEDGER_TABLE", table),
        ("DATABASE", database.clone()),
        ("ROLE", "compact".to_owned()),
        ("LEASE_GRACE_SECONDS", "1".to_owned()),
    ];
    let processes = Processes::new(stack, INGEST, INVOCATION, &own).await?;
    let window = Duration::from_millis(300);
    let mapping = Mapping { brokers, group: topic.clone(), topic, batch_size: 10_000, window, reports };
    Ok(Own { mapping, processes, ledger, events, database })
}

/// How long a compactor may live: not much longer than it begins nothing any more.
const COMPACTS: Duration = Duration::from_secs(40);

/// Nothing is begun in the last ten seconds.
const SHORTEST: Duration = Duration::from_secs(13);

/// How many partitions were compacted, and how many are left.
fn compacted(answer: &Answer) -> Option<(usize, u64)> {
    let Answer::Response(text) = answer else { return None };
    let report: serde_json::Value = serde_json::from_slice(text.as_ref()).ok()?;
    Some((report.get("partitions")?.as_array()?.len(), report.get("left")?.as_u64()?))
}

/// What an invocation is told to live.
const INVOCATION: Duration = Duration::from_secs(3);

const COMPACT: &str = r#"{"compact":{"dataset":"page_logs","seconds":20}}"#;

/// Compactors die as well, and wait for workers that stalled.
async fn compact_in_the_storm(processes: Processes) -> Result<usize, Failed> {
    let (mut random, mut done) = (StdRng::seed_from_u64(4), 0);
    let begun = Instant::now();
    while begun.elapsed() < STORM {
        // Whoever is killed holds the layout for its whole life.
        let (lives, killed_after) = match random.random_bool(0.5) {
            true => (SHORTEST, Some(Duration::from_millis(random.random_range(100..1_500)))),
            false => (COMPACTS, None),
        };
        let answer = processes.ask(COMPACT, lives, killed_after).await?;
        done += compacted(&answer).map_or(0, |(done, _)| done);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(done > 2, "{done} partitions were compacted in the storm");
    Ok(done)
}

/// Until nothing is left to be compacted.
async fn compact_all(processes: &Processes) -> Result<usize, Failed> {
    let (begun, mut all) = (Instant::now(), 0);
    loop {
        if let Some((done, left)) = compacted(&processes.ask(COMPACT, COMPACTS, None).await?) {
            all += done;
            if left == 0 {
                return Ok(all);
            }
        }
        assert!(begun.elapsed() < PATIENCE, "compactions fail");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Until so many offsets of a topic are committed, without a gap.
async fn all_committed(ledger: &DynamoStore, count: u64) -> Result<BTreeMap<String, i64>, Failed> {
    let begun = Instant::now();
    loop {
        let mut ends = BTreeMap::new();
        for position in ledger.positions().await? {
            if let Some(committed) = position.committed.filter(|_| position.gaps.is_empty()) {
                assert_eq!(committed.from, 0, "{}", position.name);
                ends.insert(position.name, committed.to);
            }
        }
        if ends.values().sum::<i64>() == i64::try_from(count)? {
            return Ok(ends);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("of {count} offsets are committed: {ends:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events_are_there_once_whatever_dies_or_stalls() -> Result<(), Failed> {
    let stack = Stack::open("storm").await?;
    let Own { mapping, processes, ledger, events, database } = topic(&stack, "page_logs", true).await?;
    let rows = tempfile::Builder::new().suffix(".ndjson").tempfile()?;
    let made = ["generate", "page_logs", "--format", "ndjson", "--days", "2", "--bad", "0.001", "--rows"];
    let made = cli()?.args(made).arg(EVENTS.to_string()).output().await?;
    tokio::fs::File::create(rows.path()).await?.write_all(&made.stdout).await?;
    let file = rows.path().to_str().ok_or("no such path")?.to_owned();

    let dice = Arc::new(Dice::new("duplicate=0.05,recut=0.3".parse::<Chaos>()?, 3));
    let mut pollers: Vec<JoinHandle<()>> = (0..3).map(|_| poller(&mapping, &processes, &dice)).collect();
    let producing = {
        let (file, topic) = (file.clone(), mapping.topic.clone());
        tokio::spawn(async move { produce(&file, &topic, "page_logs", Some(EVENTS / STORM.as_secs())).await })
    };
    processes.suffer(0.08);
    let compacting = tokio::spawn(compact_in_the_storm(processes.clone()));
    let (begun, mut random, mut lost) = (Instant::now(), StdRng::seed_from_u64(9), 0);
    while begun.elapsed() < STORM {
        tokio::time::sleep(Duration::from_millis(random.random_range(1_000..5_000))).await;
        // A poller dies, and has committed nothing of what it was at.
        let which = random.random_range(0..pollers.len());
        if let Some(old) = pollers.get_mut(which) {
            old.abort();
            *old = poller(&mapping, &processes, &dice);
            lost += 1;
        }
    }
    producing.await??;
    processes.suffer(0.0);
    // Those that stalled last go on at the very end.
    let ends = all_committed(&ledger, EVENTS).await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    pollers.iter().for_each(JoinHandle::abort);
    let fates = processes.fates();
    let [killed, stalled, invoked] =
        [&fates.killed, fates.stalled.as_ref(), &fates.invoked].map(|count| count.load(Ordering::Relaxed));
    println!("{invoked} invocations, {killed} killed, {stalled} stalled, {lost} pollers lost");
    assert!(ends.len() == PARTITIONS as usize && killed > 3 && stalled > 3 && lost > 10);
    let letters = format!("s3://{}/poison/ingest/{}/", stack.dead_letters, mapping.topic);
    let compacted = compacting.await?? + compact_all(&processes).await?;
    println!("{compacted} partitions compacted");
    let found = duckdb(&["offsets", &format!("{database}.page_logs_events"), &events, &letters, &file]).await?;
    let expected: Vec<String> = (0..PARTITIONS)
        .map(|partition| {
            let end = ends.get(&format!("{}/{}/{partition}", stack.run, mapping.topic)).copied().unwrap_or(-1);
            format!("{partition} 0 {} {end} {end}", end - 1)
        })
        .collect();
    assert_eq!(found.get(..PARTITIONS as usize), Some(expected.as_slice()), "partition, first, last, count, distinct");
    assert_eq!(found.get(PARTITIONS as usize..), Some(&["the same rows".to_owned()][..]));
    Ok(())
}

fn run_ids(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .filter_map(|line| line.split(' ').next())
        .filter(|word| word.starts_with("page_logs-"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_kafka_is_added_up_by_batch_once() -> Result<(), Failed> {
    const ROWS: u64 = 30_000;
    let _turn = TURN.lock().await;
    let stack = Stack::open("road").await?;
    idle(&stack, "page_logs").await?;
    let sums = format!("s3://{}/page_logs/sums/", std::env::var("WEIR_TABLES_BUCKET")?);
    let before = run_ids(&duckdb(&["sums", &sums]).await?);
    let rows = tempfile::Builder::new().suffix(".ndjson").tempfile()?;
    let made = ["generate", "page_logs", "--format", "ndjson", "--days", "3", "--bad", "0.01", "--seed", "7", "--rows"];
    let made = cli()?.args(made).arg(ROWS.to_string()).output().await?;
    tokio::fs::File::create(rows.path()).await?.write_all(&made.stdout).await?;
    let file = rows.path().to_str().ok_or("no such path")?;

    let brokers = brokers()?;
    make_topics(&brokers, &["log_topic".to_owned(), "orders".to_owned()], PARTITIONS).await?;
    let lambda = aws_sdk_lambda::Client::new(&stack.aws);
    let deployed = mappings(&lambda, "weir-ingest", Some(&brokers)).await?;
    let mapping = deployed.into_iter().find(|one| one.topic == "log_topic").ok_or("the topic is not mapped")?;
    let committed = async || -> Result<i64, Failed> {
        let all = stack.ledger.positions().await?;
        let own = all.into_iter().filter(|position| position.name.starts_with("kafka/log_topic/"));
        Ok(own.filter_map(|position| position.committed).map(|committed| committed.to).sum())
    };
    let at_first = committed().await?;
    produce(file, "log_topic", "page_logs", None).await?;
    let polling = tokio::spawn(async move {
        let (invoker, dice) = (Deployed { lambda, function: "weir-ingest".to_owned() }, Dice::new(Chaos::default(), 1));
        poll(&mapping, &invoker, &dice).await
    });
    let begun = Instant::now();
    while committed().await? < at_first + ROWS as i64 {
        assert!(begun.elapsed() < PATIENCE, "{} of {ROWS} are committed", committed().await? - at_first);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    polling.abort();
    // While batch reads what was committed, its files are written again elsewhere, as a person asks for it.
    let counted = duckdb(&["counted", "weir.page_logs_events"]).await?;
    let said = cli()?.args(["compact", "page_logs", "--json"]).output().await?;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let done = String::from_utf8(said.stdout)?;
    let done: Vec<serde_json::Value> = done.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(done.iter().any(|one| one["files"].as_u64() > one["into"].as_u64()), "{done:?}");
    let less = duckdb(&["counted", "weir.page_logs_events"]).await?;
    assert_eq!(less.first(), counted.first(), "rows, and places that they came from");
    assert_ne!(less.get(1), counted.get(1), "files");
    idle(&stack, "page_logs").await?;
    let after = run_ids(&duckdb(&["sums", &sums]).await?);
    let new = after.iter().filter(|run| !before.contains(run)).map(String::as_str);
    let found = duckdb(&[&["summed", &sums], new.collect::<Vec<_>>().as_slice()].concat()).await?;
    assert_eq!(found, duckdb(&["pages", file]).await?);
    Ok(())
}

/// Real orders where they are, and made ones.
#[tokio::test(flavor = "multi_thread")]
async fn orders_become_a_table_with_their_line_breaks_and_cents() -> Result<(), Failed> {
    let stack = Stack::open("orders").await?;
    let Own { mapping, processes, ledger, events, .. } = topic(&stack, "orders", false).await?;
    let made = cli()?.args(["generate", "orders", "--format", "ndjson", "--rows", "500"]).output().await?;
    let mut lines: Vec<serde_json::Value> =
        String::from_utf8(made.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let real = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/ecommerce_data.json");
    match tokio::fs::read(real).await {
        Ok(real) => lines.extend(serde_json::from_slice::<Vec<serde_json::Value>>(&real)?),
        Err(_) => println!("skipped the real orders: there is no {real}"),
    }
    let file = tempfile::Builder::new().suffix(".ndjson").tempfile()?;
    // An array, as the real ones are.
    let text = serde_json::to_string_pretty(&lines)?;
    tokio::fs::write(file.path(), text).await?;
    produce(file.path().to_str().ok_or("no such path")?, &mapping.topic, "orders", None).await?;
    let polling = poller(&mapping, &processes, &Arc::new(Dice::new(Chaos::default(), 1)));
    all_committed(&ledger, lines.len() as u64).await?;
    polling.abort();
    let found = duckdb(&["rows", &format!("{events}orders/"), "_topic", "_partition", "_offset"]).await?;
    let text =
        |line: &serde_json::Value, name: &str| line.get(name).and_then(|value| value.as_str().map(str::to_owned));
    assert_eq!(found.len(), lines.len() + 1, "a line of columns, and a row an order");
    for line in &lines {
        let id = text(line, "transactionId").ok_or("no id")?;
        let row = found.iter().find(|row| row.contains(&id)).ok_or(format!("{id} is not there"))?;
        let address = text(line, "shippingAddress").ok_or("no address")?.replace('\n', "\\n");
        let price =
            format!("Decimal('{:.2}')", line.get("price").and_then(serde_json::Value::as_f64).ok_or("no price")?);
        assert!(row.contains(&address) && row.contains(&price), "{line}: {row}");
    }
    Ok(())
}
