//! How what runs added up comes into a warehouse, as pure functions on the [`Lane`].
//!
//! ```text
//!   FINISHING ──finished──▶ LOADING ──loaded──▶ IDLE
//!                           ▲ │ ▲ │
//!                           │ └─┘ failed, attempts left
//!            IDLE ──begin───┘     └── failed, attempts used up ──▶ IDLE
//! ```
//!
//! What shall be loaded waits in the lane until it is, by the name of its run. A warehouse that is down holds a lane up for
//! [`MAX_ATTEMPTS`](super::lane::MAX_ATTEMPTS) attempts and no longer: what waits is loaded after the next run, or when a
//! person asks.
//!
//! A load may be repeated: it replaces what the warehouse has of its runs, in one transaction. One that was asked for twice, because
//! an answer was lost, has the same *token*, by which the warehouse knows it again. The next attempt has another, and is made
//! only when the last one's end is known.

use serde::{Deserialize, Serialize};
use weir_delivery::Failure;

use super::lane::{CLAIM_PATIENCE_MS, MAX_ATTEMPTS, RUN_PATIENCE_MS, Step};
use super::record::{Lane, Phase};

/// The most runs of one load. Redshift takes 40 statements at a time: four, and four a run.
pub const MOST_AT_ONCE: usize = 9;

/// A run whose sums wait for the warehouse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToLoad {
    /// The run.
    pub run: String,
    /// Whether it made none: then what the warehouse has of the same run made earlier goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty: bool,
}

/// A load that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// What it goes by; unlike that of any other.
    pub token: String,
    /// Of what waits, the first so many.
    pub runs: usize,
    /// How many attempts failed.
    pub failed: u32,
    /// The warehouse's id of it, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

/// Runs that shall be loaded, too. Of one that waits already, the newer word counts.
pub fn wait(lane: &Lane, runs: impl IntoIterator<Item = ToLoad>) -> Vec<ToLoad> {
    let mut waiting = lane.to_load.clone();
    for run in runs {
        match waiting.iter_mut().find(|known| known.run == run.run) {
            Some(known) => *known = run,
            None => waiting.push(run),
        }
    }
    waiting
}

/// More waits, and nothing else changes.
pub fn noted(lane: &Lane) -> Lane {
    lane.step(lane.phase, lane.look_at_ms)
}

/// A lane that rests begins to load what waits; `None` if nothing does, or if it is busy.
pub fn begin(lane: &Lane, now_ms: u64) -> Option<Lane> {
    let first = lane.to_load.first().filter(|_| lane.phase == Phase::Idle)?;
    let load =
        Load { token: token(first, lane), runs: lane.to_load.len().min(MOST_AT_ONCE), failed: 0, statement: None };
    Some(Lane { load: Some(load), failure: None, ..lane.step(Phase::Loading, Some(now_ms)) })
}

/// Versions of a lane rise, and a write token is unlike any other's, should the ledger have been made anew.
fn token(first: &ToLoad, lane: &Lane) -> String {
    format!("load:{}.{}.{}", first.run, lane.version, lane.write_token)
}

/// The warehouse has it, under this id.
pub fn begun(lane: &Lane, statement: &str, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let load = Load { statement: Some(statement.to_owned()), ..load.clone() };
    Some(Lane { load: Some(load), failure: None, ..lane.step(Phase::Loading, Some(now_ms + RUN_PATIENCE_MS)) })
}

/// It goes on; look again.
pub fn still_loading(lane: &Lane, now_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Loading).then(|| lane.step(Phase::Loading, Some(now_ms + RUN_PATIENCE_MS)))
}

/// An attempt failed. `heard`: it is over, for certain, so that the next one has a token of its own; otherwise the warehouse may
/// have it, and is asked by the same token again. After the last one the lane rests, and what waits goes on waiting.
pub fn failed(lane: &Lane, why: Failure, heard: bool, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let failed = load.failed + 1;
    if failed >= MAX_ATTEMPTS || !why.passes() {
        return Some(Lane { failure: Some(why), ..given_up(lane, now_ms)? });
    }
    let next = match lane.to_load.first() {
        Some(first) if heard => token(first, lane),
        _ => load.token.clone(),
    };
    let load = Load { token: next, failed, statement: None, ..load.clone() };
    let again = lane.step(Phase::Loading, Some(now_ms + CLAIM_PATIENCE_MS));
    Some(Lane { load: Some(load), failure: Some(why), ..again })
}

