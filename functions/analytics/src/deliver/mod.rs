//! Results into OpenSearch.
//!
//! Whoever makes a result first leaves a mark that it is to be delivered ([`mark`]). When a mark is left, the function that delivers
//! reads that window's result, writes its documents, and only then removes the marks of results up to that one; every few minutes it
//! goes through all marks. So a domain that is down, or slow, delays documents and holds back nothing else, and a document that
//! comes twice, or late, never takes the place of a newer one.

mod documents;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{ObjectInfo, find, list_all};
use weir_live::{Published, Span};
use weir_search::Index;
use weir_telemetry::Visit;

use crate::Analytics;
use crate::names;
use crate::publish::is_race;
use crate::said::{Delivered, DocumentsRefused};

pub use documents::documents_of;

/// What indices of live statistics are made by: its patterns are `weir-live-*`, whatever the stack's name.
const TEMPLATE: &str = include_str!("../../opensearch/index-template.json");

/// An invocation keeps so much of its time.
const RESERVE_MS: u64 = 25_000;

/// After so many windows that fail, the domain does not answer.
const MOST_FAILURES: usize = 3;

/// How often, and how far apart, is looked for a result that is to come.
const LOOKS: usize = 6;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Longer than an invocation of the stream's function lives, in milliseconds.
const LONG_AGO_MS: u64 = 300_000;

/// What an invocation of the function that delivers comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Windows that were delivered.
    pub windows: u64,
    /// Documents of them.
    pub documents: u64,
    /// Documents that are refused; their windows stay marked.
    pub refused: u64,
    /// Windows that are still marked.
    pub waiting: u64,
}

impl Report {
    /// One of the windows that waited.
    fn add(&mut self, one: Self) {
        self.windows += one.windows;
        self.documents += one.documents;
        self.refused += one.refused;
        self.waiting -= one.waiting;
    }
}

/// Whether this process has set the template.
#[derive(Default)]
pub(crate) struct Prepared(AtomicBool);

/// Leaves the mark that a window's result is to be delivered, before there is the result.
pub(crate) async fn mark(analytics: &Analytics, span: &Span, revision: u64, visit: &Visit) -> Result<(), Failure> {
    let marks = names::marks(&analytics.config.statistics, analytics.plan.dataset());
    let at = names::mark(&marks, span, revision, &visit.request_id);
    analytics.lake.put(&at, Bytes::from_static(b"{}"), "application/json").await
}

/// What S3 says by EventBridge: that a mark was left.
#[derive(Deserialize)]
struct Marked {
    detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    key: String,
}

impl Analytics {
    /// Delivers what is marked: of the window that an event says, or, whatever else comes, of all windows.
    ///
    /// # Errors
    /// S3's, or OpenSearch's: what was not delivered is still marked.
    pub async fn deliver(&self, index: &dyn Index, payload: &str, visit: &Visit) -> Result<Report, Failure> {
        let begun_ms = visit.now_ms();
        let marks = names::marks(&self.config.statistics, self.plan.dataset());
        let marked = serde_json::from_str::<Marked>(payload).ok();
        let marked = marked.and_then(|it| names::window_of_mark(&marks.sibling(&it.detail.object.key)));
        let under = marked.map_or_else(|| marks.clone(), |span| names::marks_of(&marks, &span));
        let mut windows: BTreeMap<Span, Vec<ObjectInfo>> = BTreeMap::new();
        for object in list_all(self.lake.as_ref(), &under).await? {
            if let Some(span) = names::window_of_mark(&object.location) {
                windows.entry(span).or_default().push(object);
            }
        }
        let oldest_ms = windows.values().flatten().map(|mark| mark.modified_ms).min().unwrap_or(begun_ms);
        let mut report = Report { waiting: windows.len() as u64, ..Report::default() };
        if !windows.is_empty() && !self.memory.prepared.0.load(Ordering::Relaxed) {
            let template: Value =
                serde_json::from_str(TEMPLATE).map_err(|error| Failure::internal("Template", error.to_string()))?;
            index.template("weir-live", &template).await?;
            self.memory.prepared.0.store(true, Ordering::Relaxed);
        }
        let mut failures = Vec::new();
        // The newest first: what can't be delivered must not hold back what can.
        for (span, marks) in windows.into_iter().rev() {
            if !visit.has_left(RESERVE_MS) || failures.len() >= MOST_FAILURES {
                break;
            }
            let mut delivered = self.deliver_one(&span, &marks, index, visit).await;
            // Of one that was marked just now the result may come in a moment.
            for _ in 0..if marked.is_some() { LOOKS } else { 0 } {
                if !matches!(&delivered, Ok(Report { waiting: 0, refused: 0, .. })) {
                    break;
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
                delivered = self.deliver_one(&span, &marks, index, visit).await;
            }
            match delivered {
                Ok(one) => report.add(one),
                // It was just replaced, which is marked.
                Err(failure) if is_race(&failure) => {}
                Err(failure) => failures.push(failure),
            }
        }
        let ms = visit.now_ms().saturating_sub(begun_ms);
        let age_ms = begun_ms.saturating_sub(oldest_ms);
        self.telemetry.emit(&visit.request_id, &Delivered { report, age_ms, ms, cold_start: visit.cold_start });
        failures.into_iter().next().map_or(Ok(report), Err)
    }

    /// A window's result; then its marks go, but for those of results that are yet to come.
    async fn deliver_one(
        &self,
        span: &Span,
        marks: &[ObjectInfo],
        index: &dyn Index,
        visit: &Visit,
    ) -> Result<Report, Failure> {
        let now_ms = visit.now_ms();
        let at = Published::location(&self.config.statistics, self.plan.dataset(), span);
        let (mut report, mut revision) = (Report::default(), 0);
        if let Some((bytes, _)) = find(self.lake.as_ref(), &at).await? {
            let unread = || Failure::internal("Result", format!("{at} is no result"));
            let published = Published::read(&bytes).ok_or_else(unread)?;
            let documents = documents_of(&self.config.stack, &self.plan, span, &published);
            let refused = index.write(&documents).await?;
            report.refused = refused.len() as u64;
            report.documents = documents.len() as u64 - report.refused;
            revision = published.revision();
            if let Some(first) = refused.first() {
                let event = DocumentsRefused { span, count: report.refused, failure: &first.failure };
                self.telemetry.emit(&visit.request_id, &event);
                return Ok(report);
            }
        }
        // Whoever left a mark before its result is at it, or died long ago.
        let is_done = |mark: &&ObjectInfo| {
            names::revision_of_mark(&mark.location) <= revision || mark.modified_ms + LONG_AGO_MS < now_ms
        };
        let done: Vec<Location> = marks.iter().filter(is_done).map(|mark| mark.location.clone()).collect();
        if done.len() == marks.len() {
            (report.windows, report.waiting) = (1, 1);
        }
        if !done.is_empty() {
            self.lake.delete(&done).await?;
        }
        Ok(report)
    }
}
