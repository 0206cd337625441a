//! What a run is told, what it may do, and what it says of itself: the files that the orchestrator and the Spark job
//! (batch/python/weir_batch/job.py) share, under `<RUNS><run>/`.

use serde::{Deserialize, Serialize};
use serde_json::json;
use weir_command::{Action, Command, Location};
use weir_delivery::Failure;
use weir_ledger::Report;
use weir_ledger::batch::Run;

use crate::config::Config;

/// An object that a run shall read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// `s3://bucket/key`.
    pub uri: String,
    /// In bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// When it landed, in milliseconds since the epoch.
    #[serde(default)]
    pub landed_ms: u64,
    /// Whether it is a list of files that `ingest` committed, instead of data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_list: bool,
}

/// What a run is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run's name.
    pub run: String,
    /// The number of its claim.
    pub claim: u64,
    /// The command, as canonical JSON.
    pub command: String,
    /// What to read; `None`: whatever is at the command's source.
    pub objects: Option<Vec<Listed>>,
    /// The files that the lists among them name: rows that are in a table already, and are only added up.
    #[serde(default)]
    pub committed: Vec<Listed>,
    /// Lists among them that could not be read.
    #[serde(default)]
    pub unread: Vec<Refused>,
    /// Where rows go, and the quarantine.
    pub output: String,
    /// Where the metrics go, if there are any.
    pub metrics: Option<String>,
    /// Where their sums by day go, if the run is a dataset's.
    pub sums: Option<String>,
    /// Where the run says what came of it.
    pub result: String,
    /// The time that derived columns are given, in microseconds since 1970: the same for every start, so that they write the same.
    pub now_micros: u64,
    /// Whether an object that can't be read is put aside, instead of failing the run.
    pub put_aside: bool,
}

/// What a run says of itself.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Outcome {
    /// The start that says so.
    pub token: String,
    /// Why it did not do its work.
    #[serde(default)]
    pub failure: Option<Failure>,
    /// Objects that it could not read.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// How many groups of metrics there are.
    #[serde(default)]
    pub groups: u64,
    /// What it did.
    #[serde(flatten)]
    pub report: Report,
}

/// An object that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub uri: String,
    /// Why.
    pub reason: String,
}

/// The files of a run.
pub struct Files {
    /// What is to be claimed.
    pub listed: Location,
    /// What the run is told.
    pub manifest: Location,
    /// What it says of itself.
    pub result: Location,
}

impl Files {
    /// By its name and the number of its claim: whoever stalled writes over nothing of a run that was made again.
    pub fn of(config: &Config, run: &str, claim: u64) -> Self {
        let at = |name: &str| config.runs.join(&format!("{run}/{name}.json"));
        Self {
            listed: at(&format!("listed-{claim}")),
            manifest: at(&format!("manifest-{claim}")),
            result: at(&format!("result-{claim}")),
        }
    }
}

/// The command of a dataset's run: what its job record shows.
pub fn dataset_command(config: &Config, dataset: &str, run: &str) -> String {
    json!({
        "command": "clean",
        "dataset": dataset,
        "dest": config.tables.join(&format!("{dataset}/rows/")).to_string(),
        "job_id": run,
        "source": config.raw.join(&format!("{dataset}/")).to_string(),
    })
    .to_string()
}

/// The manifest of a dataset's run.
pub fn of_dataset(config: &Config, dataset: &str, run: &Run, objects: Vec<Listed>, measured: bool) -> Manifest {
    let at = |what: &str| config.tables.join(&format!("{dataset}/{what}/job={}/", run.id)).to_string();
    Manifest {
        run: run.id.clone(),
        claim: run.claim,
        command: dataset_command(config, dataset, &run.id),
        objects: Some(objects),
        committed: Vec::new(),
        unread: Vec::new(),
        output: at("rows"),
        metrics: measured.then(|| at("metrics")),
        sums: measured.then(|| at("sums")),
        result: Files::of(config, &run.id, run.claim).result.to_string(),
        now_micros: run.claimed_ms * 1000,
        put_aside: true,
    }
}

