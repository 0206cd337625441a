//! What the ledger needs of a database.

use async_trait::async_trait;
use weir_delivery::Failure;

use crate::Job;

/// Compare-and-swap on one job, and the three lists that people and the sweep need.
///
/// Errors are [`Failure`]s: whose fault, and whether to try again.
#[async_trait]
pub trait Store: Send + Sync {
    /// One job, read consistently.
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure>;

    /// Stores `job` if what is stored has version `expected` (`None`: if nothing is).
    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure>;

    /// Jobs the sweep shall look at: those with `look_at_ms` up to `now_ms`, oldest first; not the deferred ones, which
    /// wait for the batch side.
    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure>;

    /// Jobs received from `since_ms` to `until_ms`, newest first.
    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure>;

    /// Adds one to a counter that is forgotten after `expires_s`, and says what it is now.
    async fn count(&self, counter: &str, expires_s: u64) -> Result<u64, Failure>;

    /// Sets a counter back to zero.
    async fn reset(&self, counter: &str) -> Result<(), Failure>;
}

/// What became of a conditional put.
#[derive(Debug, Clone, PartialEq)]
pub enum Put {
    /// Stored.
    Stored,
    /// Not stored: this is there instead.
    Conflict(Option<Box<Job>>),
}
