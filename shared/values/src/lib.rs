//! Text as numbers, truth values and points in time, and points in time as text.
//!
//! Both the readers of `weir-formats`, which infer types, and the contracts of `weir-contract`, which declare them, read
//! values here, so that a value means the same everywhere. Everything is strict where leniency would lose something, and
//! says `None` instead. [`FlatRows`] finds the values of JSON rows that are alike. Blanks around a value are the caller's to cut ([`trim`]).

mod flat;
mod number;
mod plain;
mod time;

pub use flat::{FlatRows, Member, Token};
pub use number::{EXACT_IN_FLOAT, boolean, decimal, float, int, nearest_float, trim};
pub use plain::{has_blank, is_plain};
pub use time::{MICROS_PER_DAY, Precision, date, days_of, stamp, stamp_with, write_date, write_stamp, write_time};
