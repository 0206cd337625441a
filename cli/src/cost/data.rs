//! What is reckoned with: AWS' prices on a day, and what `make bench` measured.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What AWS asks, in dollars: prices.toml says of what each is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prices {
    pub(crate) region: String,
    pub(crate) on: String,
    pub(crate) lambda_request: f64,
    pub(crate) lambda_gb_second_x86_64: f64,
    pub(crate) lambda_gb_second_arm64: f64,
    pub(crate) kinesis_shard_hour: f64,
    pub(crate) kinesis_put_unit: f64,
    pub(crate) kinesis_on_demand_hour: f64,
    pub(crate) kinesis_on_demand_gb_in: f64,
    pub(crate) kinesis_on_demand_gb_out: f64,
    pub(crate) firehose_gb: f64,
    pub(crate) firehose_conversion_gb: f64,
    pub(crate) s3_put: f64,
    pub(crate) s3_get: f64,
    pub(crate) dynamodb_write: f64,
    pub(crate) cloudwatch_metric: f64,
    pub(crate) cloudwatch_alarm: f64,
    pub(crate) cloudwatch_log_gb: f64,
    pub(crate) glue_dpu_hour: f64,
    pub(crate) glue_flex_dpu_hour: f64,
    pub(crate) flink_kpu_hour: f64,
    pub(crate) flink_storage_gb: f64,
}

impl Prices {
    pub(crate) fn known() -> Result<Self, String> {
        toml::from_str(include_str!("prices.toml")).map_err(|error| format!("prices.toml: {error}"))
    }
}

/// One measure, as `make bench` keeps it in measured.json.
#[derive(Debug, Deserialize)]
struct Measure {
    value: f64,
    on: String,
}

/// What `make bench` measured: of the release build, on one core; the network is not in it.
#[derive(Debug)]
pub(crate) struct Measured {
    days: BTreeSet<String>,
    pub(crate) job_ms: f64,
    pub(crate) job_s3: Calls,
    pub(crate) job_ledger_calls: f64,
    pub(crate) clean_mb_s: f64,
    /// Records of 200 B a second.
    pub(crate) transform_small_s: f64,
    /// Records of 1,000 B a second.
    pub(crate) transform_large_s: f64,
    pub(crate) ingest_s: f64,
    pub(crate) ingest_s3: Calls,
    pub(crate) ingest_ledger_calls: f64,
    pub(crate) stage_s: f64,
    pub(crate) commit_seconds: f64,
    pub(crate) commit_s3: Calls,
    pub(crate) commit_ledger_calls: f64,
    pub(crate) live_s: f64,
    pub(crate) windows_month_dollars: f64,
    /// Rows of page logs a second on two cores.
    pub(crate) spark_s: f64,
}

/// Calls of S3, by what they cost alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    /// PUT, COPY, LIST.
    pub(crate) puts: f64,
    /// GET, HEAD.
    pub(crate) gets: f64,
}

/// How long a batch takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// Seconds of CPU a record.
    pub(crate) cpu: f64,
    /// Seconds of waiting for each `at_once` records: the network.
    pub(crate) wait: f64,
    /// So many records wait together.
    pub(crate) at_once: f64,
}

impl Service {
    /// Seconds of a batch.
    pub(crate) fn of(&self, records: f64) -> f64 {
        records * self.cpu + (records / self.at_once).ceil() * self.wait
    }
}

/// Taken to be so: what a call of S3 or DynamoDB takes from a Lambda. The local AWS of the benches answers in one or two.
pub(crate) const CALL_MS: f64 = 15.0;

/// The command stream's mapping, as template.yaml has it, and `JobsAtOnce`.
pub(crate) const JOB_LANES: usize = 4;
pub(crate) const JOB_BATCH: f64 = 100.0;
const JOBS_AT_ONCE: f64 = 8.0;

impl Measured {
    /// A job of so many bytes, in a batch.
    pub(crate) fn job(&self, bytes: f64) -> Service {
        let calls = self.job_s3.puts + self.job_s3.gets + self.job_ledger_calls;
        let cpu = self.job_ms / 1000.0 + bytes / 1e6 / self.clean_mb_s;
        Service { cpu, wait: calls * CALL_MS / 1000.0, at_once: JOBS_AT_ONCE }
    }

    pub(crate) fn known() -> Result<Self, String> {
        let all: BTreeMap<String, Measure> =
            serde_json::from_str(include_str!("measured.json")).map_err(|error| format!("measured.json: {error}"))?;
        let of = |name: &str| {
            all.get(name).map(|measure| measure.value).ok_or_else(|| format!("measured.json has no {name}"))
        };
        let calls = |part: &str| {
            let of = |kind: &str| of(&format!("{part}_s3_{kind}"));
            Ok::<_, String>(Calls { puts: of("puts")? + of("lists")?, gets: of("gets")? + of("heads")? })
        };
        let thousands = |name: &str| Ok::<_, String>(of(name)? * 1000.0);
        Ok(Self {
            days: all.values().map(|measure| measure.on.clone()).collect(),
            job_ms: of("job_ms")?,
            job_s3: calls("job")?,
            job_ledger_calls: of("job_ledger_calls")?,
            clean_mb_s: of("clean_mb_s_core")?,
            transform_small_s: thousands("transform_small_k_s_core")?,
            transform_large_s: thousands("transform_large_k_s_core")?,
            ingest_s: thousands("ingest_k_s_core")?,
            ingest_s3: calls("ingest")?,
            ingest_ledger_calls: of("ingest_ledger_calls")?,
            stage_s: thousands("stage_k_s_core")?,
            commit_seconds: of("commit_s")?,
            commit_s3: calls("commit")?,
            commit_ledger_calls: of("commit_ledger_calls")?,
            live_s: thousands("live_k_s_core")?,
            windows_month_dollars: of("windows_month_dollars")?,
            spark_s: of("spark_rows_s_two_cores")?,
        })
    }

    /// When, from the first to the last.
    pub(crate) fn days(&self) -> String {
        match (self.days.first(), self.days.last()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            (day, _) => day.cloned().unwrap_or_default(),
        }
    }
}
