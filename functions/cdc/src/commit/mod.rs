//! The second step: what is staged of a table becomes one commit, by whoever has the table's lease.
//!
//! How far a table has come its own commits say, not the ledger: so whatever happens to the ledger or to the table (a restore to a
//! savepoint, say), it goes on from where it is. Only a table that is made anew begins where the ledger says that the one before ended.

pub mod drain;
pub mod own;
mod show;
mod table;

pub use table::Done;

use std::collections::BTreeSet;

use serde::Serialize;
use weir_alerts::Notice;
use weir_changes::Source;
use weir_command::Location;
use weir_delivery::{Advice, Failure, Fault};
use weir_hudi::{BUSY, Lease, Place};
use weir_ledger::backlog::{Backlog, change, postpone, settle};
use weir_telemetry::{Trouble, Visit};

use crate::Cdc;
use crate::routes::Taken;
use crate::said::{Committed, Due, TableHeld};
use crate::staged::source_of;

/// Tables that are looked for at a time.
const DUE_AT_ONCE: usize = 500;

/// With less time than this no commit is begun: what a large one takes. Of a short invocation it is half.
const RESERVE_MS: u64 = 45_000;

/// So often in a row a table may fail in passing before people are told.
const QUIET_FAILURES: u32 = 2;

/// A table that is ours for the moment.
pub(crate) struct Turn<'a> {
    /// Where it is.
    pub(crate) place: &'a Place,
    /// As the database calls it.
    pub(crate) source: &'a Source,
    /// How it is taken.
    pub(crate) taken: &'a Taken,
    /// Until when it is ours.
    pub(crate) lease: &'a Lease,
    /// Whose turn it is.
    pub(crate) visit: &'a Visit,
}

/// What an invocation did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Commits that were made.
    pub commits: u64,
    /// Tables that others were at.
    pub busy: u64,
    /// Tables that could not be written.
    pub held: u64,
}

impl Cdc {
    /// Commits what is staged, table by table, until nothing is due or there is no time left.
    ///
    /// # Errors
    /// The ledger's, when it is asked what is due. What fails after that is said, and is no trouble of the other tables.
    pub async fn commit(&self, visit: &Visit) -> Result<Report, Failure> {
        let (mut report, mut seen) = (Report::default(), BTreeSet::new());
        let reserve_ms = RESERVE_MS.min(visit.deadline_ms.saturating_sub(visit.now_ms()) / 2);
        loop {
            let due = self.backlogs.due_backlogs(visit.now_ms(), DUE_AT_ONCE).await?;
            if seen.is_empty() {
                let since = due.iter().filter_map(|backlog| backlog.since_ms).min();
                let age_ms = since.map_or(0, |since| visit.now_ms().saturating_sub(since));
                self.herald.say(visit, &Due { tables: due.len(), age_ms });
            }
            let due: Vec<Backlog> = due.into_iter().filter(|backlog| seen.insert(backlog.name.clone())).collect();
            if due.is_empty() {
                return Ok(report);
            }
            for backlog in due {
                if !visit.has_left(reserve_ms) {
                    return Ok(report);
                }
                match self.commit_table(&backlog, reserve_ms, visit).await {
                    Ok(commits) => report.commits += commits,
                    Err(failure) if failure.code == BUSY => report.busy += 1,
                    Err(failure) => {
                        report.held += 1;
                        self.hold(&backlog, &failure, visit).await;
                    }
                }
            }
        }
    }

    /// Takes the table, and commits until nothing is staged or there is no time left.
    async fn commit_table(&self, backlog: &Backlog, reserve_ms: u64, visit: &Visit) -> Result<u64, Failure> {
        let name = backlog.name.as_str();
        let source =
            source_of(name).ok_or_else(|| Failure::internal("LedgerShape", format!("`{name}` names no table")))?;
        let Some(taken) = self.config.routes.of(&source) else {
            let reason = format!("{source} is staged, and no longer named by ChangeTables");
            return Err(Failure::user("NotTaken", reason));
        };
        let place = Place { lake: self.lake.clone(), at: self.at(&source, taken) };
        let until_ms = visit.deadline_ms + self.config.grace_ms;
        let lease = Lease::take(&place, &self.writer.token(), until_ms, visit.now_ms()).await?;
        let turn = Turn { place: &place, source: &source, taken, lease: &lease, visit };
        let done = match self.put_off(backlog, visit).await {
            Ok(()) => self.commit_rounds(&turn, reserve_ms).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = lease.release(&place).await {
            self.herald.say(visit, &Trouble { doing: "give back a table's lease", failure: &failure });
        }
        done
    }

    async fn commit_rounds(&self, turn: &Turn<'_>, reserve_ms: u64) -> Result<u64, Failure> {
        let Turn { place, source, visit, .. } = turn;
        let name = crate::staged::backlog_of(source);
        let mut commits = 0;
        // What the index said may be old by now.
        while let Some(backlog) = self.backlogs.backlog(&name).await?.filter(|backlog| !backlog.staged.is_empty()) {
            if commits > 0 && !visit.has_left(reserve_ms) {
                break;
            }
            let round = self.commit_round(turn, &backlog).await?;
            commits += u64::from(round.commit.is_some());
            let settled = |backlog: &Backlog| settle(backlog, &round.positions, &place.at.to_string(), visit.now_ms());
            change(self.backlogs.as_ref(), &self.writer, &backlog, settled).await?;
            if let Some(commit) = &round.commit {
                self.herald.say(visit, &Committed { source, commit });
            }
            // What was staged meanwhile is the next minute's: each commit writes files again.
            if !round.more {
                break;
            }
        }
        Ok(commits)
    }

    /// Puts a table off, once for each time that it is tried: before the work, too, so that one of which an invocation dies waits longer each time,
    /// and the others get their turn. `backlog`: as it was when it was due.
    async fn put_off(&self, backlog: &Backlog, visit: &Visit) -> Result<(), Failure> {
        let later = |now: &Backlog| postpone(now, visit.now_ms()).filter(|_| now.failures <= backlog.failures);
        change(self.backlogs.as_ref(), &self.writer, backlog, later).await.map(drop)
    }

    /// A table that can't be written waits; what is staged of it stays.
    async fn hold(&self, backlog: &Backlog, failure: &Failure, visit: &Visit) {
        if let Err(failure) = self.put_off(backlog, visit).await {
            self.herald.say(visit, &Trouble { doing: "put a table off", failure: &failure });
        }
        let lasts = failure.advice == Advice::Never || failure.fault == Fault::Internal;
        let is_quiet = !lasts && backlog.failures < QUIET_FAILURES;
        self.herald.say(visit, &TableHeld { table: &backlog.name, failure, is_quiet });
        if !is_quiet {
            let notice = Notice {
                what: format!("commit changes of {}", backlog.name),
                place: backlog.name.clone(),
                failure: failure.clone(),
                job_id: None,
                next_step: "Mend what is said above: the table goes on by itself, within 15 minutes. Until then its changes are kept staged, for ChangesStagedDays.".to_owned(),
            };
            self.herald.tell(&notice, visit).await;
        }
    }

    /// Where a table is.
    pub(crate) fn at(&self, source: &Source, taken: &Taken) -> Location {
        self.config.changes.join(&format!("{}/", table_name(source, taken)))
    }
}

/// What a table is called: as its contract, or as its database calls it.
pub(crate) fn table_name(source: &Source, taken: &Taken) -> String {
    taken.contract.as_ref().map_or_else(|| weir_changes::table_name(source), |contract| contract.name().to_owned())
}
