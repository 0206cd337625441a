//! What the ledger and the dead letters say: leases that nobody takes up, runs that are halted, partitions and tables that stand.

use std::collections::BTreeMap;

use weir_command::Location;
use weir_contract::names;
use weir_delivery::Failure;
use weir_lake::{Lake, S3Lake};
use weir_ledger::backlog::Backlogs;
use weir_ledger::batch::{Book, Phase};
use weir_ledger::positions::Positions;
use weir_ledger::{Job, State, Store};

use super::finding::{Finding, Report};
use crate::redrive::Places;
use crate::{Stack, now_ms};

/// Sweeps come every minute or every five; what is left after three of them is left for good.
const OVERDUE_MS: u64 = 15 * 60_000;

const DAY_MS: u64 = 24 * 3_600_000;

/// So many jobs and lanes are looked at.
const MOST: usize = 1_000;

/// And so many dead letters are counted: a hundred listings.
const MOST_LETTERS: usize = 100_000;

pub(crate) async fn look(stack: &Stack, report: &mut Report) {
    let looks = [
        ("jobs", jobs(stack, report).await),
        ("batch", lanes(stack, report).await),
        ("kafka", positions(stack, report).await),
        ("changes", backlogs(stack, report).await),
    ];
    for (what, looked) in looks {
        if let Err(failure) = looked {
            report.add(Finding::failed(what, &failure));
        }
    }
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Of what is counted up to so many.
fn count_to(most: usize, number: usize, of: &str) -> String {
    if number < most { count(number, of) } else { format!("{number} or more {of}s") }
}

/// How many there are of each code, with the reason of the newest.
fn by_code<'a>(failures: impl Iterator<Item = &'a Failure>) -> BTreeMap<&'a str, (usize, &'a str)> {
    let mut codes = BTreeMap::new();
    for failure in failures {
        codes.entry(failure.code.as_str()).or_insert((0, failure.reason.as_str())).0 += 1;
    }
    codes
}

async fn jobs(stack: &Stack, report: &mut Report) -> Result<(), Failure> {
    let (ledger, now) = (stack.ledger(), now_ms());
    let overdue = ledger.due(now.saturating_sub(OVERDUE_MS), MOST).await?;
    if let Some(oldest) = overdue.first() {
        let minutes = oldest.look_at_ms.map_or(0, |at| now.saturating_sub(at) / 60_000);
        let said = format!(
            "{} left: the lease of {} ended {minutes} minutes ago, and no sweep took it up",
            count_to(MOST, overdue.len(), "job"),
            oldest.id
        );
        let way_out = format!(
            "does {}-realtime run, which sweeps every minute, and the schedule that calls it? `weir job {}`",
            stack.name, oldest.id
        );
        report.add(Finding::problem("jobs", said).or(way_out));
    }
    let recent = ledger.recent(now.saturating_sub(DAY_MS), now, MOST).await?;
    let of = if recent.len() == MOST { format!("the newest {MOST}") } else { "the last day".to_owned() };
    let with =
        |state: State| recent.iter().filter(move |job| job.state == state).filter_map(|job: &Job| job.failure.as_ref());
    for (code, (number, reason)) in by_code(with(State::Waiting)) {
        let said = format!("{} tried again: {code}: {reason}", count(number, "job"));
        report.add(Finding::problem("jobs", said).or("`weir jobs --state waiting`"));
    }
    for (code, (number, reason)) in by_code(with(State::Failed)) {
        let said = format!("{} of {of} failed: {code}: {reason}", count(number, "job"));
        report.add(Finding::note("jobs", said, "`weir jobs --state failed`"));
    }
    if overdue.is_empty() {
        report.add(Finding::ok(
            "jobs",
            format!("{} in the last day, none left over", count_to(MOST, recent.len(), "job")),
        ));
    }
    Ok(())
}

async fn lanes(stack: &Stack, report: &mut Report) -> Result<(), Failure> {
    let (ledger, now) = (stack.ledger(), now_ms());
    for name in names() {
        let Some(lane) = ledger.lane(name).await? else { continue };
        let why = lane.failure.as_ref().map(|failure| format!("{}: {}", failure.code, failure.reason));
        let run = lane.run.as_ref().map_or("its load", |run| run.id.as_str());
        let what = format!("batch {name}");
        match (lane.phase, why) {
            (Phase::Halted, why) => {
                let said = format!("{run} is halted: {}", why.unwrap_or_else(|| "it is not said why".to_owned()));
                report.add(Finding::problem(what, said).or(format!("mend it, then `weir batch retry {name}`")));
            }
            (phase, Some(why)) => {
                report.add(Finding::note(
                    what,
                    format!("{run} is {phase}: {why}"),
                    format!("`weir batch status {name}`"),
                ));
            }
            (phase, None) => report.add(Finding::ok(what, phase.to_string())),
        }
    }
    for lane in ledger.due_lanes(now.saturating_sub(OVERDUE_MS), MOST).await? {
        let said = format!("{} is {} and overdue: no sweep goes on with it", lane.name, lane.phase);
        let way_out = format!("does {}-orchestrator run, and its schedule?", stack.name);
        report.add(Finding::problem("batch", said).or(way_out));
    }
    Ok(())
}

