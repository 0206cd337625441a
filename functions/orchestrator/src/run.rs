//! A lane's run on Spark: started once, watched, and what becomes of one that did not do its work.

use weir_alerts::Notice;
use weir_command::Command;
use weir_delivery::{Failure, Fault};
use weir_ledger::batch::{Lane, Phase, Run, lane};
use weir_ledger::protocol::REMEMBERED_DAYS;
use weir_telemetry::Visit;

use crate::Orchestrator;
use crate::drive::Urge;
use crate::manifest::{self, Files, Manifest, Outcome};
use crate::spark::{Seen, SparkState, Start};

/// How soon Glue is asked again that had no room.
pub(crate) const ROOM_PAUSE_MS: u64 = 60_000;

/// What Glue says when it has no room now (Glue API reference, StartJobRun).
const NO_ROOM: [&str; 2] = ["ConcurrentRunsExceededException", "ResourceNumberLimitExceededException"];

/// Who holds the token of a start that is given up.
const REVOKED: &str = "revoked";

impl Orchestrator {
    pub(crate) async fn start(
        &self,
        lane: &Lane,
        look_first: bool,
        urge: Urge,
        visit: &Visit,
    ) -> Result<Option<Lane>, Failure> {
        // What waits for room waits for its time, or for room.
        if urge == Urge::Time && lane.look_at_ms.is_some_and(|at| at > visit.now_ms()) {
            return Ok(None);
        }
        let Some(lane) = self.change_own(lane, visit, lane::try_start(lane, visit.now_ms())).await? else {
            return Ok(None);
        };
        let Some(run) = &lane.run else { return Ok(None) };
        let started = self.ask_glue(&lane, run, look_first, visit).await;
        let now_ms = visit.now_ms();
        let next = match started {
            Ok(glue_run) => lane::started(&lane, &glue_run, now_ms),
            // No room, or no answer: whether it was started is looked up before it is asked again.
            Err(why) if NO_ROOM.contains(&why.code.as_str()) || why.fault == Fault::External => {
                lane::not_now(&lane, why, ROOM_PAUSE_MS, now_ms)
            }
            Err(why) => return self.gone_wrong(&lane, run, why, visit).await,
        };
        self.change_own(&lane, visit, next).await
    }

    async fn ask_glue(&self, lane: &Lane, run: &Run, look_first: bool, visit: &Visit) -> Result<String, Failure> {
        if look_first {
            // A token that was taken away is no run's; the start that it was of is over.
            match self.book.token(&run.token).await? {
                Some(holder) if holder == REVOKED => {
                    return Err(Failure::internal("Revoked", format!("the start {} was given up", run.token)));
                }
                Some(glue_run) => return Ok(glue_run),
                None => {}
            }
            if let Some(glue_run) = self.spark.find(&run.token).await? {
                return Ok(glue_run);
            }
        }
        let manifest_at = Files::of(&self.config, &run.id, run.claim).manifest;
        let manifest: Manifest = self.read(&manifest_at).await?;
        let start = Start {
            lane: lane.name.clone(),
            token: run.token.clone(),
            manifest: manifest_at.to_string(),
            policy: manifest::policy(&self.config, &manifest, &run.token)?,
            flexible: self.config.off_peak.is_open(visit.now_ms()),
        };
        self.spark.start(&start).await
    }

