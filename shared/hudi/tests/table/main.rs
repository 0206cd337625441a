//! Tables on the lake's twin: beside a plain map, and written by processes that die and stall.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod deaths;
mod model;
mod others;
mod pairs;
mod verdict;
mod world;
