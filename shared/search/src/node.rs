//! A node, or an Amazon OpenSearch Service domain, by HTTP.
//!
//! Sources: OpenSearch documentation, "Bulk", "Create or update an index template"; Amazon OpenSearch Service developer guide,
//! "Signing HTTP requests" (SigV4 of the service `es`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use weir_delivery::Failure;

use crate::{Document, Index, Refused};

/// How long a request may take: its documents are written, or it comes again.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Who asks.
#[derive(Clone)]
pub enum Identity {
    /// The function's role, by a signature for this region.
    Role(SharedCredentialsProvider, String),
    /// A user of the domain's own.
    User(Arc<dyn Logins>),
}

/// A user's name and password.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Where a [`Login`] is kept. It is read when it is first needed, and again when the domain no longer takes it.
#[async_trait]
pub trait Logins: Send + Sync + 'static {
    /// The one of now.
    async fn read(&self) -> Result<Login, Failure>;
}

#[async_trait]
impl Logins for Login {
    async fn read(&self) -> Result<Login, Failure> {
        Ok(self.clone())
    }
}

/// Where documents go.
#[derive(Clone)]
pub struct Node {
    agent: ureq::Agent,
    /// `https://host`, without a slash.
    endpoint: Arc<str>,
    identity: Identity,
    /// The one that was read.
    login: Arc<Mutex<Option<Login>>>,
}

struct Answer {
    status: u16,
    body: Value,
}

impl Node {
    /// By `https://host` or `http://host:port`.
    pub fn new(endpoint: &str, identity: Identity) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        // Redirects would take a signature elsewhere.
        let agent = config.max_redirects(0).build().new_agent();
        Self { agent, endpoint: Arc::from(endpoint.trim_end_matches('/')), identity, login: Arc::default() }
    }

    async fn ask(&self, method: &str, path: &str, kind: &'static str, body: Vec<u8>) -> Result<Answer, Failure> {
        let answer = self.ask_once(method, path, kind, body.clone()).await?;
        if answer.status == 401 && self.login.lock().await.take().is_some() {
            return self.ask_once(method, path, kind, body).await;
        }
        Ok(answer)
    }

    async fn login(&self, logins: &dyn Logins) -> Result<Login, Failure> {
        let mut login = self.login.lock().await;
        match &*login {
            Some(login) => Ok(login.clone()),
            None => Ok(login.insert(logins.read().await?).clone()),
        }
    }

    async fn ask_once(&self, method: &str, path: &str, kind: &'static str, body: Vec<u8>) -> Result<Answer, Failure> {
        let broken = |what: String| Failure::internal("BadRequest", what);
        let url = format!("{}{path}", self.endpoint);
        let request = http::Request::builder().method(method).uri(&url).header(CONTENT_TYPE, kind).body(body);
        let mut request = request.map_err(|error| broken(format!("{url}: {error}")))?;
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        if let Ok(host) = host.parse() {
            request.headers_mut().insert(HOST, host);
        }
        self.identify(&mut request).await?;
        let agent = self.agent.clone();
        // It waits in a thread: a few requests a minute are worth no second HTTP stack.
        let asked = tokio::task::spawn_blocking(move || {
            let mut answer = agent.run(request)?;
            let text = answer.body_mut().read_to_string()?;
            Ok::<_, ureq::Error>((answer.status().as_u16(), text))
        });
        let asked = asked.await.map_err(|error| broken(error.to_string()))?;
        let (status, text) = asked
            .map_err(|error| Failure::passing("NoAnswer", format!("{} does not answer: {error}", self.endpoint)))?;
        // What a proxy in front of it says is no JSON.
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }

    async fn identify(&self, request: &mut http::Request<Vec<u8>>) -> Result<(), Failure> {
        let broken = |what: String| Failure::passing("NotSigned", format!("a request to {}: {what}", self.endpoint));
        match &self.identity {
            Identity::User(logins) => {
                let Login { name, password } = self.login(logins.as_ref()).await?;
                let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
                let mut value = http::HeaderValue::try_from(value).map_err(|error| broken(error.to_string()))?;
                value.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            Identity::Role(provider, region) => {
                let credentials = provider.provide_credentials().await.map_err(|error| broken(error.to_string()))?;
                let identity = credentials.into();
                let mut settings = SigningSettings::default();
                settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
                let params = v4::SigningParams::builder().identity(&identity).region(region).name("es");
                let params = params.time(SystemTime::now()).settings(settings).build();
                let params = params.map_err(|error| broken(error.to_string()))?.into();
                let headers = request.headers().iter();
                let headers = headers.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
                let signable = SignableRequest::new(
                    request.method().as_str(),
                    request.uri().to_string(),
                    headers,
                    SignableBody::Bytes(request.body()),
                );
                let signable = signable.map_err(|error| broken(error.to_string()))?;
                let signed = sign(signable, &params).map_err(|error| broken(error.to_string()))?;
                signed.into_parts().0.apply_to_request_http1x(request);
            }
        }
        Ok(())
    }

    /// All of an index' documents, by id (at most ten thousand). What is written is seen by this at once.
    ///
    /// # Errors
    /// The node's.
    pub async fn documents(&self, index: &str) -> Result<crate::conformance::Held, Failure> {
        self.ask("POST", &format!("/{index}/_refresh"), JSON, Vec::new()).await?;
        let found = self.search(index, &json!({"size": 10_000, "query": {"match_all": {}}})).await?;
        let hits = found.pointer("/hits/hits").and_then(Value::as_array).cloned().unwrap_or_default();
        let read = |hit: &Value| Some((hit.get("_id")?.as_str()?.to_owned(), hit.get("_source")?.as_object()?.clone()));
        Ok(hits.iter().filter_map(read).collect())
    }

    /// Searches, in OpenSearch's own words.
    ///
    /// # Errors
    /// The node's.
    pub async fn search(&self, index: &str, query: &Value) -> Result<Value, Failure> {
        let answer = self.ask("POST", &format!("/{index}/_search"), JSON, query.to_string().into_bytes()).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(failure(&answer, "search")) }
    }
}

