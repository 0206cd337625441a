//! The life of a lane's run as pure functions.
//!
//! ```text
//!   IDLE ──claim──▶ CLAIMING ──claimed──▶ STARTING ──started──▶ RUNNING ──succeeded──▶ FINISHING ──finished──▶ IDLE
//!    ▲                 │ (nothing left)      ▲ │ ▲                  │
//!    └─────────────────┘                     │ └─┘ not now          │
//!                                            └──── failed ──────────┤
//!                                            resume ── HALTED ◀─────┘ (attempts used up)
//! ```
//!
//! From FINISHING it goes by LOADING where there is a warehouse: [`load`].
//!
//! Why no run works twice, whatever crashes between:
//!
//! * A run's objects are listed on S3 before the lane is CLAIMING, so whoever takes over claims the same ones.
//! * A start has a *token*, which is in the lane before Glue is asked. The script's first act is to claim that token, and a
//!   second run that finds it taken ends before it writes. A start whose answer was lost is looked up by its token first.
//! * The next start of the same run has a new token, and is made only when the last one's end is known.
//! * All starts of a run write under the run's own name, so that the last replaces what others left.

use weir_delivery::Failure;

use super::load::{self, ToLoad};
use super::record::{Lane, Phase, Run};

/// How many starts of one run may fail before a person must look at it.
pub const MAX_ATTEMPTS: u32 = 3;

/// How soon a claim that its invocation did not finish is taken up again.
pub const CLAIM_PATIENCE_MS: u64 = 60_000;

/// How long whoever calls Glue has the start to itself: longer than a Lambda lives.
pub const START_LEASE_MS: u64 = 930_000;

/// How soon a run is looked at whose event has not come. Glue's events are best effort.
pub const RUN_PATIENCE_MS: u64 = 300_000;

/// How long an index may be behind its table. What landed just now may not be listed yet.
pub const INDEX_LAG_MS: u64 = 60_000;

/// How exactly it is noted when something landed last: a thousand objects at a time are one write.
pub const NOTED_MS: u64 = 30_000;

/// Something has landed: the lane shall be looked at then at the latest.
pub fn note(lane: &Lane, at_ms: u64, now_ms: u64) -> Option<Lane> {
    let sooner = lane.look_at_ms.is_none_or(|noted| noted > at_ms);
    let later = lane.landed_ms.is_none_or(|landed| landed + NOTED_MS <= now_ms);
    let look_at_ms = lane.look_at_ms.map_or(at_ms, |noted| noted.min(at_ms));
    let noted = Lane { landed_ms: Some(now_ms), ..lane.step(Phase::Idle, Some(look_at_ms)) };
    (lane.phase == Phase::Idle && (sooner || later)).then_some(noted)
}

/// There was nothing to claim. What landed just now may not have been listed yet, so it is looked at once more.
pub fn settle(lane: &Lane, now_ms: u64) -> Option<Lane> {
    lane.look_at_ms.filter(|_| lane.phase == Phase::Idle)?;
    let sure_ms = lane.landed_ms.unwrap_or(0) + NOTED_MS + INDEX_LAG_MS;
    Some(lane.step(Phase::Idle, (now_ms < sure_ms).then_some(sure_ms)))
}

/// There is something, but its time has not come.
pub fn postpone(lane: &Lane, to_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Idle).then(|| lane.step(Phase::Idle, Some(to_ms)))
}

/// The lane of a single job is not needed any more.
pub fn forget(lane: &Lane, expires_s: u64) -> Lane {
    Lane { expires_s: Some(expires_s), ..lane.step(lane.phase, None) }
}

/// A new run, if there is none. Its objects must be listed where its name says, before this is stored.
pub fn claim(lane: &Lane, id: &str, now_ms: u64) -> Option<Lane> {
    let run = Run {
        id: id.to_owned(),
        claim: lane.version + 1,
        token: token(id, lane),
        starts: 1,
        failed: 0,
        glue_run: None,
        lease_until_ms: 0,
        claimed_ms: now_ms,
        objects: 0,
        bytes: 0,
    };
    let claiming = lane.step(Phase::Claiming, Some(now_ms + CLAIM_PATIENCE_MS));
    (lane.phase == Phase::Idle).then_some(Lane { run: Some(run), failure: None, ..claiming })
}

