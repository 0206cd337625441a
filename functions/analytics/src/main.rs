//! Reads the configuration once, makes the clients once, and hands over.

mod login;

use std::sync::Arc;

use serde_json::value::RawValue;
use weir_analytics::config::{Config, Search};
use weir_analytics::{Analytics, Memory};
use weir_entry::{Error, serve};
use weir_lake::{S3Lake, SdkConfig, aws_config};
use weir_search::{Identity, Index, Node};
use weir_telemetry::Telemetry;

use crate::login::Secret;

/// Batches are megabytes that come and go; see transform.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Who asks OpenSearch: the user that a secret names, or the function itself.
fn identity(aws: &SdkConfig, search: &Search) -> Result<Identity, Error> {
    if let Some(secret) = &search.secret {
        let client = aws_sdk_secretsmanager::Client::new(aws);
        return Ok(Identity::User(Arc::new(Secret { client, id: secret.clone() })));
    }
    let provider = aws.credentials_provider().ok_or("there are no credentials")?;
    let region = aws.region().ok_or("AWS_REGION is not set")?;
    Ok(Identity::Role(provider, region.to_string()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (config, contract, plan) = Config::read(|name| std::env::var(name).ok())?;
    let aws = aws_config().load().await;
    let index = match &config.search {
        Some(search) => Some(Arc::new(Node::new(&search.endpoint, identity(&aws, search)?)) as Arc<dyn Index>),
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
    serve(analytics.telemetry.clone(), async |event: Box<RawValue>, visit| analytics.handle(event.get(), visit).await)
        .await
}
