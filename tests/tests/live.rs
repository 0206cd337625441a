//! Live statistics end to end: trips on a Kinesis stream, whose shards split, through processes of the built function that are killed
//! and stalled, by the mapping's tumbling windows; then each window against all events that came in it.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, ShardIteratorType};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use weir_command::Location;
use weir_contract::contract;
use weir_kpl::{Aggregate, SubRecord};
use weir_live::Plan;
use weir_local::chaos::{Chaos, Dice};
use weir_local::poller;
use weir_tests::function::ANALYTICS;
use weir_tests::processes::Processes;
use weir_tests::{Failed, Stack, aws};

/// What an invocation is told to live.
const LIVES: Duration = Duration::from_secs(3);

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(90);

/// The stack's windows (samconfig.toml).
const WINDOW_MS: u64 = 5_000;

#[derive(Debug, Clone)]
struct Trip {
    vendor: u64,
    passengers: u64,
    seconds: u64,
    is_late: bool,
    cell: u64,
}

/// A record: its trips, its bad rows, its heartbeats, and whether it can't be opened.
#[derive(Debug, Clone, Default)]
struct Sent {
    trips: Vec<Trip>,
    bad: u64,
    dropped: u64,
    unreadable: u64,
}

/// Where it lies, by shard and sequence number.
type Places = BTreeMap<(String, String), u64>;

struct Source {
    kinesis: aws_sdk_kinesis::Client,
    name: String,
    dice: StdRng,
    /// By shard and sequence number.
    sent: BTreeMap<(String, String), Sent>,
    /// When each arrived, in milliseconds.
    arrived: Places,
}

impl Source {
    fn row(&mut self, sent: &mut Sent) -> String {
        let now_ms = weir_telemetry::now_ms();
        match self.dice.random_range(0..30) {
            0 => {
                sent.bad += 1;
                json!({"id": "x", "vendorId": -5}).to_string()
            }
            1 => {
                sent.dropped += 1;
                json!({"id": "x", "source": "heartbeat"}).to_string()
            }
            _ => {
                let is_late = self.dice.random_bool(0.1);
                let trip = Trip {
                    vendor: self.dice.random_range(1..4),
                    passengers: self.dice.random_range(0..7),
                    seconds: self.dice.random_range(60..5000),
                    is_late,
                    cell: self.dice.random_range(0..6),
                };
                // Disorder of a few minutes is not late.
                let before_ms = if is_late { 3_600_000 } else { self.dice.random_range(0..200_000) };
                let ended = weir_live::instant(now_ms - before_ms);
                let row = json!({
                    "id": format!("t{}", self.dice.random::<u64>()), "vendorId": trip.vendor, "passengerCount": trip.passengers,
                    "pickupDate": ended, "dropoffDate": ended, "tripDuration": trip.seconds,
                    "dropoffLatitude": 40.701 + trip.cell as f64 / 100.0, "dropoffLongitude": -73.991,
                });
                sent.trips.push(trip);
                row.to_string()
            }
        }
    }

    fn record(&mut self) -> (Vec<u8>, Sent) {
        let mut sent = Sent::default();
        let data = match self.dice.random_range(0..10) {
            0 => {
                sent.unreadable = 1;
                [&[0x1F, 0x8B, 8, 0][..], &[0xFF; 30]].concat()
            }
            1..5 => {
                let mut aggregate = Aggregate::new();
                for _ in 0..self.dice.random_range(1..40) {
                    let data = Bytes::from(self.row(&mut sent));
                    aggregate.push(SubRecord { partition_key: "k".into(), explicit_hash_key: None, data });
                }
                aggregate.finish()
            }
            _ => self.row(&mut sent).into_bytes(),
        };
        (data, sent)
    }

    async fn send(&mut self, count: usize) -> Result<(), Failed> {
        let made: Vec<(Vec<u8>, Sent)> = (0..count).map(|_| self.record()).collect();
        let mut request = self.kinesis.put_records().stream_name(&self.name);
        for (data, _) in &made {
            let key = self.dice.random::<u64>().to_string();
            request = request
                .records(PutRecordsRequestEntry::builder().data(Blob::new(data.clone())).partition_key(key).build()?);
        }
        let answer = request.send().await?;
        for ((_, sent), place) in made.into_iter().zip(answer.records()) {
            let place = (place.shard_id().ok_or("refused")?, place.sequence_number().ok_or("refused")?);
            self.sent.insert((place.0.to_owned(), place.1.to_owned()), sent);
        }
        Ok(())
    }

