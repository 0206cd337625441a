//! Records that can never succeed, kept.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use weir_command::Location;
use weir_delivery::kinesis::Record;
use weir_delivery::{Failure, Poison};
use weir_lake::Lake;

/// In hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where a record's dead letter lies: by its place in the stream, so that a redelivery overwrites it. A record that
/// doesn't say its place lies by its content, so that no other one overwrites it.
fn key(record: &Record, raw: &[u8]) -> String {
    let origin = &record.origin;
    let place = origin.sequence_number.as_ref().map_or_else(|| format!("unknown-{}", sha256(raw)), ToString::to_string);
    let sub = origin.sub_index.map_or(String::new(), |sub| format!("-{sub}"));
    format!("poison/{}/{}/{place}{sub}.json", origin.stream, origin.shard)
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
    let at = bucket.join(&key(record, &poison.raw));
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

#[cfg(test)]
mod tests {
    use super::*;
    use weir_delivery::kinesis::{Origin, Unreadable};
    use weir_lake::MemoryLake;

    #[tokio::test]
    async fn records_without_a_place_do_not_overwrite_each_other() {
        let lake = MemoryLake::default();
        lake.make_bucket("dead-letters");
        let origin = Origin::unknown(0);
        for raw in [b"one".to_vec(), b"two".to_vec(), b"one".to_vec()] {
            let data = Err(Unreadable { reason: "no place".into(), raw: raw.clone() });
            let record = Record { origin: origin.clone(), arrived_ms: 0, data };
            let poison = Poison { reason: "no place".into(), raw };
            keep(&lake, "dead-letters", &record, &poison, 0).await.unwrap();
        }
        let all = lake.list(&Location::parse("s3://dead-letters/").unwrap(), None).await.unwrap();
        assert_eq!(all.objects.len(), 2);
    }
}
