//! What a stream record's bytes hold.
//!
//! A producer may put several user records into one stream record (KPL aggregation, [`aggregate`]), and may compress
//! either. Lambda hands on what lies in the stream, so every consumer of ours opens it with [`unpack`] and answers for
//! each record inside.

mod aggregate;
mod payload;

pub use aggregate::{Aggregate, SubRecord, hash_key, open};
pub use payload::{Codec, Damaged, MOST_BYTES, Unpacked, compress, unpack};
