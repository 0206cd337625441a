//! A window's result, of all the parts there are.
//!
//! Every shard's last invocation stores its part, then makes the result of all parts, unless one that has them all is there. A
//! result says which parts are in it and is replaced only by who has seen it: of two that come at once, the one that is late
//! looks again. So the last to come finds all parts, whichever it is, and none is ever left out again.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Map, Value, json};
use weir_delivery::Failure;
use weir_lake::{ObjectInfo, find, list_all};
use weir_live::{Published, Span, Window};
use weir_telemetry::Visit;

use crate::Analytics;
use crate::deliver;
use crate::names;
use crate::visit::damaged;

/// Parts that are read at a time.
const AT_ONCE: usize = 4;

/// What an invocation keeps for the last try.
const RESERVE_MS: u64 = 1_000;

/// Up to half a second, another for each that waits.
fn pause(request: &str, tries: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (request, tries).hash(&mut hasher);
    Duration::from_millis(20 + hasher.finish() % 480)
}

impl Analytics {
    /// Makes a window's result, or finds it made. Nothing if there is nothing of the window.
    ///
    /// # Errors
    /// S3's.
    pub async fn publish(&self, span: &Span, visit: &Visit) -> Result<Option<Published>, Failure> {
        let dataset = self.plan.dataset();
        let prefix = names::parts(&self.config.statistics, dataset, span);
        let at = Published::location(&self.config.statistics, dataset, span);
        for tries in 0.. {
            if tries > 0 {
                // All shards end a window at once: they must not come again at once.
                tokio::time::sleep(pause(&visit.request_id, tries)).await;
                if !visit.has_left(RESERVE_MS) {
                    break;
                }
            }
            let parts = list_all(self.lake.as_ref(), &prefix).await?;
            // With its etag: one that is written again may have more in it.
            let name = |part: &ObjectInfo| {
                let key = part.location.key();
                format!("{}@{}", key.strip_prefix(prefix.key()).unwrap_or(key), part.etag.trim_matches('"'))
            };
            let there: Vec<String> = parts.iter().map(name).collect();
            if there.is_empty() {
                return Ok(None);
            }
            let known = match find(self.lake.as_ref(), &at).await {
                // It was replaced between its head and its bytes.
                Err(failure) if is_race(&failure) => continue,
                known => known?,
            };
            let read = known.as_ref().and_then(|(bytes, _)| Published::read(bytes));
            let revision = read.as_ref().map_or(0, Published::revision) + 1;
            if let Some(result) = read
                && there.iter().all(|part| result.parts().contains(part.as_str()))
            {
                return Ok(Some(result));
            }
            let Some(result) = self.result(span, &parts, &there, revision, visit).await? else { continue };
            if self.config.delivers {
                deliver::mark(self, span, revision, visit).await?;
            }
            let kind = "application/x-ndjson";
            let put = match &known {
                None => self.lake.put_new(&at, result.write().into(), kind).await,
                Some((_, etag)) => self.lake.put_if(&at, etag, result.write().into(), kind).await,
            };
            match put {
                Ok(()) => return Ok(Some(result)),
                Err(failure) if is_race(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::passing("Crowded", format!("the result of {} was always another's", span.start())))
    }

    /// What parts come to; nothing if they were replaced meanwhile.
    async fn result(
        &self,
        span: &Span,
        parts: &[ObjectInfo],
        names: &[String],
        revision: u64,
        visit: &Visit,
    ) -> Result<Option<Published>, Failure> {
        let gets = parts.iter().map(|part| self.lake.get(&part.location, Some(&part.etag), 0, part.size));
        let gets: Vec<_> = gets.collect();
        let mut read = futures::stream::iter(gets).buffered(AT_ONCE);
        let mut window = Window::default();
        // One by one: all of them may be more than there is memory for.
        while let Some(bytes) = read.next().await {
            let bytes = match bytes {
                Err(failure) if is_race(&failure) => return Ok(None),
                bytes => bytes?,
            };
            let merged = Window::from_bytes(&self.plan, &bytes).and_then(|part| window.merge(&self.plan, &part));
            // Another version's.
            window.incomplete |= merged.is_err();
        }
        drop(read);
        let shards: BTreeSet<&str> = names.iter().filter_map(|name| name.split('/').next()).collect();
        let lines = window.lines(&self.plan).map_err(|error| damaged(&error))?;
        let scores = self.scores(span, &lines.all, visit).await;
        let mut all = self.header(span);
        let counts = serde_json::to_value(window.counts).unwrap_or_default();
        if let Value::Object(counts) = counts {
            all.extend(counts);
        }
        let facts = json!({"incomplete": window.incomplete, "shards": shards.len(), "revision": revision, "scores": scores, "parts": names});
        if let Value::Object(facts) = facts {
            all.extend(facts);
        }
        all.extend(lines.all);
        let of_group = |line| {
            let mut group = self.header(span);
            group.extend(line);
            group
        };
        let lines = std::iter::once(all).chain(lines.groups.into_iter().map(of_group)).collect();
        Ok(Some(Published { lines }))
    }

    fn header(&self, span: &Span) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("dataset".to_owned(), self.plan.dataset().into());
        line.insert("window_start".to_owned(), span.start().into());
        line.insert("window_end".to_owned(), span.end().into());
        line.insert("window_seconds".to_owned(), span.seconds().into());
        line
    }
}

pub(crate) fn is_race(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "PreconditionFailed" | "NoSuchKey")
}
