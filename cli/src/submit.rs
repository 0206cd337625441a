//! `weir submit`.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value};
use weir_command::Command;
use weir_ledger::{Job, State, Store};

use crate::jobs::{describe, state_of};
use crate::out::say;
use crate::stack::said;
use crate::{Stack, Stop, now_ms};

/// Put a command on the stream.
#[derive(Args)]
pub(crate) struct Submit {
    /// s3://bucket/key, or s3://bucket/prefix/ for everything under it.
    source: String,
    /// s3://bucket/prefix/
    dest: String,
    /// copy, convert, clean or aggregate; the last two need --dataset.
    #[arg(long, default_value = "copy")]
    command: String,
    /// parquet, ndjson, csv or avro.
    #[arg(long)]
    format: Option<String>,
    /// What the format can be compressed with.
    #[arg(long)]
    compression: Option<String>,
    /// auto, realtime or batch.
    #[arg(long)]
    mode: Option<String>,
    /// now or off-peak.
    #[arg(long)]
    when: Option<String>,
    /// The contract to clean by; for copy and convert, a label for the job.
    #[arg(long)]
    dataset: Option<String>,
    /// The job's id; made up if left out. The same id twice is one job.
    #[arg(long)]
    job_id: Option<String>,
    /// Wait until it is done; exit 1 if it fails.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 900)]
    timeout: u64,
    /// Send it even if it is wrong, as another program might.
    #[arg(long, hide = true)]
    unchecked: bool,
}

impl Submit {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let id = self.job_id.clone().unwrap_or_else(|| format!("cli-{:x}-{:x}", now_ms(), std::process::id()));
        let record = self.record(&id);
        if !self.unchecked {
            Command::parse(record.as_bytes()).map_err(|error| Stop(2, error.to_string()))?;
        }
        let kinesis = aws_sdk_kinesis::Client::new(&stack.aws);
        let put =
            kinesis.put_record().stream_name(stack.stream()).partition_key(&id).data(Blob::new(record.into_bytes()));
        put.send().await.map_err(|error| Stop::aws(said(&error)))?;
        if !self.wait {
            say!("{id}");
            return Ok(());
        }
        let job = self.await_job(stack, &id).await?;
        say!("{}", describe(&job));
        if job.state == State::Failed { Err(Stop(1, format!("job {id} failed"))) } else { Ok(()) }
    }

    fn record(&self, id: &str) -> String {
        let optional = [
            ("format", &self.format),
            ("compression", &self.compression),
            ("mode", &self.mode),
            ("when", &self.when),
            ("dataset", &self.dataset),
        ];
        let given = [("source", &self.source), ("dest", &self.dest), ("command", &self.command)];
        let mut members: Map<String, Value> =
            given.map(|(name, value)| (name.to_owned(), value.as_str().into())).into_iter().collect();
        members.insert("job_id".to_owned(), id.into());
        for (name, value) in optional {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.as_str().into());
            }
        }
        Value::Object(members).to_string()
    }

    /// Until it is done, failed, or deferred to batch.
    async fn await_job(&self, stack: &Stack, id: &str) -> Result<Job, Stop> {
        // Drawn on a terminal only.
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        let ledger = stack.ledger();
        let begun = Instant::now();
        loop {
            let job = ledger.get(id).await.map_err(Stop::aws)?;
            bar.set_message(format!("job {id}: {}", job.as_ref().map_or("in the stream".to_owned(), state_of)));
            match job {
                Some(job) if job.state.is_final() || job.state == State::Deferred => {
                    bar.finish_and_clear();
                    return Ok(job);
                }
                _ if begun.elapsed().as_secs() > self.timeout => {
                    return Err(Stop(
                        1,
                        format!("job {id} is not done after {} s; `weir job {id}` shows how far it is", self.timeout),
                    ));
                }
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
