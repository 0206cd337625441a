//! Reads the shards of a mapped stream and invokes the function, by the rules of [`mapping`].

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::error::ProvideErrorMetadata;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use aws_sdk_lambda::types::EventSourceMappingConfiguration;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weir_delivery::ItemFailure;
use weir_delivery::kinesis::BatchResponse;

use crate::chaos::{self, Dice};
use crate::invoker::{Deployed, Invoker};
use crate::mapping::{self, Batch, Ended, Next, Settings};
use crate::runtime::Answer;
use crate::tumbling::Carried;

pub(crate) type Failed = Box<dyn Error + Send + Sync>;

/// How soon a shard that was empty is asked again: later and later, while nothing comes. Lambda asks once a second; a laptop need not wait
/// so long, nor be kept busy by that.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often the stream is asked for new shards.
const LOOK_FOR_SHARDS: Duration = Duration::from_secs(2);

/// What a record adds to the payload beside its data.
const ENVELOPE_BYTES: usize = 600;

/// How long a function that could not be invoked is left alone.
const REST: Duration = Duration::from_secs(1);

/// One mapping: a stream into a function.
pub(crate) struct Mapping {
    kinesis: aws_sdk_kinesis::Client,
    invoker: Arc<dyn Invoker>,
    s3: aws_sdk_s3::Client,
    function: String,
    stream_arn: String,
    pub(crate) settings: Settings,
    on_failure_bucket: Option<String>,
    from: ShardIteratorType,
    dice: Arc<Dice>,
}

/// Drives every Kinesis mapping of a function until something fails.
///
/// # Errors
/// What AWS answered.
pub async fn run(
    aws: &weir_lake::SdkConfig,
    function: &str,
    from: ShardIteratorType,
    dice: Arc<Dice>,
) -> Result<(), Failed> {
    let lambda = aws_sdk_lambda::Client::new(aws);
    let mut mappings = JoinSet::new();
    for deployed in mappings_of(&lambda, function).await? {
        let invoker = Deployed { lambda: lambda.clone(), function: function.to_owned() };
        let mapping = Mapping::new(aws, Arc::new(invoker), function, &deployed, from.clone(), Arc::clone(&dice));
        println!("weir-local: driving {} into {function}: {:?}", mapping.stream_arn, mapping.settings);
        mappings.spawn(Arc::new(mapping).drive());
    }
    while let Some(ended) = mappings.join_next().await {
        ended??;
    }
    Ok(())
}

/// Drives another stream into what a test puts in the place of a function, by the settings of the function's deployed mapping,
/// but for the window.
///
/// # Errors
/// What AWS answered; the invoker's own.
pub async fn run_on(
    aws: &weir_lake::SdkConfig,
    function: &str,
    (stream_arn, window): (&str, Duration),
    invoker: Arc<dyn Invoker>,
    dice: Arc<Dice>,
) -> Result<(), Failed> {
    let deployed = mappings_of(&aws_sdk_lambda::Client::new(aws), function).await?;
    let first = deployed.first().ok_or("no mapping")?;
    let mut mapping = Mapping::new(aws, invoker, function, first, ShardIteratorType::TrimHorizon, dice);
    stream_arn.clone_into(&mut mapping.stream_arn);
    mapping.settings.window = window;
    Arc::new(mapping).drive().await
}

async fn mappings_of(
    lambda: &aws_sdk_lambda::Client,
    function: &str,
) -> Result<Vec<EventSourceMappingConfiguration>, Failed> {
    let listed = lambda.list_event_source_mappings().function_name(function).send().await?;
    let of_kinesis =
        |one: &&EventSourceMappingConfiguration| one.event_source_arn().is_some_and(|arn| arn.contains(":kinesis:"));
    let found: Vec<_> = listed.event_source_mappings().iter().filter(of_kinesis).cloned().collect();
    if found.is_empty() {
        return Err(format!("{function} has no Kinesis mapping; is the stack deployed?").into());
    }
    Ok(found)
}