/// The manifest of a deferred job.
pub fn of_job(config: &Config, run: &Run, command: &Command) -> Manifest {
    let output = command.dest.join(&format!("job={}/", run.id)).to_string();
    Manifest {
        run: run.id.clone(),
        claim: run.claim,
        command: command.to_json(),
        objects: None,
        committed: Vec::new(),
        unread: Vec::new(),
        metrics: (command.action == Action::Aggregate).then(|| output.clone()),
        output,
        sums: None,
        result: Files::of(config, &run.id, run.claim).result.to_string(),
        now_micros: run.claimed_ms * 1000,
        put_aside: false,
    }
}

/// IAM's limit for a session policy is 2,048 characters (Glue API reference, StartJobRun).
const MOST_POLICY_CHARS: usize = 2_048;

/// What a run may do: read its input and its manifest, write its output and its result, take its token. The job's own role
/// bounds it as well.
///
/// # Errors
/// Paths so long that the policy becomes too long.
pub fn policy(config: &Config, manifest: &Manifest, token: &str) -> Result<String, Failure> {
    let command =
        Command::parse(manifest.command.as_bytes()).map_err(|error| Failure::user("Command", error.to_string()))?;
    // The stack's own: aws, aws-cn, aws-us-gov.
    let partition = config.alert_topic_arn.split(':').nth(1).filter(|name| name.starts_with("aws")).unwrap_or("aws");
    // STS takes Latin characters only, and `${` begins a variable: any one character stands for others.
    let plain = |key: &str| key.replace(|c: char| !(' '..='\u{ff}').contains(&c) || c == '$', "?");
    let arn = |at: &Location| format!("arn:{partition}:s3:::{}/{}", at.bucket(), plain(at.key()));
    let under = |at: &Location| if at.is_prefix() { format!("{}*", arn(at)) } else { arn(at) };
    let parsed = |uri: &String| Location::parse(uri).ok();
    // A copy writes beside what others wrote; everything else under its own name.
    let outputs: Vec<Location> = match command.action {
        Action::Copy if command.source.is_prefix() => vec![command.dest.as_prefix()],
        Action::Copy => vec![command.dest.clone()],
        _ => [Some(&manifest.output), manifest.metrics.as_ref(), manifest.sums.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(parsed)
            .collect(),
    };
    let mut writes: Vec<String> = outputs.iter().map(under).collect();
    let files = Files::of(config, &manifest.run, manifest.claim);
    writes.push(arn(&files.result));
    writes.dedup();
    let mut buckets = vec![format!("arn:{partition}:s3:::{}", command.source.bucket())];
    buckets.extend(outputs.iter().map(|at| format!("arn:{partition}:s3:::{}", at.bucket())));
    buckets.sort();
    buckets.dedup();
    let assets = config.runs.sibling("assets/");
    let mut reads = vec![under(&command.source), arn(&files.manifest), under(&assets)];
    if !manifest.committed.is_empty() {
        let dataset = command.dataset.as_deref().unwrap_or_default();
        reads.push(under(&config.events.join(&format!("{dataset}/"))));
    }
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:GetObjectTagging"],
         "Resource": reads},
        {"Effect": "Allow", "Action": ["s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:AbortMultipartUpload"],
         "Resource": writes},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": buckets},
        {"Effect": "Allow", "Action": "dynamodb:UpdateItem", "Resource": "*",
         "Condition": {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [format!("token#{token}")]}}},
        // The role has one key, if any.
        {"Effect": "Allow", "Action": ["kms:Decrypt", "kms:GenerateDataKey"], "Resource": "*"},
        // What Glue itself does by the job's role.
        {"Effect": "Allow", "Action": ["logs:*", "cloudwatch:PutMetricData", "glue:GetJob*"], "Resource": "*"},
    ]})
    .to_string();
    if policy.len() > MOST_POLICY_CHARS {
        let reason = format!("the paths of {} are too long for the policy of its run; use shorter ones", manifest.run);
        return Err(Failure::user("PolicyTooLong", reason));
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::set;
    use weir_ledger::batch::{Lane, lane};

    fn run(id: &str) -> Run {
        lane::claim(&Lane::new("l"), id, 7).unwrap().run.unwrap()
    }

    #[test]
    fn a_policy_has_no_characters_that_sts_refuses_or_reads_as_variables() {
        let config = Config::read(set).unwrap();
        let command = r#"{"source":"s3://raw-bucket/日本 ü/$x/","dest":"s3://out-bucket/b","command":"copy"}"#;
        let manifest = of_job(&config, &run("j"), &Command::parse(command.as_bytes()).unwrap());
        let policy = policy(&config, &manifest, "t").unwrap();
        assert!(policy.contains("raw-bucket/?? ü/?x/*"), "{policy}");
        // A prefix is copied under what the destination names, slash or not.
        assert!(policy.contains("\"arn:aws:s3:::out-bucket/b/*\""), "{policy}");
    }

    #[test]
    fn a_run_may_touch_its_own_paths_only() {
        let config = Config::read(set).unwrap();
        let manifest = of_dataset(&config, "page_logs", &run("page_logs-1"), Vec::new(), true);
        let policy: serde_json::Value =
            serde_json::from_str(&policy(&config, &manifest, "page_logs-1.2").unwrap()).unwrap();
        let resources =
            |n: usize| serde_json::from_value::<Vec<String>>(policy["Statement"][n]["Resource"].clone()).unwrap();
        assert_eq!(
            resources(0),
            [
                "arn:aws:s3:::raw-bucket/page_logs/*",
                "arn:aws:s3:::out-bucket/runs/page_logs-1/manifest-1.json",
                "arn:aws:s3:::out-bucket/assets/*"
            ]
        );
        assert_eq!(
            resources(1),
            [
                "arn:aws:s3:::out-bucket/tables/page_logs/rows/job=page_logs-1/*",
                "arn:aws:s3:::out-bucket/tables/page_logs/metrics/job=page_logs-1/*",
                "arn:aws:s3:::out-bucket/tables/page_logs/sums/job=page_logs-1/*",
                "arn:aws:s3:::out-bucket/runs/page_logs-1/result-1.json"
            ]
        );
        assert_eq!(
            policy["Statement"][3]["Condition"]["ForAllValues:StringEquals"]["dynamodb:LeadingKeys"][0],
            "token#page_logs-1.2"
        );
    }

    #[test]
    fn a_policy_that_is_too_long_is_said_to_be() {
        let config = Config::read(set).unwrap();
        let long = format!("s3://raw-bucket/{}/", "x".repeat(900));
        let command =
            format!(r#"{{"source":"{long}","dest":"s3://out-bucket/{}/","command":"copy"}}"#, "y".repeat(900));
        let manifest = of_job(&config, &run("j"), &Command::parse(command.as_bytes()).unwrap());
        assert_eq!(policy(&config, &manifest, "j.1").unwrap_err().code, "PolicyTooLong");
    }

    #[test]
    fn a_result_is_read_as_the_script_writes_it() {
        let result = r#"{"output": "s3://out-bucket/x/", "objects": 2, "files": 3, "bytes_in": 4, "bytes_out": 5, "rows": 6,
            "dropped": 0, "quarantined": 1, "quarantine": null, "refused": [{"uri": "s3://raw-bucket/a", "reason": "why"}],
            "notes": ["n"], "groups": 2, "metrics": "s3://out-bucket/m/", "sums": null, "run": "r", "token": "r.1",
            "glue_run": "jr_1", "ms": 7}"#;
        let outcome: Outcome = serde_json::from_str(result).unwrap();
        assert_eq!((outcome.token.as_str(), outcome.report.rows, outcome.refused.len()), ("r.1", Some(6), 1));
        let failed = r#"{"failure": {"fault": "user", "advice": "never", "code": "UnreadableData", "reason": "x"}, "run": "r",
            "token": "r.1", "glue_run": "jr_1", "ms": 7}"#;
        let outcome: Outcome = serde_json::from_str(failed).unwrap();
        assert!(!outcome.failure.unwrap().passes());
    }
}
