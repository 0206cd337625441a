//! What is kept for a contract's statistics, and how exactly there is room for it.

use std::sync::Arc;

use weir_contract::{Aggregation, Contract, Live, Statistic, Type};

/// What Lambda keeps between invocations is 1 MB of text a shard; base64 takes a third, and there is the rest of the answer.
pub const MOST_STATE_BYTES: usize = 700_000;

/// The longest text that is told from others, in bytes.
pub(crate) const MOST_TEXT: usize = 64;

/// Bump it when what is kept changes its meaning.
const VERSION: u32 = 1;

/// Statistics that can't be carried from one invocation to the next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the live statistics of `{dataset}` can take {bytes} bytes a window, and at most {MOST_STATE_BYTES} can be kept: fewer groups (`most_groups`), or fewer columns"
)]
pub struct TooLarge {
    dataset: String,
    bytes: usize,
}

/// What is kept of rows.
pub struct Plan {
    pub(crate) dataset: String,
    pub(crate) event_time: Option<usize>,
    pub(crate) late_after_ms: u64,
    pub(crate) most_groups: usize,
    pub(crate) group_by: Vec<Group>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) columns: Vec<Column>,
    pub(crate) precision: Precision,
    /// Tells windows of this plan from those of another.
    pub(crate) shape: u32,
}

/// A column that rows are grouped by.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) place: usize,
    pub(crate) kind: Type,
    pub(crate) name: String,
}

/// What is kept of a column's values; several statistics may be made of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// How many rows.
    Rows,
    /// Count, sum, least and greatest.
    Numbers {
        place: usize,
        kind: Type,
    },
    Digest {
        place: usize,
        kind: Type,
    },
    Distinct {
        place: usize,
    },
    Top {
        places: Vec<usize>,
        most_text: usize,
    },
}

/// A statistic and what it is made of.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: Arc<str>,
    pub(crate) how: Statistic,
    pub(crate) input: usize,
    pub(crate) watched: bool,
}

/// The sketches' sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Precision {
    /// t-digest's compression.
    pub(crate) digest: u16,
    /// HyperLogLog's registers, by their logarithm.
    pub(crate) distinct: u8,
    /// Values that frequent ones are found among, a power of two; three quarters of them are exact.
    pub(crate) top: usize,
}

/// The best first.
const PRECISIONS: [Precision; 4] = [
    Precision { digest: 200, distinct: 12, top: 1024 },
    Precision { digest: 100, distinct: 11, top: 512 },
    Precision { digest: 100, distinct: 11, top: 256 },
    Precision { digest: 100, distinct: 10, top: 128 },
];

/// What is merged need not be carried on: there is room.
pub(crate) const MERGED_TOP: usize = 8192;

/// The longest that values of a type are as text.
fn most_text(kind: Type) -> usize {
    match kind {
        Type::Bool => 5,
        Type::Int32 => 11,
        Type::Int64 => 20,
        Type::Decimal { .. } => 20,
        Type::Date => 12,
        Type::Float64 => 25,
        Type::Timestamp => 28,
        Type::String => MOST_TEXT,
    }
}

/// How a value of a type is read from JSON by Hive and Athena: a decimal is written as a number.
fn hive_of(kind: Type) -> &'static str {
    match kind {
        Type::Bool => "boolean",
        Type::Int32 => "int",
        Type::Int64 => "bigint",
        Type::Float64 | Type::Decimal { .. } => "double",
        Type::String => "string",
        Type::Date => "date",
        Type::Timestamp => "timestamp",
    }
}

impl Precision {
    /// The most that may be kept of an input, in bytes.
    fn most_bytes(self, input: &Input) -> usize {
        match input {
            Input::Rows => 10,
            Input::Numbers { .. } => weir_contract::Tally::BYTES + 2,
            // Two centroids of 16 bytes for each of its compression, and some.
            Input::Digest { .. } => usize::from(self.digest) * 32 + 200,
            // Half a byte a register, and the few that don't fit.
            Input::Distinct { .. } => (1 << self.distinct) / 2 + 600,
            // Its count, and its length before it.
            Input::Top { most_text, .. } => self.top * 3 / 4 * (most_text + 12) + 40,
        }
    }
}

impl Plan {
    /// For a contract; `None` if it has no `[live]`.
    ///
    /// # Errors
    /// If all of it could be too large to be carried on.
    pub fn of(contract: &Contract) -> Option<Result<Self, TooLarge>> {
        contract.live().map(|live| Self::new(contract, live))
    }

