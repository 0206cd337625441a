//! The vocabulary of the command stream: what a record may say, and where it may point.
//!
//! A record is one JSON object, for example
//! `{"source":"s3://in/trips.csv","dest":"s3://out/trips/","command":"copy"}`. [`Command::parse`] turns its bytes into
//! a [`Command`] or into a [`CommandError`] that lists *every* problem in words a person can act on, because the
//! person who sent the record usually can't see our logs.
//!
//! This crate is pure: no clock, no environment, no network. [`AllowList`] is the first of two gates on the paths a
//! record names (IAM is the second), so both live next to the parser.

mod allow;
mod command;
mod location;
mod members;

pub use allow::{AllowList, AllowListError};
pub use command::{Action, Command, CommandError, Compression, Format, JobId, Mode, When};
pub use location::{Location, LocationError};
