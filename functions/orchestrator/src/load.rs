//! Loading what runs added up into the warehouse.

use weir_alerts::Notice;
use weir_command::Location;
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::batch::{Lane, Load, Phase, ToLoad, load};
use weir_telemetry::Visit;

use crate::Orchestrator;
use crate::drive::Urge;
use crate::manifest::{Manifest, Outcome};
use crate::warehouse::{LoadState, NotBegun, Order, RunSums};

/// The most runs that are taken up at a time, to be loaded again: they are in the lane's record.
const MOST_TAKEN_UP: usize = 2_000;

/// How long an invocation may live on after its deadline.
const GRACE_MS: u64 = 30_000;

fn failed(reason: String) -> Failure {
    Failure::passing("LoadFailed", reason)
}

/// What a person asks to have loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What waits.
    Waiting,
    /// All that lies on S3, behind this run if there is one.
    OnS3(Option<String>),
    /// All that waits but this run.
    Without(String),
}

/// What whoever asks to have something loaded is told.
pub(crate) struct Told {
    pub(crate) lane: Lane,
    /// How many runs were left out, because they have sums by another contract only.
    pub(crate) others: u64,
    /// The run behind which there are more.
    pub(crate) next: Option<String>,
}

/// Runs that left sums on S3.
#[derive(Default)]
struct Found {
    runs: Vec<ToLoad>,
    /// How many have sums by another contract only.
    others: u64,
    /// Where to go on, if there are more.
    next: Option<String>,
}

impl Orchestrator {
    /// What the warehouse shall have of a run that is over, if there is one and it has something for it.
    pub(crate) fn to_load(&self, dataset: &str, manifest: &Manifest, outcome: &Outcome) -> Option<(ToLoad, String)> {
        let warehouse = self.warehouse.as_ref().filter(|_| manifest.sums.is_some())?;
        Some((ToLoad::new(&manifest.run, outcome.groups == 0), warehouse.shape(dataset)))
    }

    /// A lane that rests goes on with what waits for the warehouse, unless that has just failed.
    pub(crate) fn more_to_load(&self, lane: &Lane, visit: &Visit) -> Option<Lane> {
        let warehouse = self.warehouse.as_ref().filter(|_| lane.failure.is_none() && !lane.to_load.is_empty())?;
        load::begin(lane, &warehouse.shape(&lane.name), visit.now_ms())
    }

    pub(crate) async fn load(&self, lane: &Lane, urge: Urge, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let (Some(warehouse), Some(_)) = (&self.warehouse, &lane.load) else {
            // It was taken out of the template. What waits would be loaded should it come back.
            return self.change_own(lane, visit, load::given_up(lane, visit.now_ms())).await;
        };
        // After a failure there is a pause.
        if urge == Urge::Time && lane.look_at_ms.is_some_and(|at| at > visit.now_ms()) {
            return Ok(None);
        }
        let asking = load::ask(lane, visit.deadline_ms + GRACE_MS, visit.now_ms());
        let Some(lane) = self.change_own(lane, visit, asking).await? else { return Ok(None) };
        let Some(load) = &lane.load else { return Ok(None) };
        let begun = warehouse.begin(&self.order(&lane, load)).await;
        let now_ms = visit.now_ms();
        match begun {
            Ok(statement) => self.change_own(&lane, visit, load::begun(&lane, &statement, now_ms)).await,
            Err(NotBegun::Refused(why)) if load::is_refusal(load, now_ms) => self.load_failed(&lane, why, visit).await,
            Err(NotBegun::Unheard(why)) if load::is_over(load, now_ms) => self.load_failed(&lane, why, visit).await,
            Err(NotBegun::Refused(why) | NotBegun::Unheard(why)) => {
                let tells = load.asked >= 3 && !load.told;
                if tells {
                    let step = "Whether Redshift has it is not known, so it is asked again until it answers; the dataset's batch waits.";
                    self.herald.tell(&self.load_notice(&lane, why.clone(), step.to_owned()), visit).await;
                }
                self.change_own(&lane, visit, load::unheard(&lane, why, tells, now_ms)).await
            }
        }
    }

