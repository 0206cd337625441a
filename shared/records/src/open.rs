//! Stream records as the records that they hold.

use bytes::Bytes;
use weir_delivery::kinesis::{Origin, Record, Unreadable};
use weir_kpl::{Damaged, MOST_BYTES, SubRecord, Unpacked, unpack};

/// A batch's records, those of KPL aggregates each by itself. What is damaged stays one record, that says so.
pub fn open(records: Vec<Record>) -> Vec<Record> {
    let mut left = MOST_BYTES;
    records.into_iter().flat_map(|record| open_one(record, &mut left)).collect()
}

fn open_one(record: Record, left: &mut usize) -> Vec<Record> {
    let Record { origin, arrived_ms, data } = record;
    let bytes = match data {
        Ok(bytes) => Bytes::from(bytes),
        Err(unreadable) => return vec![Record { origin, arrived_ms, data: Err(unreadable) }],
    };
    match unpack(&bytes, left) {
        Err(damaged) => {
            let unreadable = Unreadable { reason: damaged.to_string(), raw: bytes.into() };
            vec![Record { origin, arrived_ms, data: Err(unreadable) }]
        }
        Ok(Unpacked::Plain) => vec![Record { origin, arrived_ms, data: Ok(bytes.into()) }],
        Ok(Unpacked::One(payload)) => vec![Record { origin, arrived_ms, data: Ok(payload.into()) }],
        Ok(Unpacked::Many(records)) => {
            let sub = |(index, (sub, damaged)): (usize, (SubRecord, Option<Damaged>))| Record {
                origin: Origin { sub_index: Some(index), ..origin.clone() },
                arrived_ms,
                data: match damaged {
                    None => Ok(sub.data.into()),
                    Some(damaged) => Err(Unreadable { reason: damaged.to_string(), raw: sub.data.into() }),
                },
            };
            records.into_iter().enumerate().map(sub).collect()
        }
    }
}

/// Where a record came from, for people: `stream/shard/sequence number/number in its aggregate`.
pub fn place_of(record: &Record) -> String {
    let origin = &record.origin;
    let place = origin.sequence_number.as_ref().map_or("no sequence number", |number| number.as_str());
    let sub = origin.sub_index.map_or(String::new(), |sub| format!("/{sub}"));
    format!("{}/{}/{place}{sub}", origin.stream, origin.shard)
}
