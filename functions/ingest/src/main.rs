//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use weir_alerts::{Herald, Topic};
use weir_catalog::GlueCatalog;
use weir_delivery::Failure;
use weir_ingest::config::Config;
use weir_ingest::{Ingest, Memory};
use weir_lake::{S3Lake, aws_config};
use weir_ledger::{DynamoStore, Writer};
use weir_telemetry::{Telemetry, Visit, now_ms};

/// Batches are megabytes that come and go; see transform.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static WARM: AtomicBool = AtomicBool::new(false);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), &config.ledger_table));
    let stream = std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default();
    let ingest = Arc::new(Ingest {
        lake: Arc::new(S3Lake::new(&aws)),
        positions: store.clone(),
        layouts: store.clone(),
        catalog: Arc::new(GlueCatalog::new(aws_sdk_glue::Client::new(&aws), &config.database)),
        book: store.clone(),
        herald: Herald {
            telemetry: Telemetry::new(config.role, &config.stack),
            store: store.clone(),
            publisher: Arc::new(Topic::new(aws_sdk_sns::Client::new(&aws), &config.alert_topic_arn)),
        },
        config,
        writer: Writer::of_process(&stream, now_ms()),
        memory: Memory::default(),
    });
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let ingest = Arc::clone(&ingest);
        async move {
            let (request_id, deadline_ms) = (event.context.request_id.clone(), event.context.deadline);
            let cold_start = !WARM.swap(true, Ordering::Relaxed);
            let visit = Visit { request_id, deadline_ms, clock: now_ms, cold_start };
            let answer = ingest.handle(event.payload.get(), &visit).await;
            answer.map_err(|Failure { code, reason, .. }| Diagnostic { error_type: code, error_message: reason })
        }
    }))
    .await
}
