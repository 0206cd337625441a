//! What the template tells the function, read once.

use weir_command::Location;
use weir_settings::Variables;

use crate::routes::Routes;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `ROLE`: whether this is the stream's function or the one that commits.
    pub role: Role,
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `LEDGER_TABLE`.
    pub ledger_table: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letter_bucket: String,
    /// `ALERT_TOPIC_ARN`.
    pub alert_topic_arn: String,
    /// `CHANGES`: where tables are, `<CHANGES><table>/`, and what waits for them, `<CHANGES>_staged/`.
    pub changes: Location,
    /// `TABLES`: which tables are taken, and how.
    pub routes: Routes,
    /// `DATABASE`: where the catalog has them.
    pub database: String,
    /// `SOFT_DELETES`: whether rows that are deleted stay, marked.
    pub soft_deletes: bool,
    /// `KEEP_HOURS`: how far back tables can be read.
    pub keep_ms: u64,
    /// What base files may take while they are written, of the memory that Lambda says there is (`AWS_LAMBDA_FUNCTION_MEMORY_SIZE`).
    pub memory_bytes: u64,
    /// `LEASE_GRACE_SECONDS`: how long a lease outlives its invocation.
    pub grace_ms: u64,
}

/// Which of the two functions this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads the stream, and stages.
    Stage,
    /// Commits what is staged.
    Commit,
}

impl Role {
    /// What its log and metrics are called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage => "cdc",
            Self::Commit => "cdc-commit",
        }
    }
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let memory_mb = get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").and_then(|mb| mb.parse().ok()).unwrap_or(0u64);
        let mut variables = Variables::new(get);
        let role = |value: &str| match value {
            "stage" => Some(Role::Stage),
            "commit" => Some(Role::Commit),
            _ => None,
        };
        let truth = |value: &str| value.parse::<bool>().ok();
        let role = variables.one_of("ROLE", role, "`stage` or `commit`").unwrap_or(Role::Stage);
        let stack = variables.text("STACK");
        let ledger_table = variables.text("LEDGER_TABLE");
        let dead_letter_bucket = variables.text("DEAD_LETTER_BUCKET");
        let alert_topic_arn = variables.text("ALERT_TOPIC_ARN");
        let changes = variables.parsed::<Location>("CHANGES");
        let tables = variables.text("TABLES");
        let database = variables.text("DATABASE");
        let soft_deletes = variables.one_of("SOFT_DELETES", truth, "`true` or `false`").unwrap_or_default();
        let keep_ms = variables.number("KEEP_HOURS").saturating_mul(3_600_000);
        let grace_ms = variables.number("LEASE_GRACE_SECONDS").saturating_mul(1000);
        let routes = match Routes::parse(&tables) {
            Ok(routes) => routes,
            Err(problems) => {
                problems.iter().for_each(|problem| variables.problem("TABLES", problem));
                Routes::default()
            }
        };
        for contract in routes.contracts().filter(|it| soft_deletes && !it.partition_by().is_empty()) {
            let reason =
                format!("the contract `{}` has a partition, which rows that are deleted do not say", contract.name());
            variables.problem("SOFT_DELETES", reason);
        }
        variables.finish()?;
        let changes = changes.ok_or("CHANGES is missing")?.as_prefix();
        Ok(Self {
            role,
            stack,
            ledger_table,
            dead_letter_bucket,
            alert_topic_arn,
            changes,
            routes,
            database,
            soft_deletes,
            keep_ms,
            // The rest is for changes, and for looking for keys.
            memory_bytes: memory_mb.saturating_sub(768).max(256) << 20,
            grace_ms,
        })
    }

    /// Where what is staged lies.
    pub fn staged(&self) -> Location {
        self.changes.join("_staged/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Option<String> {
        Some(match name {
            "ROLE" => "commit".into(),
            "CHANGES" => "s3://tables-bucket/changes".into(),
            "TABLES" => "public.customers=customers".into(),
            "SOFT_DELETES" => "false".into(),
            "KEEP_HOURS" | "LEASE_GRACE_SECONDS" => "30".into(),
            other => other.to_lowercase(),
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let config = Config::read(set).unwrap();
        assert_eq!((config.role, config.grace_ms), (Role::Commit, 30_000));
        assert_eq!(config.staged().to_string(), "s3://tables-bucket/changes/_staged/");
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = Config::read(|name| match name {
            "STACK" => None,
            "TABLES" => Some("customers,public.o=orders".into()),
            "SOFT_DELETES" => Some("perhaps".into()),
            other => set(other),
        });
        let said = said.unwrap_err();
        for word in ["STACK", "public.customers", "`perhaps`"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        let partitioned = |name: &str| match name {
            "TABLES" => Some("public.o=orders".into()),
            "SOFT_DELETES" => Some("true".into()),
            other => set(other),
        };
        assert!(Config::read(partitioned).unwrap_err().contains("has a partition"));
    }
}
