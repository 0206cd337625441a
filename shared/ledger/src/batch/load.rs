//! How what runs added up comes into a warehouse, as pure functions on the [`Lane`].
//!
//! ```text
//!   FINISHING ──finished──▶ LOADING ──loaded──▶ IDLE
//!                           ▲ │ ▲ │
//!                           │ └─┘ failed, attempts left
//!            IDLE ──begin───┘     └── failed, attempts used up ──▶ IDLE
//! ```
//!
//! What shall be loaded waits in the lane until it is, by the name of its run. A warehouse that takes nothing holds a lane up for
//! [`MAX_ATTEMPTS`](super::lane::MAX_ATTEMPTS) attempts and no longer: what waits is loaded after the next run, or when a
//! person asks. One run that can't be loaded is *stuck*: it holds up no other, and is tried once after each load that succeeds.
//!
//! A load may be repeated: it replaces what the warehouse has of its runs, in one transaction. Two of one run must not overlap: under
//! snapshot isolation both would delete nothing and both insert. So an attempt has a *token*, by which the warehouse knows it, and is
//! asked for by one at a time. If it is not answered it is asked for by the same token again, and after that no refusal counts: it may
//! speak of the repetition alone. The next attempt has another token, and is made only when the last one's end is known, or when so
//! much time has passed that nothing can be going on ([`LONGEST_MS`]).

use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

use super::lane::{CLAIM_PATIENCE_MS, MAX_ATTEMPTS, RUN_PATIENCE_MS, Step};
use super::record::{Lane, Phase};

/// The most runs of one load. Redshift takes 40 statements at a time: four, and four a run.
pub const MOST_AT_ONCE: usize = 9;

/// The most runs that wait in a lane's record, which DynamoDB bounds. More lie on S3, where a person can have them loaded from.
pub const MOST_WAITING: usize = 4_000;

/// How long a load may take. One of a few thousand rows takes seconds; one that waits for someone's open transaction, for ever.
pub const LOAD_PATIENCE_MS: u64 = 1_800_000;

/// Redshift ends what runs longer than a day (Data API quotas); and a margin.
pub const LONGEST_MS: u64 = 25 * 3_600_000;

/// A run whose sums wait for the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToLoad {
    /// The run.
    pub run: String,
    /// Whether it made none: then what the warehouse has of the same run made earlier goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty: bool,
    /// Whether it could not be loaded even alone. It waits behind all others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stuck: bool,
}

impl ToLoad {
    /// A run's sums.
    pub fn new(run: &str, empty: bool) -> Self {
        Self { run: run.to_owned(), empty, stuck: false }
    }
}

/// A load that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it goes by; unlike that of any other.
    pub token: String,
    /// Of what waits, the first so many.
    pub runs: usize,
    /// What the table and the views shall be like. They are made first unless they are known to be: that locks them.
    pub shape: String,
    /// How many attempts failed.
    pub failed: u32,
    /// How often this one was asked for, and when first.
    pub asked: u32,
    /// See `asked`; 0 before.
    pub asked_ms: u64,
    /// Until when whoever asks has it to itself; 0: nobody does.
    pub lease_until_ms: u64,
    /// Whether people were told that it takes long.
    #[serde(default)]
    pub told: bool,
    /// The warehouse's id of it, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// When the warehouse had it.
    #[serde(default)]
    pub begun_ms: u64,
}

/// A run shall be loaded, too. Of one that waits already, the newer word counts.
pub fn wait(lane: &Lane, run: ToLoad) -> Vec<ToLoad> {
    let mut waiting: Vec<ToLoad> = lane.to_load.iter().filter(|known| known.run != run.run).cloned().collect();
    if waiting.len() >= MOST_WAITING {
        // What has files is found on S3 again; that a run has none any more is known here alone.
        let oldest = waiting.iter().position(|one| !one.empty).unwrap_or(0);
        waiting.remove(oldest);
    }
    in_order(waiting.into_iter().chain([run]))
}

/// How many more may wait.
pub fn room(lane: &Lane) -> usize {
    MOST_WAITING.saturating_sub(lane.to_load.len())
}

/// Runs whose sums lie on S3 shall be loaded, too, and what was stuck is tried again. What waits already is known better.
pub fn wait_all(lane: &Lane, runs: &[ToLoad]) -> Vec<ToLoad> {
    let freed = lane.to_load.iter().map(|one| ToLoad { stuck: false, ..one.clone() });
    let fresh = runs.iter().filter(|one| lane.to_load.iter().all(|known| known.run != one.run));
    in_order(freed.chain(fresh.cloned()))
}

