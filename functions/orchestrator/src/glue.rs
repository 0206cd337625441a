//! Spark by AWS Glue.

use async_trait::async_trait;
use aws_sdk_glue::Client;
use aws_sdk_glue::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::{ExecutionClass, JobRun, JobRunState};
use weir_delivery::Failure;

use crate::spark::{Seen, Spark, SparkState, Start};

/// Arguments by which a run is known again.
const TOKEN: &str = "--token";
const LANE: &str = "--lane";

/// How many of the newest runs a token is looked for in: more than can be started while an answer is waited for.
const RECENT_RUNS: i32 = 200;

/// A Glue job.
pub struct GlueJob {
    client: Client,
    job: String,
    ledger_table: String,
    region: String,
}

impl GlueJob {
    /// By its name. `config` may have retries: starting has none of its own, because Glue knows no client token, so that a
    /// start repeated by the SDK would be a second run.
    pub fn new(config: &weir_lake::SdkConfig, job: &str, ledger_table: &str) -> Self {
        let region = config.region().map_or_else(|| "us-east-1".to_owned(), ToString::to_string);
        Self { client: Client::new(config), job: job.to_owned(), ledger_table: ledger_table.to_owned(), region }
    }

    fn failed<E>(&self, doing: &str, error: &SdkError<E, aws_sdk_glue::config::http::HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let said = error.message().map_or_else(|| DisplayErrorContext(error).to_string(), str::to_owned);
        Failure::aws(error.code(), status, format!("{doing} {}: {said}", self.job))
    }

    fn seen(&self, run: &JobRun) -> Seen {
        let argument = |name: &str| run.arguments().and_then(|all| all.get(name)).cloned();
        let id = run.id().unwrap_or_default();
        let state = run.job_run_state().map_or("", JobRunState::as_str);
        let message = run.error_message().filter(|said| !said.is_empty());
        Seen {
            state: match state {
                "SUCCEEDED" => SparkState::Succeeded,
                "FAILED" | "TIMEOUT" | "STOPPED" | "ERROR" | "EXPIRED" => SparkState::Failed,
                _ => SparkState::Going,
            },
            lane: argument(LANE),
            message: message.map_or_else(|| state.to_owned(), |said| format!("{state}: {said}")),
            log: format!(
                "https://{region}.console.aws.amazon.com/gluestudio/home?region={region}#/job/{job}/run/{id}",
                region = self.region,
                job = self.job
            ),
        }
    }
}

#[async_trait]
impl Spark for GlueJob {
    async fn start(&self, start: &Start) -> Result<String, Failure> {
        let class = if start.flexible { ExecutionClass::Flex } else { ExecutionClass::Standard };
        let once =
            aws_sdk_glue::config::Config::builder().retry_config(aws_sdk_glue::config::retry::RetryConfig::disabled());
        let run = self
            .client
            .start_job_run()
            .job_name(&self.job)
            .execution_class(class)
            .execution_role_session_policy(&start.policy)
            .arguments(TOKEN, &start.token)
            .arguments(LANE, &start.lane)
            .arguments("--manifest", &start.manifest)
            .arguments("--ledger_table", &self.ledger_table)
            .arguments("--region", &self.region)
            .customize()
            .config_override(once)
            .send()
            .await;
        let run = run.map_err(|error| self.failed("start a run of", &error))?;
        run.job_run_id.ok_or_else(|| Failure::passing("NoRunId", "Glue started a run and did not say which"))
    }

    async fn find(&self, token: &str) -> Result<Option<String>, Failure> {
        let runs = self.client.get_job_runs().job_name(&self.job).max_results(RECENT_RUNS).send().await;
        let runs = runs.map_err(|error| self.failed("list the runs of", &error))?;
        let has = |run: &&JobRun| run.arguments().and_then(|all| all.get(TOKEN)).is_some_and(|its| its == token);
        Ok(runs.job_runs().iter().find(has).and_then(|run| run.id.clone()))
    }

    async fn look(&self, run: &str) -> Result<Option<Seen>, Failure> {
        match self.client.get_job_run().job_name(&self.job).run_id(run).send().await {
            Ok(answer) => Ok(answer.job_run().map(|run| self.seen(run))),
            Err(error) if error.code() == Some("EntityNotFoundException") => Ok(None),
            Err(error) => Err(self.failed("look at a run of", &error)),
        }
    }
}