    fn order(&self, lane: &Lane, load: &Load) -> Order {
        let shape = contract(&lane.name).map(|contract| contract.by_day().sums_shape()).unwrap_or_default();
        let sums = |one: &ToLoad| RunSums {
            run: one.run.clone(),
            files: (!one.empty).then(|| self.sums_of(&lane.name).join(&format!("job={}/{shape}", one.run))),
        };
        Order {
            token: load.token.clone(),
            dataset: lane.name.clone(),
            prepares: load::prepares(lane),
            runs: lane.to_load.iter().take(load.runs).map(sums).collect(),
        }
    }

    pub(crate) async fn observe_load(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let statement = lane.load.as_ref().and_then(|load| Some((load, load.statement.as_deref()?)));
        let (Some((load, statement)), Some(warehouse)) = (statement, &self.warehouse) else {
            return self.change_own(lane, visit, load::given_up(lane, visit.now_ms())).await;
        };
        let now_ms = visit.now_ms();
        let why = match warehouse.look(statement).await {
            Ok(Some(LoadState::Done)) if load.shape != warehouse.shape(&lane.name) => {
                // Another warehouse has it than the one that is named now.
                return self.change_own(lane, visit, load::given_up(lane, now_ms)).await;
            }
            Ok(Some(LoadState::Done)) => return self.change_own(lane, visit, load::loaded(lane, now_ms)).await,
            Ok(Some(LoadState::Failed(said))) => failed(format!("statement {statement} is {said}")),
            Ok(None) => failed(format!("Redshift does not know the statement {statement} any more")),
            Ok(Some(LoadState::Going)) if load::is_overdue(load, now_ms) => {
                let minutes = (now_ms - load.begun_ms) / 60_000;
                let broken_off = warehouse.cancel(statement).await;
                let said = broken_off.map_or_else(|failure| failure.reason, |()| "it is broken off".to_owned());
                let why = failed(format!("statement {statement} goes on for {minutes} minutes; {said}"));
                return self.load_takes_long(lane, load, why, visit).await;
            }
            Ok(Some(LoadState::Going)) => {
                return self.change_own(lane, visit, load::still_loading(lane, false, now_ms)).await;
            }
            Err(why) if load::is_over(load, now_ms) => why,
            Err(why) if !why.passes() || load::is_overdue(load, now_ms) => {
                return self.load_takes_long(lane, load, why, visit).await;
            }
            Err(why) => return Err(why),
        };
        self.load_failed(lane, why, visit).await
    }

    /// What comes of a load can't be seen, or it does not end.
    async fn load_takes_long(
        &self,
        lane: &Lane,
        load: &Load,
        why: Failure,
        visit: &Visit,
    ) -> Result<Option<Lane>, Failure> {
        if !load.told {
            let step =
                "Until it is over the dataset's batch waits. A transaction that someone left open may hold it up.";
            self.herald.tell(&self.load_notice(lane, why, step.to_owned()), visit).await;
        }
        self.change_own(lane, visit, load::still_loading(lane, true, visit.now_ms())).await
    }

    fn load_notice(&self, lane: &Lane, failure: Failure, next_step: String) -> Notice {
        Notice {
            what: format!("loading {} into the warehouse", lane.name),
            place: self.warehouse.as_ref().map_or(String::new(), |warehouse| warehouse.table(&lane.name)),
            failure,
            job_id: lane.to_load.first().map(|one| one.run.clone()),
            next_step,
        }
    }

    async fn load_failed(&self, lane: &Lane, why: Failure, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let next = load::failed(lane, why.clone(), visit.now_ms());
        let ends = next.as_ref().is_some_and(|next| next.load.is_none());
        // Of one that was stuck before, people know.
        if ends && lane.to_load.first().is_some_and(|first| !first.stuck) {
            let step = format!(
                "Runs that wait: {}. Nothing is lost, and batch goes on. The next run's load takes them as well; when what is \
                 named is mended, `weir batch load {}` does so at once.",
                lane.to_load.len(),
                lane.name
            );
            // Before it is stored: nobody looks again.
            self.herald.tell_surely(&self.load_notice(lane, why, step)).await?;
        }
        self.change_own(lane, visit, next).await
    }

