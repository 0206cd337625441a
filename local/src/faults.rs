//! A proxy in front of the local AWS that makes chosen requests fail, wait, or lose their answers.
//!
//! The emulator always answers; AWS does not. A [`Rule`] says which requests it means and what becomes of them. Rules are
//! set by code ([`Faults`]) or over HTTP at `/_faults` (see local/README.md).

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::throttle;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Answered with this status, and not passed on.
    Status(u16),
    /// Refused with this error code, as DynamoDB and Kinesis refuse, and not passed on.
    Refuse(String),
    /// Passed on after so many milliseconds.
    Delay(u64),
    /// Passed on, and its answer lost: done, though the caller can't know.
    LoseAnswer,
    /// Passed on when it is released.
    Hold,
    /// Passed on, and answered when it is released.
    HoldAnswer,
    /// Passed on without every so-manyth of its records, which the answer says are throttled (PutRecords, PutRecordBatch).
    Throttle(NonZeroU64),
    /// Passed on: the rule only counts.
    Count,
}

/// Which requests, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// All of these stand in the request: its method, its path with the query, its `x-amz-target`, or its body.
    pub contains: Vec<String>,
    /// What becomes of it.
    pub fault: Fault,
    /// So many pass unharmed before.
    #[serde(default)]
    pub after: u64,
    /// So many are harmed; without it, all.
    #[serde(default)]
    pub times: Option<u64>,
}

struct Armed {
    rule: Rule,
    seen: u64,
    /// How many requests have come to where they wait: for a held answer, after the request was done.
    held: Arc<AtomicU64>,
    released: watch::Sender<bool>,
}

/// The rules of a running proxy.
#[derive(Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Armed>>>);

/// What one request meets.
struct Met {
    fault: Fault,
    /// How many requests the rule has met before.
    before: u64,
    held: Arc<AtomicU64>,
    released: watch::Receiver<bool>,
}

impl Met {
    async fn wait(mut self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        let _ = self.released.wait_for(|released| *released).await;
    }
}

impl Faults {
    /// Adds a rule; returns its number.
    pub fn add(&self, rule: Rule) -> usize {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.push(Armed { rule, seen: 0, held: Arc::default(), released: watch::Sender::new(false) });
        rules.len() - 1
    }