/// Its objects are claimed, and the manifest is written. Without objects there is no run after all.
pub fn claimed(lane: &Lane, objects: u64, bytes: u64, now_ms: u64) -> Option<Lane> {
    if lane.phase != Phase::Claiming {
        return None;
    }
    if objects == 0 {
        return Some(Lane { run: None, ..lane.step(Phase::Idle, Some(now_ms)) });
    }
    Some(lane.step(Phase::Starting, Some(now_ms)).with_run(|run| (run.objects, run.bytes) = (objects, bytes)))
}

/// This invocation asks Glue, and nobody else does meanwhile. `None` while another may be asking.
pub fn try_start(lane: &Lane, now_ms: u64) -> Option<Lane> {
    let free = lane.phase == Phase::Starting && lane.run.as_ref().is_some_and(|run| run.lease_until_ms <= now_ms);
    let lease = now_ms + START_LEASE_MS;
    free.then(|| lane.step(Phase::Starting, Some(lease)).with_run(|run| run.lease_until_ms = lease))
}

/// Glue can't take it now: too many runs, or it throttles. This is no failed attempt. Also what becomes of a start whose
/// answer was lost: the next to try looks it up.
pub fn not_now(lane: &Lane, why: Failure, pause_ms: u64, now_ms: u64) -> Option<Lane> {
    let waiting = lane.step(Phase::Starting, Some(now_ms + pause_ms)).with_run(|run| run.lease_until_ms = 0);
    (lane.phase == Phase::Starting).then_some(Lane { failure: Some(why), ..waiting })
}

/// Glue has it, under this id.
pub fn started(lane: &Lane, glue_run: &str, now_ms: u64) -> Option<Lane> {
    let running = lane.step(Phase::Running, Some(now_ms + RUN_PATIENCE_MS));
    let running = running.with_run(|run| (run.glue_run, run.lease_until_ms) = (Some(glue_run.to_owned()), 0));
    // A running one, too: of two runs with one token, the one that has it may not be the one that was noted.
    matches!(lane.phase, Phase::Starting | Phase::Running).then_some(Lane { failure: None, ..running })
}

/// It still runs; look again.
pub fn still_running(lane: &Lane, now_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Running).then(|| lane.step(Phase::Running, Some(now_ms + RUN_PATIENCE_MS)))
}

/// This start is over, for certain, and has not done its work. The next has another token; after [`MAX_ATTEMPTS`] there is
/// none before a person has looked.
pub fn failed(lane: &Lane, why: Failure, now_ms: u64) -> Option<Lane> {
    if !matches!(lane.phase, Phase::Starting | Phase::Running) {
        return None;
    }
    let failures = lane.run.as_ref()?.failed + 1;
    let next = if failures >= MAX_ATTEMPTS || !why.passes() {
        lane.step(Phase::Halted, None).with_run(|run| run.lease_until_ms = 0)
    } else {
        lane.step(Phase::Starting, Some(now_ms)).with_run(|run| restart(run, lane))
    };
    Some(Lane { failure: Some(why), ..next.with_run(|run| run.failed = failures) })
}

fn restart(run: &mut Run, lane: &Lane) {
    run.starts += 1;
    (run.token, run.glue_run, run.lease_until_ms) = (token(&run.id, lane), None, 0);
}

/// Of a start that is made from this version of its lane. Versions only rise, so a run that is made again long after it was done
/// has other tokens, too.
fn token(run: &str, lane: &Lane) -> String {
    // Not first: a job's id may begin with a dash, which a command line takes for an option.
    format!("start:{run}.{}", lane.version)
}

/// A person has looked: the same run begins again, and replaces what it left.
pub fn resume(lane: &Lane, now_ms: u64) -> Option<Lane> {
    let again =
        lane.step(Phase::Starting, Some(now_ms)).with_run(|run| restart(run, lane)).with_run(|run| run.failed = 0);
    (lane.phase == Phase::Halted).then_some(again)
}

