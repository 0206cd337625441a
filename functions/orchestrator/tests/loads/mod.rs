//! Whatever happens between any two calls, the warehouse has each run once.

use std::sync::atomic::Ordering::SeqCst;

use serde_json::json;
use weir_command::Location;
use weir_lake::Lake;
use weir_ledger::batch::{Book, Lane, Phase};
use weir_orchestrator::warehouse::conformance;

use super::world::{World, pass};
use super::{MINUTE_MS, each_once, key, land, settle};

#[tokio::test]
async fn the_twin_keeps_the_promises_of_a_warehouse() {
    let world = World::with_warehouse();
    world.spark.written.lock().unwrap().insert("there".to_owned(), vec!["row".to_owned()]);
    let at = |run: &str| Location::parse(&format!("s3://out-bucket/tables/page_logs/sums/job={run}/")).unwrap();
    let warehouse = world.orchestrator.warehouse.clone().unwrap();
    let settle = async || drop(world.warehouse.work());
    conformance::suite(warehouse.as_ref(), &at("there"), &at("nowhere"), "suite", settle).await.unwrap();
    assert!(world.warehouse.rows.lock().unwrap().is_empty());
}

/// The warehouse has what the runs wrote, and nothing waits.
async fn all_loaded(world: &World, what: &str) {
    let written = world.spark.written.lock().unwrap().clone();
    assert_eq!(*world.warehouse.rows.lock().unwrap(), written, "{what}");
    let lane = lane(world).await;
    assert_eq!((lane.phase, lane.to_load.len(), lane.load), (Phase::Idle, 0, None), "{what}");
}

async fn lane(world: &World) -> Lane {
    world.book.lane("page_logs").await.unwrap().unwrap()
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
    let told = world.told.0.lock().unwrap().join("\n");
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
async fn what_waits_is_loaded_with_the_next_run() {
    let world = World::with_warehouse();
    world.warehouse.refusing.store(1, SeqCst);
    land(&world, 0).await;
    settle(&world, true).await;
    assert_eq!((lane(&world).await.to_load.len(), world.warehouse.loads()), (1, 0), "a refusal is not tried again");
    land(&world, 1).await;
    settle(&world, true).await;
    all_loaded(&world, "with the next").await;
    assert_eq!(world.warehouse.loads(), 1);
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
            let at = format!("s3://out-bucket/tables/page_logs/sums/job=r{run:02}/{part}.parquet");
            let at = Location::parse(&at).unwrap();
            world.lake.put(&at, "sums".into(), "application/octet-stream").await.unwrap();
        }
        world.spark.written.lock().unwrap().insert(format!("r{run:02}"), vec![format!("row of {run}")]);
    }
    assert_eq!(world.deliver(&load(false)).await["to_load"], 0);
    assert_eq!(world.deliver(&load(true)).await["to_load"], 11);
    pass(MINUTE_MS);
    settle(&world, true).await;
    all_loaded(&world, "all").await;
    assert_eq!(world.warehouse.loads(), 2, "nine and two");
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
