//! `weir`: submit jobs, watch them, say what a file is, make data to play with, send it, look at contracts.
//!
//! Exit codes: 0 done; 1 the job failed, the file can't be read, rows were left unsent, a run is halted, a contract is wrong, the stack has a problem; 2 the command line is wrong; 3 AWS could not be asked; 130 interrupted; 141 who read the output stopped.

mod batch;
mod compact;
mod contract;
mod cost;
mod detect;
mod doctor;
mod generate;
mod jobs;
mod kafka;
mod out;
mod produce;
mod redrive;
mod simulate;
mod stats;
mod submit;
mod table;

use std::collections::HashMap;
use std::process::ExitCode;

use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use clap::{Parser, Subcommand};
use serde_json::Value;
use weir_lake::aws_config;
use weir_ledger::DynamoStore;

#[derive(Parser)]
#[command(name = "weir", version, about = "A hybrid streaming and batch data pipeline for AWS")]
struct Cli {
    /// The stack's name: its stream is NAME-commands, its ledger NAME-ledger.
    #[arg(long, env = "WEIR_STACK", default_value = "weir", global = true)]
    stack: String,
    /// The AWS profile, as for the AWS CLI.
    #[arg(long, global = true)]
    profile: Option<String>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Put a command on the stream.
    Submit(submit::Submit),
    /// List recent jobs.
    Jobs(jobs::Jobs),
    /// Everything known of one job.
    Job(jobs::One),
    /// Say what a file is: a path, or s3://bucket/key.
    Detect(detect::Detect),
    /// Make realistic data.
    Generate(generate::Generate),
    /// Send rows to a Kinesis stream, a delivery stream or a Kafka topic.
    Produce(produce::Produce),
    /// How far Kafka's topics are read.
    Kafka(kafka::KafkaArgs),
    /// What is happening now: a stream's statistics, window by window.
    Stats(stats::Stats),
    /// Make few files of the many small ones that Kafka's events become.
    Compact(compact::Compact),
    /// Hudi tables: what is in them, what was done to them, whether they are whole.
    Table(table::TableArgs),
    /// Batch runs: what waits, what runs, run now, retry, load.
    Batch(batch::BatchArgs),
    /// Dead letters: list them, send them to where they came from again.
    Redrive(redrive::Redrive),
    /// What is wrong with the stack, and what to do about it.
    ///
    /// Looks at the ledger, the streams, the mappings and the dead letters, and calls the functions as their schedules do, or with an
    /// empty batch: whether they start, with the settings they have, and may read the ledger; what their logs say is shown. What they
    /// write, and S3, only --probe tries. Exit code 1 if there is a problem.
    Doctor(doctor::Doctor),
    /// What a stack costs a month, on paper.
    ///
    /// Without anything it is idle. Numbers may be written as 500, 20k, 1.5M, 2G. Not in it: what you keep on S3 (about $0.023 a GB and
    /// month), what the ledger keeps (jobs of 90 days), pollers of Kafka (`KafkaPollers`), your Kafka or database, DMS, OpenSearch,
    /// Redshift, data transfer, taxes; and the free tier.
    Cost(cost::Cost),
    /// How far a function lags behind in a spike, on paper.
    ///
    /// From service times that the benches measured; nothing is asked of AWS. Numbers may be written as 500, 20k, 1.5M, 2G.
    Simulate(simulate::Simulate),
    /// Check, show and export dataset contracts.
    Contract(contract::ContractArgs),
}

/// Why the CLI stops: the exit code and what to say.
#[derive(Debug)]
struct Stop(u8, String);

impl Stop {
    fn aws(error: impl std::fmt::Display) -> Self {
        Self(
            3,
            format!(
                "{error}\nThe region, endpoint and credentials are read as the AWS CLI reads them; `--stack` names the stack."
            ),
        )
    }
}

/// The stack, as far as the CLI talks to it.
struct Stack {
    name: String,
    aws: ::aws_config::SdkConfig,
}

impl Stack {
    async fn open(cli: &Cli) -> Result<Self, Stop> {
        let mut loader = aws_config();
        if let Some(profile) = &cli.profile {
            loader = loader.profile_name(profile);
        }
        let aws = loader.load().await;
        if aws.region().is_none() {
            let reason = "no region is set: set AWS_REGION, or `region` in the profile, or choose another `--profile`";
            return Err(Stop(3, reason.to_owned()));
        }
        Ok(Self { name: cli.stack.clone(), aws })
    }