/// What is stuck comes last.
fn in_order(all: impl Iterator<Item = ToLoad>) -> Vec<ToLoad> {
    let mut all: Vec<ToLoad> = all.collect();
    all.sort_by_key(|one| one.stuck);
    all
}

/// A lane that rests begins to load what waits. `None` if nothing does, or what does is stuck and there was no success since, or if it
/// is busy.
pub fn begin(lane: &Lane, shape: &str, now_ms: u64) -> Option<Lane> {
    let first = lane.to_load.first().filter(|first| !first.stuck || lane.failure.is_none());
    let first = first.filter(|_| lane.phase == Phase::Idle)?;
    let (runs, failed) = match first.stuck {
        true => (1, MAX_ATTEMPTS - 1),
        false => (lane.to_load.iter().take_while(|one| !one.stuck).count().min(MOST_AT_ONCE), 0),
    };
    let load = attempt(lane, runs, shape, failed);
    Some(Lane { load: Some(load), failure: None, ..lane.step(Phase::Loading, Some(now_ms)) })
}

fn attempt(lane: &Lane, runs: usize, shape: &str, failed: u32) -> Load {
    Load {
        token: token(lane),
        runs,
        shape: shape.to_owned(),
        failed,
        asked: 0,
        asked_ms: 0,
        lease_until_ms: 0,
        told: false,
        statement: None,
        begun_ms: 0,
    }
}

/// Versions of a lane rise, and a write token is unlike any other's, should the ledger have been made anew.
fn token(lane: &Lane) -> String {
    format!("load:{}.{}.{}", lane.name, lane.version, lane.write_token)
}

/// Whether the table and the views must be made before this load.
pub fn prepares(lane: &Lane) -> bool {
    lane.load.as_ref().is_some_and(|load| lane.shape.as_ref() != Some(&load.shape))
}

/// This invocation asks the warehouse, and nobody else does before `until_ms`, when it can't live any more. `None` while another may
/// be asking.
pub fn ask(lane: &Lane, until_ms: u64, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|load| lane.phase == Phase::Loading && load.lease_until_ms <= now_ms)?;
    let asked_ms = if load.asked == 0 { now_ms } else { load.asked_ms };
    let load = Load { asked: load.asked + 1, asked_ms, lease_until_ms: until_ms, ..load.clone() };
    Some(Lane { load: Some(load), ..lane.step(Phase::Loading, Some(until_ms)) })
}

/// Whether a refusal means that there is no load of this token: only if it was asked for once, or so long ago that it must be over.
pub fn is_refusal(load: &Load, now_ms: u64) -> bool {
    load.asked <= 1 || is_over(load, now_ms)
}

/// Whether nothing of it can be going on any more.
pub fn is_over(load: &Load, now_ms: u64) -> bool {
    load.asked > 0 && now_ms >= load.asked_ms + LONGEST_MS
}

/// The warehouse has it, under this id.
pub fn begun(lane: &Lane, statement: &str, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let load = Load { statement: Some(statement.to_owned()), begun_ms: now_ms, lease_until_ms: 0, ..load.clone() };
    Some(Lane { load: Some(load), failure: None, ..lane.step(Phase::Loading, Some(now_ms + RUN_PATIENCE_MS)) })
}

/// It goes on; look again. `told`: people know that it takes long.
pub fn still_loading(lane: &Lane, told: bool, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let load = Load { told: load.told || told, ..load.clone() };
    Some(Lane { load: Some(load), ..lane.step(Phase::Loading, Some(now_ms + RUN_PATIENCE_MS)) })
}

/// Whether it takes too long, and shall be broken off.
pub fn is_overdue(load: &Load, now_ms: u64) -> bool {
    load.statement.is_some() && now_ms >= load.begun_ms + LOAD_PATIENCE_MS
}

/// Whether the warehouse has it is not known: it is asked by the same token again. `told`: people know.
pub fn unheard(lane: &Lane, why: Failure, told: bool, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let load = Load { lease_until_ms: 0, told: load.told || told, ..load.clone() };
    let again = lane.step(Phase::Loading, Some(now_ms + CLAIM_PATIENCE_MS));
    Some(Lane { load: Some(load), failure: Some(why), ..again })
}

