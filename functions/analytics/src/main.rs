//! Reads the configuration once, makes the clients once, and hands over.

use std::sync::Arc;

use serde_json::value::RawValue;
use weir_analytics::config::{Config, Search};
use weir_analytics::{Analytics, Memory};
use weir_entry::{Error, serve};
use weir_lake::{S3Lake, SdkConfig, aws_config};
use weir_search::{Identity, Index, Node, UNAUTHORIZED};
use weir_telemetry::Telemetry;

/// Batches are megabytes that come and go; see transform.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Who asks OpenSearch: the user that a secret names, or the function itself.
async fn identity(aws: &SdkConfig, search: &Search) -> Result<Identity, Error> {
    let Some(secret) = &search.secret else {
        let provider = aws.credentials_provider().ok_or("there are no credentials")?;
        let region = aws.region().ok_or("AWS_REGION is not set")?;
        return Ok(Identity::Role(provider, region.to_string()));
    };
    let client = aws_sdk_secretsmanager::Client::new(aws);
    let got = client.get_secret_value().secret_id(secret).send().await?;
    let login: Login = serde_json::from_str(got.secret_string().unwrap_or_default())
        .map_err(|_| "the secret of SEARCH_SECRET must be JSON with `username` and `password`")?;
    Ok(Identity::User(login.username, login.password))
}

#[derive(serde::Deserialize)]
struct Login {
    username: String,
    password: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (config, contract, plan) = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let index = match &config.search {
        Some(search) => Some(Arc::new(Node::new(&search.endpoint, identity(&aws, search).await?)) as Arc<dyn Index>),
        None => None,
    };
    let name = if index.is_some() { "analytics-deliver" } else { "analytics" };
    let analytics = Analytics {
        contract,
        plan,
        lake: Arc::new(S3Lake::new(&aws)),
        index,
        telemetry: Telemetry::new(name, &config.stack),
        memory: Memory::default(),
        config,
    };
    serve(async |event: Box<RawValue>, visit| {
        let answer = analytics.handle(event.get(), visit).await;
        if answer.as_ref().is_err_and(|failure| failure.code == UNAUTHORIZED) {
            eprintln!("OpenSearch no longer takes the password; the next process reads it anew.");
            std::process::exit(1);
        }
        answer
    })
    .await
}
