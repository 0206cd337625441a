//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use serde_json::value::RawValue;
use weir_analytics::config::Config;
use weir_analytics::{Analytics, Memory};
use weir_entry::{Error, serve};
use weir_lake::{S3Lake, aws_config};
use weir_telemetry::Telemetry;

/// Batches are megabytes that come and go; see transform.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (config, contract, plan) = Config::read(|name| std::env::var(name).ok())?;
    let analytics = Analytics {
        contract,
        plan,
        lake: Arc::new(S3Lake::new(&aws_config().load().await)),
        telemetry: Telemetry::new("analytics", &config.stack),
        memory: Memory::default(),
        config,
    };
    serve(async |event: Box<RawValue>, visit| analytics.handle(event.get(), visit).await).await
}
