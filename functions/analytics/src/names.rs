//! Windows, and what their objects are called.

use serde::Deserialize;
use weir_command::Location;
use weir_delivery::Failure;

/// A window of a dataset: Lambda's `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Its first moment, in milliseconds since 1970.
    pub start_ms: u64,
    /// The first moment after it.
    pub end_ms: u64,
}

#[derive(Deserialize)]
pub(crate) struct Bounds {
    start: String,
    end: String,
}

impl Bounds {
    pub(crate) fn read(&self) -> Result<Span, Failure> {
        let moment = |text: &str| {
            let micros = weir_values::stamp(text.as_bytes()).map(|(micros, _)| micros);
            let ms = micros.and_then(|micros| u64::try_from(micros / 1000).ok());
            ms.ok_or_else(|| Failure::user("NotAWindow", format!("a window's bound is no moment: `{text}`")))
        };
        Ok(Span { start_ms: moment(&self.start)?, end_ms: moment(&self.end)? })
    }
}

impl Span {
    /// How long it is.
    pub fn seconds(&self) -> u64 {
        self.end_ms.saturating_sub(self.start_ms) / 1000
    }

    /// `2024-05-01T10:00:00Z`
    pub fn start(&self) -> String {
        weir_live::instant(self.start_ms)
    }

    /// The first moment after it, likewise.
    pub fn end(&self) -> String {
        weir_live::instant(self.end_ms)
    }

    /// `20240501T100000Z-60s`: as names order, so do windows.
    fn name(&self) -> String {
        let start: String = self.start().chars().filter(|c| !matches!(c, '-' | ':')).collect();
        format!("{start}-{}s", self.seconds())
    }
}

/// Where the parts of a window are.
pub fn parts(statistics: &Location, dataset: &str, span: &Span) -> Location {
    statistics.join(&format!("_parts/{dataset}/{}/", span.name()))
}

/// A shard's parts among them, each named by its first record.
pub fn part(parts: &Location, shard: &str, first: &str) -> Location {
    parts.join(&format!("{shard}/{first}"))
}

/// Where a dataset's results are, by day.
pub fn results(statistics: &Location, dataset: &str) -> Location {
    statistics.join(&format!("{dataset}/"))
}

/// Where a window's is.
pub fn result(statistics: &Location, dataset: &str, span: &Span) -> Location {
    let (start, name) = (span.start(), span.name());
    let day = start.split('T').next().unwrap_or_default();
    results(statistics, dataset).join(&format!("window_date={day}/{name}.ndjson"))
}

/// Where the marks of results that are to be delivered are.
pub fn marks(statistics: &Location, dataset: &str) -> Location {
    statistics.join(&format!("_outbox/{dataset}/"))
}

/// A window's.
pub fn marks_of(marks: &Location, span: &Span) -> Location {
    marks.join(&format!("{}/", span.name()))
}

/// One of them: of a revision of the result, by an invocation.
pub fn mark(marks: &Location, span: &Span, revision: u64, request: &str) -> Location {
    marks_of(marks, span).join(&format!("{revision:06}-{request}"))
}

/// The revision that a mark is of.
pub fn revision_of_mark(mark: &Location) -> u64 {
    mark.file_name().split('-').next().and_then(|revision| revision.parse().ok()).unwrap_or_default()
}

/// The window that a mark's name says.
pub fn window_of_mark(mark: &Location) -> Option<Span> {
    read(mark.key().rsplit('/').nth(1)?)
}

/// The window that a result's name says.
pub fn window_of(result: &Location) -> Option<Span> {
    read(result.file_name().strip_suffix(".ndjson")?)
}

/// What [`Span::name`] wrote.
fn read(name: &str) -> Option<Span> {
    let (start, seconds) = name.strip_suffix('s')?.rsplit_once('-')?;
    let [date, time] = [start.get(..8)?, start.get(8..)?];
    let time = time.strip_prefix('T')?.strip_suffix('Z')?;
    let part = |text: &str, range| text.get(range).map(str::to_owned);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(date, 0..4)?,
        part(date, 4..6)?,
        part(date, 6..8)?,
        part(time, 0..2)?,
        part(time, 2..4)?,
        part(time, 4..6)?
    );
    let start_ms = u64::try_from(weir_values::stamp(text.as_bytes())?.0 / 1000).ok()?;
    Some(Span { start_ms, end_ms: start_ms + seconds.parse::<u64>().ok()?.checked_mul(1000)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_named_by_its_window_and_found_by_its_day() {
        let bounds = Bounds { start: "2024-05-01T23:59:00Z".into(), end: "2024-05-02T00:00:00Z".into() };
        let span = bounds.read().unwrap();
        let statistics = Location::parse("s3://tables/live/").unwrap();
        let result = result(&statistics, "trips", &span);
        assert_eq!(result.to_string(), "s3://tables/live/trips/window_date=2024-05-01/20240501T235900Z-60s.ndjson");
        assert_eq!(window_of(&result), Some(span));
        assert_eq!(window_of(&results(&statistics, "trips").join("window_date=2024-05-01/other.ndjson")), None);
        let mark = mark(&marks(&statistics, "trips"), &span, 3, "request");
        assert_eq!(mark.key(), "live/_outbox/trips/20240501T235900Z-60s/000003-request");
        assert_eq!((window_of_mark(&mark), revision_of_mark(&mark)), (Some(span), 3));
        let part = part(&parts(&statistics, "trips", &span), "shardId-000000000000", "4965");
        assert_eq!(part.key(), "live/_parts/trips/20240501T235900Z-60s/shardId-000000000000/4965");
        assert!(Bounds { start: "now".into(), end: String::new() }.read().is_err());
    }
}
