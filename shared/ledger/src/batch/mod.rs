//! The ledger of the batch side: what has landed, and the one run a lane that works on it.
//!
//! A *lane* is what one Spark run at a time may work on: a dataset, or a single deferred job. An *object* is a file that
//! landed for a dataset: PENDING until a run claims it, then DONE.
//!
//! * [`lane`], [`load`] and [`object`] are the state machines: pure functions, so that a model checker can drive them.
//! * [`Book`] is compare-and-swap on one record, nothing more; DynamoDB and the twin in memory pass one suite.

mod change;
pub mod conformance;
pub mod lane;
pub mod load;
mod memory;
pub mod object;
mod record;
mod store;

pub use change::change;
pub use load::{Load, ToLoad};
pub use memory::MemoryBook;
pub use object::{Landed, Standing, Version};
pub use record::{Lane, Phase, Run};
pub use store::{Book, Swap};
