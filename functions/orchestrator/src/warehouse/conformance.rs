//! What every [`Warehouse`] must do, as one suite that runs against each of them.

use weir_command::Location;

use super::{LoadState, Order, RunSums, Warehouse};

/// More looks than a small load takes, at a `settle` each.
const MOST_LOOKS: usize = 300;

/// Runs the suite with sums that lie where `there` says, of page logs, and in a place where nothing lies. `settle` lets the warehouse
/// work, or time pass. `unlike` is unlike that of any other time.
///
/// # Errors
/// The first promise that the warehouse does not keep.
pub async fn suite(
    warehouse: &dyn Warehouse,
    there: &Location,
    nowhere: &Location,
    unlike: &str,
    settle: impl AsyncFn(),
) -> Result<(), String> {
    let order = |attempt: &str, files: Option<&Location>| Order {
        token: format!("{unlike}-{attempt}"),
        dataset: "page_logs".to_owned(),
        prepares: true,
        runs: vec![RunSums { run: unlike.to_owned(), files: files.cloned() }],
    };
    let begun = async |order: &Order| warehouse.begin(order).await.map_err(|why| format!("{why:?}"));
    let ended = async |statement: &str| {
        for _ in 0..MOST_LOOKS {
            match warehouse.look(statement).await {
                Ok(Some(LoadState::Going)) => settle().await,
                Ok(Some(state)) => return Ok(state),
                other => return Err(format!("a load that was begun is {other:?}")),
            }
        }
        Err(format!("the load {statement} does not end"))
    };

    let failing = begun(&order("nothing", Some(nowhere))).await?;
    match ended(&failing).await? {
        LoadState::Failed(why) if !why.is_empty() => {}
        other => return Err(format!("a load of nothing is {other:?}")),
    }
    let first = begun(&order("first", Some(there))).await?;
    let again = begun(&order("first", Some(there))).await?;
    if first != again || first == failing {
        return Err(format!("a token is not one load: {first}, {again}, after {failing}"));
    }
    // Once more when it is over, then under another token, then without files: that takes it out again.
    for attempt in ["first", "second", "empty"] {
        let statement = begun(&order(attempt, (attempt != "empty").then_some(there))).await?;
        match ended(&statement).await? {
            LoadState::Done => {}
            other => return Err(format!("the {attempt} load is {other:?}")),
        }
    }
    match warehouse.look("00000000-0000-0000-0000-000000000000").await {
        Ok(None) => Ok(()),
        other => Err(format!("a load that never was is {other:?}")),
    }
}
