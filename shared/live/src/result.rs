//! A window's result: where it is, and its rows.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use weir_command::Location;

use crate::span::{Span, compact};

/// A result: its rows, the first of all groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// Rows.
    pub lines: Vec<Map<String, Value>>,
}

impl Published {
    /// What [`write`](Self::write) wrote; nothing if it is no result.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Some(Self { lines: lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()? })
    }

    /// As NDJSON.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in &self.lines {
            bytes.extend_from_slice(Value::from(line.clone()).to_string().as_bytes());
            bytes.push(b'\n');
        }
        bytes
    }

    /// Of all groups together.
    pub fn all(&self) -> Option<&Map<String, Value>> {
        self.lines.first()
    }

    /// How often it was made.
    pub fn revision(&self) -> u64 {
        self.all().and_then(|all| all.get("revision")?.as_u64()).unwrap_or_default()
    }

    /// The parts that are in it.
    pub fn parts(&self) -> BTreeSet<&str> {
        let parts = self.all().and_then(|all| all.get("parts")?.as_array());
        parts.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Where a dataset's results are, by day.
    pub fn folder(statistics: &Location, dataset: &str) -> Location {
        statistics.join(&format!("{dataset}/"))
    }

    /// Where a window's is.
    pub fn location(statistics: &Location, dataset: &str, span: &Span) -> Location {
        Self::of_day(statistics, dataset, span.start_ms, &format!("{}.ndjson", span.name()))
    }

    /// What results of windows that begin at a moment or later, and no others, are after in a listing.
    pub fn since(statistics: &Location, dataset: &str, ms: u64) -> Location {
        Self::of_day(statistics, dataset, ms, &compact(ms))
    }

    /// The window that a result's name says.
    pub fn window_of(result: &Location) -> Option<Span> {
        Span::named(result.file_name().strip_suffix(".ndjson")?)
    }

    fn of_day(statistics: &Location, dataset: &str, ms: u64, name: &str) -> Location {
        let start = crate::instant(ms);
        let day = start.split('T').next().unwrap_or_default();
        Self::folder(statistics, dataset).join(&format!("window_date={day}/{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_named_by_its_window_and_found_by_its_day() {
        let span = Span { start_ms: 1_714_607_940_000, end_ms: 1_714_608_000_000 };
        let statistics = Location::parse("s3://tables/live/").unwrap();
        let result = Published::location(&statistics, "trips", &span);
        assert_eq!(result.to_string(), "s3://tables/live/trips/window_date=2024-05-01/20240501T235900Z-60s.ndjson");
        assert_eq!(Published::window_of(&result), Some(span));
        for other in ["other.ndjson", "20240501T235900Z-60s", "20240501T235900Z-99999999999999999999s.ndjson"] {
            assert_eq!(Published::window_of(&Published::folder(&statistics, "trips").join(other)), None, "{other}");
        }
        let since = |ms| Published::since(&statistics, "trips", ms);
        assert!(since(span.start_ms).key() < result.key());
        assert!(since(span.start_ms + 1000).key() > result.key());
        assert!(since(span.end_ms).key() > result.key(), "a day later");
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let line = |value: Value| value.as_object().cloned().unwrap();
        let all = serde_json::json!({"revision": 3, "parts": ["shard/1@a", "shard/2@b"], "trips": 7});
        let published = Published { lines: vec![line(all), line(serde_json::json!({"vendor_id": null, "trips": 7}))] };
        assert_eq!(Published::read(&published.write()), Some(published.clone()));
        assert_eq!((published.revision(), published.parts().len()), (3, 2));
        assert_eq!(Published::read(b"{\"trips\": 7}\n{"), None);
    }
}
