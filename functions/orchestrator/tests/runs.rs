//! Whatever happens between any two calls, each object is worked on once.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod loads;
mod world;

use serde_json::{Value, json};
use weir_lake::Lake;
use weir_ledger::batch::{Book, Phase, Standing};
use weir_ledger::{State, Store};
use world::{World, created, pass};

const MINUTE_MS: u64 = 60_000;

fn key(n: usize) -> String {
    format!("page_logs/2024/{n}.json")
}

async fn land(world: &World, n: usize) {
    world.deliver(&created(&key(n), &format!("e{n}"), "01")).await;
}

/// Runs end and time passes, until nothing more happens.
async fn settle(world: &World, events: bool) {
    for _ in 0..12 {
        world.work(events).await;
        pass(20 * MINUTE_MS);
        world.deliver(&json!({"sweep": {}})).await;
    }
}

/// Each of so many objects is DONE and in the output of one run; the lane rests and all jobs are DONE.
async fn each_once(world: &World, objects: usize, what: &str) {
    let mut all: Vec<String> = world.spark.written.lock().unwrap().values().flatten().cloned().collect();
    all.sort();
    let mut expected: Vec<String> = (0..objects).map(|n| format!("s3://raw-bucket/{}", key(n))).collect();
    expected.sort();
    assert_eq!(all, expected, "{what}");
    for uri in &expected {
        let object = world.book.object("page_logs", uri).await.unwrap().unwrap();
        assert_eq!(object.standing, Standing::Done, "{what}: {uri}");
    }
    let lane = world.book.lane("page_logs").await.unwrap().unwrap();
    assert_eq!((lane.phase, lane.run), (Phase::Idle, None), "{what}");
    assert!(lane.watermark_ms.is_some() && lane.last_successful_run.is_some(), "{what}");
    for job in world.store.recent(0, u64::MAX >> 1, 1_000).await.unwrap() {
        assert_eq!(job.state, State::Done, "{what}: {}", job.id);
    }
}

/// Kills the process at every call it makes, before that call took effect or after, one world a call.
async fn killed_at_any_call(objects: usize, events: bool, prepare: impl Fn(&World)) {
    for done in [false, true] {
        let mut calls = 0;
        loop {
            let (world, at) = (World::new(), calls + 1);
            prepare(&world);
            world.fate.set(at, done);
            for n in 0..objects {
                land(&world, n).await;
            }
            settle(&world, events).await;
            each_once(&world, objects, &format!("killed at call {at}, done: {done}, events: {events}")).await;
            if !world.fate.has_come() {
                break;
            }
            calls = at;
        }
        assert!(calls > 25, "there were calls to be killed at: {calls}");
    }
}

/// What `ingest` commits: a list of files, PENDING by its own transaction.
async fn commit(world: &World, n: usize, listed: &[&str]) -> String {
    let at = format!("s3://out-bucket/events/_manifests/t/{n}.json");
    let files: Vec<Value> = listed.iter().map(|uri| json!({"uri": uri, "rows": 1, "bytes": 7})).collect();
    let manifest =
        json!({"dataset": "page_logs", "position": "c/t/0", "offsets": {"from": 0, "to": 1}, "files": files});
    if !listed.is_empty() {
        let place = weir_command::Location::parse(&at).unwrap();
        world.lake.put(&place, manifest.to_string().into(), "application/json").await.unwrap();
    }
    let bytes = 7 * listed.len() as u64;
    let list = weir_ledger::batch::object::list("page_logs", &at, listed.len() as u64, bytes, world::now_ms());
    world.book.put_object(&list).await.unwrap();
    at
}

#[tokio::test]
async fn what_ingest_committed_is_added_up_file_by_file_and_once() {
    for dies_at in 0..40 {
        let world = World::new();
        let first =
            commit(&world, 0, &["s3://out-bucket/events/page_logs/a", "s3://out-bucket/events/page_logs/b"]).await;
        let gone = commit(&world, 1, &[]).await;
        world.fate.set(dies_at, dies_at % 2 == 0);
        land(&world, 0).await;
        settle(&world, true).await;
        let last = commit(&world, 2, &["s3://out-bucket/events/page_logs/c"]).await;
        world.deliver(&json!({"dataset": "page_logs"})).await;
        settle(&world, true).await;
        let mut all: Vec<String> = world.spark.written.lock().unwrap().values().flatten().cloned().collect();
        all.sort();
        let files = ["a", "b", "c"].map(|name| format!("s3://out-bucket/events/page_logs/{name}"));
        let landed = format!("s3://raw-bucket/{}", key(0));
        assert_eq!(all, [&files[..], &[landed]].concat(), "killed at {dies_at}");
        for (list, standing) in [(first, Standing::Done), (gone, Standing::Refused), (last, Standing::Done)] {
            assert_eq!(world.book.object("page_logs", &list).await.unwrap().unwrap().standing, standing, "{list}");
        }
        assert!(world.told.all().iter().any(|told| told.contains("_manifests/t/1.json")), "someone is told");
    }
}

