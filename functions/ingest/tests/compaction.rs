//! Compaction among twins: what readers find by the catalog while compactors and workers are killed, stalled and overtaken.

// clippy.toml allows it in tests; their helpers are not recognised as such. A list of one batch is a list of batches.
#![expect(clippy::unwrap_used, clippy::panic, clippy::single_range_in_vec_init)]

mod world;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use weir_command::Location;
use weir_delivery::Failure;
use weir_ingest::Ingest;
use weir_ingest::compact::Report;
use weir_ingest::handler::Answer;
use weir_lake::Lake;
use weir_ledger::batch::{Book, object};
use weir_ledger::layout::{Layout, Layouts, Moving};
use weir_ledger::positions::Positions;
use weir_mortal::Fate;
use weir_telemetry::Visit;

use world::{CLUSTER, KEEP_HOURS, LEASE_MS, World, deliver, event, invoke, logs, now_ms, one, pass};

const TABLE: &str = "page_logs_events";
const ALIVE_MS: u64 = 300_000;

/// Longer than a compactor's lease.
const GONE_MS: u64 = 2 * ALIVE_MS;

async fn ask(ingest: &Ingest, asked: serde_json::Value) -> Result<Report, Failure> {
    let deadline_ms = now_ms() + ALIVE_MS;
    let visit = Visit { request_id: "r".into(), deadline_ms, clock: now_ms, cold_start: false };
    let Answer::Compacted(report) = ingest.handle(&json!({"compact": asked}).to_string(), &visit).await? else {
        panic!("it is no report")
    };
    Ok(report)
}

/// All three days that page logs are of.
async fn compact(ingest: &Ingest) -> Result<Report, Failure> {
    let dates = ["2024-05-01", "2024-05-02", "2024-05-03"];
    ask(ingest, json!({"dataset": "page_logs", "dates": dates})).await
}

async fn finish(world: &World) -> Result<Report, Failure> {
    ask(&world.process(&Arc::default(), true), json!({"unfinished": true})).await
}

impl World {
    /// The offsets that a reader finds by the catalog; and in how many files.
    async fn seen(&self) -> (Vec<i64>, usize) {
        let (mut all, mut files) = (Vec::new(), 0);
        for at in self.catalog.partitions(TABLE).into_values() {
            let found = self.files_under(&at.to_string()).await;
            files += found.len();
            all.extend(found.into_values().flatten());
        }
        all.sort_unstable();
        (all, files)
    }

    /// The same, but for a file that is no Parquet.
    async fn all_seen_but(&self, file: &str, offsets: Range<i64>) {
        for (at, _) in self.objects("s3://tables/events/page_logs/").await {
            if at.contains(file) {
                self.lake.delete(&[Location::parse(&at).unwrap()]).await.unwrap();
            }
        }
        self.all_seen(offsets, file).await;
    }

    async fn all_seen(&self, offsets: Range<i64>, what: &str) {
        assert_eq!(self.seen().await.0, offsets.collect::<Vec<_>>(), "{what}");
    }
}

/// Batches of two, so that each day has several files.
async fn deliver_small(world: &World, offsets: Range<i64>) {
    for from in offsets.clone().step_by(2) {
        deliver(world, &[from..(from + 2).min(offsets.end)]).await;
    }
}

#[tokio::test]
async fn small_files_become_one_a_day_and_late_events_go_on() {
    let world = World::new();
    let worker = world.process(&Arc::default(), true);
    assert_eq!(invoke(&worker, &one(0..2)).await.unwrap(), []);
    deliver_small(&world, 2..24).await;
    let (_, files) = world.seen().await;
    assert!(files > 20, "{files} files by the catalog");
    let process = world.process(&Arc::default(), true);
    let would = ask(&process, json!({"dataset": "page_logs", "dates": ["2024-05-01"], "dry_run": true})).await.unwrap();
    assert_eq!((would.left, would.partitions[0].files, world.seen().await.1), (1, 8, files));
    let report = compact(&process).await.unwrap();
    let done: Vec<_> = report.partitions.iter().map(|it| (it.files, it.into)).collect();
    assert_eq!((done, report.left), (vec![(8, 1); 3], 0));
    let (seen, files) = world.seen().await;
    assert_eq!((seen, files), ((0..24).collect(), 3));
    // A worker that knows the old folders, and some that know nothing.
    assert_eq!(invoke(&worker, &one(22..25)).await.unwrap(), []);
    deliver_small(&world, 25..31).await;
    world.all_seen(0..31, "late events").await;
    assert_eq!(compact(&process).await.unwrap().partitions.len(), 3);
    assert_eq!(world.seen().await, ((0..31).collect(), 3));
    assert_eq!(compact(&process).await.unwrap(), Report::default(), "nothing is worth it now");
    world.sound_once(31).await;
}

