//! A deployed stack, as the CLI talks to it.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::operation::invoke::InvokeError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::LogType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weir_delivery::Failure;
use weir_lake::aws_config;
use weir_ledger::DynamoStore;

use crate::{Cli, Stop};

/// What a function is told.
pub(crate) type Variables = HashMap<String, String>;

/// The stack, as far as the CLI talks to it.
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) aws: ::aws_config::SdkConfig,
}

impl Stack {
    pub(crate) async fn open(cli: &Cli) -> Result<Self, Stop> {
        let mut loader = aws_config();
        if let Some(profile) = &cli.profile {
            loader = loader.profile_name(profile);
        }
        let aws = loader.load().await;
        if aws.region().is_none() {
            let reason = "no region is set: set AWS_REGION, or `region` in the profile, or choose another `--profile`";
            return Err(Stop(3, reason.to_owned()));
        }
        Ok(Self { name: cli.stack.clone(), aws })
    }

    pub(crate) fn stream(&self) -> String {
        format!("{}-commands", self.name)
    }

    pub(crate) fn ledger(&self) -> DynamoStore {
        DynamoStore::new(aws_sdk_dynamodb::Client::new(&self.aws), format!("{}-ledger", self.name))
    }

    /// That a function is not there, and what to do: what its part of the stack is made by.
    pub(crate) fn lacks(&self, function: &str, part: &str) -> Stop {
        let name = &self.name;
        Stop(
            3,
            format!(
                "there is no function {name}-{function}: is the stack called {name} (--stack), and does it have {part}?"
            ),
        )
    }

    /// What one of its functions is told; nothing if the stack has no such function.
    pub(crate) async fn variables(&self, function: &str) -> Result<Option<Variables>, Stop> {
        let client = aws_sdk_lambda::Client::new(&self.aws);
        let found = client.get_function_configuration().function_name(format!("{}-{function}", self.name)).send().await;
        match found {
            Ok(found) => Ok(Some(found.environment.and_then(|environment| environment.variables).unwrap_or_default())),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(None)
            }
            Err(error) => Err(Stop::aws(said(&error))),
        }
    }

    /// Calls one of its functions, and waits as long as one may take.
    ///
    /// # Errors
    /// If it can't be called.
    pub(crate) async fn call(&self, function: &str, request: &Value) -> Result<Called, Box<SdkError<InvokeError>>> {
        let client = aws_sdk_lambda::Client::new(&self.aws);
        let invoke = client.invoke().function_name(format!("{}-{function}", self.name)).log_type(LogType::Tail);
        // The SDK's own read time-out is shorter than a function's life.
        let patient = aws_sdk_lambda::Config::builder()
            .timeout_config(TimeoutConfig::builder().read_timeout(LONGEST).build())
            // What takes minutes is not done twice because a connection broke.
            .retry_config(RetryConfig::disabled());
        let invoke = invoke.payload(Blob::new(request.to_string()));
        // But what never began is.
        let mut pauses = PAUSES.iter();
        let answered = loop {
            match invoke.clone().customize().config_override(patient.clone()).send().await {
                Err(error) if error.code() == Some("TooManyRequestsException") => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(error.into()),
                },
                answered => break answered?,
            }
        };
        let log = answered.log_result().and_then(|tail| STANDARD.decode(tail).ok()).unwrap_or_default();
        let told = answered.payload().map(|payload| payload.as_ref()).unwrap_or_default();
        let told: Value = serde_json::from_slice(told).unwrap_or_default();
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        let answer = match answered.function_error() {
            None => Ok(told),
            Some(_) => Err(Fault {
                kind: text("errorType").unwrap_or_default(),
                said: text("errorMessage").unwrap_or_else(|| "it did not say why".to_owned()),
            }),
        };
        Ok(Called { answer, log: String::from_utf8_lossy(&log).into_owned() })
    }

    /// Asks one of its functions. What it says if it fails.
    pub(crate) async fn ask(&self, function: &str, request: &Value) -> Result<Result<Value, Fault>, Stop> {
        let called = self.call(function, request).await.map_err(|error| match error.as_service_error() {
            Some(known) if known.is_resource_not_found_exception() => self.lacks(function, "that part"),
            _ => Stop::aws(said(&*error)),
        })?;
        let named = |fault: Fault| Fault { said: format!("{}-{function}: {}", self.name, fault.said), ..fault };
        Ok(called.answer.map_err(named))
    }
}

/// What a service of AWS said, or why it did not answer.
pub(crate) fn failure<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let reason = error.message().map_or_else(|| causes(error), str::to_owned);
    Failure::aws(error.code(), status, reason)
}

/// The same, in words.
pub(crate) fn said<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> String {
    named(&failure(error))
}

/// With its code.
pub(crate) fn named(failure: &Failure) -> String {
    format!("{}: {}", failure.code, failure.reason)
}

/// Not the SDK's own DisplayErrorContext: it adds what only those who wrote the SDK can read.
fn causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        words += &format!(": {cause}");
        below = cause.source();
    }
    words
}

/// What came of a call.
pub(crate) struct Called {
    /// What it answered.
    pub(crate) answer: Result<Value, Fault>,
    /// The end of its log.
    pub(crate) log: String,
}

/// How a function failed.
pub(crate) struct Fault {
    /// Its code, or the name that Lambda has for it.
    pub(crate) kind: String,
    /// Why.
    pub(crate) said: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, said } = self;
        if kind.is_empty() { f.write_str(said) } else { write!(f, "{kind}: {said}") }
    }
}

/// Before a function that is called too often is called again.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// As long as a function may run, and a little more.
const LONGEST: Duration = Duration::from_secs(910);
