//! The lease of a table: who writes to it, and until when.
//!
//! It is Hudi's own (`StorageBasedLockProvider`, RFC-91): one object, made if there is none, replaced if it is still the one that was read.
//! A lease outlives whoever takes it, so it is never given up early by a death and never taken early by another.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_command::Location;
use weir_delivery::Failure;

use crate::table::Place;

/// What the object holds, as Hudi writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lock {
    #[serde(default)]
    expired: bool,
    /// Milliseconds since 1970. Hudi's Java calls it `validUntil`.
    valid_until: u64,
    owner: String,
}

/// A table that is ours until then.
#[derive(Debug, Clone)]
pub struct Lease {
    at: Location,
    lock: Lock,
}

/// Another writes to the table.
pub const BUSY: &str = "HudiBusy";

/// Two machines' clocks may differ by so much.
const SKEW_MS: u64 = 2_000;

impl Lease {
    /// Takes the table, if nobody has it. `owner` is this attempt's alone.
    ///
    /// # Errors
    /// `HudiBusy`: somebody else has it, until when; the lake's.
    pub async fn take(place: &Place, owner: &str, until_ms: u64, now_ms: u64) -> Result<Self, Failure> {
        let at = place.hoodie(".locks/table_lock.json");
        let lock = Lock { expired: false, valid_until: until_ms, owner: owner.to_owned() };
        let taken = match look(place, &at).await? {
            None => place.lake.put_new(&at, text(&lock)?, "application/json").await,
            Some((there, _)) if !there.expired && there.valid_until.saturating_add(SKEW_MS) > now_ms => {
                let ms = there.valid_until.saturating_sub(now_ms);
                return Err(busy(place, ms));
            }
            Some((_, etag)) => place.lake.put_if(&at, &etag, text(&lock)?, "application/json").await,
        };
        let own = Self { at, lock };
        match taken {
            Ok(()) => Ok(own),
            // Another was faster; or only the answer was lost, and this is the repeat.
            Err(failure)
                if matches!(
                    failure.code.as_str(),
                    "PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey"
                ) =>
            {
                match own.is_kept(place).await? {
                    true => Ok(own),
                    false => Err(busy(place, 0)),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    async fn is_kept(&self, place: &Place) -> Result<bool, Failure> {
        Ok(look(place, &self.at).await?.is_some_and(|(there, _)| there.owner == self.lock.owner))
    }

    /// How much longer it is ours.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.lock.valid_until.saturating_sub(now_ms)
    }

    /// Gives the table back, if it is still ours. If that can't be said, the lease ends by itself.
    ///
    /// # Errors
    /// The lake's.
    pub async fn release(self, place: &Place) -> Result<(), Failure> {
        let Some((there, etag)) = look(place, &self.at).await? else { return Ok(()) };
        if there.owner != self.lock.owner {
            return Ok(());
        }
        let over = Lock { expired: true, ..there };
        match place.lake.put_if(&self.at, &etag, text(&over)?, "application/json").await {
            Err(failure) if failure.code == "PreconditionFailed" => Ok(()),
            done => done,
        }
    }
}

fn busy(place: &Place, ms: u64) -> Failure {
    let left = ms.div_ceil(1000);
    Failure::passing(BUSY, format!("another writes to {}, for {left} more seconds at most", place.at))
}

fn text(lock: &Lock) -> Result<Bytes, Failure> {
    serde_json::to_vec(lock).map(Bytes::from).map_err(|error| Failure::internal("HudiLock", error.to_string()))
}

async fn look(place: &Place, at: &Location) -> Result<Option<(Lock, String)>, Failure> {
    let found = match weir_lake::find(&*place.lake, at).await {
        // It changed while it was looked at.
        Err(failure) if matches!(failure.code.as_str(), "PreconditionFailed" | "NoSuchKey") => {
            return Err(busy(place, 0));
        }
        found => found?,
    };
    let Some((bytes, etag)) = found else { return Ok(None) };
    let lock = serde_json::from_slice(&bytes);
    let lock = lock.map_err(|error| Failure::user("HudiLock", format!("{at} is no lock of Hudi's: {error}")))?;
    Ok(Some((lock, etag)))
}
