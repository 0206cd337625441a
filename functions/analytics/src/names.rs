//! What is called how, of a window: its parts, and the marks that its result is to be delivered.

use serde::Deserialize;
use weir_command::Location;
use weir_delivery::Failure;
use weir_live::Span;

/// A window as Lambda says it.
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

/// Where the parts of a window are.
pub fn parts(statistics: &Location, dataset: &str, span: &Span) -> Location {
    statistics.join(&format!("_parts/{dataset}/{}/", span.name()))
}

/// A shard's parts among them, each named by its first record.
pub fn part(parts: &Location, shard: &str, first: &str) -> Location {
    parts.join(&format!("{shard}/{first}"))
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
    Span::named(mark.key().rsplit('/').nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_parts_say_what_they_are_of() {
        let bounds = Bounds { start: "2024-05-01T23:59:00Z".into(), end: "2024-05-02T00:00:00Z".into() };
        let span = bounds.read().unwrap();
        let statistics = Location::parse("s3://tables/live/").unwrap();
        let mark = mark(&marks(&statistics, "trips"), &span, 3, "request");
        assert_eq!(mark.key(), "live/_outbox/trips/20240501T235900Z-60s/000003-request");
        assert_eq!((window_of_mark(&mark), revision_of_mark(&mark)), (Some(span), 3));
        let part = part(&parts(&statistics, "trips", &span), "shardId-000000000000", "4965");
        assert_eq!(part.key(), "live/_parts/trips/20240501T235900Z-60s/shardId-000000000000/4965");
        assert!(Bounds { start: "now".into(), end: String::new() }.read().is_err());
    }
}
