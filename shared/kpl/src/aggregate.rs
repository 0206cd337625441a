//! The KPL's aggregated record format: several user records in one stream record.
//!
//! `F3 89 9A C2`, a protobuf message, and the message's MD5 in 16 bytes. The message holds a table of partition keys, one
//! of explicit hash keys, and records that point into them.
//!
//! Source: amazon-kinesis-producer, aggregation-format.md; what is damaged is treated as the KCL does
//! (amazon-kinesis-client, AggregatorUtil): it is no aggregate but a plain record.

use std::collections::HashMap;

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Record>,
}

/// Its index and data are required by the format, which prost does not check: so they are optional here.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<Tag>,
}

#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// A user record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubRecord {
    /// What decides its shard and its order.
    pub partition_key: String,
    /// What decides its shard instead, if the producer said so.
    pub explicit_hash_key: Option<String>,
    /// Its payload.
    pub data: Bytes,
}

/// Where a partition key lies among the shards' hash keys (Kinesis API reference, PutRecord: its MD5 as a number).
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// The user records of an aggregate, without copying their payloads; `None` if it is none, or a damaged one, which is a
/// plain record then.
pub fn open(bytes: &Bytes) -> Option<Vec<SubRecord>> {
    if !bytes.starts_with(&MAGIC) || bytes.len() <= MAGIC.len() + DIGEST_BYTES {
        return None;
    }
    let message = bytes.slice(MAGIC.len()..bytes.len() - DIGEST_BYTES);
    if !bytes.ends_with(&Md5::digest(&message)) {
        return None;
    }
    let aggregated = AggregatedRecord::decode(message).ok()?;
    let table = |table: &[String], index: u64| table.get(usize::try_from(index).ok()?).cloned();
    // A frame around nothing: as a plain record it is seen, as no records it would vanish.
    if aggregated.records.is_empty() {
        return None;
    }
    let mut records = Vec::with_capacity(aggregated.records.len());
    for record in aggregated.records {
        records.push(SubRecord {
            partition_key: table(&aggregated.partition_key_table, record.partition_key_index?)?,
            explicit_hash_key: match record.explicit_hash_key_index {
                Some(index) => Some(table(&aggregated.explicit_hash_key_table, index)?),
                None => None,
            },
            data: record.data?,
        });
    }
    Some(records)
}

/// An aggregate being filled.
#[derive(Debug, Default)]
pub struct Aggregate {
    message: AggregatedRecord,
    partition_keys: HashMap<String, u64>,
    hash_keys: HashMap<String, u64>,
    message_bytes: usize,
}

/// A field's tag, which is one byte, its length and its content.
fn field_bytes(content: usize) -> usize {
    1 + prost::length_delimiter_len(content) + content
}