/// Nobody loads any more; what waits goes on waiting.
pub fn given_up(lane: &Lane, now_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Loading).then(|| Lane { load: None, ..lane.step(Phase::Idle, Some(now_ms)) })
}

/// It is in the warehouse. If there is more, that is next; otherwise the lane rests, and is due at once: what landed meanwhile
/// has noted nothing.
pub fn loaded(lane: &Lane, now_ms: u64) -> Option<Lane> {
    let load = lane.load.as_ref().filter(|_| lane.phase == Phase::Loading)?;
    let left = lane.to_load.iter().skip(load.runs).cloned().collect();
    let rested = Lane { load: None, failure: None, to_load: left, ..lane.step(Phase::Idle, Some(now_ms)) };
    let on = begin(&rested, now_ms).map(|next| Lane { version: rested.version, ..next });
    Some(on.unwrap_or(rested))
}

/// The next step of a lane that loads.
pub(super) fn next(lane: &Lane) -> Step {
    match &lane.load {
        Some(Load { statement: Some(_), .. }) => Step::ObserveLoad,
        _ => Step::Load,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::lane;

    fn waiting(count: usize) -> Lane {
        let mut idle = Lane { version: 7, write_token: "w-7".into(), ..Lane::new("page_logs") };
        idle.to_load = (0..count).map(|n| ToLoad { run: format!("r{n}"), empty: false }).collect();
        idle
    }

    #[test]
    fn what_waits_is_loaded_some_at_a_time() {
        let mut lane = begin(&waiting(20), 1).unwrap();
        for (loads, left) in [(9, 20), (9, 11), (2, 2)] {
            assert_eq!(
                (lane.phase, lane.load.as_ref().unwrap().runs, lane.to_load.len()),
                (Phase::Loading, loads, left)
            );
            assert_eq!(lane::next(&lane, 1), Step::Load);
            lane = begun(&lane, "id", 1).unwrap();
            assert_eq!(lane::next(&lane, 1), Step::ObserveLoad);
            let before = lane.version;
            lane = loaded(&lane, 2).unwrap();
            assert_eq!(lane.version, before + 1);
        }
        assert_eq!((lane.phase, lane.load, lane.to_load.len(), lane.look_at_ms), (Phase::Idle, None, 0, Some(2)));
    }

    #[test]
    fn an_attempt_that_was_heard_has_another_token_and_the_last_gives_up_without_losing_what_waits() {
        let token = |lane: &Lane| lane.load.as_ref().unwrap().token.clone();
        let why = || Failure::passing("LoadFailed", "no room");
        let first = begun(&begin(&waiting(2), 1).unwrap(), "id", 1).unwrap();
        let again = failed(&first, why(), true, 1).unwrap();
        assert_ne!(token(&first), token(&again));
        assert_eq!(lane::next(&again, 1), Step::Load);
        let same = failed(&again, why(), false, 1).unwrap();
        assert_eq!(token(&again), token(&same));
        let last = failed(&same, why(), true, 1).unwrap();
        assert_eq!((last.phase, last.to_load.len(), last.failure), (Phase::Idle, 2, Some(why())));
        let denied = failed(&first, Failure::user("Denied", "x"), true, 1).unwrap();
        assert_eq!(denied.phase, Phase::Idle, "what can't pass is not tried again");
    }

    #[test]
    fn of_a_run_that_waits_the_newer_word_counts() {
        let lane = waiting(2);
        let now = wait(&lane, [ToLoad { run: "r1".into(), empty: true }, ToLoad { run: "r2".into(), empty: false }]);
        let told: Vec<_> = now.iter().map(|one| (one.run.as_str(), one.empty)).collect();
        assert_eq!(told, [("r0", false), ("r1", true), ("r2", false)]);
    }
}
