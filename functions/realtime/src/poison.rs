//! Records that can never succeed, kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use weir_command::Location;
use weir_delivery::kinesis::Record;
use weir_delivery::{Failure, Poison};
use weir_lake::Lake;

/// Where a record's dead letter lies: by its place in the stream, so that a redelivery overwrites it.
fn key(record: &Record) -> String {
    let origin = &record.origin;
    let place =
        origin.sequence_number.as_ref().map_or_else(|| format!("unknown-{}", origin.index), ToString::to_string);
    format!("poison/{}/{}/{place}.json", origin.stream, origin.shard)
}

/// Stores a dead letter: the raw bytes, where they came from, why and when.
///
/// # Errors
/// The lake's: then the record must not be acknowledged.
pub async fn keep(
    lake: &dyn Lake,
    bucket: &str,
    record: &Record,
    poison: &Poison,
    now_ms: u64,
) -> Result<Location, Failure> {
    let bucket =
        Location::parse(&format!("s3://{bucket}")).map_err(|error| Failure::internal("Config", error.to_string()))?;
    let at = bucket.join(&key(record));
    let letter = json!({
        "reason": poison.reason,
        "origin": record.origin,
        "arrived_ms": record.arrived_ms,
        "stored_ms": now_ms,
        "raw_base64": STANDARD.encode(&poison.raw),
    });
    lake.put(&at, Bytes::from(letter.to_string()), "application/json").await?;
    Ok(at)
}
