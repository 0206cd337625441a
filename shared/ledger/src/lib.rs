//! The ledger of jobs: who is doing what, until when, and what came of it.
//!
//! Time, killing and repetition are normal. An invocation can stall for minutes and then go on, a call can be done though
//! its answer is lost, a record can come twice. The ledger turns that into exactly one outcome a job:
//!
//! * [`protocol`] is the state machine: pure functions from a stored [`Job`] to the next, or to a refusal. It knows no
//!   database, so a model checker can drive it.
//! * [`Store`] is compare-and-swap on one job, nothing more. [`DynamoStore`] and [`MemoryStore`] implement it and pass the
//!   same suite ([`conformance`]).
//! * [`Ledger`] joins them. A change is stored only if the job still has the version that the change was made from, so
//!   an owner whose job was taken over (a new fence) can no longer change anything. If the answer to a write is lost and
//!   the write is repeated, the repeat finds its own write token and counts as done.

pub mod backlog;
pub mod batch;
pub mod conformance;
#[cfg(feature = "dynamodb")]
mod dynamo;
mod job;
pub mod layout;
mod ledger;
mod memory;
pub mod positions;
pub mod protocol;
mod store;
mod writer;

#[cfg(feature = "dynamodb")]
pub use dynamo::DynamoStore;
pub use job::{Job, Progress, Report, Speed, State};
pub use ledger::{Held, Ledger};
pub use memory::MemoryStore;
pub use store::{Put, Store};
pub use writer::Writer;
