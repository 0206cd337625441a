//! The ledger in memory: for unit tests, held to the same suite as DynamoDB.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;

use crate::{Job, Put, State, Store};

/// Jobs in a map.
#[derive(Debug, Default)]
pub struct MemoryStore {
    jobs: Mutex<HashMap<String, Job>>,
    counters: Mutex<HashMap<String, u64>>,
}

impl MemoryStore {
    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self, keep: impl Fn(&Job) -> bool, order: impl Fn(&Job) -> i128, most: usize) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.jobs().values().filter(|job| keep(job)).cloned().collect();
        jobs.sort_by_key(|job| order(job));
        jobs.truncate(most);
        jobs
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure> {
        Ok(self.jobs().get(id).cloned())
    }

    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        let mut jobs = self.jobs();
        let stored = jobs.get(&job.id);
        if stored.map(|job| job.version) != expected {
            return Ok(Put::Conflict(stored.cloned().map(Box::new)));
        }
        jobs.insert(job.id.clone(), job.clone());
        Ok(Put::Stored)
    }

    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let due = |job: &Job| job.state != State::Deferred && job.look_at_ms.is_some_and(|at| at <= now_ms);
        Ok(self.listed(due, |job| job.look_at_ms.unwrap_or(0).into(), most))
    }

    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        Ok(self.listed(
            |job| (since_ms..=until_ms).contains(&job.received_ms),
            |job| -i128::from(job.received_ms),
            most,
        ))
    }

    async fn count(&self, counter: &str, _expires_s: u64) -> Result<u64, Failure> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let value = counters.entry(counter.to_owned()).or_default();
        *value += 1;
        Ok(*value)
    }

    async fn reset(&self, counter: &str) -> Result<(), Failure> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).remove(counter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        crate::conformance::suite(&MemoryStore::default()).await.unwrap();
    }
}
