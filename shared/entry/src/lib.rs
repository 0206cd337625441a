//! How Lambda runs a function: one [`Visit`] after the other, and a [`Failure`] as Lambda shows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_delivery::Failure;
use weir_telemetry::{Telemetry, Trouble, Visit, now_ms};

pub use lambda_runtime::Error;

static WARM: AtomicBool = AtomicBool::new(false);

/// Answers invocations until the process is ended. Those that fail are in the log, too: Lambda shows why to who called, and of most
/// calls that is a service, which keeps it to itself.
///
/// # Errors
/// The runtime API's.
pub async fn serve<P, A, H>(telemetry: Telemetry, handle: H) -> Result<(), Error>
where
    P: DeserializeOwned,
    A: Serialize,
    H: AsyncFn(P, &Visit) -> Result<A, Failure>,
{
    let (handle, telemetry) = (Arc::new(handle), Arc::new(telemetry));
    lambda_runtime::run(service_fn(move |event: LambdaEvent<P>| {
        let (handle, telemetry) = (Arc::clone(&handle), Arc::clone(&telemetry));
        async move {
            let (request_id, deadline_ms) = (event.context.request_id.clone(), event.context.deadline);
            let cold_start = !WARM.swap(true, Ordering::Relaxed);
            let visit = Visit { request_id, deadline_ms, clock: now_ms, cold_start };
            let answer = handle(event.payload, &visit).await;
            answer.map_err(|failure| {
                telemetry.emit(&visit.request_id, &Trouble { doing: "answer an invocation", failure: &failure });
                Diagnostic { error_type: failure.code, error_message: failure.reason }
            })
        }
    }))
    .await
}

/// What Lambda calls this process's log, which tells it from others; empty elsewhere.
pub fn log_stream() -> String {
    std::env::var("AWS_LAMBDA_LOG_STREAM_NAME").unwrap_or_default()
}
