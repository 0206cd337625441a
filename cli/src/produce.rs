//! `weir produce`: rows to a Kinesis stream, a delivery stream or a Kafka topic.

mod array;
mod channel;
mod input;
pub(crate) mod kafka;
pub(crate) mod lanes;
mod report;
mod send;
mod shards;
pub(crate) mod sink;
mod unsent;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use weir_contract::contract;
use weir_kpl::Codec;

use crate::out::say;
use crate::{Cli, Stack, Stop};
use input::{Reading, Written};
use lanes::Limits;
use report::Report;
use send::Sender;
use sink::Sink;
use unsent::Unsent;

/// Send rows: CSV with a header, or one JSON object a line.
#[derive(Args)]
#[command(group = ArgGroup::new("destination").required(true).args(["stream", "delivery_stream", "kafka"]))]
pub(crate) struct Produce {
    /// A file, or - for standard input.
    file: String,
    /// The Kinesis stream.
    #[arg(long)]
    stream: Option<String>,
    /// The Firehose delivery stream, put to directly.
    #[arg(long)]
    delivery_stream: Option<String>,
    /// The brokers of a Kafka cluster, as host:port,...; rows go to a topic, each taken once (an idempotent producer).
    #[arg(long, value_name = "BROKERS", requires = "topic", conflicts_with_all = ["aggregate", "aggregate_bytes"])]
    kafka: Option<String>,
    /// Its topic.
    #[arg(long, requires = "kafka")]
    topic: Option<String>,
    /// A file of name=value lines in librdkafka's words, for whatever else it takes to sign in: security.protocol, sasl.username...
    #[arg(long, value_name = "FILE", requires = "kafka")]
    kafka_settings: Option<PathBuf>,
    /// Whose contract says which columns of a CSV are numbers, and what the key is.
    #[arg(long, default_value = "trips")]
    dataset: String,
    /// The member whose value is the partition key: rows of one key stay in order. Otherwise the contract's key; a row
    /// without it goes anywhere.
    #[arg(long)]
    partition_key: Option<String>,
    #[arg(long, value_enum)]
    format: Option<Written>,
    /// Several rows in one record, in the KPL's format; consumers must open it, as all of ours do. On for a stream, off for a
    /// delivery stream, which may partition by what is in a record.
    #[arg(long, value_enum)]
    aggregate: Option<Switch>,
    /// How large an aggregate may become before it is compressed, in bytes: the KPL's default, or 256 KiB with --compress.
    #[arg(long)]
    aggregate_bytes: Option<usize>,
    /// Compress each record; consumers must unpack it, as all of ours do. With --kafka it is Kafka's own compression, which
    /// consumers don't see.
    #[arg(long, value_enum)]
    compress: Option<Compression>,
    /// How long a row waits for company, in milliseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=600_000))]
    linger: u64,
    /// At most so many rows a second.
    #[arg(long)]
    rate: Option<f64>,
    /// How often a record is tried before it is given up.
    #[arg(long, default_value_t = 20)]
    attempts: u32,
    /// Where rows go that could not be sent: to be sent again as it is.
    #[arg(long)]
    unsent: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Clone, Copy, ValueEnum)]
enum Compression {
    Gzip,
    Zstd,
}

/// The KPL's `AggregationMaxSize`.
const AGGREGATE_BYTES: usize = 51_200;
/// JSON shrinks to a fifth and less: then a record is about as large as an uncompressed one.
const COMPRESSED_AGGREGATE_BYTES: usize = 256 << 10;
/// The most that waits to be sent or is under way.
const BUFFER_BYTES: usize = 32 << 20;
/// The most that is read ahead of that.
const AHEAD_ROWS: usize = 4096;
const AHEAD_BYTES: usize = 8 << 20;

impl Produce {
    async fn sink(&self, cli: &Cli, keyed: bool) -> Result<Sink, Stop> {
        if let (Some(brokers), Some(topic)) = (&self.kafka, &self.topic) {
            let compression = match self.compress {
                None => "lz4",
                Some(Compression::Gzip) => "gzip",
                Some(Compression::Zstd) => "zstd",
            };
            let more = self.kafka_settings.as_deref().map(kafka::read_settings).transpose()?.unwrap_or_default();
            return Ok(Sink::Kafka(kafka::Topic::new(brokers, topic, compression, keyed, &more)?));
        }
        let stack = Stack::open(cli).await?;
        Ok(match (&self.stream, &self.delivery_stream) {
            (_, Some(name)) => Sink::Firehose(aws_sdk_firehose::Client::new(&stack.aws), name.clone()),
            (name, _) => Sink::Kinesis(aws_sdk_kinesis::Client::new(&stack.aws), name.clone().unwrap_or_default()),
        })
    }