    fn stream(&self) -> String {
        format!("{}-commands", self.name)
    }

    fn ledger(&self) -> DynamoStore {
        DynamoStore::new(aws_sdk_dynamodb::Client::new(&self.aws), format!("{}-ledger", self.name))
    }

    /// That a function is not there, and what to do: what its part of the stack is made by.
    fn lacks(&self, function: &str, part: &str) -> Stop {
        let name = &self.name;
        Stop(
            3,
            format!(
                "there is no function {name}-{function}: is the stack called {name} (--stack), and does it have {part}?"
            ),
        )
    }

    /// What one of its functions is told; nothing if the stack has no such function.
    async fn variables(&self, function: &str) -> Result<Option<HashMap<String, String>>, Stop> {
        let client = aws_sdk_lambda::Client::new(&self.aws);
        let found = client.get_function_configuration().function_name(format!("{}-{function}", self.name)).send().await;
        match found {
            Ok(found) => Ok(Some(found.environment.and_then(|environment| environment.variables).unwrap_or_default())),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(None)
            }
            Err(error) => Err(Stop::aws(aws_sdk_lambda::error::DisplayErrorContext(error))),
        }
    }

    /// Asks one of its functions, and waits as long as one may take. What it says if it fails: the kind, and why.
    async fn ask(&self, function: &str, request: &Value) -> Result<Result<Value, (String, String)>, Stop> {
        let client = aws_sdk_lambda::Client::new(&self.aws);
        let invoke = client.invoke().function_name(format!("{}-{function}", self.name));
        // The SDK's own read time-out is shorter than a function's life.
        let patient =
            aws_sdk_lambda::Config::builder().timeout_config(TimeoutConfig::builder().read_timeout(LONGEST).build());
        let invoke = invoke.payload(Blob::new(request.to_string())).customize().config_override(patient);
        let answer = invoke.send().await;
        let answer = answer.map_err(|error| match error.as_service_error() {
            Some(known) if known.is_resource_not_found_exception() => self.lacks(function, "that part"),
            _ => Stop::aws(aws_sdk_lambda::error::DisplayErrorContext(error)),
        })?;
        let told = answer.payload().map(|payload| payload.as_ref()).unwrap_or_default();
        let told: Value = serde_json::from_slice(told).unwrap_or_default();
        if answer.function_error().is_some() {
            let text = |name: &str| told.get(name).and_then(Value::as_str);
            let said = text("errorMessage").unwrap_or("it did not say why");
            let kind = text("errorType").unwrap_or_default().to_owned();
            return Ok(Err((kind, format!("{}-{function}: {said}", self.name))));
        }
        Ok(Ok(told))
    }
}

/// As long as a function may run, and a little more.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(910);

async fn run(cli: &Cli) -> Result<(), Stop> {
    match &cli.command {
        Verb::Submit(submit) => submit.run(&Stack::open(cli).await?).await,
        Verb::Jobs(jobs) => jobs.run(&Stack::open(cli).await?).await,
        Verb::Job(one) => one.run(&Stack::open(cli).await?).await,
        Verb::Detect(detect) => detect.run(cli).await,
        Verb::Generate(generate) => generate.run(),
        Verb::Produce(produce) => produce.run(cli).await,
        Verb::Kafka(kafka) => kafka.run(&Stack::open(cli).await?).await,
        Verb::Stats(stats) => stats.run(&Stack::open(cli).await?).await,
        Verb::Compact(compact) => compact.run(&Stack::open(cli).await?).await,
        Verb::Table(table) => table.run(cli).await,
        Verb::Batch(batch) => batch.run(&Stack::open(cli).await?).await,
        Verb::Redrive(redrive) => redrive.run(&Stack::open(cli).await?).await,
        Verb::Doctor(doctor) => doctor.run(&Stack::open(cli).await?).await,
        Verb::Cost(cost) => cost.run(),
        Verb::Simulate(simulate) => simulate.run(),
        Verb::Contract(contract) => contract.run(),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop(code, said)) => {
            eprintln!("weir: {said}");
            ExitCode::from(code)
        }
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> u64 {
    jiff::Timestamp::now().as_millisecond().unsigned_abs()
}
