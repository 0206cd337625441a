//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use serde_json::Value;
use weir_alerts::{Herald, Topic};
use weir_entry::{Error, log_stream, serve};
use weir_lake::{S3Lake, aws_config};
use weir_ledger::{DynamoStore, Ledger, Writer};
use weir_orchestrator::Orchestrator;
use weir_orchestrator::config::Config;
use weir_orchestrator::glue::GlueJob;
use weir_orchestrator::warehouse::Warehouse;
use weir_orchestrator::warehouse::redshift::DataApi;
use weir_telemetry::{Telemetry, now_ms};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), &config.ledger_table));
    let writer = Arc::new(Writer::of_process(&log_stream(), now_ms()));
    let redshift = config.redshift.clone();
    let warehouse = redshift.map(|it| Arc::new(DataApi::new(&aws, &config.stack, it)) as Arc<dyn Warehouse>);
    let orchestrator = Orchestrator {
        lake: Arc::new(S3Lake::new(&aws)),
        ledger: Ledger::new(store.clone(), Arc::clone(&writer)),
        book: store.clone(),
        spark: Arc::new(GlueJob::new(&aws, &config.glue_job, &config.ledger_table)),
        warehouse,
        herald: Herald {
            telemetry: Telemetry::new("orchestrator", &config.stack),
            store: store.clone(),
            publisher: Arc::new(Topic::new(aws_sdk_sns::Client::new(&aws), &config.alert_topic_arn)),
        },
        config,
        writer,
    };
    // Lambda invokes it again for an event that fails, and keeps what fails to the end.
    serve(orchestrator.herald.telemetry.clone(), async |event: Value, visit| orchestrator.handle(&event, visit).await)
        .await
}
