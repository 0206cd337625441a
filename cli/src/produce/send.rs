//! The loop that keeps requests under way: rows in, requests out, refused records again.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::RngExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{Id, JoinError, JoinSet};
use weir_delivery::Failure;

use super::channel::RowsOut;
use super::lanes::{Lanes, Limits, Packed, Row};
use super::report::Report;
use super::shards::ShardMap;
use super::sink::{Sink, Taken};
use super::unsent::Unsent;
use crate::Stop;

/// Requests under way at a time.
const AT_ONCE: usize = 8;
/// The first pause of a record that was refused; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A reader that hands on nothing for so long has nothing in hand.
const QUIET: Duration = Duration::from_millis(500);

/// What a sender works with.
pub(crate) struct Sender {
    pub(crate) sink: Arc<Sink>,
    pub(crate) limits: Limits,
    /// How often a record is tried before it is given up.
    pub(crate) most_attempts: u32,
    /// Tells the reader to end.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) report: Report,
    pub(crate) unsent: Unsent,
}

impl Sender {
    /// Sends what comes until it ends, to a stream of these shards. Ctrl-C ends it early, after all that has been read is
    /// sent; a second one leaves the rest unsent.
    pub(crate) async fn run(&mut self, shards: ShardMap, mut rows: RowsOut) -> Result<(), Stop> {
        let mut lanes = Lanes::new(self.limits.clone(), shards);
        let mut flying: JoinSet<Vec<Taken>> = JoinSet::new();
        let mut under_way: HashMap<Id, Arc<[Packed]>> = HashMap::new();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| Stop(1, error.to_string()))?;
        let (mut ended, mut interrupts, mut resharded) = (false, 0, false);
        // After an interrupt: when the reader counts as one that waits for input.
        let mut quiet: Option<Instant> = None;
        let mut buffer = Vec::with_capacity(256);
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut strays: Vec<(Row, String)> = Vec::new();
        loop {
            let now = Instant::now();
            lanes.close_due(now, ended);
            while flying.len() < AT_ONCE
                && !resharded
                && let Some(request) = lanes.next_request(now, ended)
            {
                let (sink, request) = (Arc::clone(&self.sink), Arc::<[Packed]>::from(request));
                let sending = Arc::clone(&request);
                let id = flying.spawn(async move { sink.put(&sending).await }).id();
                under_way.insert(id, request);
            }
            if flying.is_empty() && resharded {
                // Only now: nothing may be overtaken through another shard. What came to a shard that does not take it goes
                // first, then what has waited behind it.
                let stray: Vec<(Row, String)> = std::mem::take(&mut strays);
                let waiting = lanes.give_up();
                let shards = match self.sink.shards().await {
                    Ok(shards) => shards,
                    Err(stop) => {
                        let left = stray.into_iter().map(|(row, _)| row).chain(waiting).collect();
                        self.leave(left, &mut rows).await?;
                        return Err(stop);
                    }
                };
                let again: Vec<Row> = stray
                    .into_iter()
                    .filter(|(row, shard)| !shards.takes(shard, &row.key))
                    .map(|(row, _)| row)
                    .collect();
                self.report.resent += again.len() as u64;
                lanes = Lanes::new(self.limits.clone(), shards);
                again.into_iter().chain(waiting).for_each(|row| lanes.push(row));
                resharded = false;
                continue;
            }
            if flying.is_empty() && lanes.is_empty() && ended {
                return Ok(());
            }
            let listening = !ended && !resharded && !lanes.is_full();
            if !listening {
                // A reader that nobody listens to is not quiet.
                quiet = quiet.map(|_| Instant::now() + QUIET);
            }
            let due = lanes.next_due().filter(|_| flying.len() < AT_ONCE && !resharded);
            tokio::select! {
                // In this order: while rows come, the reader is not quiet.
                biased;
                _ = interrupt.recv() => {
                    interrupts += 1;
                    if interrupts > 1 {
                        flying.abort_all();
                        let mut left: Vec<Row> = strays.into_iter().map(|(row, _)| row).collect();
                        left.extend(under_way.values().flat_map(|request| request.iter()).flat_map(|one| one.rows.clone()));
                        left.extend(lanes.give_up());
                        return self.leave(left, &mut rows).await;
                    }
                    self.report.say("interrupted: sending what has been read; once more leaves it unsent");
                    self.stop.store(true, Ordering::Relaxed);
                    quiet = Some(Instant::now() + QUIET);
                }
                _ = tick.tick() => self.report.show(flying.len()),
                Some(done) = flying.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    if let Some(request) = under_way.remove(&id) {
                        let taken = match done {
                            Ok((_, taken)) => taken,
                            // A defect of ours: its rows stay in hand.
                            Err(error) => {
                                let broken = Failure::passing("BrokeDown", format!("a request broke down: {error}"));
                                vec![Taken::No(broken); request.len()]
                            }
                        };
                        resharded |= self.answered(&mut lanes, &request, taken, &mut strays)?;
                    }
                }
                count = rows.recv_many(&mut buffer, 256), if listening => {
                    ended |= count == 0;
                    quiet = quiet.map(|_| Instant::now() + QUIET);
                    for row in buffer.drain(..) {
                        self.take(&mut lanes, row)?;
                    }
                }
                () = sleep_until(due) => {}
                // What is on its way already still comes, and then the end.
                () = sleep_until(quiet), if listening => {
                    quiet = None;
                    rows.close();
                }
            }
        }
    }

    fn take(&mut self, lanes: &mut Lanes, row: Row) -> Result<(), Stop> {
        // An aggregate's own frame and the key are below a kilobyte.
        if row.data.len() + row.key.len() + 1024 > self.sink.record_bytes() {
            self.report.failed(1, "a row is larger than a record may be");
            return self.unsent.keep(&row);
        }
        lanes.push(row);
        Ok(())
    }

    /// True if a record came to another shard than was thought.
    fn answered(
        &mut self,
        lanes: &mut Lanes,
        request: &[Packed],
        taken: Vec<Taken>,
        strays: &mut Vec<(Row, String)>,
    ) -> Result<bool, Stop> {
        let mut resharded = false;
        for (packed, taken) in request.iter().zip(taken) {
            match taken {
                Taken::Yes(shard) => {
                    self.report.sent(packed);
                    let thought = lanes.shards().get(packed.shard).map(|shard| shard.id.as_str());
                    if let Some(shard) = shard.filter(|shard| thought != Some(shard) && packed.rows.len() > 1) {
                        // The stream was resharded. The KCL drops from an aggregate what belongs to another shard than the
                        // one it came to: that is sent again, as the KPL does.
                        resharded = true;
                        strays.extend(packed.rows.iter().map(|row| (row.clone(), shard.clone())));
                    }
                    lanes.settled(packed);
                }
                Taken::No(failure) => {
                    let attempts = packed.attempts + 1;
                    self.report.refused(&failure);
                    if failure.passes() && attempts < self.most_attempts {
                        let pause = FIRST_PAUSE.saturating_mul(1 << attempts.min(10)).min(LAST_PAUSE);
                        // Full jitter: those that were refused together do not come again together.
                        let pause = pause.mul_f64(rand::rng().random_range(0.5..1.0));
                        lanes.refused(Packed { attempts, ..packed.clone() }, Instant::now() + pause);
                        continue;
                    }
                    self.report.failed(packed.rows.len() as u64, &failure.reason);
                    packed.rows.iter().try_for_each(|row| self.unsent.keep(row))?;
                    lanes.settled(packed);
                }
            }
        }
        Ok(resharded)
    }

    /// Keeps everything whose end isn't known, and what the reader has handed over. What was under way may have arrived as
    /// well.
    async fn leave(&mut self, mut left: Vec<Row>, rows: &mut RowsOut) -> Result<(), Stop> {
        rows.close();
        while rows.recv_many(&mut left, 256).await > 0 {}
        self.report.failed(left.len() as u64, "interrupted");
        left.iter().try_for_each(|row| self.unsent.keep(row))
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}
