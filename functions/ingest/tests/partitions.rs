//! The function among twins: killed at every call it makes, stalled at every call, delivered again and cut otherwise.

// A list of one batch is a list of batches.
#![expect(clippy::single_range_in_vec_init)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use weir_ledger::positions::Positions;
use weir_mortal::Fate;

use world::{CLUSTER, LEASE_MS, World, deliver, event, invoke, logs, one, page_log, pass, record};

#[tokio::test]
async fn killed_at_any_call_each_offset_is_in_one_file() {
    for done in [false, true] {
        for call in 1.. {
            let (world, fate) = (World::new(), Arc::new(Fate::default()));
            deliver(&world, &[0..3]).await;
            fate.set(call, done);
            let doomed = world.process(&fate, true);
            let _ = invoke(&doomed, &one(2..9)).await;
            if !fate.has_come() {
                assert!(call > 7, "so few calls");
                break;
            }
            // Killed again while it takes over, here and there.
            let second = Arc::new(Fate::default());
            second.set(1 + call % 7, !done);
            pass(LEASE_MS);
            let _ = invoke(&world.process(&second, true), &one(1..7)).await;
            pass(LEASE_MS);
            deliver(&world, &[3..5, 0..7, 5..12]).await;
            world.sound(0..12, &format!("killed at call {call}, done: {done}")).await;
        }
    }
}

#[tokio::test]
async fn stalled_at_any_call_it_may_go_on_after_another_has_taken_over() {
    for call in 1.. {
        let (world, fate) = (World::new(), Arc::new(Fate::default()));
        let stalling = world.process(&fate, true);
        fate.stall(call);
        let event = one(0..6);
        let invoked = invoke(&stalling, &event);
        tokio::pin!(invoked);
        let ended = tokio::select! {
            _ = &mut invoked => true,
            () = fate.stalled() => false,
        };
        if ended {
            // Position, manifest, intent, three files, commit, and the lane is read and noted. Of the first batch there is: the
            // layout, in which the partition is counted; and a table with partitions, in the catalog.
            assert_eq!(call, 10 + 4, "the calls of a batch");
            break;
        }
        pass(LEASE_MS);
        deliver(&world, &[0..2, 1..9]).await;
        fate.go_on();
        let _ = invoked.await;
        world.sound(0..9, &format!("stalled at call {call}")).await;
    }
}

#[tokio::test]
async fn what_holds_back_one_partition_holds_back_no_other() {
    let world = World::new();
    deliver(&world, &[0..5]).await;
    // The topic was made anew: its first records are newer than all that was.
    let anew: Vec<Value> = (0..3).map(|offset| record(offset, 9_000 + offset, &page_log(offset))).collect();
    let both = event(&[("log_topic-0", anew), ("log_topic-1", logs(7..9)), ("unknown-2", logs(4..5))]);
    let process = world.process(&Arc::default(), true);
    assert_eq!(invoke(&process, &both).await.unwrap(), [("log_topic-0".to_owned(), 0)]);
    assert!(world.told.all()[0].contains("weir kafka anew"), "a person decides");
    let offsets: Vec<i64> = world.files("page_logs").await.into_values().flatten().collect();
    assert_eq!(offsets.len(), 7);
    let letters = world.objects("s3://dead-letters/poison/ingest/unknown/").await;
    assert_eq!(letters.len(), 1);
    // Where Lambda takes no partial answer, all comes again, and what is committed is skipped.
    let whole = world.process(&Arc::default(), false);
    let refused = invoke(&whole, &both).await.unwrap_err();
    assert!(refused.reason.contains("log_topic-0") && !refused.passes(), "{refused}");
    assert_eq!(world.files("page_logs").await.into_values().flatten().count(), 7);
    assert_eq!(world.objects("s3://dead-letters/poison/ingest/unknown/").await, letters);
}

#[tokio::test]
async fn bad_rows_are_put_aside_once_with_their_places() {
    let world = World::new();
    let bad = record(11, 1, &json!({"TTI": -5}));
    let lost = json!({"value": "e30="});
    let mixed = vec![record(10, 1, &page_log(1)), bad, record(12, 1, &json!("no object")), lost];
    for _ in 0..2 {
        let process = world.process(&Arc::default(), true);
        assert_eq!(invoke(&process, &event(&[("log_topic-0", mixed.clone())])).await.unwrap(), []);
    }
    let lines = |objects: BTreeMap<String, Vec<u8>>| -> Vec<Value> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let all: String = objects.into_values().map(text).collect();
        all.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let quarantine = lines(world.objects("s3://tables/events/page_logs/_quarantine/").await);
    let letters = lines(world.objects("s3://dead-letters/poison/ingest/log_topic/").await);
    let places = |lines: &[Value]| {
        lines.iter().map(|line| (line["partition"].as_i64(), line["offset"].as_i64())).collect::<BTreeSet<_>>()
    };
    assert_eq!(places(&quarantine), [(Some(0), Some(11))].into());
    assert_eq!(places(&letters), [(Some(0), None), (Some(0), Some(12))].into());
    assert_eq!((quarantine.len(), letters.len()), (1, 2));
}

#[tokio::test]
async fn a_batch_that_was_given_up_is_a_gap_until_it_comes() {
    let world = World::new();
    deliver(&world, &[0..3, 6..9]).await;
    let name = format!("{CLUSTER}/log_topic/0");
    let gaps = async || world.positions.position(&name).await.unwrap().unwrap().gaps.len();
    assert_eq!(gaps().await, 1);
    deliver(&world, &[2..8]).await;
    assert_eq!(gaps().await, 0);
    world.sound(0..9, "filled").await;
}

#[tokio::test]
async fn what_a_worker_left_is_closed_even_if_nobody_comes_for_its_partition() {
    let (world, fate) = (World::new(), Arc::new(Fate::default()));
    // At the commit: all files are there.
    fate.set(11, false);
    let _ = invoke(&world.process(&fate, true), &one(0..3)).await;
    assert_eq!(world.files("page_logs").await.len(), 3, "they are there, and not committed");
    let sweep = async || invoke(&world.process(&Arc::default(), true), r#"{"sweep":{}}"#).await.unwrap();
    sweep().await;
    assert_eq!(world.files("page_logs").await.len(), 3, "its lease is not over");
    pass(LEASE_MS);
    sweep().await;
    assert_eq!(world.files("page_logs").await.len(), 0);
    deliver(&world, &[0..3]).await;
    world.sound(0..3, "after the sweep").await;
}

#[tokio::test]
async fn what_is_no_kafka_batch_is_refused() {
    let refused = invoke(&World::new().process(&Arc::default(), true), r#"{"Records":[]}"#).await.unwrap_err();
    assert_eq!(refused.code, "NotKafka");
}
