//! Positions in memory: for unit tests, held to the same suite as DynamoDB.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;

use super::{Position, Positions};
use crate::batch::{Landed, Swap};

/// Positions in a map, and what they handed on.
#[derive(Debug, Default)]
pub struct MemoryPositions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    positions: BTreeMap<String, Position>,
    handed_on: BTreeMap<String, Landed>,
}

impl MemoryPositions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What commits handed on, by where it is.
    pub fn handed_on(&self) -> Vec<Landed> {
        self.inner().handed_on.values().cloned().collect()
    }
}

#[async_trait]
impl Positions for MemoryPositions {
    async fn position(&self, name: &str) -> Result<Option<Position>, Failure> {
        Ok(self.inner().positions.get(name).cloned())
    }

    async fn put_position(
        &self,
        next: &Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Swap<Position>, Failure> {
        let mut inner = self.inner();
        let there = inner.positions.get(&next.name);
        let known = handed_on.is_some_and(|object| inner.handed_on.contains_key(&object.uri));
        if there.map_or(0, |there| there.version) != expected || known {
            return Ok(Swap::Conflict(there.cloned().map(Box::new)));
        }
        inner.positions.insert(next.name.clone(), next.clone());
        inner.handed_on.extend(handed_on.map(|object| (object.uri.clone(), object.clone())));
        Ok(Swap::Stored)
    }

    async fn left_over(&self, now_ms: u64, most: usize) -> Result<Vec<Position>, Failure> {
        let is = |one: &&Position| one.intent.is_some() && one.lease_until_ms <= now_ms;
        let mut all: Vec<Position> = self.inner().positions.values().filter(is).cloned().collect();
        all.sort_by_key(|one| one.lease_until_ms);
        all.truncate(most);
        Ok(all)
    }

    async fn positions(&self) -> Result<Vec<Position>, Failure> {
        Ok(self.inner().positions.values().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::suite(&MemoryPositions::default()).await.unwrap();
    }
}