impl Aggregate {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records are in it.
    pub fn len(&self) -> usize {
        self.message.records.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How large it is as bytes.
    pub fn bytes(&self) -> usize {
        MAGIC.len() + self.message_bytes + DIGEST_BYTES
    }

    /// How large it would be with one more record.
    pub fn bytes_with(&self, record: &SubRecord) -> usize {
        let (entry, tables) = self.entry(record);
        self.bytes() + tables + field_bytes(entry.encoded_len())
    }

    /// A record as it would stand here, and what it adds to the tables.
    fn entry(&self, record: &SubRecord) -> (Record, usize) {
        let mut tables = 0;
        let mut index = |known: &HashMap<String, u64>, key: &String| {
            known.get(key).copied().unwrap_or_else(|| {
                tables += field_bytes(key.len());
                known.len() as u64
            })
        };
        let entry = Record {
            partition_key_index: Some(index(&self.partition_keys, &record.partition_key)),
            explicit_hash_key_index: record.explicit_hash_key.as_ref().map(|key| index(&self.hash_keys, key)),
            data: Some(record.data.clone()),
            tags: Vec::new(),
        };
        (entry, tables)
    }

    /// Adds a record at the end.
    pub fn push(&mut self, record: SubRecord) {
        let (entry, tables) = self.entry(&record);
        self.message_bytes += tables + field_bytes(entry.encoded_len());
        self.message.records.push(entry);
        let add = |known: &mut HashMap<String, u64>, table: &mut Vec<String>, key: String| {
            let next = known.len() as u64;
            known.entry(key).or_insert_with_key(|key| {
                table.push(key.clone());
                next
            });
        };
        add(&mut self.partition_keys, &mut self.message.partition_key_table, record.partition_key);
        if let Some(key) = record.explicit_hash_key {
            add(&mut self.hash_keys, &mut self.message.explicit_hash_key_table, key);
        }
    }

    /// Its bytes.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        bytes.extend_from_slice(&MAGIC);
        // A `Vec` grows, so there is always room.
        let _ = self.message.encode(&mut bytes);
        let digest = Md5::digest(bytes.get(MAGIC.len()..).unwrap_or_default());
        bytes.extend_from_slice(&digest);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(key: &str, data: &[u8]) -> SubRecord {
        SubRecord { partition_key: key.into(), explicit_hash_key: None, data: Bytes::copy_from_slice(data) }
    }

    fn aggregate(records: &[SubRecord]) -> Bytes {
        let mut aggregate = Aggregate::new();
        for record in records {
            aggregate.push(record.clone());
        }
        aggregate.finish().into()
    }

    /// By aws_kinesis_agg 1.2.3: two records of key `a` and one of key `b` with the explicit hash key 7.
    const BY_AWS: &[u8] =
        b"\xf3\x89\x9a\xc2\x0a\x01a\x0a\x01b\x12\x017\x1a\x07\x08\x00\x1a\x03one\x1a\x07\x08\x00\x1a\x03two\
        \x1a\x0b\x08\x01\x10\x00\x1a\x05three\xd0\x45\x93\x0d\xcd\xd0\x0e\xd6\xa0\xad\x47\x9f\x7e\x22\xb9\x4d";

    #[test]
    fn what_awslabs_aggregates_is_read_and_written_byte_for_byte() {
        let three = SubRecord { explicit_hash_key: Some("7".into()), ..record("b", b"three") };
        let records = [record("a", b"one"), record("a", b"two"), three];
        assert_eq!(open(&Bytes::from_static(BY_AWS)).unwrap(), records);
        assert_eq!(aggregate(&records), BY_AWS);
    }

    #[test]
    fn what_is_no_aggregate_is_a_plain_record() {
        let good = aggregate(&[record("a", b"one"), record("b", b"two")]);
        assert_eq!(open(&good).unwrap().len(), 2);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(open(&bad.into()), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(open(&good.slice(..length)), None, "{length} bytes");
        }
        assert_eq!(open(&Bytes::from_static(b"{\"a\":1}")), None);
        assert_eq!(open(&Aggregate::new().finish().into()), None, "a frame around nothing");
    }

    #[test]
    fn a_message_that_points_outside_its_tables_is_a_plain_record() {
        let wrong = |message: &AggregatedRecord| {
            let mut bytes = MAGIC.to_vec();
            message.encode(&mut bytes).unwrap();
            let digest = Md5::digest(&bytes[MAGIC.len()..]);
            bytes.extend_from_slice(&digest);
            Bytes::from(bytes)
        };
        let entry = |key, hash| Record {
            partition_key_index: key,
            explicit_hash_key_index: hash,
            data: Some(Bytes::from_static(b"x")),
            tags: vec![Tag { key: Some("k".into()), value: None }],
        };
        let message = |entry| AggregatedRecord {
            partition_key_table: vec!["a".into()],
            explicit_hash_key_table: vec![],
            records: vec![entry],
        };
        assert_eq!(open(&wrong(&message(entry(Some(0), None)))).unwrap()[0].partition_key, "a");
        assert_eq!(open(&wrong(&message(entry(Some(1), None)))), None);
        assert_eq!(open(&wrong(&message(entry(Some(0), Some(0))))), None);
        assert_eq!(open(&wrong(&message(entry(None, None)))), None, "an index is required");
        let empty = Record { data: None, ..entry(Some(0), None) };
        assert_eq!(open(&wrong(&message(empty))), None, "data is required");
    }

    #[test]
    fn a_hash_key_is_the_md5_as_a_number() {
        assert_eq!(hash_key("a"), 0x0cc1_75b9_c0f1_b6a8_31c3_99e2_6977_2661);
    }

    fn any_record() -> impl Strategy<Value = SubRecord> {
        let data = prop::collection::vec(any::<u8>(), 0..300);
        ("\\PC{1,20}", prop::option::of(any::<u128>()), data).prop_map(|(partition_key, hash, data)| SubRecord {
            partition_key,
            explicit_hash_key: hash.map(|hash| hash.to_string()),
            data: data.into(),
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_and_its_size_is_known_before(records in prop::collection::vec(any_record(), 1..40)) {
            let mut aggregate = Aggregate::new();
            for record in &records {
                let foreseen = aggregate.bytes_with(record);
                aggregate.push(record.clone());
                prop_assert_eq!(aggregate.bytes(), foreseen);
            }
            let bytes = aggregate.finish();
            prop_assert_eq!(bytes.len(), aggregate.bytes());
            prop_assert_eq!(open(&bytes.into()), Some(records));
        }

        #[test]
        fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&message);
            bytes.extend_from_slice(&Md5::digest(&message));
            let _ = open(&bytes.into());
        }
    }
}
