//! Tables on the lake's twin: beside a plain map, and written by processes that die and stall.

// clippy.toml allows the first in tests; what they are made of is not recognised as such.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod deaths;
mod model;
mod others;
mod pairs;
mod verdict;
mod world;