/// An attempt is over, for certain, and loaded nothing. The next has another token, one run alone, and makes table and views anew:
/// they may be what is missing. After the last one the lane rests, and what waits goes on waiting; a run that was alone is stuck.
pub fn failed(lane: &Lane, why: Failure, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let failed = load.failed + 1;
    if failed < MAX_ATTEMPTS && why.passes() {
        let load = attempt(lane, 1, &load.shape, failed);
        let again = lane.step(Phase::Loading, Some(now_ms + CLAIM_PATIENCE_MS));
        return Some(Lane { load: Some(load), shape: None, failure: Some(why), ..again });
    }
    // The others come first from now on.
    let (tried, others) = lane.to_load.split_at_checked(1).filter(|_| load.runs == 1).unwrap_or((&[], &lane.to_load));
    let stuck = tried.iter().map(|one| ToLoad { stuck: true, ..one.clone() });
    let to_load = in_order(others.iter().cloned().chain(stuck));
    // One that was stuck before says nothing of the table.
    let shape = lane.shape.clone().filter(|_| tried.iter().any(|one| one.stuck));
    Some(Lane { to_load, shape, failure: Some(why), ..given_up(lane, now_ms)? })
}

/// Nobody loads any more; what waits goes on waiting.
pub fn given_up(lane: &Lane, now_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Loading).then(|| Lane { load: None, ..rested(lane, now_ms) })
}

/// It is in the warehouse. The lane rests, and is due at once: there may be more to load, or to work on.
pub fn loaded(lane: &Lane, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let to_load = lane.to_load.iter().skip(load.runs).cloned().collect();
    let shape = Some(load.shape.clone());
    Some(Lane { load: None, failure: None, to_load, shape, ..rested(lane, now_ms) })
}

/// As after a run: what landed meanwhile has noted nothing, and may not be listed yet.
fn rested(lane: &Lane, now_ms: u64) -> Lane {
    Lane { landed_ms: Some(now_ms), ..lane.step(Phase::Idle, Some(now_ms)) }
}

/// What waits is something else. Why it waited is forgotten with the last of it.
pub fn noted(lane: &Lane, to_load: Vec<ToLoad>) -> Lane {
    let failure = lane.failure.clone().filter(|_| lane.phase != Phase::Idle || !to_load.is_empty());
    Lane { to_load, failure, ..lane.step(lane.phase, lane.look_at_ms) }
}