    /// Loads now. A refusal is for whoever asks.
    pub(crate) async fn load_now(
        &self,
        dataset: &str,
        what: &What,
        visit: &Visit,
    ) -> Result<Result<Told, String>, Failure> {
        match contract(dataset) {
            Err(error) => return Ok(Err(error.to_string())),
            Ok(contract) if !contract.has_metrics() => return Ok(Err(format!("`{dataset}` has no metrics to load"))),
            Ok(_) => {}
        }
        let Some(warehouse) = &self.warehouse else {
            let said =
                "this stack has no warehouse: deploy it with RedshiftWorkgroupArn, RedshiftCluster or CreateRedshift";
            return Ok(Err(said.to_owned()));
        };
        let lane = self.book.lane(dataset).await?.unwrap_or_else(|| Lane::new(dataset));
        if lane.phase == Phase::Halted {
            return Ok(Err(format!("`{dataset}` is halted: first `weir batch retry {dataset}`")));
        }
        let mut found = match what {
            What::OnS3(after) => self.runs_with_sums(dataset, after.as_deref()).await?,
            _ => Found::default(),
        };
        if found.runs.len() > load::room(&lane) {
            found.runs.truncate(load::room(&lane));
            found.next = found.runs.last().map(|one| one.run.clone());
        }
        let shape = warehouse.shape(dataset);
        let to = |lane: &Lane| {
            if let What::Without(run) = what
                && (lane.phase == Phase::Loading || lane.to_load.iter().all(|one| one.run != *run))
            {
                return None;
            }
            // What a run is writing is loaded when it is done.
            let own = |one: &&ToLoad| lane.run.as_ref().is_none_or(|run| run.id != one.run);
            let done: Vec<ToLoad> = found.runs.iter().filter(own).cloned().collect();
            let mut to_load = load::wait_all(lane, &done);
            if let What::Without(run) = what {
                to_load.retain(|one| one.run != *run);
            }
            let changed = to_load != lane.to_load;
            let mut waiting = lane.clone();
            if matches!(what, What::OnS3(_)) {
                // Who asks for everything may have dropped the table: an attempt that finds it gone would be a pause and a sweep.
                waiting.shape = None;
            }
            let noted = load::noted(&waiting, to_load.clone());
            waiting.to_load = to_load;
            load::begin(&waiting, &shape, visit.now_ms()).or_else(|| changed.then_some(noted))
        };
        let changed = self.change(&lane, visit, to).await?;
        if changed.is_none() && matches!(what, What::Without(_)) {
            let why = "that run does not wait, or others are just being loaded";
            return Ok(Err(format!("{why}: `weir batch status {dataset} --json` shows which")));
        }
        let lane = self.drive(dataset, Urge::Person, visit).await?;
        Ok(Ok(Told { lane, others: found.others, next: found.next }))
    }

    fn sums_of(&self, dataset: &str) -> Location {
        self.config.tables.join(&format!("{dataset}/sums/"))
    }

    /// The runs of a dataset that left sums by the present contract.
    async fn runs_with_sums(&self, dataset: &str, behind: Option<&str>) -> Result<Found, Failure> {
        let shape = contract(dataset).map(|contract| contract.by_day().sums_shape()).unwrap_or_default();
        let (under, mut found) = (self.sums_of(dataset), Found::default());
        // Behind all of that run's files: `0` is what comes after `/`.
        let mut after = behind.map(|run| format!("{}job={run}0", under.key()));
        let mut last: Option<(String, bool)> = None;
        loop {
            let page = self.lake.list(&under, after.as_deref()).await?;
            for object in &page.objects {
                let below =
                    object.location.key().strip_prefix(under.key()).and_then(|below| below.strip_prefix("job="));
                let Some((run, name)) = below.and_then(|below| below.split_once('/')) else { continue };
                if last.as_ref().is_none_or(|(known, _)| known != run) {
                    found.others += u64::from(last.is_some_and(|(_, loadable)| !loadable));
                    last = Some((run.to_owned(), false));
                }
                if let Some((_, loadable @ false)) = &mut last
                    && name.starts_with(&shape)
                {
                    *loadable = true;
                    found.runs.push(ToLoad::new(run, false));
                }
            }
            after = page.objects.last().map(|object| object.location.key().to_owned());
            if !page.more {
                found.others += u64::from(last.is_some_and(|(_, loadable)| !loadable));
                return Ok(found);
            }
            if found.runs.len() >= MOST_TAKEN_UP {
                // The page may end amid a run.
                found.next = found.runs.last().map(|one| one.run.clone());
                return Ok(found);
            }
        }
    }
}
