//! One invocation.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};
use weir_contract::{contract, names};
use weir_delivery::Failure;
use weir_ledger::batch::{Lane, Phase, lane};
use weir_telemetry::{Trouble, Visit};

use crate::config::When;
use crate::drive::Urge;
use crate::envelope::{Asked, TakeUp, read};
use crate::load::Told;
use crate::run::ROOM_PAUSE_MS;
use crate::warehouse::redshift::statement_name;
use crate::{LAST_MS, Orchestrator};

/// The most lanes and jobs one sweep looks at; the next goes on from there.
const SWEEP_AT_ONCE: usize = 100;

/// The most deferred jobs that are looked through for those whose time has come.
const MOST_DEFERRED: usize = 5_000;

impl Orchestrator {
    /// Answers one invocation: an object for whoever invoked it directly.
    ///
    /// # Errors
    /// What passes: the event must come again.
    pub async fn handle(&self, payload: &Value, visit: &Visit) -> Result<Value, Failure> {
        match read(payload) {
            Asked::Test => Ok(json!({})),
            Asked::Unknown(reason) => {
                self.bury(payload, &reason, visit).await?;
                Ok(json!({"error": reason}))
            }
            Asked::Landed(created, odd) => {
                for reason in &odd {
                    self.bury(payload, reason, visit).await?;
                }
                let taken_in = self.land(&created, visit).await?;
                self.wake(&taken_in.datasets, visit).await?;
                Ok(json!({}))
            }
            Asked::GlueChanged { job, run } if job == self.config.glue_job => self.glue_changed(&run, visit).await,
            Asked::GlueChanged { .. } => Ok(json!({})),
            Asked::LoadEnded { name } => self.load_ended(&name, visit).await,
            Asked::Sweep => self.sweep(visit).await,
            Asked::Run { dataset, take_up } => self.run(&dataset, &take_up, visit).await,
            Asked::Retry { dataset, replace } => self.retry(&dataset, replace, visit).await,
            Asked::Load { dataset, what } => match self.load_now(&dataset, &what, visit).await? {
                Ok(Told { lane, others, next }) => {
                    let mut told = self.told_of(lane, 0);
                    if let Some(members) = told.as_object_mut() {
                        members.insert("by_another_contract".to_owned(), others.into());
                        members.insert("next".to_owned(), next.into());
                    }
                    Ok(told)
                }
                Err(refused) => Ok(json!({"error": refused})),
            },
        }
    }

    /// Notes that something landed, and goes on at once where nothing is waited for. A busy lane needs no note: whoever ends its
    /// run looks for what landed meanwhile.
    async fn wake(&self, datasets: &BTreeSet<String>, visit: &Visit) -> Result<(), Failure> {
        for dataset in datasets {
            let lane = self.book.lane(dataset).await?.unwrap_or_else(|| Lane::new(dataset));
            if lane.phase != Phase::Idle {
                continue;
            }
            let due = self.due_ms(visit.now_ms());
            self.change(&lane, visit, |lane| lane::note(lane, due, visit.now_ms())).await?;
            if self.config.when == When::Landing && self.config.gather_ms == 0 {
                self.drive(dataset, Urge::Time, visit).await?;
            }
        }
        Ok(())
    }

    async fn glue_changed(&self, run: &str, visit: &Visit) -> Result<Value, Failure> {
        // The event has no arguments, so it does not say whose run it was.
        if let Some(lane) = self.spark.look(run).await?.and_then(|seen| seen.lane) {
            self.drive(&lane, Urge::Time, visit).await?;
            self.give_room(visit).await?;
        }
        Ok(json!({}))
    }

    async fn load_ended(&self, name: &str, visit: &Visit) -> Result<Value, Failure> {
        // Others' statements end as well.
        if let Some(dataset) = names().find(|dataset| statement_name(&self.config.stack, dataset) == name) {
            self.drive(dataset, Urge::Time, visit).await?;
        }
        Ok(json!({}))
    }

    /// A run is over: one that found no room may begin.
    async fn give_room(&self, visit: &Visit) -> Result<(), Failure> {
        let soon = self.book.due_lanes(visit.now_ms() + ROOM_PAUSE_MS, SWEEP_AT_ONCE).await?;
        for lane in soon.iter().filter(|lane| lane.phase == Phase::Starting) {
            self.drive(&lane.name, Urge::Room, visit).await?;
        }
        Ok(())
    }

