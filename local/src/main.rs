//! `weir-local`: what the laptop's AWS lacks (see local/README.md).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::types::ShardIteratorType;
use clap::{Parser, Subcommand};
use weir_lake::aws_config;
use weir_local::chaos::{Chaos, Dice};
use weir_local::faults::Proxy;
use weir_local::runtime::{Answer, Bootstrap, variables_of};
use weir_local::{kafka, poller};

#[derive(Parser)]
#[command(name = "weir-local", about = "What the laptop's AWS lacks")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Drive a function's deployed Kinesis mappings by Lambda's documented rules.
    Drive {
        /// The function.
        #[arg(long, default_value = "weir-realtime")]
        function: String,
        /// What goes wrong, and how often: duplicate=0.2,recut=0.3,kill=0.01,delay=200 (milliseconds).
        #[arg(long, env = "WEIR_CHAOS", default_value = "")]
        chaos: Chaos,
        /// The same seed makes the same mishaps.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Drive a function's deployed Kafka mappings likewise.
    DriveKafka {
        /// The function.
        #[arg(long, default_value = "weir-ingest")]
        function: String,
        /// Other brokers than the mappings say, as host:port,...
        #[arg(long)]
        brokers: Option<String>,
        /// As for `drive`.
        #[arg(long, default_value = "")]
        chaos: Chaos,
        /// As for `drive`.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Make Kafka topics that are not there.
    MakeTopics {
        /// The brokers, as host:port,...
        #[arg(long)]
        brokers: String,
        /// How many partitions each has.
        #[arg(long, default_value_t = 8)]
        partitions: i32,
        /// Their names.
        names: Vec<String>,
    },
    /// Pass requests on, and make those fail that rules at /_faults name.
    Proxy {
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:4567")]
        listen: SocketAddr,
        /// Where to.
        #[arg(long)]
        upstream: String,
    },
    /// Run a built bootstrap on one event by the Lambda runtime API, with its deployed function's variables.
    Invoke {
        /// The function, such as weir-realtime.
        function: String,
        /// The binary.
        bootstrap: PathBuf,
        /// The file that holds the event.
        event: PathBuf,
    },
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How long an invocation by hand may take: the worker's.
const TIMEOUT: Duration = Duration::from_secs(900);

async fn run(command: Verb) -> Result<ExitCode, Failed> {
    match command {
        Verb::Drive { function, chaos, seed } => {
            let dice = Arc::new(Dice::new(chaos, seed));
            poller::run(&aws_config().load().await, &function, ShardIteratorType::TrimHorizon, dice).await?;
        }
        Verb::DriveKafka { function, brokers, chaos, seed } => {
            let dice = Arc::new(Dice::new(chaos, seed));
            kafka::drive(&aws_config().load().await, &function, brokers.as_deref(), dice).await?;
        }
        Verb::MakeTopics { brokers, partitions, names } => kafka::make_topics(&brokers, &names, partitions).await?,
        Verb::Proxy { listen, upstream } => {
            let proxy = Proxy::start_at(listen, &upstream).await?;
            println!("weir-local: passing on from {} to {upstream}", proxy.endpoint());
            proxy.run().await;
        }
        Verb::Invoke { function, bootstrap, event } => {
            let text = std::fs::read_to_string(&event).map_err(|error| format!("{}: {error}", event.display()))?;
            let variables = variables_of(&aws_config().load().await, &function).await?;
            // Its log goes where a Lambda's would be read; its answer alone to standard output.
            let log = Stdio::from(std::io::stderr());
            let running = Bootstrap::start(&bootstrap, &function, &variables, log).await?;
            return Ok(match running.invoke(&text, TIMEOUT, Duration::ZERO).await? {
                Answer::Response(response) => {
                    println!("{response}");
                    ExitCode::SUCCESS
                }
                Answer::Error(error) => {
                    println!("{error}");
                    ExitCode::FAILURE
                }
                Answer::Nothing => return Err("the function ended without an answer".into()),
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir-local: {error}");
            ExitCode::FAILURE
        }
    }
}
