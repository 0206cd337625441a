//! CloudWatch's embedded metric format: metrics as members of a log line.
//!
//! Source: CloudWatch user guide, "Specification: Embedded metric format". One dimension set, the function's name: a
//! dimension with many values (a job id) would be billed as that many metrics.

use serde_json::{Map, Value, json};

/// A measured value.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    name: &'static str,
    value: f64,
    unit: Unit,
}

/// CloudWatch's names of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // CloudWatch's own names
pub enum Unit {
    Count,
    Bytes,
    Milliseconds,
    Percent,
}

impl Metric {
    /// A value with its unit.
    pub fn new(name: &'static str, value: f64, unit: Unit) -> Self {
        Self { name, value, unit }
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
        }
    }
}

pub(crate) fn attach(line: &mut Map<String, Value>, namespace: &str, now_ms: u64, metrics: &[Metric]) {
    if metrics.is_empty() {
        return;
    }
    for metric in metrics {
        line.insert(metric.name.to_owned(), metric.value.into());
    }
    let declared: Vec<Value> =
        metrics.iter().map(|metric| json!({"Name": metric.name, "Unit": metric.unit.name()})).collect();
    let directive = json!({
        "Timestamp": now_ms,
        "CloudWatchMetrics": [{"Namespace": namespace, "Dimensions": [["function"]], "Metrics": declared}],
    });
    line.insert("_aws".to_owned(), directive);
}
