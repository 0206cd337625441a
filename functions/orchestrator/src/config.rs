//! What the template tells the function, read once.

use weir_command::{AllowList, Location};
use weir_settings::Variables;

use crate::window::Window;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `LEDGER_TABLE`.
    pub ledger_table: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letter_bucket: String,
    /// `ALERT_TOPIC_ARN`.
    pub alert_topic_arn: String,
    /// `GLUE_JOB`: the name of the job that runs are runs of.
    pub glue_job: String,
    /// `RAW`: where files land: `<RAW><dataset>/…`.
    pub raw: Location,
    /// `TABLES`: where runs write: `<TABLES><dataset>/…`.
    pub tables: Location,
    /// `RUNS`: where manifests and results are: `<RUNS><run>/…`.
    pub runs: Location,
    /// `SOURCE_ALLOW_LIST`: what commands may read.
    pub sources: AllowList,
    /// `DEST_ALLOW_LIST`: where commands may write.
    pub dests: AllowList,
    /// `BATCH_WHEN`: when what has landed is worked on.
    pub when: When,
    /// `BATCH_GATHER_SECONDS`: how long more is waited for after something has landed.
    pub gather_ms: u64,
    /// `BATCH_MAX_BYTES`: what one run takes at most.
    pub max_bytes: u64,
    /// `OFF_PEAK`: the window, as `22:00-06:00 Europe/Berlin`.
    pub off_peak: Window,
}

/// When what has landed is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As soon as it has been gathered.
    Landing,
    /// In the off-peak window.
    OffPeak,
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut variables = Variables::new(get);
        let when = |value: &str| match value {
            "landing" => Some(When::Landing),
            "off-peak" => Some(When::OffPeak),
            _ => None,
        };
        let stack = variables.text("STACK");
        let ledger_table = variables.text("LEDGER_TABLE");
        let dead_letter_bucket = variables.text("DEAD_LETTER_BUCKET");
        let alert_topic_arn = variables.text("ALERT_TOPIC_ARN");
        let glue_job = variables.text("GLUE_JOB");
        let places = ["RAW", "TABLES", "RUNS"].map(|name| variables.parsed::<Place>(name));
        let sources = variables.parsed("SOURCE_ALLOW_LIST").unwrap_or_default();
        let dests = variables.parsed("DEST_ALLOW_LIST").unwrap_or_default();
        let when = variables.one_of("BATCH_WHEN", when, "`landing` or `off-peak`");
        let gather_ms = variables.number("BATCH_GATHER_SECONDS").saturating_mul(1000);
        let max_bytes = variables.number("BATCH_MAX_BYTES");
        let off_peak = variables.parsed("OFF_PEAK");
        variables.finish()?;
        // What is missing has been said.
        let ([Some(raw), Some(tables), Some(runs)], Some(when), Some(off_peak)) = (places, when, off_peak) else {
            return Err("a setting is missing".to_owned());
        };
        let (raw, tables, runs) = (raw.0, tables.0, runs.0);
        Ok(Self {
            stack,
            ledger_table,
            dead_letter_bucket,
            alert_topic_arn,
            glue_job,
            raw,
            tables,
            runs,
            sources,
            dests,
            when,
            gather_ms,
            max_bytes,
            off_peak,
        })
    }
}

/// A prefix.
struct Place(Location);

impl std::str::FromStr for Place {
    type Err = weir_command::LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Location::parse(text)?.as_prefix()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn set(name: &str) -> Option<String> {
        Some(match name {
            "RAW" => "s3://raw-bucket/".into(),
            "TABLES" => "s3://out-bucket/tables/".into(),
            "RUNS" => "s3://out-bucket/runs/".into(),
            "SOURCE_ALLOW_LIST" => "s3://raw-bucket/".into(),
            "DEST_ALLOW_LIST" => "s3://out-bucket/".into(),
            "BATCH_WHEN" => "landing".into(),
            "BATCH_GATHER_SECONDS" => "0".into(),
            "BATCH_MAX_BYTES" => "1000000".into(),
            "OFF_PEAK" => "22:00-06:00 UTC".into(),
            other => other.to_lowercase().replace('_', "-"),
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let config = Config::read(set).unwrap();
        assert_eq!((config.when, config.raw.to_string().as_str()), (When::Landing, "s3://raw-bucket/"));
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let wrong = |name: &str| match name {
            "RAW" => Some("raw".into()),
            "OFF_PEAK" => Some("at night".into()),
            "BATCH_WHEN" => None,
            other => set(other),
        };
        let said = Config::read(wrong).unwrap_err();
        for word in ["RAW", "`raw`", "OFF_PEAK", "at night", "BATCH_WHEN"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
