//! What the template tells the function, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_command::Location;
use weir_contract::{Contract, contract};
use weir_settings::Variables;

/// The function's settings.
#[derive(Debug)]
pub struct Config {
    /// `ROLE`: whether this is the function that reads Kafka or the one that compacts: what its log and metrics are called by.
    pub role: &'static str,
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `LEDGER_TABLE`.
    pub ledger_table: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letters: Location,
    /// `ALERT_TOPIC_ARN`.
    pub alert_topic_arn: String,
    /// `EVENTS`: where tables are: `<EVENTS><dataset>/event_date=…/`.
    pub events: Location,
    /// `TOPICS`: the contract of each topic: `topic=dataset,…`.
    pub topics: BTreeMap<String, Arc<Contract>>,
    /// `DATABASE`: where the catalog has the tables.
    pub database: String,
    /// `KEEP_HOURS`: how long the files stay that were compacted: longer than any query.
    pub keep_ms: u64,
    /// `CLUSTER`: what the ledger calls a self-managed cluster, whose brokers may change. MSK's is called by its ARN.
    pub cluster: String,
    /// `PARTIAL_FAILURES`: the topics whose mappings heed which partitions are to come again. Of others, all of a batch does.
    pub partial_failures: BTreeSet<String>,
    /// `BATCH_GATHER_SECONDS`: how long batch waits for more after something was committed.
    pub gather_ms: u64,
    /// `LEASE_GRACE_SECONDS`: how long a lease outlives its invocation.
    pub grace_ms: u64,
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut variables = Variables::new(&get);
        let role = |value: &str| ["ingest", "compact"].into_iter().find(|role| *role == value);
        let role = variables.one_of("ROLE", role, "`ingest` or `compact`").unwrap_or("ingest");
        let stack = variables.text("STACK");
        let ledger_table = variables.text("LEDGER_TABLE");
        let bucket = variables.text("DEAD_LETTER_BUCKET");
        let alert_topic_arn = variables.text("ALERT_TOPIC_ARN");
        let events = variables.parsed::<Location>("EVENTS");
        let topics = variables.text("TOPICS");
        let cluster = variables.text("CLUSTER");
        let database = variables.text("DATABASE");
        let keep_ms = variables.number("KEEP_HOURS").saturating_mul(3_600_000);
        let partial_failures = get("PARTIAL_FAILURES").unwrap_or_default();
        let partial_failures = partial_failures.split(',').map(str::trim).filter(|topic| !topic.is_empty());
        let partial_failures = partial_failures.map(str::to_owned).collect();
        let gather_ms = variables.number("BATCH_GATHER_SECONDS").saturating_mul(1000);
        let grace_ms = variables.number("LEASE_GRACE_SECONDS").saturating_mul(1000);
        let topics = contracts(&topics, |problem| variables.problem("TOPICS", problem));
        let dead_letters = Location::parse(&format!("s3://{bucket}/"));
        if let Err(error) = &dead_letters
            && !bucket.is_empty()
        {
            variables.problem("DEAD_LETTER_BUCKET", error);
        }
        variables.finish()?;
        let (Some(events), Ok(dead_letters)) = (events, dead_letters) else {
            return Err("a setting is missing".to_owned());
        };
        let events = events.as_prefix();
        Ok(Self {
            role,
            stack,
            ledger_table,
            dead_letters,
            alert_topic_arn,
            events,
            topics,
            database,
            keep_ms,
            cluster,
            partial_failures,
            gather_ms,
            grace_ms,
        })
    }
}

fn contracts(listed: &str, mut problem: impl FnMut(String)) -> BTreeMap<String, Arc<Contract>> {
    let mut topics = BTreeMap::new();
    for entry in listed.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let Some((topic, dataset)) = entry.split_once('=') else {
            problem(format!("`{entry}` must be `topic=dataset`"));
            continue;
        };
        // The template's way to say that there is none.
        if topic.trim().is_empty() {
            continue;
        }
        match contract(dataset.trim()) {
            Err(error) => problem(format!("`{entry}`: {error}")),
            Ok(contract) => {
                if topics.insert(topic.trim().to_owned(), Arc::new(contract)).is_some() {
                    problem(format!("the topic `{}` is named twice", topic.trim()));
                }
            }
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> Option<String> {
        Some(match name {
            "ROLE" => "compact".into(),
            "DEAD_LETTER_BUCKET" => "dead-letters".into(),
            "EVENTS" => "s3://tables-bucket/events".into(),
            "TOPICS" => "log_topic=page_logs, orders=orders,=trips,".into(),
            "PARTIAL_FAILURES" => "log_topic,".into(),
            "BATCH_GATHER_SECONDS" | "LEASE_GRACE_SECONDS" | "KEEP_HOURS" => "300".into(),
            _ => "x".into(),
        })
    }

    #[test]
    fn topics_have_contracts() {
        let config = Config::read(set).unwrap();
        let found: Vec<_> = config.topics.iter().map(|(topic, contract)| (topic.as_str(), contract.name())).collect();
        assert_eq!(found, [("log_topic", "page_logs"), ("orders", "orders")]);
        assert_eq!(config.partial_failures.into_iter().collect::<Vec<_>>(), ["log_topic"]);
        assert_eq!((config.events.to_string().as_str(), config.gather_ms), ("s3://tables-bucket/events/", 300_000));
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = Config::read(|name| match name {
            "TOPICS" => Some("log_topic=page_log,loose,a=trips,a=orders".into()),
            _ => None,
        })
        .unwrap_err();
        for word in ["STACK", "did you mean `page_logs`?", "`loose`", "twice", "EVENTS"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