impl World {
    /// A reader of lists, which batch is, finds each offset once as long as old files are there.
    async fn sound_once(&self, end: i64) {
        let mut all = Vec::new();
        for list in self.positions.handed_on() {
            let at = Location::parse(&list.uri).unwrap();
            let size = self.lake.head(&at).await.unwrap().size;
            let manifest = self.lake.get(&at, None, 0, size).await.unwrap();
            let manifest: weir_ledger::positions::Manifest = serde_json::from_slice(&manifest).unwrap();
            for file in manifest.files {
                all.extend(self.files_under(&file.uri).await.into_values().flatten());
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..end).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn killed_at_any_call_readers_find_each_row_once() {
    for done in [false, true] {
        for call in 1.. {
            let (world, fate) = (World::new(), Arc::new(Fate::default()));
            deliver_small(&world, 0..12).await;
            fate.set(call, done);
            let _ = compact(&world.process(&fate, true)).await;
            if !fate.has_come() {
                assert!(call > 40, "so few calls: {call}");
                break;
            }
            let what = format!("killed at call {call}, done: {done}");
            world.all_seen(0..12, &what).await;
            // Late ones may be seen late.
            deliver_small(&world, 12..18).await;
            let (seen, _) = world.seen().await;
            let once: BTreeSet<i64> = seen.iter().copied().collect();
            assert!(once.len() == seen.len() && (0..12).all(|old| once.contains(&old)), "{what}: {seen:?}");
            pass(GONE_MS);
            finish(&world).await.unwrap();
            world.all_seen(0..18, &what).await;
            assert!(world.layouts.layout().await.unwrap().moving.is_empty(), "{what}");
            // Another time, and what is not read any more goes.
            deliver_small(&world, 18..24).await;
            compact(&world.process(&Arc::default(), true)).await.unwrap();
            pass(KEEP_HOURS * 3_600_000);
            finish(&world).await.unwrap();
            assert_eq!(world.seen().await, ((0..24).collect(), 3), "{what}");
            let layout = world.layouts.layout().await.unwrap();
            assert_eq!((layout.retired.len(), layout.lease_until_ms), (0, 0), "{what}");
        }
    }
}

#[tokio::test]
async fn a_compactor_that_stalls_may_go_on_after_another_has_taken_over() {
    for call in 1.. {
        let (world, fate) = (World::new(), Arc::new(Fate::default()));
        deliver_small(&world, 0..12).await;
        let stalling = world.process(&fate, true);
        fate.stall(call);
        let compacting = compact(&stalling);
        tokio::pin!(compacting);
        let ended = tokio::select! {
            _ = &mut compacting => true,
            () = fate.stalled() => false,
        };
        if ended {
            assert!(call > 40, "so few calls: {call}");
            break;
        }
        pass(GONE_MS);
        deliver_small(&world, 12..18).await;
        compact(&world.process(&Arc::default(), true)).await.unwrap();
        let what = format!("stalled at call {call}");
        world.all_seen(0..18, &what).await;
        deliver_small(&world, 18..20).await;
        fate.go_on();
        let _ = compacting.await;
        // If it was about to change the catalog, readers are shown an older folder now; each row once.
        let (seen, _) = world.seen().await;
        let once: BTreeSet<i64> = seen.iter().copied().collect();
        assert!(once.len() == seen.len() && (0..12).all(|old| once.contains(&old)), "{what}: {seen:?}");
        finish(&world).await.unwrap();
        world.all_seen(0..20, &what).await;
    }
}

#[tokio::test]
async fn two_compactors_may_stall_and_go_on_in_any_order() {
    for first in 1.. {
        let mut came = false;
        // Until the second has begun.
        for second in 1..14 {
            let (world, fates) = (World::new(), [Arc::new(Fate::default()), Arc::new(Fate::default())]);
            deliver_small(&world, 0..8).await;
            let processes = [world.process(&fates[0], true), world.process(&fates[1], true)];
            fates[0].stall(first);
            let one = compact(&processes[0]);
            tokio::pin!(one);
            came = tokio::select! {
                _ = &mut one => false,
                () = fates[0].stalled() => true,
            };
            if !came {
                break;
            }
            pass(GONE_MS);
            fates[1].stall(second);
            let two = compact(&processes[1]);
            tokio::pin!(two);
            let stalled = tokio::select! {
                _ = &mut two => false,
                () = fates[1].stalled() => true,
            };
            fates[0].go_on();
            let _ = one.await;
            if stalled {
                fates[1].go_on();
                let _ = two.await;
            }
            deliver_small(&world, 8..11).await;
            pass(GONE_MS);
            finish(&world).await.unwrap();
            finish(&world).await.unwrap();
            world.all_seen(0..11, &format!("stalled at {first} and {second}")).await;
        }
        if !came {
            assert!(first > 30, "so few calls: {first}");
            break;
        }
    }
}

#[tokio::test]
async fn what_can_not_be_compacted_keeps_nothing_else() {
    let world = World::new();
    deliver_small(&world, 0..12).await;
    // Of a table whose contract was taken out since.
    let layout = world.layouts.layout().await.unwrap();
    let gone = ("a_gone/event_date=2024-05-01/".to_owned(), Moving { shown: 0, since: vec![1] });
    let moving = Layout { generation: 1, version: layout.version + 1, moving: [gone].into(), ..layout };
    world.layouts.put_layout(&moving).await.unwrap();
    for _ in 0..2 {
        let refused = compact(&world.process(&Arc::default(), true)).await.unwrap_err();
        assert!(refused.reason.contains("a_gone"), "{refused}");
    }
    assert_eq!(world.seen().await, ((0..12).collect(), 3));
    pass(KEEP_HOURS * 3_600_000);
    assert!(finish(&world).await.is_err());
    let layout = world.layouts.layout().await.unwrap();
    assert_eq!((layout.retired.len(), layout.moving.len()), (0, 1), "the others' old files are deleted");
    assert_eq!(world.seen().await, ((0..12).collect(), 3));
}

#[tokio::test]
async fn a_worker_that_planned_before_commits_nothing_that_readers_will_not_see() {
    for call in 1.. {
        let (world, fate) = (World::new(), Arc::new(Fate::default()));
        deliver_small(&world, 0..12).await;
        let stalling = world.process(&fate, true);
        fate.stall(call);
        let batch = event(&[("log_topic-0", logs(12..15)), ("log_topic-7", logs(100..103))]);
        let working = invoke(&stalling, &batch);
        tokio::pin!(working);
        let ended = tokio::select! {
            _ = &mut working => true,
            () = fate.stalled() => false,
        };
        if ended {
            assert!(call > 15, "so few calls: {call}");
            break;
        }
        let what = format!("stalled at call {call}");
        pass(LEASE_MS);
        compact(&world.process(&Arc::default(), true)).await.unwrap();
        fate.go_on();
        let _ = working.await;
        pass(LEASE_MS);
        let again = world.process(&Arc::default(), true);
        assert_eq!(invoke(&again, &batch).await.unwrap(), [], "{what}");
        let all: Vec<i64> = (0..15).chain(100..103).collect();
        assert_eq!(world.seen().await.0, all, "{what}");
        // Also when the next one has read all the old folders.
        deliver_small(&world, 15..24).await;
        compact(&world.process(&Arc::default(), true)).await.unwrap();
        let all: Vec<i64> = (0..24).chain(100..103).collect();
        assert_eq!(world.seen().await.0, all, "{what}");
    }
}

#[tokio::test]
async fn a_compactor_waits_for_whoever_is_at_a_partition() {
    let (world, fate) = (World::new(), Arc::new(Fate::default()));
    deliver_small(&world, 0..12).await;
    let working = world.process(&fate, true);
    // At the commit.
    fate.stall(7);
    let batch = one(12..15);
    let worker = invoke(&working, &batch);
    tokio::pin!(worker);
    tokio::select! {
        _ = &mut worker => panic!("it did not stall"),
        () = fate.stalled() => {}
    }
    let process = world.process(&Arc::default(), true);
    let compactor = compact(&process);
    tokio::pin!(compactor);
    tokio::select! {
        _ = &mut compactor => panic!("it did not wait"),
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    fate.go_on();
    let (worked, compacted) = tokio::join!(worker, compactor);
    assert_eq!((worked.unwrap(), compacted.unwrap().partitions.len()), (vec![], 3));
    assert_eq!(world.seen().await, ((0..15).collect(), 3));
}

#[tokio::test]
async fn files_stay_while_batch_has_not_added_them_up() {
    let world = World::new();
    deliver_small(&world, 0..12).await;
    compact(&world.process(&Arc::default(), true)).await.unwrap();
    let list = object::list("page_logs", "s3://tables/events/_manifests/log_topic/x.json", 1, 9, now_ms() - 1);
    world.book.put_object(&list).await.unwrap();
    pass(KEEP_HOURS * 3_600_000);
    finish(&world).await.unwrap();
    assert_eq!(world.layouts.layout().await.unwrap().retired.len(), 3, "batch may read them");
    world.sound_once(12).await;
    let object::Mark::Take(claimed) = object::mark(&list, "", "r1", 1) else { panic!("it can't be claimed") };
    world.book.put_object(&claimed).await.unwrap();
    finish(&world).await.unwrap();
    assert_eq!(world.layouts.layout().await.unwrap().retired.len(), 0);
    assert_eq!(world.seen().await, ((0..12).collect(), 3));
}

#[tokio::test]
async fn a_file_that_can_not_be_read_keeps_no_other_from_readers() {
    let world = World::new();
    deliver_small(&world, 0..12).await;
    let broken = Location::parse("s3://tables/events/page_logs/event_date=2024-05-01/by-hand.parquet").unwrap();
    world.lake.put(&broken, Bytes::from_static(b"no Parquet"), "x").await.unwrap();
    let report = compact(&world.process(&Arc::default(), true)).await.unwrap();
    let done: Vec<_> = report.partitions.iter().map(|it| (it.files, it.into)).collect();
    assert_eq!(done, [(5, 2), (4, 1), (4, 1)]);
    let partition = &world.catalog.partitions(TABLE)[&vec!["2024-05-01".to_owned()]];
    let there = world.objects(&partition.to_string()).await;
    assert_eq!(there.len(), 2);
    assert!(there.keys().all(|name| name.contains("/generation=1/") && name.ends_with(".merged.parquet")));
    assert!(there.values().any(|bytes| bytes == b"no Parquet"));
    world.all_seen_but("by-hand", 0..12).await;
}

#[tokio::test]
async fn what_is_asked_for_is_checked_and_one_compacts_at_a_time() {
    let world = World::new();
    deliver_small(&world, 0..12).await;
    let process = world.process(&Arc::default(), true);
    let refused = ask(&process, json!({"dataset": "page_log"})).await.unwrap_err();
    assert!(refused.reason.contains("orders, page_logs"), "{refused}");
    assert_eq!(ask(&process, json!({"datset": "page_logs"})).await.unwrap_err().code, "NotKafka");
    assert_eq!(ask(&process, json!({})).await.unwrap(), Report::default(), "four files a day are not many");
    let fate = Arc::new(Fate::default());
    fate.set(20, false);
    let _ = compact(&world.process(&fate, true)).await;
    let busy = compact(&process).await.unwrap_err();
    assert!(busy.code == "Busy" && busy.passes(), "{busy}");
    // Of a partition that nobody has counted.
    let position = world.positions.position(&format!("{CLUSTER}/log_topic/0")).await.unwrap().unwrap();
    assert_eq!(position.generation, Some(1));
}
