//! What the ledger of positions needs of a database.

use async_trait::async_trait;
use weir_delivery::Failure;

use super::Position;
use crate::batch::{Landed, Swap};

/// Compare-and-swap on one position, alone or together with what it hands on.
#[async_trait]
pub trait Positions: Send + Sync {
    /// A position, read consistently.
    async fn position(&self, name: &str) -> Result<Option<Position>, Failure>;

    /// Stores a position if what is stored has version `expected` (0: if nothing is). With `handed_on` all or nothing: an object of
    /// the batch side, which must be new.
    async fn put_position(
        &self,
        next: &Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Swap<Position>, Failure>;

    /// Positions with files that may be uncommitted and whose lease is over, the oldest first. The newest may be missing for a
    /// moment.
    async fn left_over(&self, now_ms: u64, most: usize) -> Result<Vec<Position>, Failure>;

    /// All positions, by name.
    async fn positions(&self) -> Result<Vec<Position>, Failure>;
}
