//! What every [`Layouts`] must do, as one suite that runs against each of them.

use std::fmt::Debug;

use weir_delivery::Failure;

use super::{Folders, Layout, Layouts, begin, count, forget, release, settle};
use crate::batch::Swap;

/// Runs the suite. It goes on from whatever is stored, and leaves it as it was but for its version and generation; nobody else may be at it.
///
/// # Errors
/// The first promise that the store does not keep.
pub async fn suite(store: &dyn Layouts) -> Result<(), String> {
    let at_first = store.layout().await.map_err(|failure| failure.to_string())?;
    let fresh = Layout { write_token: "suite-ü".into(), ..at_first };
    let number = fresh.topics.get("suite/t").copied().unwrap_or(0);
    let counted = count(&fresh, "suite/t", number).ok_or("it is counted already")?;
    expect("the next version", store.put_layout(&counted).await, Swap::Stored)?;
    let there = || Swap::Conflict(Some(Box::new(counted.clone())));
    expect("the same once more", store.put_layout(&counted).await, there())?;
    expect("what was stored", store.layout().await, counted.clone())?;

    let folder = "suite/event_date=2024-05-01/".to_owned();
    let begun = begin(&counted, &Folders::default(), std::slice::from_ref(&folder), "s3://b/f.json", u64::MAX >> 12, 7);
    let begun = begun.ok_or("somebody compacts")?;
    expect("a generation", store.put_layout(&begun).await, Swap::Stored)?;
    expect("with all it says", store.layout().await, begun.clone())?;
    let settled = settle(&begun, &folder, begun.generation, 8).ok_or("it is not moving")?;
    expect(
        "a step that was left out",
        store.put_layout(&release(&settled)).await,
        Swap::Conflict(Some(Box::new(begun))),
    )?;
    expect("settled", store.put_layout(&settled).await, Swap::Stored)?;
    expect("retired and all", store.layout().await, settled.clone())?;
    let mut last = release(&settled);
    for gone in settled.retired.iter().filter(|gone| gone.folder == folder) {
        expect("a step", store.put_layout(&last).await, Swap::Stored)?;
        last = forget(&last, gone).ok_or("it is not retired")?;
    }
    expect("the end", store.put_layout(&last).await, Swap::Stored)?;
    expect("is there", store.layout().await, last)
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}
