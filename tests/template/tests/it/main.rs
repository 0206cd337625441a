//! What must be true of template.yaml, whatever it is deployed with.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod alarms;
mod costs;
mod dashboard;
mod glibc;
mod mappings;
mod permissions;
mod protection;
mod references;
mod security;
mod tables;
mod translated;
mod variables;
mod worlds;