const JSON: &str = "application/json";

/// A failure of a whole request, by its status.
fn failure(answer: &Answer, doing: &str) -> Failure {
    let error = answer.body.get("error").unwrap_or(&Value::Null);
    let code = error.get("type").or(Some(error)).and_then(Value::as_str).unwrap_or("OpenSearch").to_owned();
    // As far as it does not show what was in a document.
    let reason = error.get("reason").and_then(Value::as_str).unwrap_or("it does not say why");
    let reason = [" in document with id", ". Preview of field"]
        .iter()
        .fold(reason, |reason, end| reason.split_once(end).map_or(reason, |(before, _)| before));
    let code = if answer.status == 401 { "Unauthorized".to_owned() } else { code };
    Failure::aws(Some(&code), Some(answer.status), format!("{doing}: OpenSearch answers {}: {reason}", answer.status))
}

#[async_trait]
impl Index for Node {
    async fn template(&self, name: &str, body: &Value) -> Result<(), Failure> {
        let path = format!("/_index_template/{name}");
        let answer = self.ask("PUT", &path, JSON, body.to_string().into_bytes()).await?;
        if answer.status == 200 { Ok(()) } else { Err(failure(&answer, "set the index template")) }
    }

    async fn write(&self, documents: &[Document]) -> Result<Vec<Refused>, Failure> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let mut body = Vec::new();
        for document in documents {
            let Document { index, id, version, .. } = document;
            // External: a document's version is ours to say.
            let to = json!({"_index": index, "_id": id, "version": version, "version_type": "external_gte"});
            let lines = [json!({"index": to}), Value::from(document.body.clone())];
            for line in lines {
                body.extend_from_slice(line.to_string().as_bytes());
                body.push(b'\n');
            }
        }
        let answer = self.ask("POST", "/_bulk", "application/x-ndjson", body).await?;
        if answer.status != 200 {
            return Err(failure(&answer, "write documents"));
        }
        let items = answer.body.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if items.len() != documents.len() {
            return Err(Failure::passing("BulkAnswer", "OpenSearch answered for another number of documents"));
        }
        let mut refused = Vec::new();
        for (place, item) in items.iter().enumerate() {
            let item = item.get("index").unwrap_or(&Value::Null);
            let status = item.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
            let failure = match status {
                Some(200 | 201) => continue,
                // A newer one is there.
                Some(409) => continue,
                _ => failure(&Answer { status: status.unwrap_or_default(), body: item.clone() }, "write a document"),
            };
            // One that may be taken another time, another time.
            if !matches!(status, Some(400)) {
                return Err(failure);
            }
            refused.push(Refused { place, failure });
        }
        Ok(refused)
    }
}
