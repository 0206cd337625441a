//! What the template tells the function, read once.

use weir_command::AllowList;

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
        let mut problems = Vec::new();
        let mut text = |name: &str| match get(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                problems.push(format!("{name} is not set"));
                String::new()
            }
        };
        let (stack, role) = (text("STACK"), text("ROLE"));
        let (ledger_table, dead_letter_bucket) = (text("LEDGER_TABLE"), text("DEAD_LETTER_BUCKET"));
        let (alert_topic_arn, worker_function) = (text("ALERT_TOPIC_ARN"), text("WORKER_FUNCTION"));
        let (sources, dests) = (text("SOURCE_ALLOW_LIST"), text("DEST_ALLOW_LIST"));
        let numbers = ["REALTIME_MAX_BYTES", "JOBS_AT_ONCE", "LEASE_GRACE_SECONDS"].map(|name| (name, text(name)));
        let [max_bytes, at_once, grace] = numbers.map(|(name, value)| {
            value.parse::<u64>().unwrap_or_else(|_| {
                problems.push(format!("{name} is `{value}`, but must be a whole number"));
                0
            })
        });
        let mut list = |name: &str, value: &str| {
            AllowList::parse(value).map_err(|error| problems.push(format!("{name}: {error}"))).ok()
        };
        let (sources, dests) = (list("SOURCE_ALLOW_LIST", &sources), list("DEST_ALLOW_LIST", &dests));
        let role = match role.as_str() {
            "stream" => Role::Stream,
            "worker" => Role::Worker,
            other => {
                problems.push(format!("ROLE is `{other}`, but must be `stream` or `worker`"));
                Role::Stream
            }
        };
        match (sources, dests, problems.is_empty()) {
            (Some(sources), Some(dests), true) => Ok(Self {
                stack,
                role,
                ledger_table,
                dead_letter_bucket,
                alert_topic_arn,
                worker_function,
                sources,
                dests,
                realtime_max_bytes: max_bytes,
                jobs_at_once: usize::try_from(at_once).unwrap_or(1).max(1),
                lease_grace_ms: grace * 1000,
            }),
            _ => Err(problems.join("\n")),
        }
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
