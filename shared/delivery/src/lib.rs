//! One outcome per record, and what the source expects to hear of them.
//!
//! Every record that enters a function ends as exactly one [`Outcome`]. The rule that makes this safe: a [`Poison`]
//! record is stored durably *before* it is acknowledged, and if that store fails it is a [`Outcome::Retry`]. So a
//! record is always in one of three places: done, in the dead letters, or still in the stream.
//!
//! This crate is pure. [`kinesis`], [`firehose`] and [`kafka`] read the batches Lambda delivers and answer them; [`failure`] says whose fault an
//! error is and whether trying again can help.

pub mod failure;
pub mod firehose;
pub mod kafka;
pub mod kinesis;

pub use failure::{Advice, Failure, Fault};
use serde::{Deserialize, Serialize};

/// The partial-failure response of an event source mapping with `ReportBatchItemFailures`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct BatchResponse<I> {
    /// Empty: all done. Otherwise Lambda delivers again from the places named.
    #[serde(rename = "batchItemFailures")]
    pub batch_item_failures: Vec<ItemFailure<I>>,
}

/// A record to deliver again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFailure<I> {
    /// Its place, as its source names it.
    #[serde(rename = "itemIdentifier")]
    pub item_identifier: I,
}

/// How one record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What it asked for has happened, or is durably recorded to happen elsewhere.
    Done,
    /// Nothing had to be done, and why: it was done before, or someone else is doing it.
    Skipped(String),
    /// It can never succeed. To be kept as a dead letter before it is acknowledged.
    Poison(Poison),
    /// It may succeed later; the source shall deliver it again.
    Retry(Failure),
}

/// A record that can never succeed, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// Why, in words a person can act on.
    pub reason: String,
    /// The record's bytes, unchanged, so that it can be replayed.
    pub raw: Vec<u8>,
}