fn forgotten(error: &impl ProvideErrorMetadata) -> bool {
    matches!(error.code(), Some("ResourceNotFoundException" | "ExpiredIteratorException"))
}

/// The response that fails a whole batch.
fn whole() -> BatchResponse {
    BatchResponse { batch_item_failures: vec![ItemFailure { item_identifier: String::new() }] }
}

/// The settings of a deployed mapping; what is not set is as the API reference says.
fn settings_of(mapping: &EventSourceMappingConfiguration) -> Settings {
    let count = |set: Option<i32>, or: usize| set.and_then(|set| usize::try_from(set).ok()).unwrap_or(or);
    let seconds = |set: Option<i32>| set.and_then(|set| u64::try_from(set).ok()).map(Duration::from_secs);
    let tumbling = seconds(mapping.tumbling_window_in_seconds()).filter(|length| !length.is_zero());
    Settings {
        batch_size: count(mapping.batch_size(), 100),
        window: seconds(mapping.maximum_batching_window_in_seconds()).unwrap_or_default(),
        // A window's state is the shard's.
        lanes: if tumbling.is_some() { 1 } else { count(mapping.parallelization_factor(), 1).max(1) },
        oldest: seconds(mapping.maximum_record_age_in_seconds()),
        bisect: mapping.bisect_batch_on_function_error().unwrap_or(false),
        most_retries: mapping.maximum_retry_attempts().and_then(|most| u32::try_from(most).ok()),
        reports: !mapping.function_response_types().is_empty(),
        tumbling,
    }
}

impl Mapping {
    fn new(
        aws: &weir_lake::SdkConfig,
        invoker: Arc<dyn Invoker>,
        function: &str,
        deployed: &EventSourceMappingConfiguration,
        from: ShardIteratorType,
        dice: Arc<Dice>,
    ) -> Self {
        let on_failure = deployed.destination_config().and_then(|config| config.on_failure());
        let bucket = on_failure.and_then(|to| to.destination()).and_then(|arn| arn.strip_prefix("arn:aws:s3:::"));
        Self {
            kinesis: aws_sdk_kinesis::Client::new(aws),
            invoker,
            s3: weir_lake::S3Lake::new(aws).client().clone(),
            function: function.to_owned(),
            stream_arn: deployed.event_source_arn().unwrap_or_default().to_owned(),
            settings: settings_of(deployed),
            on_failure_bucket: bucket.map(str::to_owned),
            from,
            dice,
        }
    }

    /// Begins shards as they come to be; ends by an error.
    async fn drive(self: Arc<Self>) -> Result<(), Failed> {
        let (mut begun, mut finished) = (HashSet::new(), HashSet::new());
        let mut at_first: Option<HashSet<String>> = None;
        let mut running = JoinSet::new();
        loop {
            let listed = self.kinesis.list_shards().stream_arn(&self.stream_arn).send().await?;
            let parents =
                |shard: &Shard| shard.parent_shard_id.iter().chain(&shard.adjacent_parent_shard_id).cloned().collect();
            let shards: Vec<(String, Vec<String>)> =
                listed.shards().iter().map(|shard| (shard.shard_id().to_owned(), parents(shard))).collect();
            let at_first = at_first.get_or_insert_with(|| shards.iter().map(|(shard, _)| shard.clone()).collect());
            for shard in mapping::ready(&shards, &begun, &finished) {
                // What comes to be later is a child, and read from its beginning.
                let from = if at_first.contains(&shard) { self.from.clone() } else { ShardIteratorType::TrimHorizon };
                running.spawn(Arc::clone(&self).read(shard.clone(), from));
                begun.insert(shard);
            }
            tokio::select! {
                Some(ended) = running.join_next() => { finished.insert(ended??); }
                () = tokio::time::sleep(LOOK_FOR_SHARDS) => {}
            }
        }
    }

