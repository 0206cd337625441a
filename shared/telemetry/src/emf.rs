//! CloudWatch's embedded metric format: metrics as members of a log line.
//!
//! Source: CloudWatch user guide, "Specification: Embedded metric format". One dimension set, the function's name: a
//! dimension with many values (a job id) would be billed as that many metrics.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    name: Cow<'static, str>,
    value: f64,
    unit: Unit,
}

/// CloudWatch's names of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)] // CloudWatch's own names
pub enum Unit {
    Count,
    Bytes,
    Milliseconds,
    Percent,
    None,
}

impl Metric {
    /// A value with its unit.
    pub fn new(name: impl Into<Cow<'static, str>>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit }
    }

    /// How many.
    pub fn count(name: &'static str, many: u64) -> Self {
        Self::new(name, many as f64, Unit::Count)
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Milliseconds => "Milliseconds",
            Self::Percent => "Percent",
            Self::None => "None",
        }
    }
}

pub(crate) fn attach(
    line: &mut Map<String, Value>,
    namespace: &str,
    dimensions: &[&str],
    at_ms: u64,
    metrics: &[Metric],
) {
    if metrics.is_empty() {
        return;
    }
    for metric in metrics {
        line.insert(metric.name.to_string(), metric.value.into());
    }
    let declared: Vec<Value> =
        metrics.iter().map(|metric| json!({"Name": metric.name, "Unit": metric.unit.name()})).collect();
    let directive = json!({
        "Timestamp": at_ms,
        "CloudWatchMetrics": [{"Namespace": namespace, "Dimensions": [dimensions], "Metrics": declared}],
    });
    line.insert("_aws".to_owned(), directive);
}
