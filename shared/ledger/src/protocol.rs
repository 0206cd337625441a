//! The life of a job as pure functions.
//!
//! ```text
//!   (new) ──claim──▶ RUNNING ──finish──▶ DONE
//!                     │  ▲  └──fail────▶ FAILED
//!              release│  │claim (lease over, or WAITING, or HANDED and the caller is the worker)
//!                     ▼  │
//!                  WAITING       RUNNING ──hand──▶ HANDED       RUNNING ──defer──▶ DEFERRED
//! ```
//!
//! Invariants, tested below and in the suite: a final job never changes; the fence rises with every claim; a live lease
//! is never taken; every change raises the version by one.

use weir_delivery::Failure;

use crate::{Job, Progress, Report, Speed, State};

/// How often a job is begun before it is given up. Bounded here rather than by the stream's retry limit, so that giving
/// up is a FAILED job with a reason and not a silent document in a bucket.
pub const MAX_ATTEMPTS: u32 = 5;

/// How long a finished job is remembered: a redelivery within this time is answered from the ledger. Kinesis keeps
/// records for at most 365 days; its default is one day.
pub const REMEMBERED_DAYS: u64 = 90;

/// How soon the sweep calls the worker again for a job it seems not to have heard of. Lambda keeps an asynchronous
/// event for up to 6 hours, but normally delivers within seconds.
pub const HANDED_PATIENCE_MS: u64 = 120_000;

/// A wish to work on a job.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job's id.
    pub id: String,
    /// The command as canonical JSON.
    pub command: String,
    /// Its hash.
    pub payload_hash: String,
    /// Where the record came from.
    pub origin: String,
    /// This invocation, unlike any other.
    pub owner: String,
    /// Whether the caller is the stream's function or the worker.
    pub speed: Speed,
    /// The invocation's deadline plus a grace: nothing it does can come later.
    pub lease_until_ms: u64,
    /// Now.
    pub now_ms: u64,
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Yours, if this is stored.
    Take(Job),
    /// It was begun too often: FAILED, if this is stored.
    GiveUp(Job),
    /// Done or failed before: here is what came of it.
    Finished(Job),
    /// Another invocation may be at work on it until then.
    Held {
        /// The end of its lease.
        until_ms: u64,
    },
    /// The worker or the batch side has it.
    Elsewhere(State),
    /// The same id came with another command.
    Mismatch,
}

/// Decides a claim on what is stored.
pub fn claim(stored: Option<&Job>, claim: &Claim, write_token: &str) -> Decision {
    let Some(job) = stored else {
        return Decision::Take(begin(fresh(claim), claim, write_token));
    };
    if job.payload_hash != claim.payload_hash {
        return Decision::Mismatch;
    }
    let elsewhere = match job.state {
        State::Done | State::Failed => return Decision::Finished(job.clone()),
        State::Running if job.lease_until_ms > claim.now_ms => {
            return Decision::Held { until_ms: job.lease_until_ms };
        }
        State::Running | State::Waiting => false,
        State::Handed => claim.speed != Speed::Worker,
        State::Deferred => claim.speed != Speed::Batch,
    };
    if elsewhere {
        return Decision::Elsewhere(job.state);
    }
    if job.attempts >= MAX_ATTEMPTS {
        return Decision::GiveUp(give_up(job, claim.now_ms, write_token));
    }
    Decision::Take(begin(job.clone(), claim, write_token))
}

/// A job that nobody has claimed: what a claim of it is made from.
pub fn unclaimed(id: &str, command: &str, payload_hash: &str, origin: &str, now_ms: u64) -> Job {
    fresh(&Claim {
        id: id.to_owned(),
        command: command.to_owned(),
        payload_hash: payload_hash.to_owned(),
        origin: origin.to_owned(),
        owner: String::new(),
        speed: Speed::Batch,
        lease_until_ms: 0,
        now_ms,
    })
}

fn fresh(claim: &Claim) -> Job {
    Job {
        id: claim.id.clone(),
        command: claim.command.clone(),
        payload_hash: claim.payload_hash.clone(),
        origin: claim.origin.clone(),
        state: State::Running,
        speed: None,
        version: 0,
        write_token: String::new(),
        owner: None,
        fence: 0,
        lease_until_ms: 0,
        attempts: 0,
        look_at_ms: None,
        received_ms: claim.now_ms,
        started_ms: None,
        finished_ms: None,
        progress: None,
        report: None,
        failure: None,
        expires_s: 0,
    }
}

