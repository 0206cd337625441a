//! Dataset contracts: what a dataset's columns are, what is right and wrong in them, and how raw rows become clean ones.
//!
//! A contract is a file, `datasets/<name>.toml`. [`Contract::parse`] reads it once, or says all that is wrong with it.
//! Then it is applied row by row, on every road the same way:
//!
//! * [`Row::read_json`] takes a JSON document; [`Row::write_json`] gives the clean one: what the Firehose transformation does.
//! * [`Cleaner`] takes JSON documents or Arrow batches and gives Arrow batches: what `clean`, Kafka and Spark do.
//!
//! Each row gets one [`Verdict`], which names the rule and the field it breaks; rows never disturb each other. Applying a
//! contract to its own output changes nothing. How values are read is defined in [`Cell`]'s module.

mod cell;
mod check;
mod cleaner;
mod datasets;
mod ddl;
mod error;
mod json;
mod live;
mod metrics;
mod moment;
mod number;
mod partial;
mod plan;
mod row;
mod spec;
mod tally;

pub use cell::Cell;
pub use cleaner::{Cleaner, Refused};
pub use datasets::{NoContract, contract, names};
pub use error::{ContractError, Problem, Rule, Violation};
pub use json::Read;
pub use live::{Live, LiveColumn, RESERVED, Statistic};
pub use metrics::{Measured, Numbers, key_of};
pub use partial::FromSums;
pub use plan::{Aggregation, Audience, Column, Contract, Type};
pub use row::{Row, Verdict};
pub use tally::{MetricsError, Number, Overflow, Tally};
