//! What workers left that never came back, of partitions that nobody has come for since.

use weir_delivery::Failure;
use weir_ledger::positions::{Position, cleared, reclaim, release};
use weir_telemetry::{Trouble, Visit};

use crate::work::Stop;
use crate::{Ingest, LAST_MS};

/// The most partitions that one sweep looks at; the next goes on from there.
const AT_ONCE: usize = 100;

impl Ingest {
    /// Closes it.
    ///
    /// # Errors
    /// The ledger's, when it is asked what there is. What fails after that is said, and is no trouble of the others.
    pub async fn sweep(&self, visit: &Visit) -> Result<(), Failure> {
        for position in self.positions.left_over(visit.now_ms(), AT_ONCE).await? {
            if !visit.has_left(LAST_MS) {
                break;
            }
            let taken = reclaim(&position, self.lease_until_ms(visit), visit.now_ms());
            let (Some(own), Some(intent)) = (taken, &position.intent) else { continue };
            if let Err(Stop::Failed(failure)) = self.sweep_one(own, position.version, &intent.manifest, visit).await {
                self.herald.say(visit, &Trouble { doing: "close what a worker left", failure: &failure });
            }
        }
        Ok(())
    }

    async fn sweep_one(&self, own: Position, expected: u64, manifest: &str, visit: &Visit) -> Result<(), Stop> {
        let own = self.step(own, expected, None).await?;
        let closed = self.close_left(manifest, visit).await;
        let next = if closed.is_ok() { release(&cleared(&own)) } else { release(&own) };
        self.step(next, own.version, None).await?;
        Ok(closed?)
    }
}
