//! The Firehose transformation: raw records in, clean JSON lines out, one answer a record.
//!
//! * [`shape`]: one record: opened (compression, KPL aggregates, log subscriptions), its documents cleaned by the delivery
//!   stream's contract.
//! * [`batch`]: all of them, within what a response may hold; what is bad is accounted for before anything is answered.
//! * [`letters`]: what is said about bad documents, and where the documents themselves are kept.
//!
//! A bad document is kept in exactly one place. If nothing in its record is clean, the record is `ProcessingFailed` and
//! Firehose keeps all of it, and our dead letter holds the reasons only. If the record goes on without it, the dead letter
//! holds the document.

pub mod batch;
pub mod config;
pub mod event;
pub mod letters;
pub mod shape;
