//! Writers of another kind at the same table.

use std::sync::Arc;

use bytes::Bytes;
use weir_hudi::Table;
use weir_hudi::timeline::Instant;
use weir_lake::Lake;
use weir_mortal::Fate;
use weir_mortal::clock::pass;

use crate::world::{LEASE_MS, Rows, World, put, settings};

async fn world() -> (World, Rows) {
    let world = World::new(settings(true, None));
    world.process(&Arc::default()).commit("first", &[put(1, "a", "one", 1)], None).await.unwrap();
    pass(1_000);
    let rows = world.rows(None).await;
    (world, rows)
}

async fn lay(world: &World, name: &str, text: &'static str) {
    world.lake.put(&world.place().join(name), Bytes::from_static(text.as_bytes()), "").await.unwrap();
}

/// Tries to write, and says why it can't be.
async fn refused(world: &World) -> String {
    let ended = world.process(&Arc::default()).commit("second", &[put(1, "a", "again", 2)], None).await;
    ended.unwrap_err().code
}

#[tokio::test]
async fn a_commit_that_spark_is_at_is_not_taken_back() {
    let (world, rows) = world().await;
    lay(&world, ".hoodie/20990101000000000.commit.requested", "").await;
    lay(&world, ".hoodie/20990101000000000.inflight", r#"{"partitionToWriteStats":{},"compacted":false}"#).await;
    lay(&world, "dt=a/x-0_0-0-0_20990101000000000.parquet", "").await;
    let before = world.objects().await;
    assert_eq!(refused(&world).await, "HudiPending");
    assert_eq!((world.objects().await, world.rows(None).await), (before, rows));
    // It is done, or taken back: then ours goes on.
    let gone = [".hoodie/20990101000000000.commit.requested", ".hoodie/20990101000000000.inflight"];
    world.lake.delete(&gone.map(|name| world.place().join(name))).await.unwrap();
    world.process(&Arc::default()).commit("third", &[put(1, "a", "again", 2)], None).await.unwrap();
}

#[tokio::test]
async fn properties_that_are_being_written_again_are_no_missing_table() {
    let (world, _) = world().await;
    let at = world.place().join(".hoodie/hoodie.properties");
    world.lake.delete(&[at]).await.unwrap();
    assert_eq!(refused(&world).await, "HudiProperties");
}

#[tokio::test]
async fn what_is_not_written_is_read_all_the_same() {
    let (world, rows) = world().await;
    lay(&world, ".hoodie/metadata/.hoodie/hoodie.properties", "").await;
    assert_eq!(refused(&world).await, "HudiRefused");
    assert_eq!(world.rows(None).await, rows);
}

#[tokio::test]
async fn a_savepoint_keeps_its_commit_and_its_files() {
    let (world, rows) = world().await;
    let saved = world.table().await.view.timeline.commits().last().cloned().unwrap();
    let at = world.place().join(&format!(".hoodie/{saved}.savepoint"));
    world.lake.put(&at, Bytes::from_static(b"{}"), "").await.unwrap();
    for n in 0..15 {
        pass(60_000);
        world.process(&Arc::default()).commit("x", &[put(1, "a", "again", 2 + n)], Some(1_000)).await.unwrap();
    }
    assert_eq!(world.rows(Some(&saved)).await, rows);
    let timeline = world.table().await.view.timeline;
    assert!(timeline.commits().any(|commit| *commit == saved));
}

/// The table is kept as of the horizon, between two commits as well.
#[tokio::test]
async fn the_table_is_read_as_of_any_time_that_is_kept() {
    let (world, _) = world().await;
    let mut then = Vec::new();
    for n in 0..20 {
        pass(60_000);
        let at = i64::try_from(weir_mortal::clock::now_ms()).unwrap() - 30_000;
        then.push((Instant::of(at).unwrap(), world.rows(None).await));
        let keep_ms = 14 * 60_000 - 30_000;
        world.process(&Arc::default()).commit("x", &[put(1, "a", "again", 2 + n)], Some(keep_ms)).await.unwrap();
    }
    for (asked, rows) in then.iter().rev().take(13) {
        assert_eq!(&world.rows(Some(asked)).await, rows, "as of {asked}");
    }
    assert!(Table::open(&world.place()).await.unwrap().unwrap().view.timeline.commits().count() < 17);
}

/// A writer of ours that died when all was there but `.commit`.
async fn died_before_its_commit() -> (World, Rows) {
    for n in 1.. {
        let (world, rows) = world().await;
        let fate = Arc::new(Fate::default());
        fate.set(n, false);
        let ended =
            world.process(&fate).commit("second", &[put(2, "a", "two", 2), put(3, "b", "three", 2)], None).await;
        assert!(ended.is_err(), "it dies before that");
        let all = world.objects().await;
        if all.iter().any(|key| key.contains("/.temp/") && key.ends_with("/commit")) {
            assert_eq!(world.rows(None).await, rows);
            pass(LEASE_MS + 10_000);
            return (world, rows);
        }
    }
    unreachable!()
}

async fn after_the_next(world: &World) -> Vec<i64> {
    world.process(&Arc::default()).commit("third", &[put(9, "a", "nine", 2)], None).await.unwrap();
    assert_eq!(world.table().await.verify().await.unwrap().broken, Vec::<String>::new());
    world.rows(None).await.into_keys().collect()
}

#[tokio::test]
async fn a_commit_that_is_whole_is_committed_by_the_next_writer() {
    let (world, _) = died_before_its_commit().await;
    assert_eq!(after_the_next(&world).await, [1, 2, 3, 9]);
}

#[tokio::test]
async fn but_not_if_another_has_committed_since() {
    let (world, _) = died_before_its_commit().await;
    lay(&world, ".hoodie/20980101000000000.commit", r#"{"partitionToWriteStats":{},"extraMetadata":{"schema":""}}"#)
        .await;
    assert_eq!(after_the_next(&world).await, [1, 9]);
}

#[tokio::test]
async fn nor_if_a_file_of_it_is_gone() {
    let (world, _) = died_before_its_commit().await;
    let table = world.table().await;
    let begun = table.view.timeline.pending().next().unwrap().instant.clone();
    let file = table.view.files.iter().find(|slice| slice.base.instant == begun).unwrap();
    world.lake.delete(std::slice::from_ref(&file.object.location)).await.unwrap();
    assert_eq!(after_the_next(&world).await, [1, 9]);
}
