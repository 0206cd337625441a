//! Apache Hudi copy-on-write tables, version 6: written without a cluster, one commit at a time, and read.
//!
//! What lies in a table's folder, purely:
//! * [`timeline`]: what was done to the table, and what somebody has begun. [`commit`]: what one commit did.
//! * [`names`]: base files, and which file group a key belongs to. [`keys`]: a row's key and partition.
//! * [`properties`], [`settings`]: what kind of table it is, and whether it can be kept right here. [`schema`]: its columns.
//! * [`view`]: which files readers see.
//!
//! And on the lake:
//! * [`Table`]: made and opened. [`Lease`]: who writes to it.
//! * [`Table::prepare`] looks for the changes' keys, and decides; [`Table::write`] commits.
//! * [`Table::rows`] reads, [`Table::verify`] checks everything.
//! * [`Table::open_to_write`] takes back what dead writers left; [`Table::keep_since`] deletes what is old.
//!
//! Terms are Hudi's ("Apache Hudi technical specification", version 6): an *instant* is an action at a time, a *file group* the
//! versions of one file, a *slice* one of them.
//!
//! The lake is this project's, not `object_store`'s: the same code runs on S3 and on its twin in memory, which dies and stalls at any
//! call in tests, and no second HTTP stack is in the functions.

mod base;
pub mod commit;
pub mod keys;
mod lease;
mod locate;
pub mod names;
mod plan;
pub mod properties;
mod read;
mod rewrite;
pub mod schema;
pub mod settings;
mod table;
pub mod timeline;
mod upkeep;
mod upsert;
mod verify;
pub mod view;
mod write;

pub use lease::{BUSY, Lease};
pub use locate::KeyCache;
pub use plan::Counts;
pub use read::committed_after;
pub use table::{Place, Table};
pub use upkeep::Kept;
pub use upsert::{Changes, Limits, Prepared};
pub use verify::Verdict;
pub use write::{Committed, TOO_LATE};