    pub(crate) async fn run(&self, cli: &Cli) -> Result<(), Stop> {
        let contract = contract(&self.dataset).map_err(|error| Stop(2, error.to_string()))?;
        if self.rate.is_some_and(|rate| !(0.001..=1e9).contains(&rate)) {
            return Err(Stop(2, "--rate must be from 0.001 to 1e9 rows a second".to_owned()));
        }
        // A key of the contract's under the name it has in raw rows.
        let key = self.partition_key.clone().or_else(|| contract.key().first().map(|key| (*key).to_owned()));
        let input = input::open(&self.file).map_err(|error| Stop(1, format!("{}: {error}", self.file)))?;
        let sink = self.sink(cli, key.is_some()).await?;
        let (request_records, request_bytes) = sink.request_limits();
        let compress = self.compress.filter(|_| self.kafka.is_none()).map(|compress| match compress {
            Compression::Gzip => Codec::Gzip,
            Compression::Zstd => Codec::Zstd,
        });
        let usual = if compress.is_some() { COMPRESSED_AGGREGATE_BYTES } else { AGGREGATE_BYTES };
        // Even if nothing can be compressed, a record must not be too large to be taken.
        let most = sink.record_bytes() - 2048;
        let limits = Limits {
            aggregate: self.aggregate.map_or(self.stream.is_some(), |aggregate| aggregate == Switch::On),
            aggregate_bytes: self.aggregate_bytes.unwrap_or(usual).min(most),
            compress,
            linger: Duration::from_millis(self.linger),
            request_records,
            request_bytes,
            buffer_bytes: BUFFER_BYTES,
        };
        // Of each run its own, so that one that is being sent again does not grow meanwhile.
        let named = || format!("unsent-{}-{:x}.ndjson", sink.name(), crate::now_ms()).into();
        let unsent: PathBuf = self.unsent.clone().unwrap_or_else(named);
        if unsent
            .canonicalize()
            .is_ok_and(|unsent| PathBuf::from(&self.file).canonicalize().is_ok_and(|file| file == unsent))
        {
            return Err(Stop(2, format!("{} is what is to be sent; choose another file with --unsent", self.file)));
        }
        // Before anything is read: what comes by a pipe comes once.
        let shards = sink.shards().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let reading = Reading { contract, key, format: self.format, rate: self.rate, stop: Arc::clone(&stop) };
        let (rows_in, rows_out) = channel::bounded(AHEAD_ROWS, AHEAD_BYTES);
        let reader = std::thread::spawn(move || reading.run(input, &rows_in));
        let (report, unsent) = (Report::new(), Unsent::new(unsent));
        let mut sender =
            Sender { sink: Arc::new(sink), limits, most_attempts: self.attempts.max(1), stop, report, unsent };
        let sent = sender.run(shards, rows_out).await;
        sender.report.end();
        sender.unsent.finish()?;
        sent?;
        let interrupted = sender.stop.load(Ordering::Relaxed);
        // After an interrupt the reader may wait for standard input for ever; it ends with the process.
        let read = match interrupted {
            true => Ok(()),
            false => reader.join().unwrap_or_else(|_| Err(std::io::Error::other("the reader broke down"))),
        };
        let path = sender.unsent.path();
        let unsent = (sender.unsent.rows > 0).then_some(path.as_str());
        say!("{}", if self.json { sender.report.to_json(unsent).to_string() } else { sender.report.describe(unsent) });
        read.map_err(|error| Stop(1, format!("{}: {error}", self.file)))?;
        match unsent {
            None if interrupted => Err(Stop(130, format!("interrupted: {} was not read to its end", self.file))),
            None => Ok(()),
            Some(path) => Err(Stop(1, format!("{} rows were not sent; they are in {path}", sender.unsent.rows))),
        }
    }
}
