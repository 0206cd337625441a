//! Statistics of what is happening now: a contract's `[live]`, kept window by window.
//!
//! A [`Plan`] says what must be kept of rows for a contract's statistics, a [`Window`] keeps it. Windows of parts of the rows
//! [merge](Window::merge), so that shards need not know each other, and a window is small enough ([`MOST_STATE_BYTES`]) to be
//! carried from one invocation to the next. What adds up exactly is kept exactly; the rest by Apache DataSketches: percentiles
//! by a t-digest, different values by HyperLogLog, frequent ones by a frequent-items sketch. [`lines`](Window::lines) says what
//! it comes to. Published with its [`Span`], that is a window's result ([`Published`]).

mod kept;
mod lines;
mod plan;
mod result;
mod score;
mod span;
mod state;
mod window;

pub use kept::Damaged;
pub use lines::{Lines, instant};
pub use plan::{MOST_STATE_BYTES, Plan, TooLarge};
pub use result::Published;
pub use score::{FEWEST, score};
pub use span::Span;
pub use window::{Counts, Window};
