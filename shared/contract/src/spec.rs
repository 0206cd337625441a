//! The shape of `datasets/<name>.toml`: what may be written, before it is checked ([`crate::check`]).

use serde::Deserialize;
use toml::{Spanned, Value};

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) description: String,
    #[serde(default)]
    pub(crate) partition_by: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) key: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) order_by: Vec<Spanned<String>>,
    pub(crate) field: Vec<Spanned<FieldSpec>>,
    #[serde(default)]
    pub(crate) derived: Vec<Spanned<DerivedSpec>>,
    #[serde(default)]
    pub(crate) drop: Vec<Spanned<DropSpec>>,
    pub(crate) metrics: Option<MetricsSpec>,
    pub(crate) live: Option<LiveSpec>,
}

/// `[[field]]`: a column that comes with the data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldSpec {
    pub(crate) name: Spanned<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Spanned<String>,
    #[serde(default)]
    pub(crate) aliases: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) required: bool,
    #[serde(default)]
    pub(crate) trim: Option<Spanned<bool>>,
    #[serde(default)]
    pub(crate) lowercase: Option<Spanned<bool>>,
    pub(crate) url: Option<Spanned<String>>,
    pub(crate) max_length: Option<Spanned<usize>>,
    pub(crate) formats: Option<Spanned<Vec<Spanned<String>>>>,
    pub(crate) zone: Option<Spanned<String>>,
    pub(crate) min: Option<Spanned<Value>>,
    pub(crate) max: Option<Spanned<Value>>,
    pub(crate) one_of: Option<Spanned<Vec<Spanned<Value>>>>,
    pub(crate) sensitive: Option<Spanned<SensitiveSpec>>,
}

/// `sensitive = { hash = true }`, `{ mask = 2, in = "dashboards" }`, `{ drop = true }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SensitiveSpec {
    #[serde(default)]
    pub(crate) hash: bool,
    #[serde(default)]
    pub(crate) drop: bool,
    pub(crate) mask: Option<u32>,
    #[serde(rename = "in")]
    pub(crate) place: Option<Spanned<String>>,
}

/// `[[derived]]`: a column made from others. Exactly one of its forms.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DerivedSpec {
    pub(crate) name: Spanned<String>,
    pub(crate) date_of: Option<Spanned<String>>,
    pub(crate) hour_of: Option<Spanned<String>>,
    pub(crate) quotient: Option<QuotientSpec>,
    #[serde(default)]
    pub(crate) now: bool,
}

/// `quotient = { of = "tti", by = 1000 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotientSpec {
    pub(crate) of: Spanned<String>,
    pub(crate) by: Spanned<f64>,
}

/// `[[drop]]`: rows that are no data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropSpec {
    pub(crate) field: Spanned<String>,
    pub(crate) equals: Vec<Spanned<Value>>,
}

/// `[metrics]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricsSpec {
    #[serde(default)]
    pub(crate) group_by: Vec<Spanned<String>>,
    pub(crate) column: Vec<Spanned<MetricSpec>>,
}

/// `[[metrics.column]]`, `[[live.column]]`. Exactly one of its forms; those behind `max` only in `[live]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricSpec {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) count: bool,
    pub(crate) sum: Option<Spanned<String>>,
    pub(crate) avg: Option<Spanned<String>>,
    pub(crate) min: Option<Spanned<String>>,
    pub(crate) max: Option<Spanned<String>>,
    pub(crate) percentile: Option<PercentileSpec>,
    pub(crate) distinct: Option<Spanned<String>>,
    pub(crate) top: Option<TopSpec>,
    #[serde(default)]
    pub(crate) watched: bool,
}

/// `[live]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LiveSpec {
    pub(crate) event_time: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) late_after_seconds: u64,
    #[serde(default)]
    pub(crate) group_by: Vec<Spanned<String>>,
    pub(crate) most_groups: Option<Spanned<usize>>,
    pub(crate) column: Vec<Spanned<MetricSpec>>,
}

/// `percentile = { of = "trip_duration", at = 95 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PercentileSpec {
    pub(crate) of: Spanned<String>,
    pub(crate) at: Spanned<f64>,
}

/// `top = { of = ["dropoff_latitude", "dropoff_longitude"], most = 10 }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TopSpec {
    pub(crate) of: Vec<Spanned<String>>,
    pub(crate) most: Spanned<usize>,
}