#[tokio::test]
async fn killed_at_any_call_each_object_is_done_once() {
    for events in [true, false] {
        killed_at_any_call(3, events, |_| ()).await;
        // Nothing comes after it that would wake anyone.
        killed_at_any_call(1, events, |_| ()).await;
    }
}

#[tokio::test]
async fn killed_at_any_call_while_runs_fail_and_find_no_room_each_object_is_done_once() {
    for events in [true, false] {
        killed_at_any_call(1, events, |world| world.spark.failing.store(2, std::sync::atomic::Ordering::SeqCst)).await;
        killed_at_any_call(2, events, |world| world.spark.full.store(2, std::sync::atomic::Ordering::SeqCst)).await;
    }
}

#[tokio::test]
async fn killed_at_any_call_while_a_run_is_halted_a_person_is_told() {
    for done in [false, true] {
        let mut calls = 0;
        loop {
            let (world, at) = (World::new(), calls + 1);
            world.spark.failing.store(usize::MAX, std::sync::atomic::Ordering::SeqCst);
            world.fate.set(at, done);
            land(&world, 0).await;
            settle(&world, true).await;
            let lane = world.book.lane("page_logs").await.unwrap().unwrap();
            let what = format!("killed at call {at}, done: {done}");
            assert_eq!(lane.phase, Phase::Halted, "{what}");
            let job = world.store.get(&lane.run.unwrap().id).await.unwrap().unwrap();
            assert_eq!(job.state, State::Failed, "{what}");
            assert!(!world.told.all().is_empty(), "{what}: nobody was told");
            if !world.fate.has_come() {
                break;
            }
            calls = at;
        }
        assert!(calls > 40, "there were calls to be killed at: {calls}");
    }
}

#[tokio::test]
async fn events_that_come_twice_and_in_any_order_are_one_object_each() {
    use rand::seq::SliceRandom;
    let world = World::new();
    let mut events: Vec<Value> =
        (0..2).flat_map(|_| (0..500).map(|n| created(&key(n), &format!("e{n}"), "01"))).collect();
    events.shuffle(&mut rand::rng());
    for (n, event) in events.iter().enumerate() {
        world.deliver(event).await;
        if n % 97 == 0 {
            world.work(true).await;
        }
    }
    settle(&world, true).await;
    each_once(&world, 500, "twice, in any order").await;
    assert!(world.spark.starts() < 15, "one run takes all that is pending: {}", world.spark.starts());
}

#[tokio::test]
async fn an_event_costs_two_calls_while_a_run_is_going() {
    let world = World::new();
    land(&world, 0).await;
    world.fate.set(usize::MAX, false);
    for n in 1..=100 {
        land(&world, n).await;
    }
    assert_eq!(world.fate.calls(), 200, "the object is stored, and its lane is seen to be busy");
    settle(&world, true).await;
    each_once(&world, 101, "landed during a run").await;
}

#[tokio::test]
async fn a_run_that_fails_twice_succeeds_under_its_name() {
    let world = World::new();
    world.spark.failing.store(2, std::sync::atomic::Ordering::SeqCst);
    land(&world, 0).await;
    settle(&world, true).await;
    each_once(&world, 1, "fails twice").await;
    assert_eq!(world.spark.starts(), 3);
    assert!(world.told.all().is_empty(), "nobody is called for what mended itself");
}

