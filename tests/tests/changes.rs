//! A real PostgreSQL works by chance; its changes go over the local Kinesis into Hudi tables, by processes of the built function that are killed
//! and stalled. At last, and as of every pause, the tables are what the database is, as others read them.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_command::Location;
use weir_hudi::{Place, Table};
use weir_lake::Lake;
use weir_ledger::DynamoStore;
use weir_ledger::backlog::Backlogs;
use weir_local::chaos::Dice;
use weir_local::runtime::Answer;
use weir_local::{chaos::Chaos, poller};
use weir_tests::function::{CDC, CDC_COMMIT};
use weir_tests::hudi::{Reader, fetch};
use weir_tests::kafka::{own_database, own_ledger};
use weir_tests::processes::Processes;
use weir_tests::{Failed, Stack};

/// What an invocation of each function is told to live.
const STAGES: Duration = Duration::from_secs(3);
const COMMITS: Duration = Duration::from_secs(8);

/// How long a lease outlives its invocation: so much at least a commit must have left.
const GRACE_S: u64 = 25;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long a batch is gathered.
const WINDOW: Duration = Duration::from_millis(300);

/// All of the stream is staged if nobody is invoked for so long: longer than the poller waits before a batch comes again.
const QUIET: Duration = Duration::from_secs(3);

/// When the one that is killed is amid a commit.
const KILLED_AFTER: Duration = Duration::from_millis(80);

const COMMIT: &str = r#"{"commit":{}}"#;

/// The tables, as the database calls them, as they are called here, and their keys.
const TABLES: [(&str, &str); 3] = [("customers", "customers"), ("items", "public_items"), ("Pairs", "public_pairs")];

struct World {
    changes: Location,
    lake: Arc<dyn Lake>,
    ledger: DynamoStore,
    source: Reader,
    stages: Processes,
    commits: Processes,
    soft: bool,
    /// By table: what was there at a pause, and the last commit by then.
    past: Vec<(&'static str, String, Value)>,
}

impl World {
    async fn new(name: &str, shards: i32, soft: bool) -> Result<Self, Failed> {
        let stack = Stack::open(name).await?;
        let (table, ledger) = own_ledger(&stack).await?;
        let (database, changes) = (own_database(&stack).await?, stack.output("changes/")?);
        let own = [
            ("LEDGER_TABLE", table),
            ("CHANGES", changes.to_string()),
            ("DATABASE", database),
            ("TABLES", "public.customers=customers,public.*".to_owned()),
            ("SOFT_DELETES", soft.to_string()),
            ("LEASE_GRACE_SECONDS", GRACE_S.to_string()),
            ("AWS_ENDPOINT_URL", std::env::var("AWS_ENDPOINT_URL")?),
        ];
        let stream = format!("changes-{}", stack.run);
        let kinesis = aws_sdk_kinesis::Client::new(&stack.aws);
        kinesis.create_stream().stream_name(&stream).shard_count(shards).send().await?;
        let described = kinesis.describe_stream_summary().stream_name(&stream).send().await?;
        let arn = described.stream_description_summary().ok_or("no stream")?.stream_arn().to_owned();
        let stages = Processes::new(&stack, CDC, STAGES, &own).await?;
        let commits = Processes::new(&stack, CDC_COMMIT, COMMITS, &own).await?;
        // Where keys change and there are several shards, what comes late must not bring back rows that are gone.
        let keys = (shards == 1 || soft).to_string();
        let source = Reader::start("../changes/source.py", &[&stream, "7", &keys])?;
        let (aws, invoker) = (stack.aws.clone(), Arc::new(stages.clone()));
        let dice = Arc::new(Dice::new("duplicate=0.2,recut=0.3".parse::<Chaos>()?, 3));
        tokio::spawn(async move {
            let ended = poller::run_on(&aws, "weir-cdc", (&arn, WINDOW), invoker, dice).await;
            eprintln!("the poller ended: {:?}", ended.map_err(|error| error.to_string()));
        });
        let lake: Arc<dyn Lake> = Arc::new(stack.lake.clone());
        Ok(Self { changes, lake, ledger, source, stages, commits, soft, past: Vec::new() })
    }

    fn place(&self, table: &str) -> Result<Place, Failed> {
        Ok(Place { lake: Arc::clone(&self.lake), at: self.changes.join(&format!("{table}/")) })
    }

