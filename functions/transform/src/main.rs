//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use weir_delivery::firehose::Batch;
use weir_lake::{S3Lake, aws_config};
use weir_telemetry::Telemetry;
use weir_transform::batch::answer;
use weir_transform::config::Config;

/// Batches are megabytes that come and go: glibc gives them back to the kernel and gets them again, page by page, which took
/// a third of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

static WARM: AtomicBool = AtomicBool::new(false);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = Arc::new(Config::read(|name| std::env::var(name).ok())?);
    let lake = Arc::new(S3Lake::new(&aws_config().load().await));
    let telemetry = Arc::new(Telemetry::new("transform", &config.stack));
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Batch>| {
        let (config, lake, telemetry) = (Arc::clone(&config), Arc::clone(&lake), Arc::clone(&telemetry));
        async move {
            let (begun, cold_start) = (Instant::now(), !WARM.swap(true, Ordering::Relaxed));
            let now_micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
            let (response, mut said) = answer(&config, lake.as_ref(), event.payload, now_micros).await;
            said.ms = begun.elapsed().as_millis() as u64;
            said.cold_start = cold_start;
            telemetry.emit(&event.context.request_id, &said);
            Ok::<_, Error>(RawValue::from_string(response)?)
        }
    }))
    .await
}