#[tokio::test]
async fn a_run_that_always_fails_halts_and_a_person_is_told_and_can_let_it_go_on() {
    let world = World::new();
    world.spark.failing.store(3, std::sync::atomic::Ordering::SeqCst);
    land(&world, 0).await;
    settle(&world, true).await;
    let lane = world.book.lane("page_logs").await.unwrap().unwrap();
    assert_eq!((lane.phase, world.spark.starts()), (Phase::Halted, 3));
    let run = lane.run.unwrap().id;
    assert_eq!(world.store.get(&run).await.unwrap().unwrap().state, State::Failed);
    let told = world.told.all();
    assert_eq!(told.len(), 1);
    for word in [run.as_str(), "out of memory", "a log", "weir batch retry page_logs"] {
        assert!(told[0].contains(word), "{word}: {}", told[0]);
    }
    // What lands meanwhile waits.
    land(&world, 1).await;
    settle(&world, true).await;
    assert_eq!(world.spark.starts(), 3);
    let answer = world.deliver(&json!({"dataset": "page_logs", "retry": {}})).await;
    assert_eq!(answer["phase"], "RUNNING", "{answer}");
    settle(&world, true).await;
    each_once(&world, 2, "after a person").await;
}

#[tokio::test]
async fn no_room_at_glue_is_waited_for_and_is_no_failure() {
    let world = World::new();
    world.spark.full.store(6, std::sync::atomic::Ordering::SeqCst);
    land(&world, 0).await;
    settle(&world, true).await;
    each_once(&world, 1, "no room").await;
    assert_eq!(world.spark.starts(), 1);
}

#[tokio::test]
async fn what_is_no_data_is_left_alone_and_what_is_not_understood_is_kept() {
    let world = World::new();
    for key in [
        "page_logs/",
        "page_logs/_SUCCESS",
        "page_logs/_temporary/0/x.json",
        "page_logs/.x.crc",
        "top.json",
        "_x/y.json",
    ] {
        world.deliver(&created(key, "e", "01")).await;
    }
    let elsewhere = json!({"source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": "out-bucket"}, "object": {"key": "page_logs/x.json", "size": 1, "etag": "e"}}});
    world.deliver(&elsewhere).await;
    assert_eq!(world.spark.starts(), 0);
    let letters = || async {
        use weir_lake::Lake;
        let under = weir_command::Location::parse("s3://dead-letter-bucket/poison/").unwrap();
        world.lake.list(&under, None).await.unwrap().objects.len()
    };
    assert_eq!(letters().await, 0);
    for odd in [
        created("no_such_dataset/x.json", "e", "01"),
        json!({"what": "is this"}),
        json!({"dataset": "page_logs", "backfill": {"from": "yesterday"}}),
        json!([1]),
        json!({"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification"}),
    ] {
        world.deliver(&odd).await;
        world.deliver(&odd).await;
    }
    assert_eq!(letters().await, 5, "each once");
    assert_eq!(
        world.deliver(&json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})).await,
        json!({})
    );
}

#[tokio::test]
async fn native_notifications_have_many_records_and_encoded_keys() {
    let world = World::new();
    let record = |key: &str, n: usize| {
        json!({"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-01-01T00:00:00.000Z",
            "s3": {"bucket": {"name": "raw-bucket"}, "object": {"key": key, "size": 3, "eTag": format!("e{n}"), "sequencer": "01"}}})
    };
    let records = vec![
        record("page_logs/a+b%2Bc%3D1.json", 0),
        json!({"eventName": "ObjectRemoved:Delete"}),
        record("page_logs/%C3%BC.json", 1),
    ];
    world.deliver(&json!({"Records": records})).await;
    settle(&world, true).await;
    let mut all: Vec<String> = world.spark.written.lock().unwrap().values().flatten().cloned().collect();
    all.sort();
    assert_eq!(all, ["s3://raw-bucket/page_logs/a b+c=1.json", "s3://raw-bucket/page_logs/ü.json"]);
}

#[tokio::test]
async fn a_newer_version_of_what_was_done_waits_for_a_person_and_then_replaces_it() {
    let world = World::new();
    land(&world, 0).await;
    settle(&world, true).await;
    world.deliver(&created(&key(0), "other", "02")).await;
    world.deliver(&created(&key(0), "other", "02")).await;
    settle(&world, true).await;
    assert_eq!(world.spark.starts(), 1, "its rows are there already");
    let told = world.told.all();
    assert!(told.len() == 1 && told[0].contains("--replace"), "{told:?}");
    let answer = world.deliver(&json!({"dataset": "page_logs", "retry": {"replace": true}})).await;
    assert_eq!((answer["found"].as_u64(), answer["phase"].as_str()), (Some(1), Some("RUNNING")), "{answer}");
    settle(&world, true).await;
    each_once(&world, 1, "replaced").await;
    assert_eq!(world.spark.written.lock().unwrap().len(), 1, "under the same name");
    let object = world.book.object("page_logs", &format!("s3://raw-bucket/{}", key(0))).await.unwrap().unwrap();
    assert_eq!((object.version_of.etag.as_str(), object.newer), ("other", None));
}

