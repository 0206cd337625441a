//! What is broken is found, and named.

use std::sync::Arc;

use bytes::Bytes;
use weir_hudi::Verdict;
use weir_lake::Lake;
use weir_mortal::clock::pass;

use crate::world::{World, put, settings};

async fn world() -> World {
    let world = World::new(settings(true, None));
    let process = world.process(&Arc::default());
    process.commit("1", &[put(1, "a", "one", 1), put(2, "b", "two", 1)], None).await.unwrap();
    pass(1_000);
    process.commit("2", &[put(1, "a", "one again", 2), put(3, "b", "three", 2)], None).await.unwrap();
    world
}

async fn verdict(world: &World) -> Verdict {
    world.table().await.verify().await.unwrap()
}

#[tokio::test]
async fn a_whole_table_is_whole() {
    let found = verdict(&world().await).await;
    assert_eq!((found.files, found.rows, found.broken.len(), found.left_over.len()), (2, 3, 0, 0));
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let world = world().await;
    let gone = world.table().await.view.slices(None)[0].object.location.clone();
    let marks: Vec<_> =
        ["dt=a", "dt=b"].map(|folder| world.place().join(&format!("{folder}/.hoodie_partition_metadata"))).into();
    world.lake.delete(&[&marks[..], std::slice::from_ref(&gone)].concat()).await.unwrap();
    let broken = verdict(&world).await.broken;
    assert!(broken.iter().any(|text| text.contains(gone.key()) && text.contains("is gone")), "{broken:?}");
    assert!(broken.iter().any(|text| text.contains("`dt=b` does not say")), "{broken:?}");
}

#[tokio::test]
async fn a_file_that_is_another_or_none_is_named() {
    let world = world().await;
    let slices = world.table().await.view.slices(None).into_iter().cloned().collect::<Vec<_>>();
    let (one, other) = (&slices[0].object, &slices[1].object);
    // The rows of the one, in the other's place: of a key that is there already, of another partition, of another file.
    let bytes = world.lake.get(&one.location, None, 0, one.size).await.unwrap();
    world.lake.put(&other.location, bytes, "").await.unwrap();
    let broken = verdict(&world).await.broken.join("\n");
    for word in ["more than once", "belongs into `dt=a`", "says that it is in"] {
        assert!(broken.contains(word), "{word}: {broken}");
    }
    world.lake.put(&other.location, Bytes::from_static(b"PAR1 no PAR1"), "").await.unwrap();
    let broken = verdict(&world).await.broken.join("\n");
    assert!(broken.contains("can't be read") && broken.contains("has 12 bytes"), "{broken}");
}

#[tokio::test]
async fn what_somebody_left_is_no_harm() {
    let world = world().await;
    let lake = &world.lake;
    lake.put(&world.place().join(".hoodie/20990101000000000.commit.requested"), Bytes::new(), "").await.unwrap();
    lake.put(&world.place().join("dt=a/x-0_0-0-0_20980101000000000.parquet"), Bytes::new(), "").await.unwrap();
    let found = verdict(&world).await;
    assert_eq!((found.broken.len(), found.left_over.len()), (0, 2), "{found:?}");
}
