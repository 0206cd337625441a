//! What the function may be invoked with.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use weir_command::Command;
use weir_delivery::kinesis::{self, BatchResponse, Origin, Record, Unreadable};
use weir_delivery::{Failure, Outcome};
use weir_ledger::State;
use weir_telemetry::{Trouble, now_ms};

use crate::runner::Runner;
use crate::stream;
use crate::time::Invocation;

/// An invocation that is not a Kinesis batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Do a job that is recorded.
    Work {
        /// Its id.
        job_id: String,
    },
    /// Look for jobs that nobody is working on any more.
    Sweep {},
}

/// The most jobs one sweep hands on; the next goes on from there.
const SWEEP_AT_ONCE: usize = 200;

static WARM: AtomicBool = AtomicBool::new(false);

/// Answers one invocation. Never an error: what can't be read is a dead letter, what must be repeated is named in the
/// response, and what is left over is the sweep's.
pub async fn handle(runner: &Runner, payload: &str, invocation: &Invocation) -> BatchResponse {
    let cold_start = !WARM.swap(true, Ordering::Relaxed);
    if let Some(records) = kinesis::read_batch(payload) {
        return stream::answer(runner, records, invocation, cold_start).await;
    }
    match serde_json::from_str(payload) {
        Ok(Request::Work { job_id }) => work(runner, &job_id, invocation).await,
        Ok(Request::Sweep {}) => sweep(runner, invocation).await,
        Err(_) => {
            // Not the parser's words: they show what was sent, and reasons are logged.
            let reason =
                "the invocation is neither a Kinesis batch nor {\"work\":{\"job_id\":…}} nor {\"sweep\":{}}".to_owned();
            let origin = Origin { stream: "direct".into(), shard: invocation.request_id.clone(), ..Origin::unknown(0) };
            let data = Err(Unreadable { reason, raw: payload.as_bytes().to_vec() });
            let record = Record { origin, arrived_ms: now_ms(), data };
            return stream::answer(runner, vec![record], invocation, cold_start).await;
        }
    }
    BatchResponse::default()
}

async fn work(runner: &Runner, job_id: &str, invocation: &Invocation) {
    let job = match runner.ledger.store().get(job_id).await {
        Ok(Some(job)) => job,
        Ok(None) => {
            let failure = Failure::internal("NoSuchJob", format!("the ledger has no job {job_id}"));
            return runner.say(invocation, &Trouble { doing: "begin a job", failure: &failure });
        }
        Err(failure) => return runner.say(invocation, &Trouble { doing: "read a job", failure: &failure }),
    };
    match Command::parse(job.command.as_bytes()) {
        Ok(command) => {
            // What must be tried again waits in the ledger, and the sweep brings it back.
            if let Outcome::Retry(failure) = runner.run(job_id, &command, &job.origin, invocation).await {
                runner.say(invocation, &Trouble { doing: "finish a job in this attempt", failure: &failure });
            }
        }
        Err(error) => {
            let failure = Failure::internal("LedgerShape", format!("job {job_id} holds no command: {error}"));
            runner.say(invocation, &Trouble { doing: "begin a job", failure: &failure });
        }
    }
}

/// Jobs whose owner is gone, whose pause is over, or whose worker has not begun.
async fn sweep(runner: &Runner, invocation: &Invocation) {
    match runner.ledger.sweep(now_ms(), SWEEP_AT_ONCE).await {
        Err(failure) => runner.say(invocation, &Trouble { doing: "sweep the ledger", failure: &failure }),
        Ok(changed) => {
            for job in changed {
                let command = Command::parse(job.command.as_bytes()).ok();
                runner.announce(&job, command.as_ref(), invocation).await;
                if job.state == State::Handed {
                    runner.call_worker(&job.id, invocation).await;
                }
            }
        }
    }
}