#[tokio::test]
async fn what_was_compacted_away_is_not_replaced_by_nothing() {
    for is_gone in [false, true] {
        let world = World::new();
        let at = "s3://out-bucket/events/page_logs/event_date=2024-05-01/a.parquet";
        let place = weir_command::Location::parse(at).unwrap();
        world.lake.put(&place, "rows".into(), "x").await.unwrap();
        commit(&world, 0, &[at]).await;
        land(&world, 0).await;
        settle(&world, true).await;
        world.deliver(&created(&key(0), "other", "02")).await;
        if is_gone {
            world.lake.delete(&[place]).await.unwrap();
        }
        let answer = world.deliver(&json!({"dataset": "page_logs", "retry": {"replace": true}})).await;
        let refused = answer["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(refused.contains(at), is_gone, "{answer}");
        settle(&world, true).await;
        assert_eq!(world.spark.written.lock().unwrap().values().flatten().count(), 2);
    }
}

#[tokio::test]
async fn killed_at_any_call_of_a_replacement_the_new_version_counts_once() {
    for done in [false, true] {
        let mut calls = 0;
        loop {
            let (world, at) = (World::new(), calls + 1);
            for n in 0..3 {
                land(&world, n).await;
            }
            settle(&world, true).await;
            world.deliver(&created(&key(1), "other", "02")).await;
            world.fate.set(at, done);
            // A person asks until it is done.
            for _ in 0..3 {
                let answer = world.deliver(&json!({"dataset": "page_logs", "retry": {"replace": true}})).await;
                settle(&world, true).await;
                if answer["error"].is_string() {
                    break;
                }
            }
            each_once(&world, 3, &format!("replaced, killed at call {at}, done: {done}")).await;
            let object = world.book.object("page_logs", &format!("s3://raw-bucket/{}", key(1))).await.unwrap().unwrap();
            assert_eq!((object.version_of.etag.as_str(), object.newer), ("other", None), "killed at call {at}");
            if !world.fate.has_come() {
                break;
            }
            calls = at;
        }
        assert!(calls > 20, "there were calls to be killed at: {calls}");
    }
}

#[tokio::test]
async fn a_backfill_takes_up_what_no_event_told_of_and_says_how_much_that_was() {
    use weir_lake::Lake;
    let world = World::new();
    for n in 0..3 {
        let at = weir_command::Location::parse(&format!("s3://raw-bucket/{}", key(n))).unwrap();
        world.lake.put(&at, bytes::Bytes::from(format!("row {n}")), "application/json").await.unwrap();
    }
    let backfill = json!({"dataset": "page_logs", "backfill": {}});
    assert_eq!(world.deliver(&backfill).await["found"], 3);
    settle(&world, true).await;
    each_once(&world, 3, "taken up").await;
    assert_eq!(world.deliver(&backfill).await["found"], 0, "known by now");
    assert_eq!(world.spark.starts(), 1);
}

#[tokio::test]
async fn off_peak_gathers_until_the_window_opens_unless_someone_asks() {
    let world = World::with(|name| match name {
        "BATCH_WHEN" => Some("off-peak".into()),
        // The clock begins at 08:00 UTC.
        "OFF_PEAK" => Some("22:00-06:00 UTC".into()),
        _ => None,
    });
    land(&world, 0).await;
    pass(60 * MINUTE_MS);
    world.deliver(&json!({"sweep": {}})).await;
    assert_eq!(world.spark.starts(), 0);
    assert_eq!(world.deliver(&json!({"dataset": "page_logs"})).await["phase"], "RUNNING", "someone asks");
    world.work(true).await;
    land(&world, 1).await;
    land(&world, 2).await;
    assert_eq!(world.spark.starts(), 1);
    pass(14 * 60 * MINUTE_MS);
    world.deliver(&json!({"sweep": {}})).await;
    assert_eq!(world.spark.starts(), 2, "it is night");
    world.work(true).await;
    each_once(&world, 3, "by night").await;
}
