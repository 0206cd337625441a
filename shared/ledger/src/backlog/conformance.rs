//! What every [`Backlogs`] must do, as one suite that runs against each of them.

use std::fmt::Debug;
use std::time::Duration;

use weir_delivery::Failure;

use super::{Backlog, Backlogs, note, settle};
use crate::batch::Swap;

/// How long an index may lag behind its table.
const PATIENCE: u32 = 50;

/// Runs the suite. Nobody else may be at the store.
///
/// # Errors
/// The first promise that the store does not keep.
pub async fn suite(store: &dyn Backlogs) -> Result<(), String> {
    let name = "suite-ü.t";
    let known = store.backlog(name).await.map_err(|failure| failure.to_string())?;
    let fresh = known.clone().unwrap_or_else(|| Backlog::new(name));
    // Behind whatever a run before has left.
    let upto = format!("{:0>64}", fresh.version + 1);
    let noted = note(&fresh, "shardId-000000000000", &upto, 7).ok_or("it was noted already")?;
    let noted = Backlog { write_token: "suite".into(), ..noted };
    expect("a note", store.put_backlog(&noted).await, Swap::Stored)?;
    let there = || Swap::Conflict(Some(Box::new(noted.clone())));
    expect("the same once more", store.put_backlog(&noted).await, there())?;
    expect("what was noted", store.backlog(name).await, Some(noted.clone()))?;
    until("it is due", store, 7, |due| due.contains(&noted)).await?;
    until("and not before", store, 6, |due| due.is_empty()).await?;

    let covered = [("shardId-000000000000".to_owned(), upto)].into();
    let settled = settle(&noted, &covered, "s3://b/t/", 9).ok_or("it was settled already")?;
    let early = Backlog { version: settled.version + 1, ..settled.clone() };
    expect("a step that was left out", store.put_backlog(&early).await, there())?;
    expect("settled", store.put_backlog(&settled).await, Swap::Stored)?;
    expect("with all it says", store.backlog(name).await, Some(settled))?;
    until("nothing is due", store, u64::MAX >> 12, |due| due.is_empty()).await
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}

async fn until(what: &str, store: &dyn Backlogs, now_ms: u64, is: impl Fn(&[Backlog]) -> bool) -> Result<(), String> {
    let mut last = Vec::new();
    for _ in 0..PATIENCE {
        last = store.due_backlogs(now_ms, 10).await.map_err(|failure| failure.to_string())?;
        if is(&last) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("{what}: is {last:?}"))
}
