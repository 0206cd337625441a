//! The deployed local stack, as tests see it. `make test` starts it and says where it is by environment variables.

pub mod function;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use weir_command::Location;
use weir_lake::{Lake, S3Lake, aws_config};
use weir_ledger::{DynamoStore, Job, State, Store};

/// What went wrong in a test's own doing.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The stack.
pub struct Stack {
    /// S3.
    pub lake: S3Lake,
    /// Jobs.
    pub ledger: DynamoStore,
    kinesis: aws_sdk_kinesis::Client,
    lambda: aws_sdk_lambda::Client,
    input: String,
    output: String,
    dead_letters: String,
    /// Unlike that of any other test or run.
    pub run: String,
}

impl Stack {
    /// Connects. `name` tells tests apart.
    ///
    /// # Errors
    /// If there is no stack: `make test` makes one.
    pub async fn open(name: &str) -> Result<Self, Failed> {
        let set = |name: &str| {
            std::env::var(name).map_err(|_| {
                format!("{name} is not set: run `make test`, or `make local-up` and `source target/local/env`")
            })
        };
        let aws = aws_config().load().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        Ok(Self {
            lake: S3Lake::new(&aws),
            ledger: DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), "weir-ledger"),
            kinesis: aws_sdk_kinesis::Client::new(&aws),
            lambda: aws_sdk_lambda::Client::new(&aws),
            input: set("WEIR_INPUT_BUCKET")?,
            output: set("WEIR_OUTPUT_BUCKET")?,
            dead_letters: set("WEIR_DEAD_LETTER_BUCKET")?,
            run: format!("{name}-{now}"),
        })
    }

    /// A place in the input bucket, under this run.
    ///
    /// # Errors
    /// None but for a broken name.
    pub fn input(&self, key: &str) -> Result<Location, Failed> {
        Ok(Location::parse(&format!("s3://{}/{}/{key}", self.input, self.run))?)
    }

    /// A place in the output bucket, under this run.
    ///
    /// # Errors
    /// None but for a broken name.
    pub fn output(&self, key: &str) -> Result<Location, Failed> {
        Ok(Location::parse(&format!("s3://{}/{}/{key}", self.output, self.run))?)
    }

    /// Puts an input.
    ///
    /// # Errors
    /// S3's.
    pub async fn put(&self, key: &str, text: &str) -> Result<(), Failed> {
        Ok(self.lake.put(&self.input(key)?, Bytes::from(text.to_owned()), "text/csv").await?)
    }

    /// Puts records in one call, so that they come in one batch; returns their sequence numbers.
    ///
    /// # Errors
    /// Kinesis'.
    pub async fn send(&self, records: &[Vec<u8>]) -> Result<Vec<String>, Failed> {
        let entry = |data: &Vec<u8>| {
            PutRecordsRequestEntry::builder().data(Blob::new(data.clone())).partition_key("test").build()
        };
        let entries = records.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let sent = self.kinesis.put_records().stream_name("weir-commands").set_records(Some(entries)).send().await?;
        Ok(sent.records().iter().filter_map(|record| record.sequence_number().map(str::to_owned)).collect())
    }

    /// Waits until a job is in a state where nothing more happens by itself.
    ///
    /// # Errors
    /// After a minute.
    pub async fn settled(&self, id: &str) -> Result<Job, Failed> {
        let begun = Instant::now();
        loop {
            match self.ledger.get(id).await? {
                Some(job) if job.state.is_final() || job.state == State::Deferred => return Ok(job),
                job if begun.elapsed() > Duration::from_secs(60) => {
                    return Err(format!("job {id} is still {:?}", job.map(|job| job.state)).into());
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits for the dead letter of a record.
    ///
    /// # Errors
    /// After a minute.
    pub async fn dead_letter(&self, sequence_number: &str) -> Result<serde_json::Value, Failed> {
        let at = format!("s3://{}/poison/weir-commands/shardId-000000000000/{sequence_number}.json", self.dead_letters);
        let at = Location::parse(&at)?;
        let begun = Instant::now();
        loop {
            match self.lake.head(&at).await {
                Ok(info) => return Ok(serde_json::from_slice(&self.lake.get(&at, None, 0, info.size).await?)?),
                Err(failure) if begun.elapsed() > Duration::from_secs(60) => return Err(failure.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
