//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use weir_alerts::Topic;
use weir_delivery::Failure;
use weir_delivery::kinesis::BatchResponse;
use weir_lake::{S3Lake, aws_config};
use weir_ledger::{DynamoStore, Ledger, Writer};
use weir_realtime::config::{Config, Role};
use weir_realtime::handler::{Request, handle};
use weir_realtime::runner::{Runner, Worker};
use weir_realtime::time::Invocation;
use weir_telemetry::{Telemetry, now_ms};

/// The worker as a Lambda function.
struct LambdaWorker {
    client: aws_sdk_lambda::Client,
    function: String,
}

#[async_trait]
impl Worker for LambdaWorker {
    async fn call(&self, job_id: &str) -> Result<(), Failure> {
        let request = Request::Work { job_id: job_id.to_owned() };
        let payload = serde_json::to_vec(&request).map_err(|error| Failure::internal("Request", error.to_string()))?;
        let invoke = self.client.invoke().function_name(&self.function).invocation_type(InvocationType::Event);
        let invoked = invoke.payload(Blob::new(payload)).send().await;
        invoked.map(|_| ()).map_err(|error| {
            let status = error.raw_response().map(|response| response.status().as_u16());
            let said = error.message().unwrap_or("no answer came");
            Failure::aws(error.code(), status, format!("invoke {}: {said}", self.function))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let config = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let function = match config.role {
        Role::Stream => "realtime",
        Role::Worker => "worker",
    };
    let store = Arc::new(DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), &config.ledger_table));
    let stream = std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default();
    let writer = Arc::new(Writer::of_process(&stream, now_ms()));
    let runner = Arc::new(Runner {
        lake: Arc::new(S3Lake::new(&aws)),
        ledger: Ledger::new(store, writer),
        publisher: Arc::new(Topic::new(aws_sdk_sns::Client::new(&aws), &config.alert_topic_arn)),
        worker: Arc::new(LambdaWorker {
            client: aws_sdk_lambda::Client::new(&aws),
            function: config.worker_function.clone(),
        }),
        telemetry: Telemetry::new(function, &config.stack),
        config,
    });
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let runner = Arc::clone(&runner);
        async move {
            let invocation =
                Invocation { request_id: event.context.request_id.clone(), deadline_ms: event.context.deadline };
            let response: BatchResponse = handle(&runner, event.payload.get(), &invocation).await;
            Ok::<_, Error>(response)
        }
    }))
    .await
}
