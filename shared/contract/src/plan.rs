//! A contract, compiled: what is done with every row.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType, Field as ArrowField, Schema, SchemaRef, TimeUnit};
use jiff::tz::TimeZone;

use crate::live::Live;

/// A dataset's contract, checked and ready to be applied.
#[derive(Debug, Clone)]
pub struct Contract {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) derived: Vec<Derived>,
    pub(crate) drops: Vec<DropRule>,
    pub(crate) partition_by: Vec<usize>,
    pub(crate) key: Vec<usize>,
    pub(crate) order_by: Vec<usize>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) live: Option<Live>,
    /// Names and aliases of what may come with a row: its place among the columns.
    pub(crate) lookup: HashMap<String, usize>,
}

/// A type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)] // the names are the documentation
pub enum Type {
    Bool,
    Int32,
    Int64,
    Float64,
    /// Exact: `precision` digits in all (at most 18), `scale` of them behind the point.
    Decimal {
        precision: u8,
        scale: u8,
    },
    String,
    Date,
    /// A moment, to the microsecond, in UTC.
    Timestamp,
}

/// A column that comes with the data.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Type,
    pub(crate) required: bool,
    pub(crate) trim: bool,
    pub(crate) lowercase: bool,
    pub(crate) without_query: bool,
    pub(crate) max_length: Option<usize>,
    pub(crate) formats: Vec<TimeFormat>,
    /// `None` is UTC.
    pub(crate) zone: Option<TimeZone>,
    pub(crate) min: Option<Bound>,
    pub(crate) max: Option<Bound>,
    pub(crate) one_of: Vec<Bound>,
    pub(crate) sensitive: Option<(Hide, Audience)>,
}

/// A value a contract names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bound {
    Bool(bool),
    /// Whole numbers, decimals by their scale, days, microseconds.
    Int(i64),
    Float(f64),
    Text(String),
}

/// How a moment or a date is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimeFormat {
    /// RFC 3339 and its relatives: with or without zone, `T` or a blank, seconds and their fraction.
    Iso,
    /// Seconds, milliseconds, microseconds since 1970: the digits behind the point that make a microsecond.
    Epoch(u32),
    /// `strftime` directives.
    Pattern(String),
}

/// What is done with a sensitive value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hide {
    /// Null.
    Drop,
    /// `sha256:` and the digest in hex: the same value stays the same, so it can be counted and joined.
    Hash,
    /// Numbers to so many decimals; text but for its last so many characters.
    Mask(u32),
}

/// For whom rows are cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Tables: what is sensitive everywhere is hidden.
    Tables,
    /// Dashboards: what is sensitive there is hidden as well.
    Dashboards,
}

/// A column made from others.
#[derive(Debug, Clone)]
pub(crate) struct Derived {
    pub(crate) name: Arc<str>,
    pub(crate) how: Derivation,
    /// How the value of a row that was cleaned before is read, where it is kept.
    pub(crate) kept: Option<Box<Field>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Derivation {
    /// The day a moment is in, in UTC.
    DateOf(usize),
    /// The hour of its day, in UTC.
    HourOf(usize),
    Quotient {
        of: usize,
        by: f64,
    },
    /// When the row was cleaned; a row that says so already keeps it, so that cleaning twice changes nothing.
    Now,
}

/// Rows with one of these values are no data.
#[derive(Debug, Clone)]
pub(crate) struct DropRule {
    pub(crate) field: usize,
    pub(crate) equals: Vec<Bound>,
}

/// Metrics by group.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) group_by: Vec<usize>,
    pub(crate) columns: Vec<Metric>,
}

#[derive(Debug, Clone)]
pub(crate) struct Metric {
    pub(crate) name: Arc<str>,
    pub(crate) how: Aggregation,
}

/// What is made of a column's values, each column by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)] // the names are the documentation
pub enum Aggregation {
    Count,
    Sum(usize),
    Avg(usize),
    Min(usize),
    Max(usize),
}

