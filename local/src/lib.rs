//! The laptop's AWS, where the emulator falls short of Lambda's documented rules.
//!
//! [`mapping`] is what an event source mapping does with a batch, purely; [`poller`] reads a shard and invokes.

pub mod chaos;
pub mod faults;
pub mod invoker;
pub mod kafka;
pub mod mapping;
pub mod poller;
pub mod runtime;
mod throttle;
mod tumbling;
