//! A Kinesis batch's records: opened, and kept where they can never be used. What every function that reads a stream does.

mod letter;
mod open;

pub use letter::{keep, sha256};
pub use open::{open, place_of};
