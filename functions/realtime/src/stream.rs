//! A Kinesis batch: one outcome a record, in order.

use futures::StreamExt;
use weir_alerts::Notice;
use weir_command::{Command, CommandError};
use weir_delivery::kinesis::{self, BatchResponse, Record};
use weir_delivery::{Failure, Outcome, Poison};
use weir_records::{keep as keep_letter, open, place_of, sha256};
use weir_telemetry::{DeadLetter, now_ms};

use crate::event::BatchAnswered;
use crate::runner::Runner;
use crate::time::Invocation;

/// Answers a batch: its jobs run concurrently up to a limit, its outcomes stay in order.
pub async fn answer(runner: &Runner, records: Vec<Record>, invocation: &Invocation, cold_start: bool) -> BatchResponse {
    let begun = now_ms();
    let oldest = records.iter().map(|record| record.arrived_ms).filter(|at| *at > 0).min().unwrap_or(begun);
    // A stream record may hold several; each has an outcome of its own.
    let records = open(records);
    let jobs = records.iter().map(|record| outcome(runner, record, invocation));
    let outcomes: Vec<Outcome> = futures::stream::iter(jobs).buffered(runner.config.jobs_at_once).collect().await;
    let lag_ms = begun.saturating_sub(oldest);
    let event = BatchAnswered { outcomes: &outcomes, lag_ms, ms: now_ms().saturating_sub(begun), cold_start };
    runner.say(invocation, &event);
    kinesis::respond(records.iter().map(|record| &record.origin).zip(&outcomes))
}

async fn outcome(runner: &Runner, record: &Record, invocation: &Invocation) -> Outcome {
    let outcome = match &record.data {
        Err(unreadable) => Outcome::Poison(Poison { reason: unreadable.reason.clone(), raw: unreadable.raw.clone() }),
        Ok(bytes) => obey(runner, record, bytes, invocation).await,
    };
    match outcome {
        Outcome::Poison(poison) => keep(runner, record, poison, invocation).await,
        other => other,
    }
}

async fn obey(runner: &Runner, record: &Record, bytes: &[u8], invocation: &Invocation) -> Outcome {
    let poison = |reason: String| Outcome::Poison(Poison { reason, raw: bytes.to_vec() });
    let origin = place_of(record);
    match Command::parse(bytes) {
        Ok(command) => {
            let id = command.job_id.as_ref().map_or_else(|| record.origin.default_job_id(), ToString::to_string);
            match runner.run(&id, &command, &origin, invocation).await {
                // The runner doesn't know the raw bytes.
                Outcome::Poison(found) => poison(found.reason),
                other => other,
            }
        }
        Err(CommandError { job_id, problems }) => {
            let reason = problems.join("; ");
            if let Some(id) = job_id {
                let failure = Failure::user("BadCommand", reason.clone());
                let recorded =
                    runner.ledger.record_stillborn(id.as_str(), &sha256(bytes), &origin, failure, now_ms()).await;
                if let Err(failure) = recorded {
                    return Outcome::Retry(failure.while_(format!("record the failed job {id}")));
                }
            }
            poison(reason)
        }
    }
}

/// Stores a dead letter before the record is acknowledged; if that fails, the record must come again.
async fn keep(runner: &Runner, record: &Record, poison: Poison, invocation: &Invocation) -> Outcome {
    let kept = keep_letter(runner.lake.as_ref(), &runner.config.dead_letter_bucket, record, &poison, now_ms()).await;
    match kept {
        Err(failure) => {
            // Whatever the cause, acknowledging would lose the record.
            let failure = Failure { advice: weir_delivery::Advice::Retry, ..failure };
            Outcome::Retry(failure.while_("store a dead letter"))
        }
        Ok(at) => {
            let at = at.to_string();
            runner.say(invocation, &DeadLetter { at: &at, reason: &poison.reason, counted: None });
            let notice = Notice {
                what: "read a command".to_owned(),
                place: place_of(record),
                failure: Failure::user("BadCommand", poison.reason.clone()),
                job_id: None,
                next_step: format!("The record is kept at {at}. Mend its sender, and send the command again."),
            };
            runner.tell(&notice, invocation).await;
            Outcome::Poison(poison)
        }
    }
}
