//! What the template tells the function, read once.

use weir_command::AllowList;
use weir_settings::Variables;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `ROLE`: whether this is the stream's function or the worker.
    pub role: Role,
    /// `LEDGER_TABLE`.
    pub ledger_table: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letter_bucket: String,
    /// `ALERT_TOPIC_ARN`.
    pub alert_topic_arn: String,
    /// `WORKER_FUNCTION`: the name of the worker.
    pub worker_function: String,
    /// `SOURCE_ALLOW_LIST`: what commands may read.
    pub sources: AllowList,
    /// `DEST_ALLOW_LIST`: where commands may write.
    pub dests: AllowList,
    /// `REALTIME_MAX_BYTES`: what is larger and must go through the process is left to batch.
    pub realtime_max_bytes: u64,
    /// `JOBS_AT_ONCE`: how many of a batch's jobs run concurrently.
    pub jobs_at_once: usize,
    /// `LEASE_GRACE_SECONDS`: how long a lease outlives the invocation's deadline.
    pub lease_grace_ms: u64,
}

/// Which of the two functions this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads the command stream.
    Stream,
    /// Does what takes longer.
    Worker,
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut variables = Variables::new(get);
        let role = |value: &str| match value {
            "stream" => Some(Role::Stream),
            "worker" => Some(Role::Worker),
            _ => None,
        };
        let config = Self {
            stack: variables.text("STACK"),
            role: variables.one_of("ROLE", role, "`stream` or `worker`").unwrap_or(Role::Stream),
            ledger_table: variables.text("LEDGER_TABLE"),
            dead_letter_bucket: variables.text("DEAD_LETTER_BUCKET"),
            alert_topic_arn: variables.text("ALERT_TOPIC_ARN"),
            worker_function: variables.text("WORKER_FUNCTION"),
            sources: variables.parsed("SOURCE_ALLOW_LIST").unwrap_or_default(),
            dests: variables.parsed("DEST_ALLOW_LIST").unwrap_or_default(),
            realtime_max_bytes: variables.number("REALTIME_MAX_BYTES"),
            jobs_at_once: usize::try_from(variables.number("JOBS_AT_ONCE")).unwrap_or(1).max(1),
            lease_grace_ms: variables.number("LEASE_GRACE_SECONDS").saturating_mul(1000),
        };
        variables.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Option<String> {
        Some(match name {
            "ROLE" => "worker".into(),
            "SOURCE_ALLOW_LIST" | "DEST_ALLOW_LIST" => "s3://some-bucket/".into(),
            "REALTIME_MAX_BYTES" | "JOBS_AT_ONCE" | "LEASE_GRACE_SECONDS" => "3".into(),
            other => other.to_lowercase(),
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let config = Config::read(set).unwrap();
        assert_eq!((config.role, config.lease_grace_ms), (Role::Worker, 3000));
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let wrong = |name: &str| match name {
            "LEDGER_TABLE" => None,
            "JOBS_AT_ONCE" => Some("many".into()),
            "SOURCE_ALLOW_LIST" => Some("*".into()),
            other => set(other),
        };
        let said = Config::read(wrong).unwrap_err();
        assert!(
            said.contains("LEDGER_TABLE") && said.contains("`many`") && said.contains("SOURCE_ALLOW_LIST"),
            "{said}"
        );
    }
}
