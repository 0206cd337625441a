//! Where stream records go: a Kinesis stream, a delivery stream or a Kafka topic.

use aws_sdk_firehose::types::Record as DeliveryRecord;
use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use weir_delivery::Failure;

use super::kafka::Topic;
use super::lanes::Packed;
use super::shards::{Shard, ShardMap};
use crate::Stop;
use crate::stack::said;

/// One of them, by name.
pub(crate) enum Sink {
    Kinesis(aws_sdk_kinesis::Client, String),
    Firehose(aws_sdk_firehose::Client, String),
    Kafka(Topic),
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in this shard; only Kinesis has them.
    Yes(Option<String>),
    /// It isn't.
    No(Failure),
}

impl Sink {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kinesis(_, name) | Self::Firehose(_, name) => name,
            Self::Kafka(topic) => &topic.name,
        }
    }

    /// What a request may hold: records, and bytes. PutRecords takes 500 and 5 MiB (10 where the stream allows it),
    /// PutRecordBatch 500 and 4 MiB.
    pub(crate) fn request_limits(&self) -> (usize, usize) {
        match self {
            Self::Kinesis(..) => (500, 5 << 20),
            Self::Firehose(..) => (500, 4 << 20),
            // Not one request, but as many as the producer makes of it.
            Self::Kafka(_) => (5_000, 4 << 20),
        }
    }

    /// The largest record: 1 MiB with its key, 1,000 KiB, and what Kafka's producers and brokers take unless told otherwise.
    pub(crate) fn record_bytes(&self) -> usize {
        match self {
            Self::Kinesis(..) => 1 << 20,
            Self::Firehose(..) => 1000 << 10,
            Self::Kafka(_) => 1_000_000,
        }
    }

    /// The stream's open shards.
    pub(crate) async fn shards(&self) -> Result<ShardMap, Stop> {
        let (client, name) = match self {
            Self::Firehose(client, name) => {
                // Said now rather than with the first thousand rows in hand.
                let described = client.describe_delivery_stream().delivery_stream_name(name).send().await;
                described.map_err(|error| Stop::aws(format!("delivery stream {name}: {}", said(&error))))?;
                return Ok(ShardMap::single());
            }
            Self::Kafka(topic) => {
                topic.look().await?;
                return Ok(ShardMap::single());
            }
            Self::Kinesis(client, name) => (client, name),
        };
        let (mut shards, mut token) = (Vec::new(), None);
        loop {
            // A token brings the name with it, and both together are refused.
            let request = match token.take() {
                None => client.list_shards().stream_name(name),
                Some(token) => client.list_shards().next_token(token),
            };
            let page = request.send().await;
            let page = page.map_err(|error| Stop::aws(format!("stream {name}: {}", said(&error))))?;
            for shard in page.shards() {
                let closed =
                    shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_some());
                let Some(range) = shard.hash_key_range().filter(|_| !closed) else { continue };
                if let (Ok(first), Ok(last)) = (range.starting_hash_key().parse(), range.ending_hash_key().parse()) {
                    shards.push(Shard { id: shard.shard_id().to_owned(), first, last });
                }
            }
            token = page.next_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        if shards.is_empty() {
            return Err(Stop(3, format!("stream {name} has no open shard")));
        }
        Ok(ShardMap::new(shards))
    }

    /// Sends a request; an answer for each of its records, in order.
    pub(crate) async fn put(&self, request: &[Packed]) -> Vec<Taken> {
        let answers = match self {
            Self::Kinesis(client, name) => put_records(client, name, request).await,
            Self::Firehose(client, name) => put_batch(client, name, request).await,
            Self::Kafka(topic) => return topic.put(request).await,
        };
        let failure = match answers {
            Ok(answers) if answers.len() == request.len() => return answers,
            Ok(answers) => {
                Failure::passing("ShortAnswer", format!("{} answers for {} records", answers.len(), request.len()))
            }
            Err(failure) => failure,
        };
        request.iter().map(|_| Taken::No(failure.clone())).collect()
    }
}

fn refused(code: &str, message: Option<&str>) -> Taken {
    // A record's own error has no HTTP status; all that Kinesis and Firehose name here pass.
    Taken::No(Failure::aws(Some(code), Some(500), message.unwrap_or_default()))
}

async fn put_records(client: &aws_sdk_kinesis::Client, name: &str, request: &[Packed]) -> Result<Vec<Taken>, Failure> {
    let entry = |packed: &Packed| {
        PutRecordsRequestEntry::builder()
            .data(Blob::new(packed.data.as_ref()))
            .partition_key(&packed.partition_key)
            .set_explicit_hash_key(packed.explicit_hash_key.map(|hash| hash.to_string()))
            .build()
    };
    let entries = request.iter().map(entry).collect::<Result<Vec<_>, _>>();
    let entries = entries.map_err(|error| Failure::internal("Entry", error.to_string()))?;
    let sent = client.put_records().stream_name(name).set_records(Some(entries)).send().await.map_err(|error| {
        let status = error.raw_response().map(|response| response.status().as_u16());
        Failure::aws(error.code(), status, said(&error))
    })?;
    let taken = sent.records().iter().map(|record| match record.error_code() {
        None => Taken::Yes(record.shard_id().map(str::to_owned)),
        Some(code) => refused(code, record.error_message()),
    });
    Ok(taken.collect())
}

async fn put_batch(client: &aws_sdk_firehose::Client, name: &str, request: &[Packed]) -> Result<Vec<Taken>, Failure> {
    let entry = |packed: &Packed| {
        DeliveryRecord::builder().data(aws_sdk_firehose::primitives::Blob::new(packed.data.as_ref())).build()
    };
    let entries = request.iter().map(entry).collect::<Result<Vec<_>, _>>();
    let entries = entries.map_err(|error| Failure::internal("Entry", error.to_string()))?;
    let put = client.put_record_batch().delivery_stream_name(name).set_records(Some(entries)).send().await;
    let sent = put.map_err(|error| {
        let status = error.raw_response().map(|response| response.status().as_u16());
        Failure::aws(error.code(), status, said(&error))
    })?;
    let taken = sent.request_responses().iter().map(|record| match record.error_code() {
        None => Taken::Yes(None),
        Some(code) => refused(code, record.error_message()),
    });
    Ok(taken.collect())
}
