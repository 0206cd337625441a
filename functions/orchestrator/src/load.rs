//! Loading what runs added up into the warehouse.

use weir_alerts::{Notice, notify_surely};
use weir_command::Location;
use weir_contract::contract;
use weir_delivery::{Failure, Fault};
use weir_ledger::batch::{Lane, Load, ToLoad, load};

use crate::drive::Urge;
use crate::manifest::{Manifest, Outcome};
use crate::warehouse::{LoadState, Order, RunSums};
use crate::{Orchestrator, Visit};

/// The most runs that are taken up at a time, to be loaded again: they are in the lane's record.
const MOST_TAKEN_UP: usize = 2_000;

impl Orchestrator {
    /// What the warehouse shall have of a run that is over, if there is one and it has something for it.
    pub(crate) fn to_load(&self, manifest: &Manifest, outcome: &Outcome) -> Option<ToLoad> {
        self.warehouse.as_ref().and(manifest.sums.as_ref())?;
        Some(ToLoad { run: manifest.run.clone(), empty: outcome.groups == 0 })
    }

    pub(crate) async fn load(&self, lane: &Lane, urge: Urge, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let Some(warehouse) = &self.warehouse else {
            // It was taken out of the template. What waits would be loaded should it come back.
            return self.change_own(lane, visit, load::given_up(lane, visit.now_ms())).await;
        };
        // After a failure there is a pause.
        if urge == Urge::Time && lane.look_at_ms.is_some_and(|at| at > visit.now_ms()) {
            return Ok(None);
        }
        let Some(Load { token, runs, .. }) = &lane.load else { return Ok(None) };
        let sums = |one: &ToLoad| RunSums {
            run: one.run.clone(),
            files: (!one.empty).then(|| self.sums_of(&lane.name).join(&format!("job={}/", one.run))),
        };
        let order = Order {
            token: token.clone(),
            dataset: lane.name.clone(),
            runs: lane.to_load.iter().take(*runs).map(sums).collect(),
        };
        match warehouse.begin(&order).await {
            Ok(statement) => self.change_own(lane, visit, load::begun(lane, &statement, visit.now_ms())).await,
            // Whether it was heard is not known, unless it was refused.
            Err(why) => self.load_failed(lane, why.fault != Fault::External, why, visit).await,
        }
    }

    pub(crate) async fn observe_load(&self, lane: &Lane, visit: &Visit) -> Result<Option<Lane>, Failure> {
        let statement = lane.load.as_ref().and_then(|load| load.statement.as_deref());
        let (Some(statement), Some(warehouse)) = (statement, &self.warehouse) else {
            return self.change_own(lane, visit, load::given_up(lane, visit.now_ms())).await;
        };
        let now_ms = visit.now_ms();
        let reason = match warehouse.look(statement).await? {
            Some(LoadState::Going) => return self.change_own(lane, visit, load::still_loading(lane, now_ms)).await,
            Some(LoadState::Done) => return self.change_own(lane, visit, load::loaded(lane, now_ms)).await,
            Some(LoadState::Failed(said)) => format!("statement {statement} is {said}"),
            None => format!("Redshift does not know the statement {statement} any more"),
        };
        self.load_failed(lane, true, Failure::passing("LoadFailed", reason), visit).await
    }

    async fn load_failed(
        &self,
        lane: &Lane,
        heard: bool,
        why: Failure,
        visit: &Visit,
    ) -> Result<Option<Lane>, Failure> {
        let next = load::failed(lane, why.clone(), heard, visit.now_ms());
        if next.as_ref().is_some_and(|next| next.load.is_none()) {
            // Before it is stored: nobody looks again. Said twice, it is one notice.
            let table = self.warehouse.as_ref().map_or(String::new(), |warehouse| warehouse.table(&lane.name));
            let notice = Notice {
                what: format!("loading {} into the warehouse", lane.name),
                place: table,
                failure: why,
                job_id: lane.to_load.first().map(|one| one.run.clone()),
                next_step: format!(
                    "{} runs wait; nothing is lost, and batch goes on. The next run loads them as well; when what is named is \
                     mended, `weir batch load {}` does so at once.",
                    lane.to_load.len(),
                    lane.name
                ),
            };
            notify_surely(self.publisher.as_ref(), &notice).await?;
        }
        self.change_own(lane, visit, next).await
    }

    /// Loads what waits, or all that lies on S3, now. A refusal is for whoever asks.
    pub(crate) async fn load_now(
        &self,
        dataset: &str,
        all: bool,
        visit: &Visit,
    ) -> Result<Result<Lane, String>, Failure> {
        match contract(dataset) {
            Err(error) => return Ok(Err(error.to_string())),
            Ok(contract) if !contract.has_metrics() => return Ok(Err(format!("`{dataset}` has no metrics to load"))),
            Ok(_) => {}
        }
        if self.warehouse.is_none() {
            let said =
                "this stack has no warehouse: deploy it with RedshiftWorkgroupArn, RedshiftCluster or CreateRedshift";
            return Ok(Err(said.to_owned()));
        }
        let lane = self.book.lane(dataset).await?.unwrap_or_else(|| Lane::new(dataset));
        let runs = if all { self.runs_with_sums(dataset).await? } else { Vec::new() };
        let to = |lane: &Lane| {
            // What a run is writing is loaded when it is done.
            let done = runs.iter().filter(|one| lane.run.as_ref().is_none_or(|run| run.id != one.run));
            let to_load = load::wait(lane, done.cloned());
            let waiting = Lane { to_load, ..lane.clone() };
            load::begin(&waiting, visit.now_ms())
                .or_else(|| (waiting.to_load != lane.to_load).then(|| load::noted(&waiting)))
        };
        self.change(&lane, visit, to).await?;
        Ok(Ok(self.drive(dataset, Urge::Person, visit).await?))
    }

    fn sums_of(&self, dataset: &str) -> Location {
        self.config.tables.join(&format!("{dataset}/sums/"))
    }

    /// The runs of a dataset that left sums.
    async fn runs_with_sums(&self, dataset: &str) -> Result<Vec<ToLoad>, Failure> {
        let under = self.sums_of(dataset);
        let (mut runs, mut after): (Vec<ToLoad>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.lake.list(&under, after.as_deref()).await?;
            for object in &page.objects {
                let below =
                    object.location.key().strip_prefix(under.key()).and_then(|below| below.strip_prefix("job="));
                let Some((run, _)) = below.and_then(|below| below.split_once('/')) else { continue };
                if runs.last().is_none_or(|last| last.run != run) {
                    runs.push(ToLoad { run: run.to_owned(), empty: false });
                }
            }
            after = page.objects.last().map(|object| object.location.key().to_owned());
            if !page.more || runs.len() >= MOST_TAKEN_UP {
                return Ok(runs);
            }
        }
    }
}
