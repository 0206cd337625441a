//! Every position gets past the barrier; what is left over by then.

use std::collections::HashSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use weir_command::Location;
use weir_delivery::Failure;
use weir_ledger::batch::Swap;
use weir_ledger::layout::{Barrier, Layout, barrier};
use weir_ledger::positions::Position;
use weir_telemetry::Visit;

use super::MARGIN_MS;
use crate::Ingest;

/// How long to wait for somebody who is at a position, before it is looked at again.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Positions at a time.
const AT_ONCE: usize = 16;

impl Ingest {
    /// Gets all positions past it. The files that are named by what is left over: nobody can commit them any more.
    pub(crate) async fn pass(&self, layout: &Layout, visit: &Visit) -> Result<HashSet<String>, Failure> {
        let numbers = layout.topics.iter().flat_map(|(topic, count)| (0..*count).map(move |number| (topic, number)));
        let names: Vec<String> = numbers.map(|(topic, number)| format!("{topic}/{number}")).collect();
        let passing = names.iter().map(|name| self.pass_one(name, layout.generation, visit));
        let passing: Vec<_> = passing.collect();
        let passed: Vec<Position> = futures::stream::iter(passing).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut left = HashSet::new();
        for position in &passed {
            let Some(intent) = &position.intent else { continue };
            let at = Location::parse(&intent.manifest);
            let at = at.map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
            match self.manifest(&at).await {
                Ok(manifest) => left.extend(manifest.files.into_iter().map(|file| file.uri)),
                // What it named can't be told from what is committed. The sweep clears it, and the next compaction goes on.
                Err(failure) => return Err(failure.while_(format!("see what {} has left over", position.name))),
            }
        }
        Ok(left)
    }

    async fn pass_one(&self, name: &str, generation: u64, visit: &Visit) -> Result<Position, Failure> {
        let mut pause = PAUSE;
        loop {
            let known = self.positions.position(name).await?;
            let version = known.as_ref().map_or(0, |known| known.version);
            let known = known.unwrap_or_else(|| Position::new(name));
            match barrier(&known, generation, visit.now_ms()) {
                Barrier::Passed => return Ok(known),
                Barrier::Pass(next) => {
                    let next = Position { write_token: self.writer.token(), ..*next };
                    match self.positions.put_position(&next, version, None).await? {
                        Swap::Conflict(Some(there)) if there.write_token == next.write_token => return Ok(next),
                        Swap::Stored => return Ok(next),
                        Swap::Conflict(_) => {}
                    }
                }
                Barrier::Wait(until_ms) => {
                    let now_ms = visit.now_ms();
                    if now_ms + MARGIN_MS >= visit.deadline_ms {
                        let reason = format!("somebody has been at {name} all the time, until {until_ms} at most");
                        return Err(Failure::passing("Busy", reason));
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}
