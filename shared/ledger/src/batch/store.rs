//! What the batch side needs of a database.

use async_trait::async_trait;
use weir_delivery::Failure;

use super::{Landed, Lane};
use crate::Job;

/// Compare-and-swap on lanes and objects, the lists the orchestrator needs, and the tokens of starts.
#[async_trait]
pub trait Book: Send + Sync {
    /// A lane, read consistently.
    async fn lane(&self, name: &str) -> Result<Option<Lane>, Failure>;

    /// Stores a lane if what is stored has the version before its own (1: if nothing is).
    async fn put_lane(&self, lane: &Lane) -> Result<Swap<Lane>, Failure>;

    /// Lanes with `look_at_ms` up to `now_ms`, oldest first.
    async fn due_lanes(&self, now_ms: u64, most: usize) -> Result<Vec<Lane>, Failure>;

    /// An object, read consistently.
    async fn object(&self, dataset: &str, uri: &str) -> Result<Option<Landed>, Failure>;

    /// As [`Book::put_lane`].
    async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure>;

    /// The PENDING objects of a dataset, those that landed first first. The newest may be missing for a moment.
    async fn pending(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure>;

    /// The objects of a dataset of which a newer version waits for a person.
    async fn conflicts(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure>;

    /// DEFERRED jobs, those that came first first.
    async fn deferred(&self, most: usize) -> Result<Vec<Job>, Failure>;

    /// Says that `who` has the token, unless another has; returns who has it now. It is forgotten after `expires_s`.
    async fn take_token(&self, token: &str, who: &str, expires_s: u64) -> Result<String, Failure>;

    /// Who has the token.
    async fn token(&self, token: &str) -> Result<Option<String>, Failure>;
}

/// What became of a conditional put.
#[derive(Debug, Clone, PartialEq)]
pub enum Swap<R> {
    /// Stored.
    Stored,
    /// Not stored: this is there instead.
    Conflict(Option<Box<R>>),
}
