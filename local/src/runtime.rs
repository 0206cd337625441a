//! Runs a built `bootstrap` by the Lambda runtime API, so that a test or a benchmark decides what an invocation is: its
//! event, its deadline, and what becomes of its process.
//!
//! Source: Lambda developer guide, "Using the Lambda runtime API" (version 2018-06-01).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

/// How an invocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The function's response.
    Response(String),
    /// The function's error, as JSON.
    Error(String),
    /// The process is gone, or said nothing before its deadline.
    Nothing,
}

struct Waiting {
    id: String,
    event: String,
    deadline_ms: u64,
}

struct Api {
    next: Mutex<mpsc::UnboundedReceiver<Waiting>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    asked: Notify,
}

/// A bootstrap that runs, and the runtime API it talks to.
pub struct Bootstrap {
    child: Mutex<Child>,
    pid: u32,
    queue: mpsc::UnboundedSender<Waiting>,
    api: Arc<Api>,
    server: tokio::task::JoinHandle<()>,
    count: AtomicU64,
    name: String,
    /// From the start of the process to its first request for work.
    pub init: Duration,
}

/// The most a function may take to ask for work (Lambda developer guide, "Init phase").
const LONGEST_INIT: Duration = Duration::from_secs(10);

impl Bootstrap {
    /// Starts a binary with exactly these variables, and waits until it asks for work. `name` is the function's, `log` where
    /// it writes.
    ///
    /// # Errors
    /// If it can't be started, or ends or stays silent instead of asking.
    pub async fn start(binary: &Path, name: &str, variables: &[(String, String)], log: Stdio) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let api =
            Arc::new(Api { next: Mutex::new(waiting), answers: Mutex::new(HashMap::new()), asked: Notify::new() });
        let server = tokio::spawn(serve(listener, Arc::clone(&api)));
        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", format!("local/[$LATEST]{}", address.port()))
            .stdin(Stdio::null())
            .stdout(log)
            .kill_on_drop(true);
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let asked = tokio::time::timeout(LONGEST_INIT, api.asked.notified());
        let init = tokio::select! {
            asked = asked => match asked {
                Ok(()) => begun.elapsed(),
                Err(_) => return Err(io::Error::other("the bootstrap does not ask for work")),
            },
            ended = child.wait() => return Err(io::Error::other(format!("the bootstrap ended: {}", ended?))),
        };
        let pid = child.id().unwrap_or_default();
        let name = name.to_owned();
        Ok(Self { child: Mutex::new(child), pid, queue, api, server, count: AtomicU64::new(0), name, init })
    }

    /// Sends an event and waits for what comes of it, until the deadline that the function is told, and `patience` more:
    /// a process that stalls may go on after its deadline.
    ///
    /// # Errors
    /// The clock's.
    pub async fn invoke(&self, event: &str, timeout: Duration, patience: Duration) -> io::Result<Answer> {
        let id = format!("{}-{}-{}", self.name, self.pid, self.count.fetch_add(1, Ordering::Relaxed));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        let deadline_ms = u64::try_from((now + timeout).as_millis()).map_err(io::Error::other)?;
        let (answer, answered) = oneshot::channel();
        self.api.answers.lock().await.insert(id.clone(), answer);
        if self.queue.send(Waiting { id, event: event.to_owned(), deadline_ms }).is_err() {
            return Ok(Answer::Nothing);
        }
        let mut child = self.child.lock().await;
        Ok(tokio::select! {
            answered = answered => answered.unwrap_or(Answer::Nothing),
            _ = child.wait() => Answer::Nothing,
            () = tokio::time::sleep(timeout + patience) => Answer::Nothing,
        })
    }

    /// Its process, to be killed or stopped.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The time that its process has had of all cores, in seconds (`utime` and `stime` of proc(5), in hundredths on Linux).
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // Its name is in parentheses, and may have blanks.
        let numbers = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let ticks = |place: usize| numbers.split_whitespace().nth(place).and_then(|text| text.parse::<f64>().ok());
        Ok((ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0)
    }

    /// The most memory its process had, in bytes (`VmHWM` of proc(5)).
    ///
    /// # Errors
    /// If the process is gone.
    pub fn peak_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().map_err(io::Error::other)?;
        Ok(kib * 1024)
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The variables of a deployed function, with this process's endpoint and credentials.
///
/// # Errors
/// What AWS answered.
pub async fn variables_of(
    aws: &weir_lake::SdkConfig,
    function: &str,
) -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let lambda = aws_sdk_lambda::Client::new(aws);
    let configuration = lambda.get_function_configuration().function_name(function).send().await?;
    let set = configuration.environment().and_then(|environment| environment.variables());
    let deployed = set.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone()));
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
    Ok(deployed.filter(|(name, _)| !name.starts_with("AWS_")).chain(ours).collect())
}

async fn serve(listener: TcpListener, api: Arc<Api>) {
    while let Ok((connection, _)) = listener.accept().await {
        let api = Arc::clone(&api);
        let service = service_fn(move |request| {
            let api = Arc::clone(&api);
            async move { Ok::<_, Infallible>(answer(&api, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn answer(api: &Api, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().trim_start_matches("/2018-06-01/runtime/").to_owned();
    let plain = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if request.method() == Method::GET && path == "invocation/next" {
        api.asked.notify_one();
        let Some(waiting) = api.next.lock().await.recv().await else { return plain(StatusCode::GONE) };
        let built = Response::builder()
            .header("lambda-runtime-aws-request-id", waiting.id)
            .header("lambda-runtime-deadline-ms", waiting.deadline_ms)
            .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:local")
            .header("content-type", "application/json")
            .body(Full::from(waiting.event));
        return built.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR));
    }
    let Ok(body) = request.into_body().collect().await else { return plain(StatusCode::BAD_REQUEST) };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let Some((id, kind)) = path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/')) else {
        return plain(StatusCode::NOT_FOUND);
    };
    if let Some(sender) = api.answers.lock().await.remove(id) {
        let _ = sender.send(if kind == "response" { Answer::Response(text) } else { Answer::Error(text) });
    }
    plain(StatusCode::ACCEPTED)
}