    /// How many requests a rule has met, harmed or not.
    pub fn seen(&self, number: usize) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(number).map_or(0, |armed| armed.seen)
    }

    /// How many requests a rule has begun to hold, or, for [`Fault::HoldAnswer`], has done and not answered.
    pub fn held(&self, number: usize) -> u64 {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.get(number).map_or(0, |armed| armed.held.load(Ordering::SeqCst))
    }

    /// Waits until a rule holds a request.
    ///
    /// # Errors
    /// `TimedOut` after half a minute.
    pub async fn until_held(&self, number: usize) -> io::Result<()> {
        for _ in 0..3000 {
            if self.held(number) > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no request came to be held"))
    }

    /// Lets go what a rule holds, now and from now on.
    pub fn release(&self, number: usize) {
        if let Some(armed) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(number) {
            armed.released.send_replace(true);
        }
    }

    /// Releases and forgets every rule.
    pub fn clear(&self) {
        for armed in self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            armed.released.send_replace(true);
        }
    }

    /// The first rule that harms this request. Every rule that means it counts it.
    fn meet(&self, said: &[u8]) -> Option<Met> {
        let mut met = None;
        for armed in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let meant = armed.rule.contains.iter().all(|part| memchr::memmem::find(said, part.as_bytes()).is_some());
            if !meant {
                continue;
            }
            armed.seen += 1;
            let harmed = armed.seen - 1;
            let in_turn =
                harmed >= armed.rule.after && armed.rule.times.is_none_or(|times| harmed - armed.rule.after < times);
            if in_turn && met.is_none() && armed.rule.fault != Fault::Count {
                met = Some(Met {
                    fault: armed.rule.fault.clone(),
                    before: harmed,
                    held: Arc::clone(&armed.held),
                    released: armed.released.subscribe(),
                });
            }
        }
        met
    }

    fn listed(&self) -> serde_json::Value {
        let rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().map(|armed| serde_json::json!({"rule": armed.rule, "seen": armed.seen})).collect()
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

/// A running proxy. Stops when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its rules.
    pub faults: Faults,
    server: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of this machine (0 for any) and passes on to `upstream` (`http://host:port`).
    ///
    /// # Errors
    /// If it can't listen.
    pub async fn start(port: u16, upstream: &str) -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into(), upstream).await
    }

    /// Listens at an address of this machine, such as that by which containers see it.
    ///
    /// # Errors
    /// If it can't listen.
    pub async fn start_at(address: SocketAddr, upstream: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (address, faults) = (listener.local_addr()?, Faults::default());
        let upstream = upstream.trim_end_matches('/').to_owned();
        let server = tokio::spawn(serve(listener, upstream, faults.clone()));
        Ok(Self { address, faults, server })
    }

    /// For `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Until it ends.
    pub async fn run(mut self) {
        let _ = (&mut self.server).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, upstream: String, faults: Faults) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    while let Ok((connection, _)) = listener.accept().await {
        let (client, upstream, faults) = (client.clone(), upstream.clone(), faults.clone());
        let service = service_fn(move |request| {
            let (client, upstream, faults) = (client.clone(), upstream.clone(), faults.clone());
            async move { answer(&client, &upstream, &faults, request).await }
        });
        let _ = connection.set_nodelay(true);
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

fn say(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::from(text.into()).map_err(|never: Infallible| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// An error ends the connection without an answer.
async fn answer(
    client: &Client<HttpConnector, Full<Bytes>>,
    upstream: &str,
    faults: &Faults,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    if let Some(rest) = path.strip_prefix("/_faults") {
        return Ok(control(faults, &parts.method, rest, &body));
    }
    let target = parts.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let said = [parts.method.as_str(), " ", &path, "\n", target, "\n"].concat();
    let met = faults.meet(&[said.as_bytes(), &body].concat());
    let firehose = target.starts_with("Firehose");
    let uri = format!("{upstream}{path}").parse::<Uri>().map_err(io::Error::other)?;
    let mut forward = Request::from_parts(parts, Full::from(body.clone()));
    *forward.uri_mut() = uri;
    let send = |forward| async { client.request(forward).await.map_err(io::Error::other) };
    if let Some(Met { fault: Fault::Throttle(nth), before, .. }) = met
        && let Some(thinned) = throttle::thin(&body, nth, before)
    {
        let mut answered = Bytes::new();
        if !thinned.is_empty() {
            *forward.body_mut() = Full::from(thinned.request.clone());
            forward.headers_mut().remove(CONTENT_LENGTH);
            let said = send(forward).await?;
            if !said.status().is_success() {
                return Ok(said.map(BodyExt::boxed));
            }
            answered = said.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        }
        let mut answer = say(200, thinned.answer(&answered, firehose));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
        return Ok(answer);
    }
    let pass = || send(forward);
    let answered = match met {
        None | Some(Met { fault: Fault::Count | Fault::Throttle(_), .. }) => pass().await?,
        Some(Met { fault: Fault::Status(status), .. }) => return Ok(say(status, "")),
        Some(Met { fault: Fault::Refuse(code), .. }) => {
            let said = serde_json::json!({"__type": code, "message": "refused by a rule"});
            return Ok(say(400, said.to_string()));
        }
        Some(Met { fault: Fault::Delay(ms), .. }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            pass().await?
        }
        Some(Met { fault: Fault::LoseAnswer, .. }) => {
            let answered = pass().await?;
            let _ = answered.into_body().collect().await;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(met @ Met { fault: Fault::Hold, .. }) => {
            met.wait().await;
            pass().await?
        }
        Some(met @ Met { fault: Fault::HoldAnswer, .. }) => {
            let answered = pass().await?;
            met.wait().await;
            answered
        }
    };
    Ok(answered.map(BodyExt::boxed))
}

/// `POST /_faults` a rule, `GET` them all, `DELETE` them all, `POST /_faults/N/release`.
fn control(faults: &Faults, method: &Method, rest: &str, body: &[u8]) -> Response<Body> {
    let number = rest.trim_start_matches('/').strip_suffix("/release").and_then(|number| number.parse().ok());
    match (method, number) {
        (&Method::GET, None) => say(200, faults.listed().to_string()),
        (&Method::DELETE, None) => {
            faults.clear();
            say(200, "{}")
        }
        (&Method::POST, Some(number)) => {
            faults.release(number);
            say(200, "{}")
        }
        (&Method::POST, None) => match serde_json::from_slice(body) {
            Ok(rule) => say(200, format!("{{\"rule\":{}}}", faults.add(rule))),
            Err(error) => say(400, format!("not a rule: {error}\n")),
        },
        _ => say(405, "GET, POST and DELETE /_faults; POST /_faults/N/release\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(contains: &[&str], fault: Fault, after: u64, times: Option<u64>) -> Rule {
        Rule { contains: contains.iter().map(ToString::to_string).collect(), fault, after, times }
    }

    #[test]
    fn a_rule_harms_after_and_times_and_counts_all() {
        let faults = Faults::default();
        let number = faults.add(rule(&["PUT", "job=1"], Fault::Status(503), 1, Some(2)));
        let harmed: Vec<bool> = (0..5).map(|_| faults.meet(b"PUT /bucket/job=1/part").is_some()).collect();
        assert_eq!(harmed, [false, true, true, false, false]);
        assert!(faults.meet(b"PUT /bucket/job=2/part").is_none());
        let counted = Faults::default();
        counted.add(rule(&["PUT"], Fault::Count, 0, None));
        counted.add(rule(&["PUT"], Fault::Status(503), 0, None));
        assert!(counted.meet(b"PUT /x").is_some(), "counting stands in no other rule's way");
        assert_eq!(faults.seen(number), 5);
    }

    #[tokio::test]
    async fn rules_are_set_over_http_and_a_wrong_one_is_refused() {
        let upstream = Proxy::start(0, "http://127.0.0.1:9").await.unwrap();
        let proxy = Proxy::start(0, &upstream.endpoint()).await.unwrap();
        upstream.faults.add(rule(&[], Fault::Status(418), 0, None));
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let send = async |method: &str, path: &str, body: &str| {
            let uri = format!("{}{path}", proxy.endpoint());
            let request = Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap();
            let answered = client.request(request).await?;
            let status = answered.status().as_u16();
            let body = answered.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, hyper_util::client::legacy::Error>((status, String::from_utf8(body.to_vec()).unwrap()))
        };
        assert_eq!(send("GET", "/any", "").await.unwrap().0, 418);
        let armed = send("POST", "/_faults", r#"{"contains":["GET /any"],"fault":"lose_answer","times":1}"#).await;
        assert_eq!(armed.unwrap(), (200, r#"{"rule":0}"#.to_owned()));
        assert!(send("GET", "/any", "").await.is_err(), "the answer is lost");
        assert_eq!(send("GET", "/any", "").await.unwrap().0, 418);
        assert!(send("GET", "/_faults", "").await.unwrap().1.contains(r#""seen":2"#));
        let (status, said) = send("POST", "/_faults", r#"{"contains":[],"fault":"explode"}"#).await.unwrap();
        assert!(status == 400 && said.contains("explode"), "{said}");
    }
}