    pub(crate) async fn observe(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some((run, glue_run)) = lane.run.as_ref().and_then(|run| Some((run, run.glue_run.as_deref()?))) else {
            return Ok(None);
        };
        let holder = self.book.token(&run.token).await?;
        if let Some(other) = holder.as_deref().filter(|holder| *holder != glue_run && *holder != REVOKED) {
            // Of two runs with this token, this is the one that works.
            return self.change_own(lane, visit, lane::started(lane, other, visit.now_ms())).await;
        }
        let seen = self.spark.look(glue_run).await?;
        let Some(seen) = seen else {
            let why = Failure::passing("RunGone", format!("Glue does not know the run {glue_run} any more"));
            return self.gone_wrong(lane, run, why, visit).await;
        };
        let said = |seen: &Seen| {
            let reason = format!("run {glue_run} of {}: {} (log: {})", self.config.glue_job, seen.message, seen.log);
            Failure::passing("RunFailed", reason)
        };
        if seen.state == SparkState::Going {
            return self.change_own(lane, visit, lane::still_running(lane, visit.now_ms())).await;
        }
        let outcome = self.outcome(run).await?;
        match (seen.state, outcome) {
            (SparkState::Succeeded, Some(Outcome { failure: None, .. })) => {
                self.change_own(lane, visit, lane::succeeded(lane, visit.now_ms())).await
            }
            (_, Some(Outcome { failure: Some(why), .. })) => {
                let why = Failure { reason: format!("{} (run {glue_run}, log: {})", why.reason, seen.log), ..why };
                self.gone_wrong(lane, run, why, visit).await
            }
            _ => self.gone_wrong(lane, run, said(&seen), visit).await,
        }
    }

    /// What the present start of a run said of itself, if it came so far.
    pub(crate) async fn outcome(&self, run: &Run) -> Result<Option<Outcome>, Failure> {
        match self.read::<Outcome>(&Files::of(&self.config, &run.id, run.claim).result).await {
            Ok(outcome) => Ok(Some(outcome).filter(|outcome| outcome.token == run.token)),
            Err(failure) if failure.code == "NoSuchKey" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// A start is over without its work. First its token is taken away, so that no run of it that we don't know of can begin;
    /// if one has, that is the one to watch.
    async fn gone_wrong(&self, lane: &Lane, run: &Run, why: Failure, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let now_ms = visit.now_ms();
        let expires_s = now_ms / 1000 + REMEMBERED_DAYS * 86_400;
        let holder = self.book.take_token(&run.token, REVOKED, expires_s).await?;
        if holder != REVOKED && Some(&holder) != run.glue_run.as_ref() {
            return self.change_own(lane, visit, lane::started(lane, &holder, now_ms)).await;
        }
        let next = lane::failed(lane, why, now_ms);
        if let Some(Lane { phase: Phase::Halted, failure: Some(why), .. }) = &next {
            // Before it is stored: a halted lane is looked at by nobody. Said twice, it is one notice.
            self.halted(lane, run, why, visit).await?;
        }
        let halted = next.as_ref().is_some_and(|next| next.phase == Phase::Halted);
        let next = self.change_own(lane, visit, next).await?;
        match next {
            Some(lane) if halted && lane.job_id().is_some() => {
                let expires_s = now_ms / 1000 + REMEMBERED_DAYS * 86_400;
                self.change(&lane, visit, |lane| Some(lane::forget(lane, expires_s))).await
            }
            next => Ok(next),
        }
    }

    async fn halted(&self, lane: &Lane, run: &Run, why: &Failure, visit: &Visit) -> Result<(), Failure> {
        let place = self.ledger.store().get(&run.id).await?;
        self.end_job(&run.id, Err(why.clone()), visit).await?;
        let next_step = match lane.job_id() {
            Some(id) => format!(
                "Look at `weir job {id}`; when what is named is mended, send the command again, with another job_id."
            ),
            None => format!(
                "Nothing of `{}` is worked on before `weir batch retry {}`; what lands meanwhile waits.",
                lane.name, lane.name
            ),
        };
        let notice = Notice {
            what: format!("batch run of {}", lane.name),
            place: place
                .and_then(|job| Command::parse(job.command.as_bytes()).ok())
                .map_or(lane.name.clone(), |command| format!("{} -> {}", command.source, command.dest)),
            failure: why.clone(),
            job_id: Some(run.id.clone()),
            next_step,
        };
        self.herald.tell_surely(&notice).await
    }
}
