//! Functions as SAM runs them: in its container, below its emulator of Lambda's runtime interface, invoked by Lambda's own API.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_lambda::config::retry::RetryConfig;
use serde_json::{Value, json};
use weir_local::faults::Proxy;
use weir_local::invoker::{Deployed, Invoker};
use weir_local::runtime::{Answer, variables_of};

use crate::function::{Function, Setting};
use crate::{Failed, Stack};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Who runs a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A test, by a runtime API of its own.
    Ourselves,
    /// `sam local start-lambda`.
    Sam,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Ourselves { "ourselves" } else { "sam" })
    }
}

/// A function that runs.
pub enum Running {
    /// By ourselves.
    Ours(Box<Function>),
    /// By SAM.
    Sams(Sam),
}

impl Running {
    /// Invokes it; by ourselves, with this deadline, by SAM, with the template's.
    ///
    /// # Errors
    /// If it can't be asked.
    pub async fn invoke(&self, event: &str, timeout: Duration) -> Result<Answer, Failed> {
        match self {
            Self::Ours(function) => function.invoke(event, timeout).await,
            Self::Sams(sam) => Ok(match sam.function.invoke(event).await? {
                // Its process ended.
                Answer::Response(answer) if answer.is_empty() => Answer::Nothing,
                // SAM writes JSON anew, with blanks.
                Answer::Response(answer) => Answer::Response(serde_json::from_str::<Value>(&answer)?.to_string()),
                other => other,
            }),
        }
    }
}

/// SAM, serving one function of the built template, and what that one calls.
pub struct Sam {
    process: Child,
    function: Deployed,
    _proxy: Proxy,
}

impl Drop for Sam {
    fn drop(&mut self) {
        // It takes its containers with it when it is asked to end, not when it is killed.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let asked = Instant::now();
        while matches!(self.process.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(20) {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Stack {
    /// Starts a function as it is deployed, with variables of the test's own, run by whom the test says. `None` if that is SAM, and
    /// there is no Docker engine; then this has been said.
    ///
    /// # Errors
    /// If it is not deployed or does not start; in CI (`CI=true`), if there is no engine.
    pub async fn run(&self, by: By, setting: Setting, more: &[(&str, &str)]) -> Result<Option<Running>, Failed> {
        if by == By::Ourselves {
            return Ok(Some(Running::Ours(Box::new(self.function_with(setting, more).await?))));
        }
        let asked = tokio::process::Command::new("python").arg("local/engine.py").current_dir(ROOT).output().await?;
        if !asked.status.success() {
            let why = format!("sam local is not tested: {}", String::from_utf8_lossy(&asked.stderr).trim());
            if std::env::var("CI").is_ok_and(|ci| ci == "true") {
                return Err(why.into());
            }
            // Past what captures the words of tests that pass.
            writeln!(std::io::stderr(), "\nskipped: {why}")?;
            return Ok(None);
        }
        let engine: Value = serde_json::from_slice(&asked.stdout)?;
        let told = |name: &str| engine.get(name).and_then(Value::as_str).ok_or_else(|| format!("engine.py: no {name}"));
        let endpoint = std::env::var("AWS_ENDPOINT_URL").map_err(|_| "AWS_ENDPOINT_URL is not set")?;
        let proxy = Proxy::start_at(SocketAddr::new(told("host")?.parse::<IpAddr>()?, 0), &endpoint).await?;
        let mut variables = variables_of(&self.aws, &format!("weir-{}", setting.name)).await?;
        variables.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        variables.retain(|(name, _)| !name.starts_with("AWS_"));
        variables.push(("AWS_ENDPOINT_URL".to_owned(), proxy.endpoint()));
        let variables: serde_json::Map<String, Value> =
            variables.into_iter().map(|(name, value)| (name, value.into())).collect();
        let folder = Path::new(ROOT).join("target/local/sam");
        std::fs::create_dir_all(&folder)?;
        let file = |extension: &str| folder.join(format!("{}-{}.{extension}", self.run, setting.name));
        std::fs::write(file("json"), json!({(setting.built): variables}).to_string())?;
        let log = std::fs::File::create(file("log"))?;
        // Free now, and asked for at once.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut sam = Command::new("sam");
        sam.args(["local", "start-lambda", "--host", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--template", told("template")?, "--invoke-image", told("image")?, "--skip-pull-image"])
            .args(["--warm-containers", "LAZY", "--env-vars"])
            .arg(file("json"))
            .current_dir(ROOT)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = sam.spawn()?;
        let config = aws_sdk_lambda::config::Builder::from(&self.aws)
            .endpoint_url(format!("http://{address}"))
            // What takes long is not to be sent twice.
            .retry_config(RetryConfig::disabled())
            .build();
        let function =
            Deployed { lambda: aws_sdk_lambda::Client::from_conf(config), function: setting.built.to_owned() };
        let mut sam = Sam { process, function, _proxy: proxy };
        let begun = Instant::now();
        while tokio::net::TcpStream::connect(address).await.is_err() {
            let ended = sam.process.try_wait()?;
            if ended.is_some() || begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("sam local start-lambda does not answer; see {}", file("log").display()).into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(Running::Sams(sam)))
    }
}
