//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;
use weir_alerts::{Herald, Topic};
use weir_delivery::Failure;
use weir_lake::{S3Lake, aws_config};
use weir_ledger::{DynamoStore, Ledger, Writer};
use weir_orchestrator::Orchestrator;
use weir_orchestrator::config::Config;
use weir_orchestrator::glue::GlueJob;
use weir_orchestrator::warehouse::Warehouse;
use weir_orchestrator::warehouse::redshift::DataApi;
use weir_telemetry::{Telemetry, Visit, now_ms};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), &config.ledger_table));
    let stream = std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default();
    let writer = Arc::new(Writer::of_process(&stream, now_ms()));
    let redshift = config.redshift.clone();
    let warehouse = redshift.map(|it| Arc::new(DataApi::new(&aws, &config.stack, it)) as Arc<dyn Warehouse>);
    let orchestrator = Arc::new(Orchestrator {
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
    });
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| {
        let orchestrator = Arc::clone(&orchestrator);
        async move {
            let (request_id, deadline_ms) = (event.context.request_id.clone(), event.context.deadline);
            let visit = Visit { request_id, deadline_ms, clock: now_ms, cold_start: false };
            // Lambda invokes it again for an event that fails, and keeps what fails to the end.
            let answer = orchestrator.handle(&event.payload, &visit).await;
            answer.map_err(|Failure { code, reason, .. }| Diagnostic { error_type: code, error_message: reason })
        }
    }))
    .await
}
