//! S3, as Python's session reaches it.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::Runtime;
use weir_delivery::Failure;
use weir_lake::{Lake, Region, S3Lake, aws_config};

/// S3 by the AWS SDK. Made once a process, after Spark's worker has forked: it has threads.
#[pyclass(frozen)]
pub(crate) struct Aws {
    pub(crate) lake: Arc<dyn Lake>,
    pub(crate) runtime: &'static Runtime,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

fn runtime() -> PyResult<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Runtime::new().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(RUNTIME.get_or_init(|| made))
}

impl Aws {
    /// Connects with what `credentials` gives whenever it is called: `(access key, secret key, session token or None)`.
    pub(crate) fn connect(
        py: Python<'_>,
        credentials: Py<PyAny>,
        region: String,
        endpoint: Option<String>,
    ) -> PyResult<Self> {
        let runtime = runtime()?;
        let config = aws_config().credentials_provider(FromPython(credentials)).region(Region::new(region));
        let config = match endpoint {
            Some(endpoint) => config.endpoint_url(endpoint),
            None => config,
        };
        let config = py.detach(|| runtime.block_on(config.load()));
        Ok(Self { lake: Arc::new(S3Lake::new(&config)), runtime })
    }

    /// Waits for an answer of S3's.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(answer)
    }
}

/// What Python's session has. It renews them itself.
#[derive(Debug)]
struct FromPython(Py<PyAny>);

/// How long they are used before Python is asked again: it renews its own a quarter of an hour before their end.
const ASKED_AGAIN: Duration = Duration::from_secs(300);

impl FromPython {
    fn ask(&self) -> PyResult<Credentials> {
        let (access, secret, token): (String, String, Option<String>) =
            Python::attach(|py| self.0.call0(py)?.extract(py))?;
        let until = UNIX_EPOCH.elapsed().ok().map(|since| UNIX_EPOCH + since + ASKED_AGAIN);
        Ok(Credentials::new(access, secret, token, until, "python"))
    }
}

impl ProvideCredentials for FromPython {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(self.ask().map_err(|error| CredentialsError::not_loaded(error.to_string())))
    }
}
