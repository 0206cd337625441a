//! Results into OpenSearch.
//!
//! Whoever makes a result first leaves a mark that it is to be delivered ([`mark`]). Whenever a mark is left, and every few minutes,
//! the function that delivers goes through all marks: it reads each window's result, writes its documents, and only then removes
//! the marks that it saw. So a domain that is down, or slow, delays documents and holds back nothing else, and a document that
//! comes twice, or late, never takes the place of a newer one.

mod documents;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{find, list_all};
use weir_search::Index;
use weir_telemetry::Visit;

use crate::Analytics;
use crate::names::{self, Span};
use crate::publish::Published;
use crate::said::{Delivered, DocumentsRefused};

pub use documents::documents_of;

/// What indices of live statistics are made by: its patterns are `weir-live-*`, whatever the stack's name.
const TEMPLATE: &str = include_str!("../../opensearch/index-template.json");

/// An invocation keeps so much of its time.
const RESERVE_MS: u64 = 25_000;

/// What an invocation of the function that delivers comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Windows that were delivered.
    pub windows: u64,
    /// Documents of them.
    pub documents: u64,
    /// Documents that are refused; their windows stay marked.
    pub refused: u64,
    /// Windows that are left for another time.
    pub waiting: u64,
}

/// Whether this process has set the template.
#[derive(Default)]
pub(crate) struct Prepared(AtomicBool);

/// Leaves the mark that a window's result is to be delivered, before there is the result.
pub(crate) async fn mark(analytics: &Analytics, span: &Span, parts: usize, visit: &Visit) -> Result<(), Failure> {
    let marks = names::marks(&analytics.config.statistics, analytics.plan.dataset());
    let at = names::mark(&marks, span, parts, &visit.request_id);
    analytics.lake.put(&at, Bytes::from_static(b"{}"), "application/json").await
}

impl Analytics {
    /// Delivers what is marked.
    ///
    /// # Errors
    /// S3's, or OpenSearch's: what was not delivered is still marked.
    pub async fn deliver(&self, index: &dyn Index, visit: &Visit) -> Result<Report, Failure> {
        let begun_ms = visit.now_ms();
        let dataset = self.plan.dataset();
        let marks = names::marks(&self.config.statistics, dataset);
        let mut windows: BTreeMap<Span, Vec<Location>> = BTreeMap::new();
        let mut oldest_ms = begun_ms;
        for object in list_all(self.lake.as_ref(), &marks).await? {
            if let Some(span) = names::window_of_mark(&object.location) {
                oldest_ms = oldest_ms.min(object.modified_ms);
                windows.entry(span).or_default().push(object.location);
            }
        }
        let mut report = Report { waiting: windows.len() as u64, ..Report::default() };
        if !windows.is_empty() && !self.memory.prepared.0.load(Ordering::Relaxed) {
            let template: Value =
                serde_json::from_str(TEMPLATE).map_err(|error| Failure::internal("Template", error.to_string()))?;
            index.template("weir-live", &template).await?;
            self.memory.prepared.0.store(true, Ordering::Relaxed);
        }
        for (span, marks) in windows {
            if !visit.has_left(RESERVE_MS) {
                break;
            }
            let (documents, refused) = self.deliver_one(&span, index, visit).await?;
            report.waiting -= 1;
            report.documents += documents - refused;
            report.refused += refused;
            if refused == 0 {
                report.windows += 1;
                self.lake.delete(&marks).await?;
            }
        }
        let ms = visit.now_ms().saturating_sub(begun_ms);
        let age_ms = begun_ms.saturating_sub(oldest_ms);
        self.telemetry.emit(&visit.request_id, &Delivered { report, age_ms, ms, cold_start: visit.cold_start });
        Ok(report)
    }

    /// How many documents a window has, and how many of them are refused.
    async fn deliver_one(&self, span: &Span, index: &dyn Index, visit: &Visit) -> Result<(u64, u64), Failure> {
        let at = names::result(&self.config.statistics, self.plan.dataset(), span);
        let Some((bytes, _)) = find(self.lake.as_ref(), &at).await? else {
            // Whoever left the mark died before there was a result, and comes again with another.
            return Ok((0, 0));
        };
        let unread = || Failure::internal("Result", format!("{at} is no result"));
        let published = Published::read(&bytes).ok_or_else(unread)?;
        let documents = documents_of(&self.config.stack, &self.plan, span, &published);
        let refused = index.write(&documents).await?;
        if let Some(first) = refused.first() {
            let event = DocumentsRefused { span, count: refused.len() as u64, failure: &first.failure };
            self.telemetry.emit(&visit.request_id, &event);
        }
        Ok((documents.len() as u64, refused.len() as u64))
    }
}