    /// Reads a shard to its end; returns its name when all that was in it is done.
    async fn read(self: Arc<Self>, shard: String, from: ShardIteratorType) -> Result<String, Failed> {
        let asked = self.kinesis.get_shard_iterator().stream_arn(&self.stream_arn).shard_id(&shard);
        let begun = asked.shard_iterator_type(from).send().await?;
        let mut iterator = begun.shard_iterator().map(str::to_owned);
        let mut lanes = Vec::new();
        let mut running = JoinSet::new();
        for _ in 0..self.settings.lanes {
            let (lane, records) = mpsc::channel(self.settings.batch_size);
            lanes.push(lane);
            match self.settings.tumbling {
                None => running.spawn(Arc::clone(&self).work(shard.clone(), records)),
                Some(length) => running.spawn(Arc::clone(&self).windows(shard.clone(), records, length)),
            };
        }
        let mut pause = PAUSE;
        while let Some(at) = iterator {
            // A lane ends before its shard only by an error.
            if let Some(ended) = running.try_join_next() {
                ended??;
            }
            let got = match self.kinesis.get_records().shard_iterator(at).limit(1000).send().await {
                // The emulator forgets a shard that is split; on AWS it ends when all of it is read.
                Err(error) if forgotten(&error) => break,
                got => got?,
            };
            iterator = got.next_shard_iterator().map(str::to_owned);
            if got.records().is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                pause = PAUSE;
            }
            for record in got.records {
                let lane = mapping::lane(record.partition_key().unwrap_or_default(), &self.settings);
                let Some(lane) = lanes.get(lane) else { continue };
                if lane.send(record).await.is_err() {
                    // The lane has ended, and says why.
                    iterator = None;
                    break;
                }
            }
        }
        drop(lanes);
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(shard)
    }

    /// One lane of a shard: cuts batches, and finishes each before the next.
    async fn work(self: Arc<Self>, shard: String, mut records: mpsc::Receiver<Record>) -> Result<(), Failed> {
        let mut waiting = VecDeque::new();
        let mut since = Instant::now();
        let mut open = true;
        while open || !waiting.is_empty() {
            if waiting.is_empty() {
                match records.recv().await {
                    Some(record) => waiting.push_back(record),
                    None => return Ok(()),
                }
                since = Instant::now();
            }
            while waiting.len() <= self.settings.batch_size {
                match records.try_recv() {
                    Ok(record) => waiting.push_back(record),
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        open = false;
                        break;
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
            }
            let sizes = waiting.iter().map(|record: &Record| record.data().as_ref().len() * 4 / 3 + ENVELOPE_BYTES);
            let count = mapping::cut(sizes, if open { since.elapsed() } else { self.settings.window }, &self.settings);
            if count == 0 {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let batch: Vec<Record> = waiting.drain(..count).collect();
            since = Instant::now();
            self.with_mishaps(&shard, batch, None).await?;
        }
        Ok(())
    }

    fn too_old(&self, record: &Record) -> bool {
        let arrived = record.approximate_arrival_timestamp().and_then(|at| SystemTime::try_from(*at).ok());
        let age = arrived.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        self.settings.oldest.is_some_and(|oldest| age > oldest)
    }

    pub(crate) async fn with_mishaps(
        &self,
        shard: &str,
        records: Vec<Record>,
        mut carried: Option<&mut Carried>,
    ) -> Result<(), Failed> {
        let mishap = self.dice.throw(records.len());
        tokio::time::sleep(mishap.delay).await;
        let mut batches = vec![Batch { records, retries: 0 }];
        if let (Some(at), Some(batch)) = (mishap.split, batches.last_mut()) {
            let records = batch.records.split_off(at);
            batches.push(Batch { records, retries: 0 });
        }
        if mishap.again {
            batches.extend(batches.clone());
        }
        let killer = async {
            if let Some(after) = mishap.kill_after {
                tokio::time::sleep(after).await;
                chaos::kill(&self.function)?;
            }
            Ok::<_, Failed>(())
        };
        let all = async {
            for batch in batches {
                self.finish(shard, batch, carried.as_deref_mut()).await?;
            }
            Ok(())
        };
        tokio::try_join!(all, killer)?;
        Ok(())
    }

    /// Invokes until every record of a batch is done or discarded.
    pub(crate) async fn finish(
        &self,
        shard: &str,
        batch: Batch<Record>,
        mut carried: Option<&mut Carried>,
    ) -> Result<(), Failed> {
        let mut queue = VecDeque::from([batch]);
        while let Some(batch) = queue.pop_front() {
            let (old, records) = batch.records.into_iter().partition(|record| self.too_old(record));
            let (old, batch) = (Batch { records: old, retries: batch.retries }, Batch { records, ..batch });
            if !old.records.is_empty() {
                self.discard(shard, &old, "RecordAgeExceeded").await?;
            }
            // But for the end of a window, which comes without.
            if batch.records.is_empty() && carried.as_ref().is_none_or(|carried| !carried.ends) {
                continue;
            }
            let mut event = self.event(shard, &batch.records);
            if let Some(carried) = &carried {
                carried.onto(&mut event, shard, &self.stream_arn);
            }
            // "Unable to invoke the function, it retries until the records expire": no retry of the batch's own is used up.
            let Some((ended, state)) = self.invoke(&event).await? else {
                tokio::time::sleep(REST).await;
                queue.push_front(batch);
                continue;
            };
            if let (Some(carried), Ended::Answered(response)) = (&mut carried, &ended)
                && response.batch_item_failures.is_empty()
            {
                carried.state = state;
            }
            let failing = batch.retries;
            let Next { again, discarded } =
                mapping::next(batch, &ended, self.settings, |record| record.sequence_number());
            if !again.is_empty() {
                tokio::time::sleep(Duration::from_millis(100 << failing.min(6))).await;
            }
            for batch in again.into_iter().rev() {
                queue.push_front(batch);
            }
            if let Some(batch) = discarded {
                self.discard(shard, &batch, "RetryAttemptsExhausted").await?;
            }
        }
        Ok(())
    }

    /// `None` if it could not be invoked: throttled, or not there.
    async fn invoke(&self, event: &Value) -> Result<Option<(Ended, Value)>, Failed> {
        Ok(match self.invoker.invoke(&event.to_string()).await? {
            Answer::Nothing => None,
            Answer::Error(_) => Some((Ended::FunctionError, Value::Null)),
            // "A complete failure": a response that is none.
            Answer::Response(text) => {
                let response = serde_json::from_str::<Option<BatchResponse>>(&text).map(Option::unwrap_or_default);
                let state =
                    serde_json::from_str(&text).map(|answer: Value| answer.get("state").cloned().unwrap_or_default());
                Some((response.map_or(Ended::Answered(whole()), Ended::Answered), state.unwrap_or_default()))
            }
        })
    }

    /// The event as Lambda sends it.
    fn event(&self, shard: &str, records: &[Record]) -> Value {
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
                "eventID": format!("{shard}:{number}"),
                "eventName": "aws:kinesis:record",
                "awsRegion": region,
                "eventSourceARN": self.stream_arn,
            })
        };
        json!({ "Records": records.iter().map(record).collect::<Vec<_>>() })
    }

    /// The on-failure document, with the whole payload as S3 destinations get it.
    async fn discard(&self, shard: &str, batch: &Batch<Record>, condition: &str) -> Result<(), Failed> {
        let numbers: Vec<&str> = batch.records.iter().map(Record::sequence_number).collect();
        let document = json!({
            "requestContext": {"functionArn": self.function, "condition": condition, "approximateInvokeCount": batch.retries + 1},
            "version": "1.0",
            "KinesisBatchInfo": {
                "shardId": shard, "streamArn": self.stream_arn, "batchSize": numbers.len(),
                "startSequenceNumber": numbers.first(), "endSequenceNumber": numbers.last(),
            },
            "payload": self.event(shard, &batch.records).to_string(),
        });
        let Some(bucket) = &self.on_failure_bucket else { return Ok(()) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let key = format!("aws/lambda/{}/{shard}/{now}", self.function);
        self.s3.put_object().bucket(bucket).key(key).body(document.to_string().into_bytes().into()).send().await?;
        Ok(())
    }
}