/// Its work is done. What is left is bookkeeping, which may be repeated.
pub fn succeeded(lane: &Lane, now_ms: u64) -> Option<Lane> {
    (lane.phase == Phase::Running).then(|| lane.step(Phase::Finishing, Some(now_ms + CLAIM_PATIENCE_MS)))
}

/// All is recorded. `watermark_ms`: when the newest of its objects landed. `to_load`: what the warehouse shall have of it, and
/// what its table is like, if there is one. What landed meanwhile has noted nothing, so the lane is due at once: whoever finishes goes on, and if they die the
/// sweep does.
pub fn finished(lane: &Lane, watermark_ms: Option<u64>, to_load: Option<(ToLoad, &str)>, now_ms: u64) -> Option<Lane> {
    let run = lane.run.as_ref()?;
    let idle = Lane {
        last_successful_run: Some(run.id.clone()),
        watermark_ms: lane.watermark_ms.max(watermark_ms),
        run: None,
        failure: None,
        // It may have.
        landed_ms: Some(now_ms),
        ..lane.step(Phase::Idle, Some(now_ms))
    };
    if lane.phase != Phase::Finishing {
        return None;
    }
    let Some((to_load, shape)) = to_load else { return Some(idle) };
    let waiting = Lane { to_load: load::wait(lane, to_load), ..idle };
    let loading = load::begin(&waiting, shape, now_ms);
    Some(loading.map(|loading| Lane { version: waiting.version, ..loading }).unwrap_or(waiting))
}

/// What there is to do with a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// See whether there is work, and claim it.
    Claim,
    /// Claim the listed objects.
    Mark,
    /// Ask Glue; look the token up first if it may have been asked before.
    Start {
        /// Whether an earlier call may have reached it.
        look_first: bool,
    },
    /// Ask Glue how the run is.
    Observe,
    /// Move objects and records.
    Finish,
    /// Ask the warehouse to load.
    Load,
    /// Ask the warehouse how the load is.
    ObserveLoad,
    /// Nothing before then, if ever.
    Rest,
}

