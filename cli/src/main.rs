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
mod stack;
mod stats;
mod submit;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::stack::Stack;

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
