//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use serde_json::value::RawValue;
use weir_alerts::{Herald, Topic};
use weir_catalog::GlueCatalog;
use weir_cdc::config::Config;
use weir_cdc::{Cdc, Memory};
use weir_entry::{Error, log_stream, serve};
use weir_hudi::Limits;
use weir_lake::{S3Lake, aws_config};
use weir_ledger::{DynamoStore, Writer};
use weir_telemetry::{Telemetry, now_ms};

/// Base files are megabytes that come and go; see transform.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), &config.ledger_table));
    let cdc = Cdc {
        lake: Arc::new(S3Lake::new(&aws)),
        backlogs: store.clone(),
        catalog: Arc::new(GlueCatalog::new(aws_sdk_glue::Client::new(&aws), &config.database)),
        herald: Herald {
            telemetry: Telemetry::new(config.role.name(), &config.stack),
            store: store.clone(),
            publisher: Arc::new(Topic::new(aws_sdk_sns::Client::new(&aws), &config.alert_topic_arn)),
        },
        writer: Writer::of_process(&log_stream(), now_ms()),
        limits: Limits { memory_bytes: config.memory_bytes, ..Limits::default() },
        memory: Memory::default(),
        config,
    };
    serve(cdc.herald.telemetry.clone(), async |event: Box<RawValue>, visit| cdc.handle(event.get(), visit).await).await
}
