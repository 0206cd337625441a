//! The batch side's ledger in memory: for unit tests, held to the same suite as DynamoDB.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;

use super::{Book, Landed, Lane, Standing, Swap};
use crate::{Job, State};

/// Lanes, objects and tokens in maps.
#[derive(Debug, Default)]
pub struct MemoryBook {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: BTreeMap<String, Lane>,
    objects: BTreeMap<(String, String), Landed>,
    tokens: BTreeMap<String, String>,
    jobs: Vec<Job>,
}

impl MemoryBook {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Jobs that [`Book::deferred`] shall find.
    pub fn set_jobs(&self, jobs: Vec<Job>) {
        self.inner().jobs = jobs;
    }
}

fn first<T>(mut all: Vec<T>, order: impl Fn(&T) -> u64, most: usize) -> Vec<T> {
    all.sort_by_key(order);
    all.truncate(most);
    all
}

#[async_trait]
impl Book for MemoryBook {
    async fn lane(&self, name: &str) -> Result<Option<Lane>, Failure> {
        Ok(self.inner().lanes.get(name).cloned())
    }

    async fn put_lane(&self, lane: &Lane) -> Result<Swap<Lane>, Failure> {
        let lanes = &mut self.inner().lanes;
        let there = lanes.get(&lane.name);
        if there.map_or(0, |there| there.version) + 1 != lane.version {
            return Ok(Swap::Conflict(there.cloned().map(Box::new)));
        }
        lanes.insert(lane.name.clone(), lane.clone());
        Ok(Swap::Stored)
    }

    async fn due_lanes(&self, now_ms: u64, most: usize) -> Result<Vec<Lane>, Failure> {
        let due = |lane: &&Lane| lane.look_at_ms.is_some_and(|at| at <= now_ms);
        let due = self.inner().lanes.values().filter(due).cloned().collect();
        Ok(first(due, |lane: &Lane| lane.look_at_ms.unwrap_or(0), most))
    }

    async fn object(&self, dataset: &str, uri: &str) -> Result<Option<Landed>, Failure> {
        Ok(self.inner().objects.get(&(dataset.to_owned(), uri.to_owned())).cloned())
    }

    async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure> {
        let key = (object.dataset.clone(), object.uri.clone());
        let objects = &mut self.inner().objects;
        let there = objects.get(&key);
        if there.map_or(0, |there| there.version) + 1 != object.version {
            return Ok(Swap::Conflict(there.cloned().map(Box::new)));
        }
        objects.insert(key, object.clone());
        Ok(Swap::Stored)
    }

    async fn pending(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        let is = |one: &&Landed| one.dataset == dataset && one.standing == Standing::Pending;
        let pending = self.inner().objects.values().filter(is).cloned().collect();
        Ok(first(pending, |one: &Landed| one.version_of.landed_ms, most))
    }

    async fn conflicts(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        let is = |one: &&Landed| one.dataset == dataset && one.newer.is_some();
        let conflicts = self.inner().objects.values().filter(is).cloned().collect();
        Ok(first(conflicts, |one: &Landed| one.version_of.landed_ms, most))
    }

    async fn deferred(&self, most: usize) -> Result<Vec<Job>, Failure> {
        let deferred = self.inner().jobs.iter().filter(|job| job.state == State::Deferred).cloned().collect();
        Ok(first(deferred, |job: &Job| job.look_at_ms.unwrap_or(0), most))
    }

    async fn take_token(&self, token: &str, who: &str, _expires_s: u64) -> Result<String, Failure> {
        Ok(self.inner().tokens.entry(token.to_owned()).or_insert_with(|| who.to_owned()).clone())
    }

    async fn token(&self, token: &str) -> Result<Option<String>, Failure> {
        Ok(self.inner().tokens.get(token).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        let book = MemoryBook::default();
        super::super::conformance::suite(&book).await.unwrap();
    }
}
