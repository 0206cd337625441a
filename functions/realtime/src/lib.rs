//! Commands from the Kinesis stream: done now, handed to the worker, or deferred to batch.
//!
//! One binary is two functions. The *stream* function answers Kinesis batches and the sweep's schedule; the *worker* has
//! more memory and is invoked asynchronously with a job's id. Both do a job the same way ([`runner`]):
//!
//! 1. claim it in the ledger, with a lease that outlives this invocation;
//! 2. look at its input and decide who does it ([`plan`]);
//! 3. do it ([`weir_work`]), or record it for the worker or the batch side;
//! 4. complete the record, if the job is still ours.
//!
//! Every record ends as one [`weir_delivery::Outcome`]; see [`stream`].

pub mod config;
pub mod event;
pub mod handler;
pub mod plan;
pub mod runner;
pub mod stream;
pub mod time;