fn begin(job: Job, claim: &Claim, write_token: &str) -> Job {
    Job {
        state: State::Running,
        speed: Some(claim.speed),
        owner: Some(claim.owner.clone()),
        fence: job.fence + 1,
        lease_until_ms: claim.lease_until_ms,
        attempts: job.attempts + 1,
        look_at_ms: Some(claim.lease_until_ms),
        started_ms: Some(claim.now_ms),
        ..step(job, claim.now_ms, write_token)
    }
}

/// What every change does.
fn step(job: Job, now_ms: u64, write_token: &str) -> Job {
    Job {
        version: job.version + 1,
        write_token: write_token.to_owned(),
        expires_s: now_ms / 1000 + REMEMBERED_DAYS * 86_400,
        ..job
    }
}

fn at_rest(job: &Job, state: State, now_ms: u64, write_token: &str) -> Job {
    Job { state, owner: None, lease_until_ms: 0, look_at_ms: None, ..step(job.clone(), now_ms, write_token) }
}

fn give_up(job: &Job, now_ms: u64, write_token: &str) -> Job {
    let last = job.failure.as_ref().map_or("its invocation ended without a word".to_owned(), |f| f.reason.clone());
    let failure = Failure {
        fault: job.failure.as_ref().map_or(weir_delivery::Fault::Internal, |failure| failure.fault),
        advice: weir_delivery::Advice::Never,
        code: "GivenUp".into(),
        reason: format!("given up after {} attempts; the last one: {last}", job.attempts),
    };
    fail(job, failure, now_ms, write_token)
}

/// The owner is done.
pub fn finish(job: &Job, report: Report, now_ms: u64, write_token: &str) -> Job {
    Job {
        finished_ms: Some(now_ms),
        report: Some(report),
        failure: None,
        progress: None,
        ..at_rest(job, State::Done, now_ms, write_token)
    }
}

/// The owner gives up.
pub fn fail(job: &Job, failure: Failure, now_ms: u64, write_token: &str) -> Job {
    Job { finished_ms: Some(now_ms), failure: Some(failure), ..at_rest(job, State::Failed, now_ms, write_token) }
}

/// The owner could not do it now. The next attempt may begin at once; the sweep begins it after a pause that doubles
/// with every attempt. After [`MAX_ATTEMPTS`] it is given up instead.
pub fn release(job: &Job, failure: Failure, now_ms: u64, write_token: &str) -> Job {
    let job = Job { failure: Some(failure), ..job.clone() };
    if job.attempts >= MAX_ATTEMPTS {
        return give_up(&job, now_ms, write_token);
    }
    let pause_ms = 30_000u64 << job.attempts.min(MAX_ATTEMPTS);
    Job { look_at_ms: Some(now_ms + pause_ms), ..at_rest(&job, State::Waiting, now_ms, write_token) }
}

/// The owner leaves it to the worker. With progress, the attempts start over: a long copy may be handed on many times
/// as long as it gets ahead.
pub fn hand(job: &Job, progress: Option<Progress>, now_ms: u64, write_token: &str) -> Job {
    let ahead = progress.is_some() && progress != job.progress;
    Job {
        attempts: if ahead { 0 } else { job.attempts },
        progress: progress.or_else(|| job.progress.clone()),
        look_at_ms: Some(now_ms + HANDED_PATIENCE_MS),
        ..at_rest(job, State::Handed, now_ms, write_token)
    }
}

/// The owner leaves it to the batch side.
pub fn defer(job: &Job, why: &str, now_ms: u64, write_token: &str) -> Job {
    let report = Report { notes: vec![why.to_owned()], ..Report::default() };
    Job {
        speed: Some(Speed::Batch),
        // The batch side counts its own.
        attempts: 0,
        look_at_ms: Some(now_ms),
        report: Some(report),
        failure: None,
        ..at_rest(job, State::Deferred, now_ms, write_token)
    }
}

/// A person lets a run of the batch side begin again: one that was given up, or one whose input was replaced. No other final
/// job ever changes.
pub fn revive(job: &Job, now_ms: u64, write_token: &str) -> Option<Job> {
    let over = job.state.is_final() && job.speed == Some(Speed::Batch);
    let running = Job {
        state: State::Running,
        finished_ms: None,
        fence: job.fence + 1,
        ..step(job.clone(), now_ms, write_token)
    };
    over.then_some(Job { owner: Some(job.id.clone()), lease_until_ms: FOREVER_MS, ..running })
}

