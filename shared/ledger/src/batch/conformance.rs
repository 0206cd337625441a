//! What every [`Book`] must do, as one suite that runs against each of them.

use std::fmt::Debug;

use weir_delivery::Failure;

use super::{Book, Landed, Lane, Phase, Standing, Swap, Version, lane, object};

/// Runs the suite. Names are made from the clock, so a book that is kept between runs doesn't matter.
///
/// # Errors
/// The first promise that the book does not keep.
pub async fn suite(book: &dyn Book) -> Result<(), String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_err(|error| error.to_string())?.as_millis() as u64;
    lanes(book, now_ms).await?;
    objects(book, now_ms).await?;
    tokens(book, now_ms).await
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}

fn some<T>(what: &str, made: Option<T>) -> Result<T, String> {
    made.ok_or_else(|| format!("the protocol gave no {what}"))
}

async fn lanes(book: &dyn Book, now_ms: u64) -> Result<(), String> {
    let name = format!("suite-{now_ms}");
    expect("an unknown lane", book.lane(&name).await, None)?;
    let first = some("claim", lane::claim(&Lane::new(&name), "run-1", 1_000))?;
    expect("a first version", book.put_lane(&first).await, Swap::Stored)?;
    let there = || Swap::Conflict(Some(Box::new(first.clone())));
    expect("the first version again", book.put_lane(&first).await, there())?;
    expect("reading", book.lane(&name).await, Some(first.clone()))?;
    let second = some("manifest", lane::claimed(&first, 3, u64::MAX >> 12, 2_000))?;
    let third = some("start", lane::try_start(&second, 2_000))?;
    expect("a version too far", book.put_lane(&third).await, there())?;
    expect("the next version", book.put_lane(&second).await, Swap::Stored)?;
    let own = |lanes: Vec<Lane>| lanes.into_iter().filter(|lane| lane.name == name).count();
    expect("a lane that is due", book.due_lanes(2_000, 10_000).await.map(own), 1)?;
    expect("a lane that is not", book.due_lanes(1_999, 10_000).await.map(own), 0)?;
    let why = Failure::user("X", "a reason");
    let halted = some("failure", lane::failed(&second, why, 3_000))?;
    expect("a halted lane", book.put_lane(&halted).await, Swap::Stored)?;
    expect("is due no more", book.due_lanes(u64::MAX >> 12, 10_000).await.map(own), 0)?;
    expect("and is whole", book.lane(&name).await.map(|lane| lane.map(|lane| lane.phase)), Some(Phase::Halted))
}

fn pending(dataset: &str, n: u64) -> Result<Landed, String> {
    let version = Version { etag: format!("e{n}"), size: n, sequencer: format!("{n:04X}"), landed_ms: 1_000 + n };
    match object::land(None, dataset, &format!("s3://bucket/{dataset}/ü +%{n}"), version) {
        object::Landing::Pending(landed) => Ok(landed),
        other => Err(format!("a new object is not pending: {other:?}")),
    }
}

async fn objects(book: &dyn Book, now_ms: u64) -> Result<(), String> {
    let dataset = format!("suite-{now_ms}");
    for n in (0..5).rev() {
        expect("landing", book.put_object(&pending(&dataset, n)?).await, Swap::Stored)?;
    }
    let (first, second) = (pending(&dataset, 0)?, pending(&dataset, 1)?);
    let there = Swap::Conflict(Some(Box::new(first.clone())));
    expect("landing twice", book.put_object(&first).await, there)?;
    expect("reading", book.object(&dataset, &first.uri).await, Some(first.clone()))?;
    let uris = |objects: Vec<Landed>| objects.into_iter().map(|object| object.version_of.size).collect::<Vec<_>>();
    expect("pending, by landing", book.pending(&dataset, 100).await.map(uris), vec![0, 1, 2, 3, 4])?;
    expect("the first two", book.pending(&dataset, 2).await.map(uris), vec![0, 1])?;
    expect("of another dataset", book.pending(&format!("{dataset}-x"), 100).await.map(uris), vec![])?;
    let object::Mark::Take(claimed) = object::mark(&first, "e0", "run-1", 1) else {
        return Err("a pending object can't be claimed".to_owned());
    };
    expect("claiming", book.put_object(&claimed).await, Swap::Stored)?;
    expect("pending are the others", book.pending(&dataset, 100).await.map(uris), vec![1, 2, 3, 4])?;
    let newer = Version { etag: "other".into(), size: 77, sequencer: "00FF".into(), landed_ms: 9_000 };
    let object::Landing::Conflict(conflict) = object::land(Some(&claimed), &dataset, &first.uri, newer) else {
        return Err("a newer version of a claimed object is no conflict".to_owned());
    };
    expect("a conflict", book.conflicts(&dataset, 100).await.map(uris), vec![])?;
    expect("storing it", book.put_object(&conflict).await, Swap::Stored)?;
    expect("is listed", book.conflicts(&dataset, 100).await, vec![conflict])?;
    let refused = Landed { standing: Standing::Refused, reason: Some("why".into()), version: 2, ..second };
    expect("every member", book.put_object(&refused).await, Swap::Stored)?;
    expect("survives", book.object(&dataset, &refused.uri).await, Some(refused.clone()))
}

async fn tokens(book: &dyn Book, now_ms: u64) -> Result<(), String> {
    let token = format!("suite-{now_ms}.1");
    let take = |who: &'static str| book.take_token(&token, who, now_ms / 1000 + 60);
    expect("a token nobody has", book.token(&token).await, None)?;
    expect("the first to take it", take("a").await, "a".to_owned())?;
    expect("the second", take("b").await, "a".to_owned())?;
    expect("the first again", take("a").await, "a".to_owned())?;
    expect("asking", book.token(&token).await, Some("a".to_owned()))
}
