//! Whatever happens between any two calls, the warehouse has each run once.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;
use weir_command::Location;
use weir_contract::contract;
use weir_lake::Lake;
use weir_ledger::batch::{Book, Lane, Phase};
use weir_orchestrator::warehouse::conformance;

use super::world::{World, pass};
use super::{MINUTE_MS, each_once, key, land, settle};

#[tokio::test]
async fn the_twin_keeps_the_promises_of_a_warehouse() {
    let world = World::with_warehouse();
    world.spark.written.lock().unwrap().insert("there".to_owned(), vec!["row".to_owned()]);
    let at =
        |run: &str| Location::parse(&format!("s3://out-bucket/tables/page_logs/sums/job={run}/{}", shape())).unwrap();
    let warehouse = world.orchestrator.warehouse.clone().unwrap();
    let settle = async || drop(world.warehouse.work());
    conformance::suite(warehouse.as_ref(), &at("there"), &at("nowhere"), "suite", settle).await.unwrap();
    assert!(world.warehouse.rows.lock().unwrap().is_empty());
}

/// The warehouse has what the runs wrote, and nothing waits.
async fn all_loaded(world: &World, what: &str) {
    let written = world.spark.written.lock().unwrap().clone();
    let mut written: Vec<(String, String)> =
        written.iter().flat_map(|(run, rows)| rows.iter().map(|row| (run.clone(), row.clone()))).collect();
    let mut rows = world.warehouse.rows.lock().unwrap().clone();
    written.sort();
    rows.sort();
    assert_eq!(rows, written, "{what}");
    let lane = lane(world).await;
    assert_eq!((lane.phase, lane.to_load.len(), lane.load), (Phase::Idle, 0, None), "{what}");
}

async fn lane(world: &World) -> Lane {
    world.book.lane("page_logs").await.unwrap().unwrap()
}

fn shape() -> String {
    contract("page_logs").unwrap().by_day().sums_shape()
}

fn load(all: bool) -> serde_json::Value {
    json!({"dataset": "page_logs", "load": {"all": all}})
}

#[tokio::test]
async fn killed_at_any_call_the_warehouse_has_each_run_once() {
    for (events, failing) in [(true, 0), (false, 0), (true, 2), (false, 2)] {
        for done in [false, true] {
            let mut calls = 0;
            loop {
                let (world, at) = (World::with_warehouse(), calls + 1);
                let what = format!("killed at call {at}, done: {done}, events: {events}, failing: {failing}");
                world.warehouse.failing.store(failing, SeqCst);
                world.fate.set(at, done);
                land(&world, 0).await;
                world.work(events).await;
                // While it loads, or has just loaded.
                land(&world, 1).await;
                settle(&world, events).await;
                each_once(&world, 2, &what).await;
                all_loaded(&world, &what).await;
                if !world.fate.has_come() {
                    break;
                }
                calls = at;
            }
            assert!(calls > 30, "there were calls to be killed at: {calls}");
        }
    }
}

