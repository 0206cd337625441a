//! The user of an OpenSearch domain, as a secret has it.

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::DisplayErrorContext;
use serde::Deserialize;
use weir_delivery::Failure;
use weir_search::{Login, Logins};

/// A secret of Secrets Manager: JSON with `username` and `password`.
pub(crate) struct Secret {
    pub(crate) client: Client,
    /// Its ARN or name.
    pub(crate) id: String,
}

#[derive(Deserialize)]
struct Value {
    username: String,
    password: String,
}

#[async_trait]
impl Logins for Secret {
    async fn read(&self) -> Result<Login, Failure> {
        let got = self.client.get_secret_value().secret_id(&self.id).send().await;
        let got =
            got.map_err(|error| Failure::passing("Secret", format!("{}: {}", self.id, DisplayErrorContext(error))))?;
        // What can't be read is not shown: a secret.
        let value: Value = serde_json::from_str(got.secret_string().unwrap_or_default())
            .map_err(|_| Failure::user("Secret", format!("{} must be JSON with `username` and `password`", self.id)))?;
        Ok(Login { name: value.username, password: value.password })
    }
}
