//! One invocation.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::{Lane, Swap, lane, object};

use crate::config::When;
use crate::drive::ROOM_PAUSE_MS;
use crate::envelope::{Asked, TakeUp, read};
use crate::said;
use crate::{Orchestrator, Visit};

/// The most lanes and jobs one sweep looks at; the next goes on from there.
const SWEEP_AT_ONCE: usize = 100;

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
                let datasets = self.land(&created, visit).await?;
                self.wake(&datasets, visit).await?;
                Ok(json!({}))
            }
            Asked::GlueChanged { job, run } if job == self.config.glue_job => self.glue_changed(&run, visit).await,
            Asked::GlueChanged { .. } | Asked::LoadEnded { .. } => Ok(json!({})),
            Asked::Sweep => self.sweep(visit).await,
            Asked::Run { dataset, take_up } => self.run(&dataset, &take_up, visit).await,
            Asked::Retry { dataset, replace } => self.retry(&dataset, replace, visit).await,
        }
    }

    /// Notes that something landed, and goes on at once where nothing is waited for. A busy lane needs no note: whoever ends its
    /// run looks for what landed meanwhile.
    async fn wake(&self, datasets: &BTreeSet<String>, visit: &Visit) -> Result<(), Failure> {
        for dataset in datasets {
            let lane = self.book.lane(dataset).await?.unwrap_or_else(|| Lane::new(dataset));
            if lane.run.is_some() {
                continue;
            }
            let due = self.due_ms(visit.now_ms());
            self.change(&lane, visit, |lane| lane::note(lane, due)).await?;
            if self.config.when == When::Landing && self.config.gather_ms == 0 {
                self.drive(dataset, false, visit).await?;
            }
        }
        Ok(())
    }

    async fn glue_changed(&self, run: &str, visit: &Visit) -> Result<Value, Failure> {
        // The event has no arguments, so it does not say whose run it was.
        if let Some(lane) = self.spark.look(run).await?.and_then(|seen| seen.lane) {
            self.drive(&lane, false, visit).await?;
            self.give_room(visit).await?;
        }
        Ok(json!({}))
    }

    /// A run is over: one that found no room may begin.
    async fn give_room(&self, visit: &Visit) -> Result<(), Failure> {
        let soon = self.book.due_lanes(visit.now_ms() + ROOM_PAUSE_MS, SWEEP_AT_ONCE).await?;
        for lane in soon.iter().filter(|lane| lane.phase == lane::Phase::Starting) {
            self.drive(&lane.name, true, visit).await?;
        }
        Ok(())
    }

    /// Everything whose event never came, and what has its time now.
    async fn sweep(&self, visit: &Visit) -> Result<Value, Failure> {
        let due = self.book.due_lanes(visit.now_ms(), SWEEP_AT_ONCE).await?;
        let mut names: Vec<String> = due.into_iter().map(|lane| lane.name).collect();
        let deferred = self.book.deferred(SWEEP_AT_ONCE).await?;
        names.extend(deferred.iter().map(|job| Lane::of_job(&job.id).name));
        names.dedup();
        for name in &names {
            if visit.is_over() {
                break;
            }
            // One that is in trouble holds up no other.
            if let Err(failure) = self.drive(name, false, visit).await {
                self.say(visit, &said::Trouble { doing: &format!("go on with {name}"), failure: &failure });
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
        let lane = self.drive(dataset, true, visit).await?;
        Ok(self.told_of(lane, found))
    }

    fn told_of(&self, lane: Lane, found: u64) -> Value {
        let Lane { name, phase, run, failure, last_successful_run, .. } = lane;
        json!({"lane": name, "phase": phase, "run": run, "failure": failure, "found": found,
               "last_successful_run": last_successful_run})
    }

    async fn retry(&self, dataset: &str, replace: bool, visit: &Visit) -> Result<Value, Failure> {
        let Some(lane) = self.book.lane(dataset).await? else {
            return Ok(json!({"error": format!("nothing has ever landed for `{dataset}`")}));
        };
        if replace {
            return self.replace(lane, visit).await;
        }
        let Some(run) = lane.run.as_ref().filter(|_| lane.phase == lane::Phase::Halted) else {
            return Ok(json!({"error": format!("no run of `{dataset}` is halted; it is {:?}", lane.phase)}));
        };
        self.ledger.revive(&run.id, visit.now_ms()).await?;
        self.change(&lane, visit, |lane| lane::resume(lane, visit.now_ms())).await?;
        let lane = self.drive(dataset, true, visit).await?;
        Ok(self.told_of(lane, 0))
    }

    /// Newer versions of objects that a run has done: the run does them again, and replaces what it wrote. One run at a time, the
    /// oldest first.
    async fn replace(&self, lane: Lane, visit: &Visit) -> Result<Value, Failure> {
        if lane.run.is_some() {
            let busy = format!("`{}` is busy with a run; try again when it is over", lane.name);
            return Ok(json!({"error": busy}));
        }
        let conflicts = self.book.conflicts(&lane.name, 10_000).await?;
        let Some(run) = conflicts.iter().find_map(|object| object.run.clone()) else {
            return Ok(json!({"error": format!("no object of `{}` was written again", lane.name)}));
        };
        let mut replaced = Vec::new();
        for conflict in conflicts.iter().filter(|object| object.run.as_deref() == Some(&run)) {
            if let Some(next) = object::replace(conflict)
                && self.put_object(&next).await? == Swap::Stored
            {
                replaced.push(next);
            }
        }
        self.list_again(&lane.name, &run, &replaced, visit).await?;
        self.change(&lane, visit, |lane| lane::claim(lane, &run, visit.now_ms())).await?;
        let left = conflicts.len() - replaced.len();
        let lane = self.drive(&lane.name, true, visit).await?;
        let mut told = self.told_of(lane, replaced.len() as u64);
        if let Some(members) = told.as_object_mut() {
            members.insert("left".to_owned(), left.into());
        }
        Ok(told)
    }
}
