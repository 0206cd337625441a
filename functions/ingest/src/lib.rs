//! Kafka to Parquet by event date, exactly once.
//!
//! A batch has records of several topic-partitions, and each goes its own way ([`partition`], `work`): what holds one back holds back no other.
//! What may happen to a partition next is decided by pure functions ([`weir_ledger::positions`]), what its records become by another
//! ([`rows`]); here are the effects, in the order that makes them safe.

pub mod compact;
pub mod config;
pub mod files;
pub mod handler;
pub mod partition;
mod placing;
pub mod rows;
pub mod said;
mod sweep;
mod work;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use weir_alerts::Herald;
use weir_catalog::Catalog;
use weir_delivery::Failure;
use weir_lake::Lake;
use weir_ledger::Writer;
use weir_ledger::batch::{self, Book, Landed, Lane, Swap, lane};
use weir_ledger::layout::Layouts;
use weir_ledger::positions::{Position, Positions};
use weir_telemetry::Visit;

use crate::config::Config;
use crate::placing::Placed;
use crate::work::Stop;

/// Everything it needs, made once per process.
pub struct Ingest {
    /// The function's settings.
    pub config: Config,
    /// S3.
    pub lake: Arc<dyn Lake>,
    /// How far partitions are committed.
    pub positions: Arc<dyn Positions>,
    /// Which generation of each partition's folder is written.
    pub layouts: Arc<dyn Layouts>,
    /// By which readers find the tables.
    pub catalog: Arc<dyn Catalog>,
    /// The batch side's lanes, which are told that there is work.
    pub book: Arc<dyn Book>,
    /// Log, metrics and notices.
    pub herald: Herald,
    /// Makes write tokens.
    pub writer: Writer,
    /// What this process remembers.
    pub memory: Memory,
}

/// What a process remembers from one invocation to the next. All of it may be wrong by now; what is done by it fails then.
#[derive(Debug, Default)]
pub struct Memory {
    positions: Mutex<HashMap<String, Position>>,
    noted_ms: Mutex<HashMap<String, u64>>,
    placed: Mutex<Option<Arc<Placed>>>,
    registered: Mutex<HashSet<String>>,
}

impl Memory {
    fn placed(&self) -> Option<Arc<Placed>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What it takes to give back what is held: less is no time left.
pub(crate) const LAST_MS: u64 = 1_000;

impl Ingest {
    /// Until when what this invocation takes is its own.
    pub(crate) fn lease_until_ms(&self, visit: &Visit) -> u64 {
        visit.deadline_ms + self.config.grace_ms
    }

    pub(crate) fn remembered(&self, name: &str) -> Option<Position> {
        self.memory.positions.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn remember(&self, name: &str, position: Option<Position>) {
        let mut all = self.memory.positions.lock().unwrap_or_else(PoisonError::into_inner);
        match position {
            Some(position) => drop(all.insert(name.to_owned(), position)),
            None => drop(all.remove(name)),
        }
    }

    /// Stores a step of a position, if what is stored has the expected version. A write that knows itself: if only its answer was
    /// lost, its repeat finds its own token.
    pub(crate) async fn step(
        &self,
        next: Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Position, Stop> {
        let next = Position { write_token: self.writer.token(), ..next };
        match self.positions.put_position(&next, expected, handed_on).await {
            Ok(Swap::Conflict(there)) if there.as_ref().is_none_or(|there| there.write_token != next.write_token) => {
                self.remember(&next.name, there.as_deref().cloned());
                Err(Stop::Overtaken(there.map(|there| *there)))
            }
            Ok(_) => {
                self.remember(&next.name, Some(next.clone()));
                Ok(next)
            }
            Err(failure) => {
                self.remember(&next.name, None);
                Err(failure.into())
            }
        }
    }

    /// Tells the batch side that there is work. Two within [`lane::NOTED_MS`] are one: a lane that rests looks once more after that.
    pub(crate) async fn note(&self, dataset: &str, visit: &Visit) -> Result<(), Failure> {
        let now_ms = visit.now_ms();
        let noted = || self.memory.noted_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if noted().get(dataset).is_some_and(|at| now_ms < at + lane::NOTED_MS) {
            return Ok(());
        }
        let lane = self.book.lane(dataset).await?.unwrap_or_else(|| Lane::new(dataset));
        // A busy lane needs no note: whoever ends its run looks for more.
        let due_ms = now_ms + self.config.gather_ms;
        let note = |lane: &Lane| lane::note(lane, due_ms, now_ms);
        let changed = batch::change(self.book.as_ref(), &self.writer, &lane, note).await?;
        let lane = changed.map_or(lane, |(_, after)| after);
        // As the lane has it: whoever noted it last, it is looked at so long after that.
        noted().insert(dataset.to_owned(), lane.landed_ms.map_or(now_ms, |landed| landed.min(now_ms)));
        Ok(())
    }
}
