//! A warehouse that loads when it is told to.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;
use weir_orchestrator::warehouse::{LoadState, Order, RunSums, Warehouse};

use super::{Mortal, SparkTwin, one_less};

/// In memory. A load is one transaction; of what was asked for by one token there is one load.
pub(crate) struct WarehouseTwin {
    spark: Arc<SparkTwin>,
    loads: Mutex<Vec<(Order, LoadState)>>,
    /// How many of the next loads fail.
    pub(crate) failing: AtomicUsize,
    /// How many of the next loads are refused.
    pub(crate) refusing: AtomicUsize,
    /// What it has, by run.
    pub(crate) rows: Mutex<BTreeMap<String, Vec<String>>>,
}

impl WarehouseTwin {
    pub(crate) fn new(spark: &Arc<SparkTwin>) -> Self {
        let (loads, rows) = (Mutex::default(), Mutex::default());
        Self { spark: Arc::clone(spark), loads, failing: AtomicUsize::new(0), refusing: AtomicUsize::new(0), rows }
    }

    async fn begin(&self, order: &Order) -> Result<String, Failure> {
        if one_less(&self.refusing) {
            return Err(Failure::user("ValidationException", "permission denied for schema public"));
        }
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = loads.iter().position(|(known, _)| known.token == order.token) {
            assert_eq!(&loads[at].0, order, "a token means the same each time");
            return Ok(format!("st_{at}"));
        }
        let going = loads.iter().filter(|(known, state)| known.dataset == order.dataset && *state == LoadState::Going);
        assert_eq!(going.count(), 0, "one load at a time a table");
        loads.push((order.clone(), LoadState::Going));
        Ok(format!("st_{}", loads.len() - 1))
    }

    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure> {
        let at: Option<usize> = statement.strip_prefix("st_").and_then(|number| number.parse().ok());
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(at.and_then(|at| loads.get(at)).map(|(_, state)| state.clone()))
    }

    /// How many loads there were.
    pub(crate) fn loads(&self) -> usize {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every load that is going comes to its end; the datasets they are of.
    pub(crate) fn work(&self) -> Vec<String> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ended = Vec::new();
        for (order, state) in loads.iter_mut().filter(|(_, state)| *state == LoadState::Going) {
            ended.push(order.dataset.clone());
            if one_less(&self.failing) {
                *state = LoadState::Failed("FAILED: no room".to_owned());
                continue;
            }
            let written = self.spark.written.lock().unwrap_or_else(PoisonError::into_inner);
            if order.runs.iter().any(|sums| sums.files.is_some() && !written.contains_key(&place_of(sums))) {
                *state = LoadState::Failed("FAILED: the prefix does not exist".to_owned());
                continue;
            }
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            for sums in &order.runs {
                rows.remove(&sums.run);
                if sums.files.is_some() {
                    rows.insert(sums.run.clone(), written.get(&place_of(sums)).cloned().unwrap_or_default());
                }
            }
            *state = LoadState::Done;
        }
        ended
    }
}

/// The run whose files they are.
fn place_of(sums: &RunSums) -> String {
    let place = sums.files.as_ref().map_or(String::new(), ToString::to_string);
    place.trim_end_matches('/').rsplit('=').next().unwrap_or_default().to_owned()
}

#[async_trait]
impl Warehouse for Mortal<WarehouseTwin> {
    async fn begin(&self, order: &Order) -> Result<String, Failure> {
        self.fate.call(self.inner.begin(order)).await
    }
    async fn look(&self, statement: &str) -> Result<Option<LoadState>, Failure> {
        self.fate.call(self.inner.look(statement)).await
    }
    fn table(&self, dataset: &str) -> String {
        format!("public.{dataset}_sums")
    }
}