impl Field {
    /// A nullable column without rules.
    pub(crate) fn plain(name: &str, kind: Type) -> Self {
        Self {
            name: Arc::from(name),
            kind,
            required: false,
            trim: false,
            lowercase: false,
            without_query: false,
            max_length: None,
            formats: vec![TimeFormat::Iso],
            zone: None,
            min: None,
            max: None,
            one_of: Vec::new(),
            sensitive: None,
        }
    }
}

impl Contract {
    /// The dataset's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the dataset is, in a sentence.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The columns of clean rows, in order: those that come with the data, then the derived ones.
    pub fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        let fields = self.fields.iter().map(|field| Column {
            name: &field.name,
            kind: field.kind,
            nullable: !field.required || field.sensitive.is_some_and(|(hide, _)| hide == Hide::Drop),
        });
        let derived = self.derived.iter().map(|derived| {
            let of = match derived.how {
                Derivation::DateOf(of) | Derivation::HourOf(of) | Derivation::Quotient { of, .. } => {
                    self.fields.get(of)
                }
                Derivation::Now => None,
            };
            Column { name: &derived.name, kind: derived.how.kind(), nullable: of.is_some_and(|field| !field.required) }
        });
        fields.chain(derived)
    }

    /// The names of the columns that partition the dataset, outermost first.
    pub fn partition_by(&self) -> Vec<&str> {
        self.names_of(&self.partition_by)
    }

    /// The names of the columns that tell rows apart.
    pub fn key(&self) -> Vec<&str> {
        self.names_of(&self.key)
    }

    /// The names of the columns by which the newest of several rows with one key is found.
    pub fn order_by(&self) -> Vec<&str> {
        self.names_of(&self.order_by)
    }

    /// The same for rows that go, of which nothing but the key is known.
    pub fn of_key(&self) -> Self {
        let fields = self.fields.iter().enumerate().filter(|(place, _)| self.key.contains(place));
        let (places, fields): (Vec<usize>, Vec<Field>) = fields.map(|(place, field)| (place, field.clone())).unzip();
        let moved = |old: &usize| places.iter().position(|place| place == old);
        Self {
            name: self.name.clone(),
            description: self.description.clone(),
            key: self.key.iter().filter_map(moved).collect(),
            lookup: self.lookup.iter().filter_map(|(name, old)| Some((name.clone(), moved(old)?))).collect(),
            fields,
            derived: Vec::new(),
            drops: Vec::new(),
            partition_by: Vec::new(),
            order_by: Vec::new(),
            metrics: None,
            live: None,
        }
    }

    fn names_of(&self, places: &[usize]) -> Vec<&str> {
        places.iter().filter_map(|place| self.columns().nth(*place)).map(|column| column.name).collect()
    }

    pub(crate) fn column_count(&self) -> usize {
        self.fields.len() + self.derived.len()
    }

    /// The clean rows' schema.
    pub fn schema(&self) -> SchemaRef {
        let fields = self.columns().map(|column| ArrowField::new(column.name, column.kind.to_arrow(), column.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// A column of clean rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Lowercase.
    pub name: &'a str,
    /// Its type.
    pub kind: Type,
    /// Whether a clean row may lack it.
    pub nullable: bool,
}

impl Derivation {
    pub(crate) fn kind(self) -> Type {
        match self {
            Self::DateOf(_) => Type::Date,
            Self::HourOf(_) => Type::Int32,
            Self::Quotient { .. } => Type::Float64,
            Self::Now => Type::Timestamp,
        }
    }
}

impl Type {
    /// As Arrow has it.
    pub fn to_arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::String => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// As Hive, Glue and Athena spell it.
    pub fn to_hive(self) -> String {
        match self {
            Self::Bool => "boolean".to_owned(),
            Self::Int32 => "int".to_owned(),
            Self::Int64 => "bigint".to_owned(),
            Self::Float64 => "double".to_owned(),
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            Self::String => "string".to_owned(),
            Self::Date => "date".to_owned(),
            Self::Timestamp => "timestamp".to_owned(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
        }
    }
}
