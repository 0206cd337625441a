//! A contract's `[live]`: the statistics of what is happening now, that are kept window by window.
//!
//! Beside what `[metrics]` knows there are those that can only be known nearly, because they must add up over shards and windows
//! in little memory: percentiles, distinct values, the most frequent ones.

use std::sync::Arc;

use crate::{Aggregation, Contract};

/// Names that a window's statistics have themselves.
pub const RESERVED: [&str; 24] = [
    "dataset",
    "window_start",
    "window_end",
    "window_seconds",
    "group",
    "events",
    "late",
    "bad",
    "dropped",
    "unreadable",
    "repeated",
    "shards",
    "parts",
    "incomplete",
    "scores",
    "is_other",
    "revision",
    "window_date",
    "kind",
    "statistic",
    "value",
    "rank",
    "count",
    "at_least",
];

/// What is kept of a window, columns by their places.
#[derive(Debug, Clone)]
pub struct Live {
    /// When an event happened; without it none is late.
    pub event_time: Option<usize>,
    /// How much earlier than its window an event may have happened and not be late, in seconds.
    pub late_after_s: u64,
    /// Everything is kept for all rows, and for each group of these.
    pub group_by: Vec<usize>,
    /// Groups that a shard tells apart in a window; the rows of further ones are counted as others.
    pub most_groups: usize,
    /// The statistics.
    pub columns: Vec<LiveColumn>,
}

/// A statistic.
#[derive(Debug, Clone)]
pub struct LiveColumn {
    /// Lowercase.
    pub name: Arc<str>,
    /// What it is.
    pub how: Statistic,
    /// Whether each window's is compared with those before it.
    pub watched: bool,
}

/// What is said of rows' values.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistic {
    /// Exactly.
    Plain(Aggregation),
    /// A percentile, nearly.
    Percentile {
        /// A column of numbers.
        of: usize,
        /// 0 to 100.
        at: f64,
    },
    /// How many different values, nearly.
    Distinct(usize),
    /// The most frequent values and how often they are there; exact while there are few.
    Top {
        /// Columns; of several, their values together.
        of: Vec<usize>,
        /// How many.
        most: usize,
    },
}

impl Contract {
    /// What is kept of windows, if anything is.
    pub fn live(&self) -> Option<&Live> {
        self.live.as_ref()
    }
}
