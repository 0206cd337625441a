//! Who is invoked by a mapping: the deployed function, or what a test puts in its place.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::error::DisplayErrorContext;

use crate::runtime::Answer;

type Failed = Box<dyn Error + Send + Sync>;

/// How long a function that could not be invoked is left alone.
const REST: Duration = Duration::from_millis(500);

/// Who is invoked.
#[async_trait]
pub trait Invoker: Send + Sync {
    /// Sends an event; what came of it. `Nothing`: it could not be invoked, or its process died.
    async fn invoke(&self, event: &str) -> Result<Answer, Failed>;
}

/// The function as it is deployed.
pub struct Deployed {
    /// How it is reached.
    pub lambda: aws_sdk_lambda::Client,
    /// Its name.
    pub function: String,
}

#[async_trait]
impl Invoker for Deployed {
    async fn invoke(&self, event: &str) -> Result<Answer, Failed> {
        let payload = aws_sdk_lambda::primitives::Blob::new(event);
        let sent = self.lambda.invoke().function_name(&self.function).payload(payload).send().await;
        let answered = match sent {
            Ok(answered) => answered,
            Err(error) => {
                eprintln!("weir-local: {} can't be invoked: {}", self.function, DisplayErrorContext(error));
                tokio::time::sleep(REST).await;
                return Ok(Answer::Nothing);
            }
        };
        let text = String::from_utf8_lossy(answered.payload().map(AsRef::as_ref).unwrap_or_default()).into_owned();
        Ok(if answered.function_error().is_some() { Answer::Error(text) } else { Answer::Response(text) })
    }
}
