//! Reads each shard of a mapped stream and invokes the function, one batch at a time and shard.

use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::mapping::{Batch, Ended, Next, Settings, next};

type Failed = Box<dyn Error + Send + Sync>;

/// How often an empty shard is asked again. Lambda asks once a second; a laptop need not wait.
const PAUSE: Duration = Duration::from_millis(20);

/// One shard of one mapping.
struct Shard {
    kinesis: aws_sdk_kinesis::Client,
    lambda: aws_sdk_lambda::Client,
    s3: aws_sdk_s3::Client,
    function: String,
    stream_arn: String,
    shard: String,
    batch_size: usize,
    settings: Settings,
    on_failure_bucket: Option<String>,
}

/// Drives every Kinesis mapping of a function until something fails.
///
/// # Errors
/// What AWS answered.
pub async fn run(aws: &weir_lake::SdkConfig, function: &str) -> Result<(), Failed> {
    let lambda = aws_sdk_lambda::Client::new(aws);
    let listed = lambda.list_event_source_mappings().function_name(function).send().await?;
    let mut shards = tokio::task::JoinSet::new();
    for mapping in listed.event_source_mappings() {
        for shard in shards_of(aws, &lambda, function, mapping).await? {
            println!("weir-local: driving {} of {} into {function}", shard.shard, shard.stream_arn);
            shards.spawn(shard.drive());
        }
    }
    if shards.is_empty() {
        return Err(format!("{function} has no Kinesis mapping; is the stack deployed?").into());
    }
    while let Some(ended) = shards.join_next().await {
        ended??;
    }
    Ok(())
}

async fn shards_of(
    aws: &weir_lake::SdkConfig,
    lambda: &aws_sdk_lambda::Client,
    function: &str,
    mapping: &EventSourceMappingConfiguration,
) -> Result<Vec<Shard>, Failed> {
    let stream_arn = mapping.event_source_arn().unwrap_or_default().to_owned();
    let Some((_, stream)) = stream_arn.split_once(":stream/") else { return Ok(Vec::new()) };
    let kinesis = aws_sdk_kinesis::Client::new(aws);
    let destination =
        mapping.destination_config().and_then(|config| config.on_failure()).and_then(|to| to.destination());
    let settings = Settings {
        bisect: mapping.bisect_batch_on_function_error().unwrap_or(false),
        most_retries: mapping.maximum_retry_attempts().and_then(|most| u32::try_from(most).ok()),
        reports: !mapping.function_response_types().is_empty(),
    };
    let listed = kinesis.list_shards().stream_name(stream).send().await?;
    let shard = |id: &str| Shard {
        kinesis: kinesis.clone(),
        lambda: lambda.clone(),
        s3: weir_lake::S3Lake::new(aws).client().clone(),
        function: function.to_owned(),
        stream_arn: stream_arn.clone(),
        shard: id.to_owned(),
        batch_size: mapping.batch_size().and_then(|size| usize::try_from(size).ok()).unwrap_or(100),
        settings,
        on_failure_bucket: destination.and_then(|arn| arn.strip_prefix("arn:aws:s3:::")).map(str::to_owned),
    };
    Ok(listed.shards().iter().map(|one| shard(one.shard_id())).collect())
}

impl Shard {
    async fn drive(self) -> Result<(), Failed> {
        let asked = self.kinesis.get_shard_iterator().stream_arn(&self.stream_arn).shard_id(&self.shard);
        let begun = asked.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?;
        let mut iterator = begun.shard_iterator().map(str::to_owned);
        while let Some(at) = iterator {
            let got =
                self.kinesis.get_records().shard_iterator(at).limit(i32::try_from(self.batch_size)?).send().await?;
            iterator = got.next_shard_iterator().map(str::to_owned);
            if got.records().is_empty() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            self.finish(Batch { records: got.records, retries: 0 }).await?;
        }
        Ok(())
    }

    /// Invokes until every record of a batch is done or discarded.
    async fn finish(&self, batch: Batch<Record>) -> Result<(), Failed> {
        let mut queue = VecDeque::from([batch]);
        while let Some(batch) = queue.pop_front() {
            let event = self.event(&batch.records);
            let ended = self.invoke(&event).await?;
            let failing = batch.retries;
            let Next { again, discarded } = next(batch, &ended, self.settings, |record| record.sequence_number());
            if !again.is_empty() {
                tokio::time::sleep(Duration::from_millis(100 << failing.min(6))).await;
            }
            for batch in again.into_iter().rev() {
                queue.push_front(batch);
            }
            if let Some(batch) = discarded {
                self.discard(&batch).await?;
            }
        }
        Ok(())
    }

    async fn invoke(&self, event: &Value) -> Result<Ended, Failed> {
        let payload = Blob::new(event.to_string());
        let answered = self.lambda.invoke().function_name(&self.function).payload(payload).send().await?;
        if answered.function_error().is_some() {
            return Ok(Ended::FunctionError);
        }
        let payload = answered.payload().map(AsRef::as_ref).unwrap_or(b"null".as_slice());
        let response: Option<_> = serde_json::from_slice(payload)?;
        Ok(Ended::Answered(response.unwrap_or_default()))
    }

    /// The event as Lambda sends it.
    fn event(&self, records: &[Record]) -> Value {
        let region = self.stream_arn.split(':').nth(3).unwrap_or_default();
        let record = |record: &Record| {
            let number = record.sequence_number();
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key(),
                    "sequenceNumber": number,
                    "data": STANDARD.encode(record.data()),
                    "approximateArrivalTimestamp": record.approximate_arrival_timestamp().map(|at| at.as_secs_f64()),
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": format!("{}:{number}", self.shard),
                "eventName": "aws:kinesis:record",
                "awsRegion": region,
                "eventSourceARN": self.stream_arn,
            })
        };
        json!({ "Records": records.iter().map(record).collect::<Vec<_>>() })
    }

    /// The on-failure document, with the whole payload as S3 destinations get it.
    async fn discard(&self, batch: &Batch<Record>) -> Result<(), Failed> {
        let numbers: Vec<&str> = batch.records.iter().map(Record::sequence_number).collect();
        let document = json!({
            "requestContext": {"functionArn": self.function, "condition": "RetryAttemptsExhausted", "approximateInvokeCount": batch.retries + 1},
            "version": "1.0",
            "KinesisBatchInfo": {
                "shardId": self.shard, "streamArn": self.stream_arn, "batchSize": numbers.len(),
                "startSequenceNumber": numbers.first(), "endSequenceNumber": numbers.last(),
            },
            "payload": self.event(&batch.records).to_string(),
        });
        let Some(bucket) = &self.on_failure_bucket else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let key = format!("aws/lambda/{}/{}/{now}", self.function, self.shard);
        self.s3.put_object().bucket(bucket).key(key).body(document.to_string().into_bytes().into()).send().await?;
        Ok(())
    }
}
