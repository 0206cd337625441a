//! Backlogs in memory: for unit tests, held to the same suite as DynamoDB.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;

use super::{Backlog, Backlogs};
use crate::batch::Swap;

/// Backlogs by name.
#[derive(Debug, Default)]
pub struct MemoryBacklogs(Mutex<BTreeMap<String, Backlog>>);

impl MemoryBacklogs {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Backlog>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Backlogs for MemoryBacklogs {
    async fn backlog(&self, name: &str) -> Result<Option<Backlog>, Failure> {
        Ok(self.inner().get(name).cloned())
    }

    async fn put_backlog(&self, backlog: &Backlog) -> Result<Swap<Backlog>, Failure> {
        let mut all = self.inner();
        let there = all.get(&backlog.name);
        if there.map_or(0, |there| there.version) + 1 != backlog.version {
            return Ok(Swap::Conflict(there.cloned().map(Box::new)));
        }
        all.insert(backlog.name.clone(), backlog.clone());
        Ok(Swap::Stored)
    }

    async fn due_backlogs(&self, now_ms: u64, most: usize) -> Result<Vec<Backlog>, Failure> {
        let all = self.inner();
        let due = all.values().filter(|backlog| backlog.look_at_ms.is_some_and(|at| at <= now_ms));
        let mut due: Vec<Backlog> = due.cloned().collect();
        due.sort_by_key(|backlog| backlog.look_at_ms);
        due.truncate(most);
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::suite(&MemoryBacklogs::default()).await.unwrap();
    }
}
