//! What every [`Store`] must do, as one suite that runs against each of them.

use weir_delivery::Failure;

use crate::protocol::{self, Claim, Decision};
use crate::{Job, Progress, Put, Report, Speed, State, Store};

/// Runs the suite. Job ids are made from the clock, so a store that is kept between runs doesn't matter.
///
/// # Errors
/// The first promise that the store does not keep.
pub async fn suite(store: &dyn Store) -> Result<(), String> {
    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|error| error.to_string())?
        .as_millis() as u64;
    compare_and_swap(store, now_ms).await?;
    every_member_survives(store, now_ms).await?;
    lists(store, now_ms).await?;
    counters(store, now_ms).await
}

fn new_job(id: &str, now_ms: u64) -> Result<Job, String> {
    let claim = Claim {
        id: id.to_owned(),
        command: r#"{"command":"copy"}"#.into(),
        payload_hash: "hash".into(),
        origin: "stream/shard/1".into(),
        owner: "suite".into(),
        speed: Speed::Stream,
        lease_until_ms: now_ms + 60_000,
        now_ms,
    };
    match protocol::claim(None, &claim, &format!("{id}-token")) {
        Decision::Take(job) => Ok(job),
        other => Err(format!("a new job was not taken: {other:?}")),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}

async fn compare_and_swap(store: &dyn Store, now_ms: u64) -> Result<(), String> {
    let id = format!("suite-swap-{now_ms}");
    let first = new_job(&id, now_ms)?;
    expect("an unknown job", store.get(&id).await, None)?;
    expect("changing what is not there", store.put(&first, Some(1)).await, Put::Conflict(None))?;
    expect("creating", store.put(&first, None).await, Put::Stored)?;
    let there = || Put::Conflict(Some(Box::new(first.clone())));
    expect("creating twice returns what is there", store.put(&first, None).await, there())?;
    let second = protocol::finish(&first, Report::default(), now_ms, "second");
    expect("changing from a wrong version", store.put(&second, Some(7)).await, there())?;
    expect("changing from the right version", store.put(&second, Some(1)).await, Put::Stored)?;
    expect("reading", store.get(&id).await, Some(second))
}

async fn every_member_survives(store: &dyn Store, now_ms: u64) -> Result<(), String> {
    let id = format!("suite-members-{now_ms}");
    let report = Report {
        output: "s3://out/ü %/".into(),
        objects: 3,
        files: 2,
        bytes_in: u64::MAX >> 12,
        bytes_out: 0,
        rows: Some(5),
        dropped: 4,
        quarantined: 1,
        quarantine: Some("s3://out/_quarantine/".into()),
        restarts: 1,
        ms: 9,
        notes: vec!["a note".into(), String::new()],
    };
    let job = Job {
        speed: Some(Speed::Worker),
        progress: Some(Progress { after_key: "a/b\u{1f600}".into(), objects: 1, bytes: 2 }),
        report: Some(report),
        failure: Some(Failure::passing("SlowDown", "slow: \"quoted\"\n")),
        finished_ms: Some(now_ms),
        ..new_job(&id, now_ms)?
    };
    expect("creating", store.put(&job, None).await, Put::Stored)?;
    expect("reading", store.get(&id).await, Some(job))
}

async fn lists(store: &dyn Store, now_ms: u64) -> Result<(), String> {
    // Long ago, so that other jobs of a shared table don't get in between.
    let base = 1_000_000_000_000 + now_ms % 1_000_000_000 * 90;
    let mut ids = Vec::new();
    for n in 0..6u64 {
        let running = new_job(&format!("suite-list-{now_ms}-{n}"), base + n)?;
        let job = match n {
            0 => protocol::finish(&running, Report::default(), base + n, "x"),
            1 => protocol::defer(&running, "too large", base + n, "x"),
            _ => Job { look_at_ms: Some(1_000 + n), ..running },
        };
        expect("creating", store.put(&job, None).await, Put::Stored)?;
        ids.push(job.id);
    }
    let own =
        |jobs: Vec<Job>| -> Vec<String> { jobs.into_iter().map(|job| job.id).filter(|id| ids.contains(id)).collect() };
    let some = |range: &[usize]| -> Vec<String> { range.iter().filter_map(|n| ids.get(*n).cloned()).collect() };
    let recent = store.recent(base, base + 10, 100).await.map(own);
    expect("recent jobs, newest first", recent, some(&[5, 4, 3, 2, 1, 0]))?;
    let recent = store.recent(base + 2, base + 10, 2).await.map(own);
    expect("the two most recent", recent, some(&[5, 4]))?;
    let due = store.due(1_004, 1_000).await.map(own);
    expect("due jobs: open, not deferred, up to now, oldest first", due, some(&[2, 3, 4]))?;
    for id in ids.iter().skip(2) {
        let job = store.get(id).await.map_err(|error| error.reason)?.ok_or("gone")?;
        let done = protocol::finish(&job, Report::default(), base, "x");
        expect("finishing", store.put(&done, Some(job.version)).await, Put::Stored)?;
    }
    expect("a finished job is not due", store.due(1_010, 1_000).await.map(own), vec![])?;
    let states = store
        .recent(base, base + 10, 100)
        .await
        .map(|jobs| jobs.iter().filter(|job| ids.contains(&job.id) && job.state == State::Done).count());
    expect("recent jobs show their latest state", states, 5)
}

async fn counters(store: &dyn Store, now_ms: u64) -> Result<(), String> {
    let counter = format!("suite-{now_ms}");
    for value in 1..=3 {
        expect("counting", store.count(&counter, now_ms / 1000 + 60).await, value)?;
    }
    expect("resetting", store.reset(&counter).await, ())?;
    expect("counting anew", store.count(&counter, now_ms / 1000 + 60).await, 1)
}