    fn new(contract: &Contract, live: &Live) -> Result<Self, TooLarge> {
        let names_and_kinds: Vec<(String, Type)> =
            contract.columns().map(|column| (column.name.to_owned(), column.kind)).collect();
        let kind_of = |place: usize| names_and_kinds.get(place).map_or(Type::String, |(_, kind)| *kind);
        let (mut inputs, mut columns) = (Vec::new(), Vec::new());
        for column in &live.columns {
            let input = match &column.how {
                Statistic::Plain(Aggregation::Count) => Input::Rows,
                Statistic::Plain(
                    Aggregation::Sum(place)
                    | Aggregation::Avg(place)
                    | Aggregation::Min(place)
                    | Aggregation::Max(place),
                ) => Input::Numbers { place: *place, kind: kind_of(*place) },
                Statistic::Percentile { of, .. } => Input::Digest { place: *of, kind: kind_of(*of) },
                Statistic::Distinct(of) => Input::Distinct { place: *of },
                Statistic::Top { of, .. } => {
                    let each = of.iter().map(|place| most_text(kind_of(*place)) + 1);
                    Input::Top { places: of.clone(), most_text: each.sum::<usize>().min(MOST_TEXT) }
                }
            };
            let at = inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            columns.push(Column {
                name: Arc::clone(&column.name),
                how: column.how.clone(),
                input: at,
                watched: column.watched,
            });
        }
        let name_of = |place: usize| names_and_kinds.get(place).map_or_else(String::new, |(name, _)| name.clone());
        let group_by: Vec<Group> = live
            .group_by
            .iter()
            .map(|place| Group { place: *place, kind: kind_of(*place), name: name_of(*place) })
            .collect();
        // Others, and all that is no group's.
        let groups = if group_by.is_empty() { 1 } else { live.most_groups + 1 };
        let of_group = |precision: Precision| {
            inputs.iter().map(|input| precision.most_bytes(input)).sum::<usize>() + group_by.len() * (MOST_TEXT + 4)
        };
        let most = |precision: Precision| groups * of_group(precision) + 400;
        let precision = PRECISIONS.into_iter().find(|precision| most(*precision) <= MOST_STATE_BYTES);
        let precision = precision.ok_or_else(|| {
            let least = PRECISIONS.into_iter().map(most).min().unwrap_or_default();
            TooLarge { dataset: contract.name().to_owned(), bytes: least }
        })?;
        let names: Vec<_> = live.columns.iter().map(|column| &column.name).collect();
        let shape = format!("{VERSION} {} {inputs:?} {group_by:?} {precision:?} {names:?}", contract.name());
        Ok(Self {
            dataset: contract.name().to_owned(),
            event_time: live.event_time,
            late_after_ms: live.late_after_s.saturating_mul(1000),
            most_groups: live.most_groups,
            group_by,
            inputs,
            columns,
            precision,
            shape: crc32fast::hash(shape.as_bytes()),
        })
    }

    /// The dataset's name.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The names of the statistics, and whether each is watched.
    pub fn columns(&self) -> impl Iterator<Item = (&str, bool)> {
        self.columns.iter().map(|column| (column.name.as_ref(), column.watched))
    }

    /// The columns of results, as Hive, Glue and Athena spell them.
    pub fn hive_columns(&self) -> impl Iterator<Item = (&str, &str)> {
        let of_window = [("dataset", "string"), ("window_start", "timestamp"), ("window_end", "timestamp")];
        let counts =
            ["window_seconds", "events", "late", "bad", "dropped", "unreadable", "repeated", "shards", "revision"];
        let others = [
            ("is_other", "boolean"),
            ("incomplete", "boolean"),
            ("scores", "map<string,double>"),
            ("parts", "array<string>"),
        ];
        let groups = self.group_by.iter().map(|group| (group.name.as_str(), hive_of(group.kind)));
        let columns = self.columns.iter().map(|column| (column.name.as_ref(), self.hive_type(column)));
        let of_window = of_window.into_iter().chain(counts.map(|name| (name, "bigint"))).chain(others);
        of_window.chain(groups).chain(columns)
    }

    fn hive_type(&self, column: &Column) -> &'static str {
        match (&column.how, self.inputs.get(column.input)) {
            (Statistic::Plain(Aggregation::Count) | Statistic::Distinct(_), _) => "bigint",
            (Statistic::Plain(Aggregation::Avg(_)) | Statistic::Percentile { .. }, _) => "double",
            (Statistic::Top { .. }, _) => "array<struct<value:string,count:bigint,at_least:bigint>>",
            (Statistic::Plain(_), Some(Input::Numbers { kind: Type::Int32, .. })) => "bigint",
            (Statistic::Plain(_), Some(Input::Numbers { kind, .. })) => hive_of(*kind),
            (Statistic::Plain(_), _) => "double",
        }
    }

    /// Whether a statistic of all rows is the sum of those of parts of them.
    pub fn adds_up(&self, name: &str) -> bool {
        let column = self.columns.iter().find(|column| column.name.as_ref() == name);
        column.is_some_and(|column| matches!(column.how, Statistic::Plain(Aggregation::Count | Aggregation::Sum(_))))
    }

    /// The names of the columns that rows are grouped by.
    pub fn group_by(&self) -> impl Iterator<Item = &str> {
        self.group_by.iter().map(|group| group.name.as_str())
    }
}