    /// Reads when records arrived: the emulator forgets a shard that is split.
    async fn look(&mut self) -> Result<(), Failed> {
        let shards = self.kinesis.list_shards().stream_name(&self.name).send().await?;
        for shard in shards.shards() {
            let from = self.kinesis.get_shard_iterator().stream_name(&self.name).shard_id(shard.shard_id());
            let mut at = from.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
            while let Some(iterator) = at {
                let got = self.kinesis.get_records().shard_iterator(iterator).send().await?;
                for record in got.records() {
                    let place = (shard.shard_id().to_owned(), record.sequence_number().to_owned());
                    let ms = record.approximate_arrival_timestamp().ok_or("no time")?.to_millis()?;
                    self.arrived.insert(place, u64::try_from(ms)?);
                }
                at = got.next_shard_iterator().map(str::to_owned).filter(|_| !got.records().is_empty());
            }
        }
        Ok(())
    }
}

/// A window's result, or what is wrong with it as yet.
fn compare(lines: &[Value], sent: &[(&str, &Sent)]) -> Result<(), String> {
    let all = lines.first().ok_or("there is no result")?;
    let trips: Vec<&Trip> = sent.iter().flat_map(|(_, sent)| &sent.trips).collect();
    let sum = |of: fn(&Sent) -> u64| sent.iter().map(|(_, sent)| of(sent)).sum::<u64>();
    let shards: BTreeSet<&str> = sent.iter().map(|(shard, _)| *shard).collect();
    let mut cells: BTreeMap<u64, u64> = BTreeMap::new();
    trips.iter().for_each(|trip| *cells.entry(trip.cell).or_default() += 1);
    let mut cells: Vec<u64> = cells.into_values().collect();
    cells.sort_unstable_by(|a, b| b.cmp(a));
    let said: Vec<u64> =
        all["dropoff_cells"].as_array().into_iter().flatten().filter_map(|cell| cell["count"].as_u64()).collect();
    let mut vendors: BTreeMap<u64, u64> = BTreeMap::new();
    trips.iter().for_each(|trip| *vendors.entry(trip.vendor).or_default() += 1);
    let groups: BTreeMap<u64, u64> =
        lines[1..].iter().filter_map(|line| Some((line["vendor_id"].as_u64()?, line["trips"].as_u64()?))).collect();
    let found = json!({
        "trips": all["trips"], "events": all["events"], "passengers": all["passengers"], "seconds": all["total_duration"], "longest": all["longest_duration"],
        "late": all["late"], "bad": all["bad"], "dropped": all["dropped"], "unreadable": all["unreadable"], "shards": all["shards"],
        "incomplete": all["incomplete"], "cells": said, "groups": groups,
    });
    let some = |value: u64| if trips.is_empty() { Value::Null } else { value.into() };
    let expected = json!({
        "trips": trips.len(), "events": trips.len(), "passengers": some(trips.iter().map(|trip| trip.passengers).sum()),
        "seconds": some(trips.iter().map(|trip| trip.seconds).sum()), "longest": trips.iter().map(|trip| trip.seconds).max(),
        "late": trips.iter().filter(|trip| trip.is_late).count(), "bad": sum(|sent| sent.bad), "dropped": sum(|sent| sent.dropped),
        "unreadable": sum(|sent| sent.unreadable), "shards": shards.len(), "incomplete": false, "cells": cells, "groups": vendors,
    });
    if found == expected { Ok(()) } else { Err(format!("{}: found {found}, not {expected}", all["window_start"])) }
}