    /// Everything whose event never came, and what has its time now.
    async fn sweep(&self, visit: &Visit) -> Result<Value, Failure> {
        let due = self.book.due_lanes(visit.now_ms(), SWEEP_AT_ONCE).await?;
        let mut names: Vec<String> = due.into_iter().map(|lane| lane.name).collect();
        let deferred = self.book.deferred(MOST_DEFERRED).await?;
        let timely = deferred.iter().filter(|job| self.is_timely(job, visit));
        names.extend(timely.take(SWEEP_AT_ONCE).map(|job| Lane::of_job(&job.id).name));
        // A job's lane that is due may be of a job that is deferred.
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        for name in &names {
            if !visit.has_left(LAST_MS) {
                break;
            }
            // One that is in trouble holds up no other.
            if let Err(failure) = self.drive(name, Urge::Time, visit).await {
                self.herald.say(visit, &Trouble { doing: &format!("go on with {name}"), failure: &failure });
            }
        }
        Ok(json!({"looked_at": names.len()}))
    }

    async fn run(&self, dataset: &str, take_up: &TakeUp, visit: &Visit) -> Result<Value, Failure> {
        if let Err(error) = contract(dataset) {
            return Ok(json!({"error": error.to_string()}));
        }
        let found = self.take_up(dataset, take_up, visit).await?;
        if found > 0 {
            self.wake(&BTreeSet::from([dataset.to_owned()]), visit).await?;
        }
        let lane = self.drive(dataset, Urge::Person, visit).await?;
        Ok(self.told_of(lane, found))
    }

    fn told_of(&self, lane: Lane, found: u64) -> Value {
        let Lane { name, phase, run, failure, last_successful_run, to_load, .. } = lane;
        json!({"lane": name, "phase": phase, "run": run, "failure": failure, "found": found,
               "last_successful_run": last_successful_run, "to_load": to_load.len()})
    }

    async fn retry(&self, dataset: &str, replace: bool, visit: &Visit) -> Result<Value, Failure> {
        let Some(lane) = self.book.lane(dataset).await? else {
            return Ok(json!({"error": format!("nothing has ever landed for `{dataset}`")}));
        };
        if replace {
            return self.replace(lane, visit).await;
        }
        let Some(run) = lane.run.as_ref().filter(|_| lane.phase == Phase::Halted) else {
            return Ok(json!({"error": format!("no run of `{dataset}` is halted; it is {}", lane.phase)}));
        };
        self.ledger.revive(&run.id, visit.now_ms()).await?;
        self.change(&lane, visit, |lane| lane::resume(lane, visit.now_ms())).await?;
        let lane = self.drive(dataset, Urge::Person, visit).await?;
        Ok(self.told_of(lane, 0))
    }

    /// Newer versions of objects that a run has done: the run does them again, and replaces what it wrote. One run at a time, the
    /// oldest first.
    async fn replace(&self, lane: Lane, visit: &Visit) -> Result<Value, Failure> {
        let run = lane.run.as_ref().map_or("loading the warehouse", |run| run.id.as_str());
        match lane.phase {
            Phase::Idle => {}
            Phase::Halted => {
                let first = format!("{run} is halted: first `weir batch retry {}` without --replace", lane.name);
                return Ok(json!({"error": first}));
            }
            _ => {
                let busy = format!("`{}` is busy with {run}; try again when it is over", lane.name);
                return Ok(json!({"error": busy}));
            }
        }
        let conflicts = self.book.conflicts(&lane.name, 10_000).await?;
        let Some((run, claim)) = conflicts.iter().find_map(|object| Some((object.run.clone()?, object.claim))) else {
            return Ok(json!({"error": format!("no object of `{}` was written again", lane.name)}));
        };
        let taken = conflicts.iter().filter(|object| object.run.as_deref() == Some(&run)).count();
        let left = conflicts.len() - taken;
        if let Some(gone) = self.list_again(&lane, &run, claim).await? {
            let why = format!(
                "{run} has added up events of Kafka as well, whose files were compacted and deleted since ({gone}); it can't be made again. \
                 Land the rows that are new under another name"
            );
            return Ok(json!({"error": why}));
        }
        self.change_own(&lane, visit, lane::claim(&lane, &run, visit.now_ms())).await?;
        let lane = self.drive(&lane.name, Urge::Person, visit).await?;
        let mut told = self.told_of(lane, taken as u64);
        if let Some(members) = told.as_object_mut() {
            members.insert("left".to_owned(), left.into());
        }
        Ok(told)
    }
}