/// The lease of a run on Spark: it ends when Glue says so, not with time.
pub const FOREVER_MS: u64 = i64::MAX as u64;

/// What the sweep does with a job that is due: hands it to the worker, or gives it up; `None` if it is not due after all.
pub fn sweep(job: &Job, now_ms: u64, write_token: &str) -> Option<Job> {
    let due = job.look_at_ms.is_some_and(|at| at <= now_ms);
    let abandoned = match job.state {
        State::Running => job.lease_until_ms <= now_ms,
        State::Waiting | State::Handed => true,
        State::Deferred | State::Done | State::Failed => false,
    };
    if !due || !abandoned {
        return None;
    }
    if job.attempts >= MAX_ATTEMPTS && job.state != State::Handed {
        return Some(give_up(job, now_ms, write_token));
    }
    Some(hand(job, None, now_ms, write_token))
}

/// A record that never became a job, but named an id: kept FAILED so that whoever asks for the id finds the reason.
pub fn stillborn(id: &str, raw_hash: &str, origin: &str, failure: Failure, now_ms: u64, write_token: &str) -> Job {
    let claim = Claim {
        id: id.to_owned(),
        command: String::new(),
        payload_hash: raw_hash.to_owned(),
        origin: origin.to_owned(),
        owner: String::new(),
        speed: Speed::Stream,
        lease_until_ms: 0,
        now_ms,
    };
    fail(&fresh(&claim), failure, now_ms, write_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(speed: Speed, owner: &str, now_ms: u64) -> Claim {
        Claim {
            id: "j".into(),
            command: "{}".into(),
            payload_hash: "h".into(),
            origin: "s".into(),
            owner: owner.into(),
            speed,
            lease_until_ms: now_ms + 100,
            now_ms,
        }
    }

    fn taken(decision: Decision) -> Job {
        match decision {
            Decision::Take(job) => job,
            other => panic!("not taken: {other:?}"),
        }
    }

    #[test]
    fn the_first_claim_takes_and_the_second_waits_for_the_lease() {
        let job = taken(claim(None, &wish(Speed::Stream, "a", 1000), "t"));
        assert_eq!((job.fence, job.version, job.attempts), (1, 1, 1));
        assert_eq!(claim(Some(&job), &wish(Speed::Stream, "b", 1099), "t"), Decision::Held { until_ms: 1100 });
        let stolen = taken(claim(Some(&job), &wish(Speed::Stream, "b", 1100), "t"));
        assert_eq!((stolen.fence, stolen.version, stolen.owner.as_deref()), (2, 2, Some("b")));
    }

    #[test]
    fn another_command_under_the_same_id_is_refused_even_when_finished() {
        let job = taken(claim(None, &wish(Speed::Stream, "a", 0), "t"));
        let done = finish(&job, Report::default(), 1, "t");
        let other = Claim { payload_hash: "other".into(), ..wish(Speed::Stream, "b", 5000) };
        assert_eq!(claim(Some(&done), &other, "t"), Decision::Mismatch);
    }

    #[test]
    fn a_handed_job_is_the_workers() {
        let job = hand(&taken(claim(None, &wish(Speed::Stream, "a", 0), "t")), None, 1, "t");
        assert_eq!(claim(Some(&job), &wish(Speed::Stream, "b", 9), "t"), Decision::Elsewhere(State::Handed));
        assert_eq!(taken(claim(Some(&job), &wish(Speed::Worker, "w", 9), "t")).speed, Some(Speed::Worker));
    }

    #[test]
    fn attempts_are_bounded_whatever_ends_them() {
        let failure = Failure::passing("SlowDown", "S3 is slow");
        let mut job = taken(claim(None, &wish(Speed::Stream, "a", 0), "t"));
        for _ in 1..MAX_ATTEMPTS {
            let waiting = release(&job, failure.clone(), 1, "t");
            assert_eq!(waiting.state, State::Waiting);
            job = taken(claim(Some(&waiting), &wish(Speed::Stream, "a", 1), "t"));
        }
        let failed = release(&job, failure, 1, "t");
        assert_eq!(failed.state, State::Failed);
        assert!(failed.failure.as_ref().unwrap().reason.contains("S3 is slow"));
        // The same bound where every attempt is killed and none is ever released.
        let later = wish(Speed::Stream, "b", 1_000_000);
        assert!(matches!(claim(Some(&job), &later, "t"), Decision::GiveUp(_)));
        assert_eq!(sweep(&job, 1_000_000, "t").unwrap().state, State::Failed);
    }

    #[test]
    fn progress_starts_the_attempts_over_and_standing_still_does_not() {
        let job = Job { attempts: 4, ..taken(claim(None, &wish(Speed::Worker, "a", 0), "t")) };
        let ahead = Progress { after_key: "k".into(), objects: 1, bytes: 1 };
        let handed = hand(&job, Some(ahead.clone()), 1, "t");
        assert_eq!(handed.attempts, 0);
        let again = hand(&Job { attempts: 3, ..handed }, Some(ahead), 2, "t");
        assert_eq!(again.attempts, 3);
    }

    #[test]
    fn the_sweep_leaves_live_finished_and_deferred_jobs_alone() {
        let job = taken(claim(None, &wish(Speed::Stream, "a", 0), "t"));
        assert_eq!(sweep(&job, 99, "t"), None);
        assert_eq!(sweep(&job, 100, "t").unwrap().state, State::Handed);
        assert_eq!(sweep(&finish(&job, Report::default(), 1, "t"), 1 << 40, "t"), None);
        assert_eq!(sweep(&defer(&job, "too large", 1, "t"), 1 << 40, "t"), None);
    }

    /// One step that some invocation takes, with the job as it last saw it.
    #[derive(Debug, Clone, Copy)]
    enum Act {
        Claim(Speed),
        Finish,
        Fail,
        Release,
        Hand,
        Defer,
        Sweep,
    }

    fn any_act() -> impl Strategy<Value = (usize, Act, u64)> {
        let act = prop::sample::select(vec![
            Act::Claim(Speed::Stream),
            Act::Claim(Speed::Worker),
            Act::Finish,
            Act::Fail,
            Act::Release,
            Act::Hand,
            Act::Defer,
            Act::Sweep,
        ]);
        (0..3usize, act, 0..80u64)
    }

    proptest! {
        /// Three invocations act in any order on what each last saw; compare-and-swap decides whose change counts.
        #[test]
        fn whatever_the_order_one_owner_at_a_time_and_one_end(acts in prop::collection::vec(any_act(), 1..60)) {
            let mut stored: Option<Job> = None;
            let mut seen: [Option<Job>; 3] = [None, None, None];
            let mut now = 0;
            for (who, act, passes) in acts {
                now += passes;
                let name = format!("owner-{who}");
                let own = seen[who].clone();
                let next = match (act, &own) {
                    (Act::Claim(speed), _) => match claim(stored.as_ref(), &wish(speed, &name, now), "t") {
                        Decision::Take(job) => {
                            if let Some(before) = &stored {
                                prop_assert!(before.state != State::Running || before.lease_until_ms <= now);
                                prop_assert!(job.fence == before.fence + 1);
                            }
                            seen[who] = Some(job.clone());
                            stored = Some(job);
                            continue;
                        }
                        Decision::GiveUp(job) => Some((job, stored.as_ref().map(|job| job.version))),
                        _ => None,
                    },
                    (Act::Sweep, _) => stored.as_ref().and_then(|job| Some((sweep(job, now, "t")?, Some(job.version)))),
                    (_, None) => None,
                    (Act::Finish, Some(own)) => Some((finish(own, Report::default(), now, "t"), Some(own.version))),
                    (Act::Fail, Some(own)) => Some((fail(own, Failure::user("x", "x"), now, "t"), Some(own.version))),
                    (Act::Release, Some(own)) => Some((release(own, Failure::passing("x", "x"), now, "t"), Some(own.version))),
                    (Act::Hand, Some(own)) => Some((hand(own, None, now, "t"), Some(own.version))),
                    (Act::Defer, Some(own)) => Some((defer(own, "x", now, "t"), Some(own.version))),
                };
                if let Some((next, expected)) = next && stored.as_ref().map(|job| job.version) == expected {
                    let before = stored.as_ref().unwrap();
                    prop_assert!(!before.state.is_final(), "a final job changed");
                    prop_assert!(next.version == before.version + 1 && next.fence >= before.fence);
                    prop_assert!(next.attempts <= MAX_ATTEMPTS);
                    prop_assert!(next.state.is_final() || next.look_at_ms.is_some(), "an open job nobody will look at");
                    stored = Some(next);
                    seen[who] = None;
                }
            }
        }
    }
}
