//! What has been sent: counted, timed, shown.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use weir_delivery::Failure;

use super::lanes::Packed;

/// Counts of one run.
pub(crate) struct Report {
    begun: Instant,
    bar: ProgressBar,
    rows: u64,
    row_bytes: u64,
    records: u64,
    bytes: u64,
    retries: u64,
    throttled: u64,
    failed: u64,
    /// Rows sent again because the stream was resharded under them.
    pub(crate) resent: u64,
    reasons: BTreeMap<String, u64>,
    /// Microseconds from a row's reading to its record's acknowledgement; of a record, its oldest row's.
    latency: Option<Histogram<u64>>,
}

impl Report {
    pub(crate) fn new() -> Self {
        // Drawn on a terminal only.
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        Self {
            begun: Instant::now(),
            bar,
            rows: 0,
            row_bytes: 0,
            records: 0,
            bytes: 0,
            retries: 0,
            throttled: 0,
            failed: 0,
            resent: 0,
            reasons: BTreeMap::new(),
            // Up to an hour, to three digits.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).ok(),
        }
    }

    pub(crate) fn sent(&mut self, packed: &Packed) {
        self.rows += packed.rows.len() as u64;
        self.row_bytes += packed.rows.iter().map(|row| row.data.len() as u64).sum::<u64>();
        self.records += 1;
        self.bytes += packed.bytes() as u64;
        if let (Some(latency), Some(first)) = (&mut self.latency, packed.rows.first()) {
            latency.saturating_record(first.read_at.elapsed().as_micros() as u64);
        }
    }

    pub(crate) fn refused(&mut self, failure: &Failure) {
        self.retries += 1;
        if failure.code.contains("Throughput")
            || failure.code.contains("Thrott")
            || failure.code.contains("LimitExceeded")
        {
            self.throttled += 1;
        }
    }

    pub(crate) fn failed(&mut self, rows: u64, reason: &str) {
        if rows > 0 {
            self.failed += rows;
            *self.reasons.entry(reason.to_owned()).or_default() += rows;
        }
    }

    pub(crate) fn say(&self, what: &str) {
        self.bar.suspend(|| eprintln!("weir: {what}"));
    }

    pub(crate) fn show(&self, flying: usize) {
        let seconds = self.begun.elapsed().as_secs_f64();
        self.bar.set_message(format!(
            "{} rows sent, {:.0} a second, {:.1} MB, {} retries, {flying} requests under way",
            self.rows,
            self.rows as f64 / seconds.max(0.001),
            self.bytes as f64 / 1e6,
            self.retries,
        ));
        self.bar.tick();
    }

    /// Ends the drawing.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    pub(crate) fn to_json(&self, unsent: Option<&str>) -> Value {
        let seconds = self.begun.elapsed().as_secs_f64();
        let ms = |of: f64| {
            let latency = self.latency.as_ref().filter(|latency| !latency.is_empty());
            latency.map(|latency| latency.value_at_quantile(of) as f64 / 1000.0)
        };
        json!({
            "rows": self.rows, "row_bytes": self.row_bytes, "records": self.records, "bytes": self.bytes,
            "seconds": seconds, "rows_per_second": self.rows as f64 / seconds, "bytes_per_second": self.row_bytes as f64 / seconds,
            "retries": self.retries, "throttled": self.throttled, "resent": self.resent, "failed": self.failed, "unsent": unsent,
            "reasons": self.reasons,
            "latency_ms": {"p50": ms(0.5), "p90": ms(0.9), "p99": ms(0.99), "max": ms(1.0)},
        })
    }

    /// For people.
    pub(crate) fn describe(&self, unsent: Option<&str>) -> String {
        let said = self.to_json(unsent);
        let number = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or_default();
        let latency = |name: &str| {
            let ms = said.pointer(&format!("/latency_ms/{name}")).and_then(Value::as_f64);
            ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"))
        };
        let mut lines = vec![
            format!("rows      {} in {:.1} s, {:.0} a second", self.rows, number("seconds"), number("rows_per_second")),
            format!(
                "bytes     {:.1} MB of rows as {:.1} MB in {} records, {:.1} MB/s",
                self.row_bytes as f64 / 1e6,
                self.bytes as f64 / 1e6,
                self.records,
                number("bytes_per_second") / 1e6
            ),
            format!("retries   {}, {} of them throttled", self.retries, self.throttled),
            format!(
                "latency   {} ms p50, {} p90, {} p99, {} max",
                latency("p50"),
                latency("p90"),
                latency("p99"),
                latency("max")
            ),
        ];
        if self.resent > 0 {
            lines.push(format!("resent    {} rows: the stream was resharded", self.resent));
        }
        for (reason, rows) in &self.reasons {
            lines.push(format!("failed    {rows} rows: {reason}"));
        }
        if let Some(unsent) = unsent {
            lines.push(format!("unsent    in {unsent}; send that file again"));
        }
        lines.join("\n")
    }
}