/// The next step of a lane that loads.
pub(super) fn next(lane: &Lane, now_ms: u64) -> Step {
    match &lane.load {
        Some(Load { statement: Some(_), .. }) => Step::ObserveLoad,
        Some(load) if load.lease_until_ms > now_ms => Step::Rest,
        _ => Step::Load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::lane::{self, INDEX_LAG_MS, NOTED_MS};

    fn waiting(count: usize) -> Lane {
        let mut idle = Lane { version: 7, write_token: "w-7".into(), ..Lane::new("page_logs") };
        idle.to_load = (0..count).map(|n| ToLoad::new(&format!("r{n}"), false)).collect();
        idle
    }

    fn begun_at(lane: &Lane, now_ms: u64) -> Lane {
        begun(&begin(lane, "shape", now_ms).unwrap(), "id", now_ms).unwrap()
    }

    fn why() -> Failure {
        Failure::passing("LoadFailed", "no room")
    }

    fn runs(lane: &Lane) -> Vec<&str> {
        lane.to_load.iter().map(|one| one.run.as_str()).collect()
    }

    #[test]
    fn what_waits_is_loaded_some_at_a_time() {
        let mut lane = waiting(20);
        for (loads, left) in [(9, 20), (9, 11), (2, 2)] {
            lane = begin(&lane, "shape", 1).unwrap();
            assert_eq!((lane.load.as_ref().unwrap().runs, lane.to_load.len()), (loads, left));
            assert_eq!((lane::next(&lane, 1), prepares(&lane)), (Step::Load, left == 20));
            lane = begun(&lane, "id", 1).unwrap();
            assert_eq!(lane::next(&lane, 1), Step::ObserveLoad);
            lane = loaded(&lane, 2).unwrap();
            assert_eq!((lane.phase, lane.look_at_ms, lane::next(&lane, 2)), (Phase::Idle, Some(2), Step::Claim));
        }
        assert_eq!((&lane.load, lane.to_load.len()), (&None, 0));
        assert_eq!(begin(&lane, "shape", 3), None);
    }

    #[test]
    fn what_landed_during_a_load_is_looked_for_until_the_index_must_have_it() {
        let noted = Lane { landed_ms: Some(5), ..waiting(1) };
        let late = 5 + 10 * (NOTED_MS + INDEX_LAG_MS);
        let loaded = loaded(&begun_at(&noted, 6), late).unwrap();
        let settled = lane::settle(&loaded, late).unwrap();
        assert_eq!(settled.look_at_ms, Some(late + NOTED_MS + INDEX_LAG_MS));
    }

    #[test]
    fn one_run_that_can_not_be_loaded_holds_up_no_other() {
        let mut lane = begun_at(&waiting(3), 1);
        let mut tokens = vec![lane.load.clone().unwrap().token];
        for attempt in 1..MAX_ATTEMPTS {
            lane = failed(&lane, why(), 1).unwrap();
            let load = lane.load.clone().unwrap();
            assert_eq!((load.runs, load.failed, prepares(&lane)), (1, attempt, true), "alone, with its table");
            tokens.push(load.token);
            lane = begun(&lane, "id", 1).unwrap();
        }
        tokens.dedup();
        assert_eq!(tokens.len(), 3, "each attempt has its own");
        let tired = failed(&lane, why(), 1).unwrap();
        assert_eq!((tired.phase, runs(&tired), tired.to_load[2].stuck), (Phase::Idle, vec!["r1", "r2", "r0"], true));
        let next = begin(&tired, "shape", 2).unwrap();
        assert_eq!(next.load.as_ref().unwrap().runs, 2, "the others");
        let left = loaded(&begun(&next, "id", 2).unwrap(), 3).unwrap();
        let once_more = begun_at(&left, 3);
        assert_eq!((runs(&left), once_more.load.as_ref().unwrap().failed), (vec!["r0"], MAX_ATTEMPTS - 1));
        let tired = failed(&once_more, why(), 3).unwrap();
        assert_eq!((runs(&tired), begin(&tired, "shape", 4)), (vec!["r0"], None), "not before the next success");
        assert_eq!(tired.shape.as_deref(), Some("shape"), "the table is not to blame");
        assert!(!wait_all(&tired, &[])[0].stuck, "or a person has it tried again");
    }

    #[test]
    fn what_no_repetition_mends_is_not_repeated_and_sticks_to_nobody_unless_alone() {
        let denied = || Failure::user("Denied", "x");
        let tired = failed(&begun_at(&waiting(2), 1), denied(), 1).unwrap();
        assert_eq!((tired.phase, tired.to_load.iter().any(|one| one.stuck)), (Phase::Idle, false));
        assert!(failed(&begun_at(&waiting(1), 1), denied(), 1).unwrap().to_load[0].stuck);
    }

    #[test]
    fn what_was_not_heard_is_asked_by_the_same_token_for_as_long_as_it_takes() {
        let first = begin(&waiting(2), "shape", 1).unwrap();
        let mut lane = first.clone();
        let refusal = |lane: &Lane, now_ms| is_refusal(lane.load.as_ref().unwrap(), now_ms);
        for n in 0..10 {
            let asking = ask(&lane, 900, 1).unwrap();
            assert_eq!((lane::next(&asking, 899), ask(&asking, 900, 899)), (Step::Rest, None), "one asks at a time");
            assert_eq!(lane::next(&asking, 900), Step::Load, "who asked may be dead");
            assert_eq!(refusal(&asking, 1), n == 0, "a refusal may speak of the repetition alone");
            lane = unheard(&asking, why(), false, 1).unwrap();
        }
        assert!(refusal(&lane, 1 + LONGEST_MS), "by then it is over");
        let (was, is) = (first.load.unwrap(), lane.load.clone().unwrap());
        assert_eq!((was.token, was.runs, was.failed, lane.phase), (is.token, is.runs, is.failed, Phase::Loading));
        assert!(!is_overdue(&lane.load.unwrap(), u64::MAX), "nobody has it yet");
    }

    #[test]
    fn of_a_run_that_waits_its_own_word_counts_and_not_what_lies_on_s3() {
        let told = |all: &[ToLoad]| all.iter().map(|one| (one.run.clone(), one.empty)).collect::<Vec<_>>();
        let lane = waiting(2);
        let now = Lane { to_load: wait(&lane, ToLoad::new("r1", true)), ..lane };
        assert_eq!(told(&now.to_load), [("r0".into(), false), ("r1".into(), true)]);
        let all = wait_all(&now, &[ToLoad::new("r1", false), ToLoad::new("r2", false)]);
        assert_eq!(told(&all), [("r0".into(), false), ("r1".into(), true), ("r2".into(), false)]);
    }

    #[test]
    fn no_more_wait_than_a_record_holds() {
        let mut full = waiting(MOST_WAITING);
        full.to_load[0].empty = true;
        let all = wait(&full, ToLoad::new("one more", false));
        let kept = [&all[0], &all[1], &all[MOST_WAITING - 1]].map(|one| one.run.as_str());
        assert_eq!((all.len(), kept, room(&full)), (MOST_WAITING, ["r0", "r2", "one more"], 0));
    }
}
