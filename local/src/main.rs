//! `weir-local`: drives a deployed Kinesis event source mapping as Lambda documents it, because the emulator's own
//! poller ignores partial failures (see local/README.md).

use clap::Parser;
use weir_lake::aws_config;
use weir_local::poller;

#[derive(Parser)]
#[command(name = "weir-local", about = "Drives the deployed event source mappings on the laptop's AWS")]
struct Cli {
    /// The function whose mappings are driven.
    #[arg(long, default_value = "weir-realtime")]
    function: String,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let aws = aws_config().load().await;
    match poller::run(&aws, &cli.function).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-local: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
