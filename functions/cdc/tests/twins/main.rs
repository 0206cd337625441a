//! Changes of a database's table through the stream into a Hudi table, on twins of all that the function calls.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod database;
mod deaths;
mod tables;
mod world;