async fn positions(stack: &Stack, report: &mut Report) -> Result<(), Failure> {
    let (all, now) = (stack.ledger().positions().await?, now_ms());
    let mut sound = 0;
    for position in &all {
        let what = format!("kafka {}", position.name);
        if position.stopped.is_some() {
            report.add(
                Finding::problem(what, "it is stopped: its topic seems to be made anew")
                    .or(format!("if it was: `weir kafka anew {}`", position.name)),
            );
        } else if position.intent.is_some() && position.lease_until_ms + OVERDUE_MS < now {
            let way_out = format!("does {}-ingest run, and its schedule?", stack.name);
            report.add(Finding::problem(what, "its worker left it, and no sweep cleared it").or(way_out));
        } else if !position.gaps.is_empty() {
            let said = format!("{} of offsets that never came", count(position.gaps.len(), "gap"));
            report.add(Finding::note(what, said, "`weir kafka status`; a transaction's markers are gaps and no loss"));
        } else {
            sound += 1;
        }
    }
    if sound > 0 {
        report.add(Finding::ok("kafka", format!("{} read on", count(sound, "partition"))));
    }
    Ok(())
}

async fn backlogs(stack: &Stack, report: &mut Report) -> Result<(), Failure> {
    let now = now_ms();
    // All that have something staged, those that wait for their next attempt, too.
    for backlog in stack.ledger().due_backlogs(now + DAY_MS, MOST).await? {
        let minutes = backlog.since_ms.map_or(0, |since| now.saturating_sub(since) / 60_000);
        let what = format!("changes of {}", backlog.name);
        if backlog.failures > 0 {
            let said =
                format!("nothing came of {}; staged for {minutes} minutes", count(backlog.failures as usize, "commit"));
            let way_out = format!("the log of {}-cdc-commit says why (`code`, `reason`)", stack.name);
            report.add(Finding::problem(what, said).or(way_out));
        } else if minutes > OVERDUE_MS / 60_000 {
            // How often it is committed is the stack's to say (`ChangesCommitSchedule`).
            let way_out = format!("if that is longer than your schedule: does {}-cdc-commit run?", stack.name);
            report.add(Finding::note(what, format!("staged for {minutes} minutes"), way_out));
        } else {
            report.add(Finding::ok(what, "staged; the next commit takes it"));
        }
    }
    Ok(())
}

/// What was put aside, by folder.
pub(crate) async fn letters(stack: &Stack, report: &mut Report) {
    let places = match Places::find(stack).await {
        Ok(places) => places,
        Err(stop) => return report.add(Finding::unknown("dead letters", stop.1, "look again")),
    };
    let lake = S3Lake::new(&stack.aws);
    let mut none = true;
    for under in &places.under {
        let what = format!("dead letters {under}");
        match counted(&lake, under).await {
            Err(failure) => report.add(Finding::failed(what, &failure)),
            Ok((0, _)) => {}
            Ok((number, newest_ms)) => {
                none = false;
                let newest = i64::try_from(newest_ms).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
                let newest = newest.map_or_else(String::new, |at| format!(", the newest of {at:.0}"));
                let newest = if number < MOST_LETTERS { newest } else { String::new() };
                report.add(Finding::note(
                    what,
                    format!("{} kept{newest}", count_to(MOST_LETTERS, number, "object")),
                    "`weir redrive list` says why, `weir redrive send` sends them again",
                ));
            }
        }
    }
    if none {
        report.add(Finding::ok("dead letters", "none"));
    }
}

/// How many objects there are, up to so many, and when the newest of these was written.
async fn counted(lake: &S3Lake, under: &Location) -> Result<(usize, u64), Failure> {
    let (mut number, mut newest_ms, mut after) = (0, 0, None);
    while number < MOST_LETTERS {
        let page = lake.list(under, after.as_deref()).await?;
        number += page.objects.len();
        newest_ms = page.objects.iter().map(|object| object.modified_ms).fold(newest_ms, u64::max);
        after = page.objects.last().map(|object| object.location.key().to_owned());
        if !page.more || after.is_none() {
            return Ok((number, newest_ms));
        }
    }
    Ok((MOST_LETTERS, newest_ms))
}