#[tokio::test]
async fn a_warehouse_that_is_down_holds_nothing_up_for_long_and_gets_all_when_it_is_back() {
    let world = World::with_warehouse();
    world.warehouse.failing.store(usize::MAX, SeqCst);
    for n in 0..3 {
        land(&world, n).await;
        settle(&world, true).await;
    }
    each_once(&world, 3, "a warehouse that is down").await;
    let waiting = lane(&world).await;
    assert_eq!((waiting.phase, waiting.to_load.len(), world.warehouse.loads()), (Phase::Idle, 3, 9));
    let told = world.told.all().join("\n");
    for word in ["public.page_logs_sums", "FAILED: no room", "weir batch load page_logs"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    world.warehouse.failing.store(0, SeqCst);
    assert_eq!(world.deliver(&load(false)).await["phase"], "LOADING");
    world.work(true).await;
    all_loaded(&world, "back").await;
    assert_eq!(world.warehouse.loads(), 10, "all in one");
}

#[tokio::test]
async fn a_run_that_can_not_be_loaded_holds_up_no_other_and_can_be_given_up() {
    let world = World::with_warehouse();
    land(&world, 0).await;
    world.work_spark(true).await;
    let broken = lane(&world).await.to_load[0].run.clone();
    world.warehouse.broken.lock().unwrap().push(broken.clone());
    settle(&world, true).await;
    for n in 1..4 {
        land(&world, n).await;
        settle(&world, true).await;
    }
    each_once(&world, 4, "one is broken").await;
    let left = lane(&world).await;
    assert_eq!((left.phase, left.to_load.len(), left.to_load[0].run == broken), (Phase::Idle, 1, true));
    assert_eq!(world.warehouse.rows.lock().unwrap().len(), 3);
    assert_eq!(world.told.all().len(), 1, "said once");
    let without = |run: &str| json!({"dataset": "page_logs", "load": {"without": run}});
    assert!(world.deliver(&without("other")).await["error"].as_str().is_some());
    let told = world.deliver(&without(&broken)).await;
    assert_eq!((told["to_load"].as_u64(), told["failure"].is_null()), (Some(0), true));
}

#[tokio::test]
async fn a_load_whose_answer_is_lost_is_the_same_load() {
    let world = World::with_warehouse();
    world.warehouse.deaf.store(5, SeqCst);
    land(&world, 0).await;
    settle(&world, false).await;
    all_loaded(&world, "five answers lost").await;
    assert_eq!(world.warehouse.loads(), 1);
    let told = world.told.all().join("");
    assert_eq!(told.matches("is not known").count(), 1, "someone is told meanwhile: {told}");
}

#[tokio::test]
async fn a_refusal_of_a_repetition_does_not_mean_that_nothing_was_begun() {
    let world = World::with_warehouse();
    world.warehouse.deaf.store(1, SeqCst);
    land(&world, 0).await;
    world.work_spark(true).await;
    world.warehouse.refusing.store(3, SeqCst);
    for _ in 0..4 {
        pass(5 * MINUTE_MS);
        world.deliver(&json!({"sweep": {}})).await;
    }
    assert_eq!((world.warehouse.loads(), lane(&world).await.phase), (1, Phase::Loading));
    settle(&world, true).await;
    all_loaded(&world, "it was begun").await;
    assert_eq!(world.warehouse.loads(), 1);
}

#[tokio::test]
async fn a_load_that_does_not_end_is_broken_off_and_made_again() {
    let world = World::with_warehouse();
    land(&world, 0).await;
    world.work_spark(true).await;
    for _ in 0..8 {
        pass(5 * MINUTE_MS);
        world.deliver(&json!({"sweep": {}})).await;
    }
    assert_eq!(world.warehouse.loads(), 2);
    settle(&world, true).await;
    all_loaded(&world, "after it was broken off").await;
}

#[tokio::test]
async fn table_and_views_are_made_once_and_again_after_a_failure() {
    let world = World::with_warehouse();
    for n in 0..2 {
        land(&world, n).await;
        settle(&world, true).await;
    }
    world.warehouse.failing.store(1, SeqCst);
    land(&world, 2).await;
    settle(&world, true).await;
    let prepares = || world.warehouse.orders().iter().map(|order| order.prepares).collect::<Vec<bool>>();
    assert_eq!(prepares(), [true, false, false, true]);
    all_loaded(&world, "in the end").await;
    land(&world, 3).await;
    settle(&world, true).await;
    assert_eq!(prepares()[4..], [false]);
    // Whoever has everything loaded again has reason to: someone dropped the table.
    let run = lane(&world).await.last_successful_run.unwrap();
    let at = format!("s3://out-bucket/tables/page_logs/sums/job={run}/{}-0.parquet", shape());
    world.lake.put(&Location::parse(&at).unwrap(), "sums".into(), "application/octet-stream").await.unwrap();
    world.deliver(&load(true)).await;
    settle(&world, true).await;
    assert_eq!(prepares()[5..], [true]);
}

#[tokio::test]
async fn what_is_asked_of_a_busy_lane_waits_for_it() {
    let world = World::with_warehouse();
    land(&world, 0).await;
    let own = lane(&world).await.run.unwrap().id;
    let at = format!("s3://out-bucket/tables/page_logs/sums/job={own}/{}-0.parquet", shape());
    world.lake.put(&Location::parse(&at).unwrap(), "half".into(), "application/octet-stream").await.unwrap();
    let told = world.deliver(&load(true)).await;
    assert_eq!((told["phase"].as_str(), told["to_load"].as_u64()), (Some("RUNNING"), Some(0)), "not while it writes");
    settle(&world, true).await;
    all_loaded(&world, "once it is done").await;
    world.spark.failing.store(usize::MAX, SeqCst);
    land(&world, 1).await;
    settle(&world, true).await;
    let error = world.deliver(&load(true)).await["error"].as_str().map(str::to_owned);
    assert!(error.is_some_and(|error| error.contains("weir batch retry page_logs")));
}

#[tokio::test]
async fn what_waits_is_loaded_after_the_next_run() {
    let world = World::with_warehouse();
    world.warehouse.refusing.store(1, SeqCst);
    land(&world, 0).await;
    settle(&world, true).await;
    assert_eq!((lane(&world).await.to_load.len(), world.warehouse.loads()), (1, 0), "a refusal is not tried again");
    land(&world, 1).await;
    settle(&world, true).await;
    all_loaded(&world, "after the next").await;
    assert_eq!(world.warehouse.loads(), 2);
}

#[tokio::test]
async fn a_run_that_is_made_again_replaces_itself_in_the_warehouse() {
    let world = World::with_warehouse();
    land(&world, 0).await;
    settle(&world, true).await;
    world.deliver(&super::created(&key(0), "other", "02")).await;
    world.spark.nothing.store(1, SeqCst);
    world.deliver(&json!({"dataset": "page_logs", "retry": {"replace": true}})).await;
    settle(&world, true).await;
    assert_eq!((world.spark.starts(), world.warehouse.loads()), (2, 2));
    assert!(world.warehouse.rows.lock().unwrap().is_empty(), "it left nothing this time");
}

#[tokio::test]
async fn everything_that_lies_on_s3_can_be_loaded_into_a_new_warehouse() {
    let world = World::with_warehouse();
    for run in 0..11 {
        for part in 0..3 {
            let shape = if run == 4 { "0a1b2c3d".to_owned() } else { shape() };
            let at = format!("s3://out-bucket/tables/page_logs/sums/job=r{run:02}/{shape}-{part}.parquet");
            let at = Location::parse(&at).unwrap();
            world.lake.put(&at, "sums".into(), "application/octet-stream").await.unwrap();
        }
        if run != 4 {
            world.spark.written.lock().unwrap().insert(format!("r{run:02}"), vec![format!("row of {run}")]);
        }
    }
    assert_eq!(world.deliver(&load(false)).await["to_load"], 0);
    let told = world.deliver(&load(true)).await;
    assert_eq!((told["to_load"].as_u64(), told["by_another_contract"].as_u64()), (Some(10), Some(1)));
    pass(MINUTE_MS);
    settle(&world, true).await;
    all_loaded(&world, "all").await;
    assert_eq!(world.warehouse.loads(), 2, "nine and one");
    let behind = json!({"dataset": "page_logs", "load": {"all": true, "after": "r08"}});
    assert_eq!(world.deliver(&behind).await["to_load"], 2);
}

#[tokio::test]
async fn what_can_not_be_loaded_is_said_to_whoever_asks() {
    let error = async |world: &World, event| world.deliver(&event).await["error"].as_str().unwrap_or("none").to_owned();
    assert!(error(&World::new(), load(true)).await.contains("RedshiftWorkgroupArn"));
    let world = World::with_warehouse();
    assert!(error(&world, json!({"dataset": "page_log", "load": {}})).await.contains("did you mean `page_logs`?"));
}

#[tokio::test]
async fn others_statements_wake_nobody() {
    let world = World::with_warehouse();
    land(&world, 0).await;
    world.work_spark(true).await;
    for name in ["other:page_logs", "stack:nothing", "page_logs", ""] {
        world.fate.set(0, false);
        world.deliver(&super::world::load_ended(name)).await;
        assert_eq!(world.fate.calls(), 0, "{name}");
    }
    world.work(true).await;
    all_loaded(&world, "its own").await;
}
