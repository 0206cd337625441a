//! The deployed local stack, as tests see it. `make test` starts it and says where it is by environment variables.

pub mod batch;
pub mod function;
pub mod hudi;
pub mod kafka;
pub mod processes;
pub mod sam;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use bytes::Bytes;
use serde_json::json;
use weir_command::Location;
use weir_lake::{Lake, S3Lake, aws_config};
use weir_ledger::{DynamoStore, Job, State, Store};

/// What went wrong in a test's own doing.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Asks the pinned AWS CLI, as text unless told otherwise.
///
/// # Errors
/// What it says.
pub async fn aws(arguments: &[&str]) -> Result<String, Failed> {
    let output = if arguments.contains(&"--output") { &[][..] } else { &["--output", "text"] };
    // SQS alone does not heed AWS_ENDPOINT_URL.
    let endpoint = std::env::var("AWS_ENDPOINT_URL")?;
    let mut command = tokio::process::Command::new("aws");
    let done = command.args(arguments).args(output).args(["--endpoint-url", &endpoint]).output().await?;
    if !done.status.success() {
        return Err(format!("aws {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// The built CLI, which lies beside the tests' own folder.
///
/// # Errors
/// If the tests lie nowhere.
pub fn cli() -> Result<tokio::process::Command, Failed> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(|deps| deps.parent()).ok_or("no target folder")?;
    Ok(tokio::process::Command::new(folder.join("weir")))
}

/// The stack.
pub struct Stack {
    /// S3.
    pub lake: S3Lake,
    /// Jobs.
    pub ledger: DynamoStore,
    /// Streams.
    pub kinesis: aws_sdk_kinesis::Client,
    /// How AWS is reached.
    pub aws: weir_lake::SdkConfig,
    input: String,
    output: String,
    /// The bucket of the stack's dead letters.
    pub dead_letters: String,
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
            input: set("WEIR_INPUT_BUCKET")?,
            output: set("WEIR_OUTPUT_BUCKET")?,
            dead_letters: set("WEIR_DEAD_LETTER_BUCKET")?,
            run: format!("{name}-{now}"),
            aws,
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

    /// What lies under a prefix, by key.
    ///
    /// # Errors
    /// S3's.
    pub async fn objects(&self, under: &Location) -> Result<BTreeMap<String, Vec<u8>>, Failed> {
        let mut found = BTreeMap::new();
        for object in self.lake.list(under, None).await?.objects {
            let begun = Instant::now();
            let whole = loop {
                match weir_lake::find(&self.lake, &object.location).await {
                    // It was written again or deleted meanwhile.
                    Err(failure)
                        if ["PreconditionFailed", "NoSuchKey"].contains(&failure.code.as_str())
                            && begun.elapsed() < Duration::from_secs(10) => {}
                    whole => break whole?,
                }
            };
            found.extend(whole.map(|(bytes, _)| (object.location.key().to_owned(), bytes.to_vec())));
        }
        Ok(found)
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
        if sent.failed_record_count().is_some_and(|failed| failed > 0) {
            return Err("Kinesis refused a record".into());
        }
        Ok(sent.records().iter().filter_map(|record| record.sequence_number().map(str::to_owned)).collect())
    }

    /// Waits for up to a minute until a job is in a state where nothing more happens by itself.
    ///
    /// # Errors
    /// After that minute.
    pub async fn settled(&self, id: &str) -> Result<Job, Failed> {
        self.settled_within(id, Duration::from_secs(60)).await
    }

    /// The same, with a patience of the test's own.
    ///
    /// # Errors
    /// After that patience.
    pub async fn settled_within(&self, id: &str, patience: Duration) -> Result<Job, Failed> {
        let begun = Instant::now();
        loop {
            match self.ledger.get(id).await? {
                Some(job) if job.state.is_final() || job.state == State::Deferred => return Ok(job),
                job if begun.elapsed() > patience => {
                    return Err(format!("job {id} is still {:?}", job.map(|job| job.state)).into());
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Subscribes a new queue to the alerts; returns its URL. By the AWS CLI: no other test needs these SDKs.
    ///
    /// # Errors
    /// AWS's.
    pub async fn subscribe(&self) -> Result<String, Failed> {
        let topics = aws(&["sns", "list-topics", "--query", "Topics[].TopicArn"]).await?;
        let topic =
            topics.split_whitespace().find(|arn| arn.contains("AlertTopic")).ok_or("there is no alert topic")?;
        let queue = aws(&["sqs", "create-queue", "--queue-name", &self.run, "--query", "QueueUrl"]).await?;
        let attributes = ["--attribute-names", "QueueArn", "--query", "Attributes.QueueArn"];
        let arn = aws(&[&["sqs", "get-queue-attributes", "--queue-url", &queue][..], &attributes].concat()).await?;
        let allow = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
            "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }]});
        let policy = json!({"Policy": allow.to_string()}).to_string();
        aws(&["sqs", "set-queue-attributes", "--queue-url", &queue, "--attributes", &policy]).await?;
        let to = ["--protocol", "sqs", "--notification-endpoint", &arn];
        aws(&[&["sns", "subscribe", "--topic-arn", topic][..], &to].concat()).await?;
        Ok(queue)
    }

    /// Forgets that people heard of a kind of failure in this window, so that a test can be run again within it.
    ///
    /// # Errors
    /// DynamoDB's.
    pub async fn unannounce(&self, what: &str, code: &str) -> Result<(), Failed> {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        let key =
            json!({"pk": {"S": format!("count#alert#{what}#{code}#{}", now / weir_alerts::WINDOW_MS)}}).to_string();
        aws(&["dynamodb", "delete-item", "--table-name", "weir-ledger", "--key", &key]).await?;
        Ok(())
    }

    /// The messages of a queue that hold a word, after a pause in which more of them could have come.
    ///
    /// # Errors
    /// AWS's.
    pub async fn heard(&self, queue: &str, word: &str) -> Result<Vec<String>, Failed> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut heard = Vec::new();
        loop {
            let most = ["--max-number-of-messages", "10", "--visibility-timeout", "600", "--output", "json"];
            let said = aws(&[&["sqs", "receive-message", "--queue-url", queue][..], &most].concat()).await?;
            let said: serde_json::Value = if said.is_empty() { json!({}) } else { serde_json::from_str(&said)? };
            let Some(messages) = said.get("Messages").and_then(|messages| messages.as_array()) else {
                return Ok(heard);
            };
            let bodies = messages.iter().filter_map(|message| message.get("Body")?.as_str());
            heard.extend(bodies.filter(|body| body.contains(word) && body.contains(&self.run)).map(str::to_owned));
        }
    }

    /// What events/ names.
    ///
    /// # Errors
    /// S3's.
    pub async fn samples(&self) -> Result<(), Failed> {
        let trips = include_bytes!("../../events/data/trips.csv");
        let at = Location::parse("s3://weir-sample-input/trips.csv")?;
        Ok(self.lake.put(&at, Bytes::from_static(trips), "text/csv").await?)
    }

    /// Every line of the objects under a place, as JSON.
    ///
    /// # Errors
    /// S3's, or a line that is none.
    pub async fn lines(&self, under: &Location) -> Result<Vec<serde_json::Value>, Failed> {
        let mut lines = Vec::new();
        for object in weir_lake::list_all(&self.lake, under).await? {
            let bytes = self.lake.get(&object.location, None, 0, object.size).await?;
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                lines.push(serde_json::from_slice(line)?);
            }
        }
        Ok(lines)
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
            // One that is written again meanwhile is a failure: a record that comes twice writes it twice, with another time in it.
            match weir_lake::find(&self.lake, &at).await {
                Ok(Some((letter, _))) => return Ok(serde_json::from_slice(&letter)?),
                Err(failure) if begun.elapsed() > Duration::from_secs(60) => return Err(failure.into()),
                Ok(None) if begun.elapsed() > Duration::from_secs(60) => return Err(format!("there is no {at}").into()),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