/// The next step, for whoever looks at the lane now.
pub fn next(lane: &Lane, now_ms: u64) -> Step {
    if lane.phase == Phase::Loading {
        return load::next(lane, now_ms);
    }
    let Some(run) = &lane.run else { return Step::Claim };
    match lane.phase {
        Phase::Idle | Phase::Loading => Step::Claim,
        Phase::Claiming => Step::Mark,
        Phase::Starting if run.lease_until_ms > now_ms => Step::Rest,
        // A lease that was not given back, or a wait: an earlier call may have reached Glue.
        Phase::Starting => Step::Start { look_first: run.lease_until_ms > 0 || lane.failure.is_some() },
        Phase::Running => Step::Observe,
        Phase::Finishing => Step::Finish,
        Phase::Halted => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lane_goes_all_the_way() {
        let idle = Lane::new("page_logs");
        let lane = claim(&idle, "r", 1).unwrap();
        assert_eq!(next(&lane, 1), Step::Mark);
        let lane = claimed(&lane, 3, 30, 2).unwrap();
        assert_eq!(next(&lane, 2), Step::Start { look_first: false });
        let asking = try_start(&lane, 2).unwrap();
        assert_eq!((next(&asking, 3), try_start(&asking, 3)), (Step::Rest, None), "one asks at a time");
        assert_eq!(
            next(&asking, 2 + START_LEASE_MS),
            Step::Start { look_first: true },
            "who asked may have been heard"
        );
        let lane = started(&asking, "jr_1", 4).unwrap();
        let lane = succeeded(&lane, 5).unwrap();
        let lane = finished(&lane, Some(7), None, 6).unwrap();
        assert_eq!(
            (lane.phase, lane.watermark_ms, lane.last_successful_run.as_deref()),
            (Phase::Idle, Some(7), Some("r"))
        );
        assert_eq!(lane.look_at_ms, Some(6), "what landed meanwhile is looked for");
    }

    #[test]
    fn no_room_is_no_failure_and_what_can_not_pass_halts_at_once() {
        let lane = claimed(&claim(&Lane::new("l"), "r", 1).unwrap(), 1, 1, 1).unwrap();
        let mut waiting = lane.clone();
        for _ in 0..10 {
            waiting = not_now(&try_start(&waiting, 1).unwrap(), Failure::passing("NoRoom", "x"), 5, 1).unwrap();
        }
        assert_eq!((waiting.phase, waiting.run.as_ref().unwrap().failed), (Phase::Starting, 0));
        assert_eq!(failed(&lane, Failure::user("Denied", "x"), 1).unwrap().phase, Phase::Halted);
        let mut lane = lane;
        for _ in 0..MAX_ATTEMPTS {
            assert_eq!(lane.phase, Phase::Starting);
            lane = failed(&lane, Failure::passing("RunFailed", "x"), 1).unwrap();
        }
        assert_eq!(lane.phase, Phase::Halted);
        assert_eq!(resume(&lane, 1).unwrap().run.unwrap().failed, 0);
    }

    /// A step that someone takes with a lane as they see it.
    fn any_step() -> impl Strategy<Value = (u8, u64)> {
        (0..21u8, 0..2_000_000u64)
    }

    fn take(lane: &Lane, step: u8, now_ms: u64) -> Option<Lane> {
        match step {
            0 => note(lane, now_ms, now_ms),
            1 => settle(lane, now_ms),
            2 => claim(lane, "r", now_ms),
            3 => claimed(lane, now_ms % 2, 1, now_ms),
            4 => try_start(lane, now_ms),
            5 => not_now(lane, Failure::passing("NoRoom", "x"), 10, now_ms),
            6 => started(lane, "jr", now_ms),
            7 => still_running(lane, now_ms),
            8 => failed(lane, Failure::passing("RunFailed", "x"), now_ms),
            9 => resume(lane, now_ms),
            10 => succeeded(lane, now_ms),
            11 => finished(lane, Some(now_ms), None, now_ms),
            12 => finished(lane, None, Some((ToLoad::new(&format!("r{now_ms}"), false), "s")), now_ms),
            13 => load::begun(lane, "s", now_ms),
            14 => load::failed(lane, Failure::passing("LoadFailed", "x"), now_ms),
            15 => load::begin(lane, "s", now_ms),
            16 => load::unheard(lane, Failure::passing("NoAnswer", "x"), false, now_ms),
            17 => load::still_loading(lane, true, now_ms),
            18 => Some(load::noted(lane, load::wait_all(lane, &[ToLoad::new("s3", false)]))),
            19 => load::ask(lane, now_ms + 1_000, now_ms),
            _ => load::loaded(lane, now_ms),
        }
    }

    proptest! {
        /// Whatever the order: versions rise by one, no two starts have one token, a lane with work is due sometime, and only
        /// one at a time may ask Glue.
        #[test]
        fn whatever_the_order_a_lane_stays_sound(steps in prop::collection::vec(any_step(), 1..200)) {
            let (mut lane, mut now_ms, mut tokens) = (Lane::new("l"), 0, std::collections::HashSet::new());
            let mut last_token = None;
            for (step, passes) in steps {
                now_ms += passes;
                let Some(next) = take(&lane, step, now_ms) else { continue };
                prop_assert_eq!(next.version, lane.version + 1);
                prop_assert_eq!(next.run.is_some(), !matches!(next.phase, Phase::Idle | Phase::Loading));
                prop_assert_eq!(next.load.is_some(), next.phase == Phase::Loading);
                prop_assert!(next.to_load.len() >= next.load.as_ref().map_or(0, |load| load.runs.max(1)));
                prop_assert!(next.look_at_ms.is_some() || matches!(next.phase, Phase::Idle | Phase::Halted));
                if step == 4 {
                    prop_assert!(lane.run.as_ref().is_some_and(|run| run.lease_until_ms <= now_ms));
                }
                let token = next.run.as_ref().map(|run| run.token.clone());
                let token = token.or_else(|| next.load.as_ref().map(|load| load.token.clone()));
                if token != last_token {
                    prop_assert!(token.iter().all(|token| tokens.insert(token.clone())), "a token came again");
                    last_token = token;
                }
                lane = next;
            }
        }
    }
}
