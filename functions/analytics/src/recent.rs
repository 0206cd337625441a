//! How unusual a window is among those before it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::ObjectInfo;
use weir_live::{FEWEST, Published, Span, score};
use weir_telemetry::{Trouble, Visit};

use crate::Analytics;

/// How many windows before it.
const WINDOWS: u64 = 30;

/// Results that are read at a time.
const AT_ONCE: usize = 8;

/// Watched statistics of results, by their keys and etags: most are those of the time before.
#[derive(Default)]
pub(crate) struct Recent(Mutex<BTreeMap<String, (String, Watched)>>);

/// By their names.
type Watched = BTreeMap<String, f64>;

impl Analytics {
    /// The scores of what is watched; none where there are too few windows, or where they can't be read: a result is not held
    /// back by that.
    pub(crate) async fn scores(&self, span: &Span, all: &Map<String, Value>, visit: &Visit) -> Map<String, Value> {
        let before = match self.before(span).await {
            Ok(before) => before,
            Err(failure) => {
                let trouble = Trouble { doing: "compare a window with those before it", failure: &failure };
                self.telemetry.emit(&visit.request_id, &trouble);
                return Map::new();
            }
        };
        let watched = self.plan.columns().filter(|(_, is_watched)| *is_watched);
        let scored = watched.filter_map(|(name, _)| {
            let values: Vec<f64> = before.iter().filter_map(|window| window.get(name).copied()).collect();
            let score = score(all.get(name)?.as_f64()?, &values)?;
            Some((name.to_owned(), Value::from((score * 100.0).round() / 100.0)))
        });
        scored.collect()
    }

    /// What the windows just before this one came to, as far as they are there.
    async fn before(&self, span: &Span) -> Result<Vec<Watched>, Failure> {
        let (statistics, dataset) = (&self.config.statistics, self.plan.dataset());
        let length = span.end_ms.saturating_sub(span.start_ms);
        // Windows lie one after the other: of one listing, in the order of names, these are the last.
        let start_ms = span.start_ms.saturating_sub(WINDOWS * length);
        let since = Published::since(statistics, dataset, start_ms);
        let page = self.lake.list(&Published::folder(statistics, dataset), Some(since.key())).await?;
        let is_before = |at: &Location| {
            Published::window_of(at).is_some_and(|other| {
                other.seconds() == span.seconds() && (start_ms..span.start_ms).contains(&other.start_ms)
            })
        };
        let mut reading: Vec<BoxFuture<'_, _>> = Vec::new();
        for object in page.objects.into_iter().filter(|object| is_before(&object.location)) {
            reading.push(Box::pin(self.watched(object)));
        }
        if reading.len() < FEWEST {
            return Ok(Vec::new());
        }
        let read: Vec<Result<Option<Watched>, Failure>> =
            futures::stream::iter(reading).buffered(AT_ONCE).collect().await;
        read.into_iter().filter_map(Result::transpose).collect()
    }

    async fn watched(&self, object: ObjectInfo) -> Result<Option<Watched>, Failure> {
        let key = object.location.key();
        let known = || self.memory.recent.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, watched)) = known().get(key).filter(|(etag, _)| *etag == object.etag) {
            return Ok(Some(watched.clone()));
        }
        let bytes = match self.lake.get(&object.location, Some(&object.etag), 0, object.size).await {
            // A shard that was late has changed it; so near it does not matter.
            Err(failure) if failure.code == "PreconditionFailed" => return Ok(None),
            bytes => bytes?,
        };
        let published = Published::read(&bytes);
        let line = published.as_ref().and_then(Published::all);
        let names = self.plan.columns().filter(|(_, is_watched)| *is_watched);
        let watched: Watched =
            names.filter_map(|(name, _)| Some((name.to_owned(), line?.get(name)?.as_f64()?))).collect();
        let mut known = known();
        known.insert(key.to_owned(), (object.etag.clone(), watched.clone()));
        // Names order as windows do.
        while known.len() as u64 > 2 * WINDOWS {
            known.pop_first();
        }
        Ok(Some(watched))
    }
}
