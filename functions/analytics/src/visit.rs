//! What an invocation does with a window's records.

use weir_contract::{Audience, Cleaner, Verdict};
use weir_delivery::Failure;
use weir_delivery::kinesis::{Record, SequenceNumber};
use weir_lake::list_all;
use weir_live::{Damaged, Window};
use weir_records::open;
use weir_telemetry::Visit;

use crate::Analytics;
use crate::handler::Turn;
use crate::names;
use crate::said::{StateLost, WindowEnded, WindowGrew};

/// Rows that are held at a time: what is compressed may be many times as much.
const MOST_ROWS: usize = 50_000;

/// For a defect of ours.
pub(crate) fn damaged(error: &Damaged) -> Failure {
    Failure::internal("Damaged", error.to_string())
}

impl Analytics {
    /// Counts a batch into its window; ends the window if it is its last. Gives what the next invocation must be given.
    ///
    /// # Errors
    /// S3's. Then nothing has happened that is not the same when it happens again.
    pub async fn take(&self, turn: Turn, records: Vec<Record>, visit: &Visit) -> Result<Option<String>, Failure> {
        let begun_ms = visit.now_ms();
        let oldest_ms = records.iter().map(|record| record.arrived_ms).filter(|at| *at > 0).min();
        let mut window = self.resume(&turn, visit);
        let last = match &window.span {
            Some((_, last)) => Some(SequenceNumber::new(last)),
            None if records.is_empty() => None,
            None => self.ended_at(&turn).await?,
        };
        let before = window.counts;
        self.count(&mut window, last.as_ref(), records, &turn)?;
        let state = if turn.is_last {
            self.store(&turn, &mut window).await?;
            None
        } else {
            Some(window.text(&self.plan).map_err(|error| damaged(&error))?)
        };
        let ms = || visit.now_ms().saturating_sub(begun_ms);
        let grew = WindowGrew {
            turn: &turn,
            before,
            counts: window.counts,
            state_bytes: state.as_ref().map_or(0, String::len),
            lag_ms: oldest_ms.map_or(0, |oldest| begun_ms.saturating_sub(oldest)),
            ms: ms(),
            cold_start: visit.cold_start,
        };
        self.telemetry.emit(&visit.request_id, &grew);
        if turn.is_last
            && let Some(published) = self.publish(&turn.span, visit).await?
        {
            let ended = WindowEnded::new(&self.plan, &turn, &mut window, &published, ms())?;
            self.telemetry.emit(&visit.request_id, &ended);
        }
        Ok(state)
    }

    /// The window as the invocation before it left it.
    fn resume(&self, turn: &Turn, visit: &Visit) -> Window {
        let Some(state) = &turn.state else { return Window::default() };
        Window::from_text(&self.plan, state).unwrap_or_else(|error| {
            // A new version was deployed in the middle of the window.
            self.telemetry.emit(&visit.request_id, &StateLost { turn, reason: &error.to_string() });
            let mut anew = Window::default();
            anew.incomplete = true;
            anew
        })
    }

    /// The last record that is in a part of this window and shard already.
    async fn ended_at(&self, turn: &Turn) -> Result<Option<SequenceNumber>, Failure> {
        let parts = names::parts(&self.config.statistics, self.plan.dataset(), &turn.span);
        let mut last = None;
        for object in list_all(self.lake.as_ref(), &names::part(&parts, &turn.shard, "")).await? {
            let bytes = self.lake.get(&object.location, Some(&object.etag), 0, object.size).await?;
            // One that can't be read is another version's, which may not have had all of its records.
            let span = Window::from_bytes(&self.plan, &bytes).ok().and_then(|part| part.span);
            last = last.max(span.map(|(_, last)| SequenceNumber::new(last)));
        }
        Ok(last)
    }

    fn count(
        &self,
        window: &mut Window,
        last: Option<&SequenceNumber>,
        records: Vec<Record>,
        turn: &Turn,
    ) -> Result<(), Failure> {
        let is_new = |record: &Record| match (&record.origin.sequence_number, last) {
            (Some(number), Some(last)) => number > last,
            _ => true,
        };
        let (fresh, repeated): (Vec<Record>, Vec<Record>) = records.into_iter().partition(is_new);
        window.counts.repeated += repeated.len() as u64;
        let numbers: Vec<SequenceNumber> =
            fresh.iter().filter_map(|record| record.origin.sequence_number.clone()).collect();
        if let (Some(first), Some(last)) = (numbers.iter().min(), last.into_iter().chain(&numbers).max()) {
            let first = window.span.take().map_or_else(|| first.to_string(), |(first, _)| first);
            window.span = Some((first, last.to_string()));
        }
        let now_micros = i64::try_from(turn.span.start_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let mut cleaner = Cleaner::new(&self.contract, Audience::Dashboards, now_micros);
        // One by one: how much of them can be unpacked must not depend on how the batch was cut.
        for record in fresh.into_iter().flat_map(|record| open(vec![record])) {
            let counts = &mut window.counts;
            match record.data {
                Err(_) => counts.unreadable += 1,
                Ok(data) => cleaner.push_documents(&data, |verdict| match verdict {
                    Verdict::Clean => {}
                    Verdict::Dropped => counts.dropped += 1,
                    Verdict::Bad(_) => counts.bad += 1,
                }),
            }
            if cleaner.rows() >= MOST_ROWS {
                self.add(window, &mut cleaner, turn)?;
            }
        }
        self.add(window, &mut cleaner, turn)
    }

    fn add(&self, window: &mut Window, cleaner: &mut Cleaner<'_>, turn: &Turn) -> Result<(), Failure> {
        let batch = cleaner.take().map_err(|error| Failure::internal("Arrow", error.to_string()))?;
        window.add(&self.plan, &batch, turn.span.start_ms).map_err(|error| damaged(&error))
    }

    /// Makes a part of what a shard has of a window.
    async fn store(&self, turn: &Turn, window: &mut Window) -> Result<(), Failure> {
        let Some((first, _)) = window.span.clone() else { return Ok(()) };
        let parts = names::parts(&self.config.statistics, self.plan.dataset(), &turn.span);
        let bytes = window.bytes(&self.plan).map_err(|error| damaged(&error))?;
        let at = names::part(&parts, &turn.shard, &first);
        self.lake.put(&at, bytes.into(), "application/octet-stream").await
    }
}