    /// Commits by a process of its own, until nothing is staged that is not in its table.
    async fn settle(&mut self) -> Result<(), Failed> {
        let begun = Instant::now();
        let fates = self.stages.fates();
        let (mut count, mut since) = (0, Instant::now());
        while count == 0 || since.elapsed() < QUIET {
            let invoked = fates.invoked.load(Ordering::SeqCst);
            if invoked != count || fates.running.load(Ordering::SeqCst) > 0 {
                (count, since) = (invoked, Instant::now());
            }
            assert!(begun.elapsed() < PATIENCE, "batches come again and again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        loop {
            let answer = self.commits.ask(COMMIT, Duration::from_secs(60), None).await?;
            assert!(matches!(&answer, Answer::Response(_)), "{answer:?}");
            if self.ledger.due_backlogs(u64::MAX >> 12, 10).await?.is_empty() {
                return Ok(());
            }
            assert!(begun.elapsed() < PATIENCE, "tables are held: {answer:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// The database rests: its tables are remembered, and the Hudi tables' last commits.
    async fn pause(&mut self) -> Result<(), Failed> {
        for (table, name) in TABLES {
            let rows = self.source.ask(&json!({"rows": table})).await?;
            if table == TABLES[TABLES.len() - 1].0 {
                self.settle().await?;
            }
            self.past.push((name, String::new(), rows));
        }
        for (name, instant, _) in self.past.iter_mut().filter(|(_, instant, _)| instant.is_empty()) {
            let place = Place { lake: Arc::clone(&self.lake), at: self.changes.join(&format!("{name}/")) };
            let table = Table::open(&place).await?.ok_or("there is no table")?;
            *instant = table.view.timeline.commits().next_back().ok_or("no commit")?.to_string();
            let verdict = table.verify().await?;
            assert_eq!(verdict.broken, Vec::<String>::new(), "{name}");
        }
        Ok(())
    }

    /// Others read all of it, now and as of the pauses.
    async fn is_read(&self, hudi_of_spark: &str) -> Result<(), Failed> {
        let folder = tempfile::tempdir()?;
        let mut spark = Reader::start("spark.py", &[hudi_of_spark, ""])?;
        for (_, name) in TABLES {
            let folder = folder.path().join(name);
            fetch(&self.place(name)?, &folder).await?;
            let path = folder.to_str().ok_or("no path")?;
            let mut readers = [("hudi-rs", &mut Reader::start("rs.py", &[path])?), ("Spark", &mut spark)];
            let past: Vec<_> = self.past.iter().filter(|(of, _, _)| *of == name).collect();
            for (who, reader) in &mut readers {
                for (n, (_, instant, rows)) in past.iter().enumerate() {
                    let is_last = n + 1 == past.len();
                    let query =
                        if is_last { json!({"folder": path}) } else { json!({"folder": path, "as_of": instant}) };
                    let found = plain(&reader.ask(&query).await?);
                    let expected = plain(rows);
                    let missing = expected.iter().find(|row| !found.contains(row));
                    let strange = found.iter().find(|row| !expected.contains(row));
                    assert_eq!((missing, strange), (None, None), "{who}: {name} as of {instant}");
                    assert_eq!(found.len(), expected.len(), "{who}: {name} as of {instant}");
                }
            }
        }
        Ok(())
    }
}

fn sorted(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(Value::to_string);
    rows
}

/// Rows as the database has them: without our columns, and without those that are marked as deleted.
fn plain(rows: &Value) -> Vec<Value> {
    let mut rows = rows.as_array().unwrap().clone();
    rows.retain(|row| row.get("_deleted").is_none_or(|mark| mark == "false"));
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        // A column that the database dropped stays in rows that were not changed since.
        row.remove("raw");
        row.remove("_change_position");
        row.remove("_deleted");
    }
    sorted(rows)
}

async fn through(mut world: World, hudi_of_spark: &str) -> Result<(), Failed> {
    world.pause().await?;
    // Columns come, are widened and go, while all of it dies now and then.
    let later = [
        "ALTER TABLE items ADD COLUMN stock int; UPDATE items SET stock = id WHERE id % 3 = 0",
        "ALTER TABLE items ALTER COLUMN id TYPE bigint; ALTER TABLE \"Pairs\" ALTER COLUMN n TYPE bigint; UPDATE \"Pairs\" SET n = 5000000000 WHERE a = 3; \
         UPDATE items SET raw = '\\x01'; ALTER TABLE items DROP COLUMN raw, ADD COLUMN seen timestamptz; UPDATE items SET seen = now(), clock = NULL WHERE id % 2 = 0",
    ];
    for (round, statement) in later.iter().enumerate() {
        world.stages.suffer(if world.soft { 0.15 } else { 0.4 });
        for turn in 0..12 {
            world.source.ask(&json!({"work": 40})).await?;
            // So that it is a batch of its own.
            tokio::time::sleep(WINDOW).await;
            // Whoever comes after one that was killed waits for its lease.
            let killed_after = (round == 0 && turn == 1).then_some(KILLED_AFTER);
            let answer = world.commits.ask(COMMIT, COMMITS, killed_after).await?;
            let is_killed = killed_after.is_some() || answer == Answer::Nothing;
            assert!(
                is_killed || matches!(&answer, Answer::Response(text) if text.contains("\"held\":0")),
                "{answer:?}"
            );
        }
        world.source.ask(&json!({"sql": statement})).await?;
        world.source.ask(&json!({"work": 25})).await?;
        world.stages.suffer(0.0);
        world.pause().await?;
    }
    let fates = world.stages.fates();
    let [killed, stalled] = [&fates.killed, &fates.stalled].map(|count| count.load(Ordering::Relaxed));
    assert!(killed + stalled > 2, "{killed} killed, {stalled} stalled: little was tried");
    println!(
        "{} batches, {} processes killed, {} stalled; soft deletes: {}",
        fates.invoked.load(Ordering::Relaxed),
        fates.killed.load(Ordering::Relaxed),
        fates.stalled.load(Ordering::Relaxed),
        world.soft
    );
    world.is_read(hudi_of_spark).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_what_the_database_is() -> Result<(), Failed> {
    through(World::new("changes-hard", 1, false).await?, "0.15.0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_several_shards_overtake_each_other_and_the_tables_are_right_with_soft_deletes() -> Result<(), Failed>
{
    through(World::new("changes-soft", 3, true).await?, "1.0.2").await
}
