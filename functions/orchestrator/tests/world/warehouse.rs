//! A warehouse that loads when it is told to.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;
use weir_orchestrator::warehouse::{LoadState, NotBegun, Order, RunSums, Warehouse};

use weir_mortal::Mortal;

use super::{SparkTwin, one_less};

/// In memory. A load is one transaction, which deletes and inserts as its statements say; of what was asked for by one token there
/// is one load.
pub(crate) struct WarehouseTwin {
    spark: Arc<SparkTwin>,
    loads: Mutex<Vec<(Order, LoadState)>>,
    /// How many of the next loads fail.
    pub(crate) failing: AtomicUsize,
    /// How many of the next loads are refused.
    pub(crate) refusing: AtomicUsize,
    /// How many of the next answers are lost.
    pub(crate) deaf: AtomicUsize,
    /// Runs that can't be loaded.
    pub(crate) broken: Mutex<Vec<String>>,
    /// Its rows: of which run, and what.
    pub(crate) rows: Mutex<Vec<(String, String)>>,
}

impl WarehouseTwin {
    pub(crate) fn new(spark: &Arc<SparkTwin>) -> Self {
        let (failing, refusing, deaf) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let (loads, broken, rows) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { spark: Arc::clone(spark), loads, failing, refusing, deaf, broken, rows }
    }

    async fn begin(&self, order: &Order) -> Result<String, NotBegun> {
        if one_less(&self.refusing) {
            return Err(NotBegun::Refused(Failure::user("ValidationException", "there is no such workgroup")));
        }
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let at = match loads.iter().position(|(known, _)| known.token == order.token) {
            Some(at) => {
                assert_eq!(&loads[at].0, order, "a token means the same each time");
                at
            }
            None => {
                let own = loads.iter().filter(|(known, _)| known.dataset == order.dataset);
                assert_eq!(
                    own.filter(|(_, state)| *state == LoadState::Going).count(),
                    0,
                    "one load at a time a table"
                );
                loads.push((order.clone(), LoadState::Going));
                loads.len() - 1
            }
        };
        match one_less(&self.deaf) {
            true => Err(NotBegun::Unheard(Failure::passing("NoAnswer", "no answer came"))),
            false => Ok(format!("st_{at}")),
        }
    }

    fn load(&self, statement: &str, to: Option<LoadState>) -> Option<LoadState> {
        let at: Option<usize> = statement.strip_prefix("st_").and_then(|number| number.parse().ok());
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, state) = loads.get_mut(at?)?;
        if let Some(to) = to {
            *state = to;
        }
        Some(state.clone())
    }

    /// What was asked for, in its order.
    pub(crate) fn orders(&self) -> Vec<Order> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(order, _)| order.clone()).collect()
    }

    /// How many loads there were.
    pub(crate) fn loads(&self) -> usize {
        self.orders().len()
    }

    /// Every load that is going comes to its end; the datasets they are of.
    pub(crate) fn work(&self) -> Vec<String> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        for (order, state) in loads.iter_mut().filter(|(_, state)| *state == LoadState::Going) {
            ended.push(order.dataset.clone());
            *state = match one_less(&self.failing) {
                true => LoadState::Failed("FAILED: no room".to_owned()),
                false => self.transaction(order),
            };
        }
        ended
    }

    fn transaction(&self, order: &Order) -> LoadState {
        let written = self.spark.written.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = rows.clone();
        for sums in &order.runs {
            let found = written.get(&place_of(sums)).filter(|_| !broken.contains(&sums.run));
            after.retain(|(run, _)| *run != sums.run);
            match (&sums.files, found) {
                (None, _) => {}
                (Some(_), Some(found)) => after.extend(found.iter().map(|row| (sums.run.clone(), row.clone()))),
                (Some(files), None) => return LoadState::Failed(format!("FAILED: the prefix {files} does not exist")),
            }
        }
        *rows = after;
        LoadState::Done
    }
}

/// The run whose files they are.
fn place_of(sums: &RunSums) -> String {
    let place = sums.files.as_ref().map_or(String::new(), ToString::to_string);
    place.split_once("/job=").and_then(|(_, run)| run.split_once('/')).map_or(String::new(), |(run, _)| run.to_owned())
}

pub(crate) struct MortalWarehouse(pub(crate) Mortal<WarehouseTwin>);

#[async_trait]
impl Warehouse for MortalWarehouse {
    async fn begin(&self, order: &Order) -> Result<String, NotBegun> {
        // Inside, a refusal is an answer like any other.
        let called = self.0.fate.call(async { Ok(self.0.inner.begin(order).await) }).await;
        called.unwrap_or_else(|killed| Err(NotBegun::Unheard(killed)))
    }
    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure> {
        self.0.fate.call(async { Ok(self.0.inner.load(statement, None)) }).await
    }
    async fn cancel(&self, statement: &str) -> Result<(), Failure> {
        let aborted = LoadState::Failed("ABORTED: cancelled on user's request".to_owned());
        self.0.fate.call(async { Ok(self.0.inner.load(statement, Some(aborted))) }).await.map(|_| ())
    }
    fn shape(&self, _dataset: &str) -> String {
        "shape".to_owned()
    }
    fn table(&self, dataset: &str) -> String {
        format!("public.{dataset}_sums")
    }
}