#[tokio::test]
async fn each_window_is_what_came_in_it_whatever_dies_repeats_or_splits() -> Result<(), Failed> {
    let stack = Stack::open("live").await?;
    let kinesis = aws_sdk_kinesis::Client::new(&stack.aws);
    let name = stack.run.clone();
    kinesis.create_stream().stream_name(&name).shard_count(2).send().await?;
    let described = kinesis.describe_stream_summary().stream_name(&name).send().await?;
    let arn = described.stream_description_summary().ok_or("no stream")?.stream_arn().to_owned();
    let statistics = Location::parse(&format!("s3://{}/live/tests/{name}/", std::env::var("WEIR_TABLES_BUCKET")?))?;
    let own = [("STATISTICS", statistics.to_string()), ("AWS_ENDPOINT_URL", std::env::var("AWS_ENDPOINT_URL")?)];
    let processes = Processes::new(&stack, ANALYTICS, LIVES, &own).await?;
    processes.suffer(0.1);
    let (aws, invoker) = (stack.aws.clone(), Arc::new(processes.clone()));
    let dice = Arc::new(Dice::new("duplicate=0.3,recut=0.4,delay=150".parse::<Chaos>()?, 3));
    let polled = Arc::clone(&dice);
    tokio::spawn(async move {
        let ended = poller::run_on(&aws, "weir-analytics", (&arn, Duration::from_millis(300)), invoker, polled).await;
        eprintln!("the poller ended: {:?}", ended.map_err(|error| error.to_string()));
    });
    let (sent, arrived) = (BTreeMap::new(), Places::new());
    let mut source =
        Source { kinesis: kinesis.clone(), name: name.clone(), dice: StdRng::seed_from_u64(9), sent, arrived };
    let begun = Instant::now();
    let mut has_split = false;
    let fates = processes.fates();
    let have_died = || fates.killed.load(Ordering::SeqCst) > 0 && fates.stalled.load(Ordering::SeqCst) > 0;
    // Until it has all come to pass.
    while begun.elapsed() < Duration::from_secs(18) || !have_died() {
        assert!(begun.elapsed() < PATIENCE, "processes neither died nor stalled: {fates:?}");
        source.send(12).await?;
        if begun.elapsed() > Duration::from_secs(8) && !has_split {
            has_split = true;
            source.look().await?;
            // All of it is with the poller, which has asked four times a second.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let half = (u128::MAX / 4 + 1).to_string();
            let split = kinesis.split_shard().stream_name(&name).shard_to_split("shardId-000000000000");
            split.new_starting_hash_key(half).send().await?;
        }
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    source.look().await?;
    assert_eq!(source.arrived.len(), source.sent.len(), "all that was sent lies in the stream");
    let mut windows: BTreeMap<u64, Vec<(&str, &Sent)>> = BTreeMap::new();
    for (place, arrived_ms) in &source.arrived {
        windows.entry(arrived_ms / WINDOW_MS * WINDOW_MS).or_default().push((&place.0, &source.sent[place]));
    }
    let begun = Instant::now();
    loop {
        let mut results: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (_, bytes) in stack.objects(&statistics.join("trips/")).await? {
            let lines = std::str::from_utf8(&bytes)?.lines().map(serde_json::from_str);
            let lines = lines.collect::<Result<Vec<Value>, _>>()?;
            results.insert(lines[0]["window_start"].as_str().ok_or("no window")?.to_owned(), lines);
        }
        let compared = windows.iter().try_for_each(|(start_ms, sent)| {
            compare(results.get(&weir_live::instant(*start_ms)).map_or(&[], Vec::as_slice), sent)
        });
        match compared {
            Ok(()) if results.len() == windows.len() => break,
            Ok(()) => return Err(format!("{} results of {} windows", results.len(), windows.len()).into()),
            Err(reason) => assert!(begun.elapsed() < PATIENCE, "{reason}"),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(dice.thrown().iter().any(|mishap| mishap.again), "batches came again");
    Ok(())
}

/// The catalog's table has the columns that results have.
#[tokio::test]
async fn the_table_of_results_is_the_contracts() -> Result<(), Failed> {
    let database = aws(&[
        "cloudformation",
        "describe-stacks",
        "--stack-name",
        "weir",
        "--output",
        "text",
        "--query",
        "Stacks[0].Outputs[?OutputKey=='DatabaseName'].OutputValue",
    ])
    .await?;
    let table =
        aws(&["glue", "get-table", "--database-name", database.trim(), "--name", "live_trips", "--output", "json"])
            .await?;
    let table: Value = serde_json::from_str(&table)?;
    let columns = table["Table"]["StorageDescriptor"]["Columns"].as_array().ok_or("no columns")?;
    let there: BTreeMap<&str, &str> =
        columns.iter().filter_map(|column| Some((column["Name"].as_str()?, column["Type"].as_str()?))).collect();
    let trips = contract("trips")?;
    let plan = Plan::of(&trips).ok_or("no [live]")??;
    let expected: BTreeMap<&str, &str> = plan.hive_columns().collect();
    assert_eq!(there, expected);
    Ok(())
}
