//! What every [`Positions`] must do, as one suite that runs against each of them.

use std::fmt::Debug;

use weir_delivery::Failure;

use super::{Position, Positions, Range, Taking, commit, intend, take};
use crate::batch::{Swap, object};

/// Runs the suite. Names are made from the clock, so a store that is kept between runs doesn't matter.
///
/// # Errors
/// The first promise that the store does not keep.
pub async fn suite(store: &dyn Positions) -> Result<(), String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let name = format!("suite-{}/t/0", now.map_err(|error| error.to_string())?.as_millis());
    expect("an unknown position", store.position(&name).await, None)?;
    let records = [(5, Some(1_000)), (6, Some(1_001))];
    let Some(Taking::Take(taken)) = take(&Position::new(&name), &records, 10_000, 2_000) else {
        return Err("a new position can't be taken".to_owned());
    };
    let first = intend(&taken, "s3://bucket/manifest-ü").ok_or("nothing is left over")?;
    let own = async |now_ms| -> Result<usize, Failure> {
        Ok(store.left_over(now_ms, 10_000).await?.iter().filter(|one| one.name == name).count())
    };
    expect("two steps at once", store.put_position(&first, 0, None).await, Swap::Stored)?;
    let there = || Swap::Conflict(Some(Box::new(first.clone())));
    expect("once more", store.put_position(&first, 0, None).await, there())?;
    expect("from a version too far", store.put_position(&first, 7, None).await, there())?;
    expect("reading", store.position(&name).await, Some(first.clone()))?;
    expect("what is under way is not left over", own(9_999).await, 0)?;
    expect("after its lease it is", own(10_000).await, 1)?;

    let (next, _) = commit(&first, Range { from: 5, to: 7 }, Some(1_001), Some(1_001)).ok_or("nothing is left over")?;
    let list = |which: &str| object::list("suite", &format!("s3://bucket/{name}/{which}"), 2, 7, 1);
    let manifest = list("one");
    expect("a stale commit", store.put_position(&next, 0, Some(&manifest)).await, there())?;
    expect("a commit", store.put_position(&next, first.version, Some(&manifest)).await, Swap::Stored)?;
    expect("is whole", store.position(&name).await, Some(next.clone()))?;
    expect("leaves nothing over", own(u64::MAX >> 12).await, 0)?;
    let after = Position { version: next.version + 1, ..next.clone() };
    let again = store.put_position(&after, next.version, Some(&manifest)).await;
    expect("what was handed on already", again, Swap::Conflict(Some(Box::new(next.clone()))))?;
    expect("changed nothing", store.position(&name).await, Some(next.clone()))?;
    let other = list("two");
    expect("another", store.put_position(&after, next.version, Some(&other)).await, Swap::Stored)?;
    let listed = store.positions().await.map(|all| all.into_iter().filter(|one| one.name == name).collect::<Vec<_>>());
    expect("the list of all", listed, vec![after])
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}
