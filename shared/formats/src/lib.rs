//! What is in a file, and the same rows in another format.
//!
//! * [`sniff`] looks at content first and at the name second, and says what it saw and how sure it is.
//! * [`convert`] reads any number of inputs, of mixed formats where their columns agree, and writes one schema.
//!
//! The promises of a conversion: memory is bounded by [`Settings`], not by the file. Types are inferred from the data
//! ([`Kind`]), and a value further down that contradicts them aborts the output and starts again with the wider type:
//! one schema, and nothing silently null. A row that can't be read at all (not JSON, more cells than columns) is put
//! aside with its line, the reason and its raw text; its neighbours go on.
//!
//! This crate is pure: it reads through [`Input`] and writes through [`Output`], and knows no S3, clock or environment.
//! It is blocking code that uses threads of its own; an async caller gives it a thread.

mod buffer;
mod cells;
mod clean;
mod column;
mod columnar;
mod compress;
mod convert;
mod csv;
mod detect;
mod documents;
mod encode;
mod error;
mod flat;
mod input;
mod json;
mod kind;
mod merge;
mod partition;
mod pass;
mod quarantine;
mod reading;
mod rows;
mod source;
mod value;
mod zipped;

pub use clean::{Cleaned, Cleaning, aggregate, clean, clean_part, write_batch};
pub use compress::Wrapping;
pub use convert::{Settings, Summary, convert};
pub use detect::{Confidence, Dialect, FileFormat, Sniffed, sniff};
pub use error::ConvertError;
pub use input::{BytesInput, FileInput, Input, MemoryOutput, Output, Sink};
pub use kind::{Columns, Kind};
pub use merge::{Merged, Merger};
pub use rows::{by_partition, to_parquet};
