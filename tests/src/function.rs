//! The built bootstrap under our own runtime API: the test decides its deadline, its lease, and what its requests meet.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use weir_ledger::Store;
use weir_local::faults::{Fault, Proxy, Rule};
use weir_local::runtime::{Answer, Bootstrap, variables_of};

use crate::{Failed, Stack};

/// A function of the stack, with a faulty AWS in front of it.
pub struct Function {
    /// Its process.
    pub bootstrap: Bootstrap,
    /// Between it and the local AWS.
    pub proxy: Proxy,
}

/// What a function's process is told beside what the template sets.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Whose variables it gets: `realtime`, `worker` or `transform`.
    pub name: &'static str,
    /// The folder of its bootstrap, as `sam build` made it and `sam deploy` deployed it.
    pub built: &'static str,
    /// How long a lease outlives the deadline.
    pub lease_grace_s: u64,
}

/// The stream's function, whose leases end with its deadline.
pub const REALTIME: Setting = Setting { name: "realtime", built: "RealtimeFunction", lease_grace_s: 0 };
/// The worker, likewise.
pub const WORKER: Setting = Setting { name: "worker", built: "RealtimeFunction", lease_grace_s: 0 };
/// The Firehose transformation, which has no leases.
pub const TRANSFORM: Setting = Setting { name: "transform", built: "TransformFunction", lease_grace_s: 0 };

/// Kafka's function, whose leases end with its deadline.
pub const INGEST: Setting = Setting { name: "ingest", built: "IngestFunction", lease_grace_s: 0 };
/// What makes few of its files of many.
pub const COMPACT: Setting = Setting { name: "compact", built: "CompactFunction", lease_grace_s: 0 };

/// What stages changes, and what commits them.
pub const CDC: Setting = Setting { name: "cdc", built: "CdcFunction", lease_grace_s: 0 };
/// See [`CDC`].
pub const CDC_COMMIT: Setting = Setting { name: "cdc-commit", built: "CdcCommitFunction", lease_grace_s: 0 };

/// What becomes of what landed, which has no leases of this kind.
pub const ORCHESTRATOR: Setting = Setting { name: "orchestrator", built: "OrchestratorFunction", lease_grace_s: 0 };

/// What keeps live statistics, which has no leases.
pub const ANALYTICS: Setting = Setting { name: "analytics", built: "AnalyticsFunction", lease_grace_s: 0 };
/// What delivers them to OpenSearch.
pub const DELIVERS: Setting =
    Setting { name: "analytics-deliver", built: "AnalyticsDeliverFunction", lease_grace_s: 0 };

/// Where `sam build` puts what it made.
const BUILT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.aws-sam/build");

/// The bootstrap that was deployed, by the function's name in the template.
pub fn built(resource: &str) -> PathBuf {
    Path::new(BUILT).join(resource).join("bootstrap")
}

impl Stack {
    /// Starts a function as it is deployed, but here.
    ///
    /// # Errors
    /// If it isn't deployed or does not start.
    pub async fn function(&self, setting: Setting) -> Result<Function, Failed> {
        self.function_with(setting, &[]).await
    }

    /// The same, with variables of the test's own.
    ///
    /// # Errors
    /// If it isn't deployed or does not start.
    pub async fn function_with(&self, setting: Setting, more: &[(&str, &str)]) -> Result<Function, Failed> {
        let deployed = format!("weir-{}", setting.name);
        let endpoint = std::env::var("AWS_ENDPOINT_URL").map_err(|_| "AWS_ENDPOINT_URL is not set")?;
        let proxy = Proxy::start(0, &endpoint).await?;
        let mut variables = variables_of(&self.aws, &deployed).await?;
        variables.retain(|(name, _)| !matches!(name.as_str(), "AWS_ENDPOINT_URL" | "LEASE_GRACE_SECONDS"));
        variables.push(("LEASE_GRACE_SECONDS".to_owned(), setting.lease_grace_s.to_string()));
        variables.push(("AWS_ENDPOINT_URL".to_owned(), proxy.endpoint()));
        variables.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let binary = built(setting.built);
        let bootstrap = Bootstrap::start(&binary, &deployed, &variables, Stdio::null()).await?;
        Ok(Function { bootstrap, proxy })
    }

    /// The worker takes a job over once its lease is over, as the sweep would have it.
    ///
    /// # Errors
    /// If that does not happen within ten seconds.
    pub async fn taken_over(&self, id: &str) -> Result<(), Failed> {
        let worker = self.function(WORKER).await?;
        let request = json!({"work": {"job_id": id}}).to_string();
        for _ in 0..100 {
            worker.invoke(&request, Duration::from_secs(60)).await?;
            if self.ledger.get(id).await?.is_some_and(|job| job.state.is_final()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(format!("{id} is never taken over").into())
    }
}

impl Function {
    /// Invokes it with a deadline; it may go on for a minute after it, as one that stalled does.
    ///
    /// # Errors
    /// The clock's.
    pub async fn invoke(&self, event: &str, timeout: Duration) -> Result<Answer, Failed> {
        Ok(self.bootstrap.invoke(event, timeout, Duration::from_secs(60)).await?)
    }

    /// Sets a rule on all requests that hold these texts; returns its number.
    pub fn fault(&self, contains: &[&str], fault: Fault, times: Option<u64>) -> usize {
        let contains = contains.iter().map(ToString::to_string).collect();
        self.proxy.faults.add(Rule { contains, fault, after: 0, times })
    }

    /// Waits until a rule holds a request.
    ///
    /// # Errors
    /// After half a minute.
    pub async fn held(&self, rule: usize) -> Result<(), Failed> {
        Ok(self.proxy.faults.until_held(rule).await?)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If there is no process.
    pub fn kill(&self) -> Result<(), Failed> {
        let killed = std::process::Command::new("kill").args(["-9", &self.bootstrap.pid().to_string()]).status()?;
        if killed.success() { Ok(()) } else { Err("the function could not be killed".into()) }
    }
}

/// Records as Lambda sends them, with the sequence numbers `1`, `2`, … behind `run`, a number.
pub fn kinesis_event(run: u64, records: &[Vec<u8>]) -> String {
    let record = |(index, data): (usize, &Vec<u8>)| {
        let number = sequence_number(run, index);
        json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0", "partitionKey": "test", "sequenceNumber": number,
                "data": STANDARD.encode(data), "approximateArrivalTimestamp": 1_545_084_650.987,
            },
            "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
            "eventID": format!("shardId-000000000000:{number}"), "awsRegion": "us-east-1",
            "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/weir-commands",
        })
    };
    json!({"Records": records.iter().enumerate().map(record).collect::<Vec<_>>()}).to_string()
}

/// The number [`kinesis_event`] gives a record.
pub fn sequence_number(run: u64, index: usize) -> String {
    format!("4959033827149025660855969{run:024}{index:06}")
}

/// The partial-failure response that names these.
pub fn failures(numbers: &[String]) -> Answer {
    let failed: Vec<_> = numbers.iter().map(|number| json!({"itemIdentifier": number})).collect();
    Answer::Response(json!({"batchItemFailures": failed}).to_string())
}
