//! What the template tells the function, read once.

use weir_command::{AllowList, Location};
use weir_settings::Variables;

use crate::warehouse::redshift::{Redshift, Target};
use crate::warehouse::sql;
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
    /// `EVENTS`: where `ingest` writes: `<EVENTS><dataset>/…`.
    pub events: Location,
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
    /// `REDSHIFT_…`: what runs' sums are loaded into; unless one is named, nothing.
    pub redshift: Option<Redshift>,
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
        let mut variables = Variables::new(&get);
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
        let places = ["RAW", "TABLES", "RUNS", "EVENTS"].map(|name| variables.parsed::<Location>(name));
        let sources = variables.parsed("SOURCE_ALLOW_LIST").unwrap_or_default();
        let dests = variables.parsed("DEST_ALLOW_LIST").unwrap_or_default();
        let when = variables.one_of("BATCH_WHEN", when, "`landing` or `off-peak`");
        let gather_ms = variables.number("BATCH_GATHER_SECONDS").saturating_mul(1000);
        let max_bytes = variables.number("BATCH_MAX_BYTES");
        let off_peak = variables.parsed("OFF_PEAK");
        let redshift = redshift(&get, &mut variables);
        variables.finish()?;
        // What is missing has been said.
        let ([Some(raw), Some(tables), Some(runs), Some(events)], Some(when), Some(off_peak)) =
            (places, when, off_peak)
        else {
            return Err("a setting is missing".to_owned());
        };
        let [raw, tables, runs, events] = [raw, tables, runs, events].map(|place| place.as_prefix());
        Ok(Self {
            stack,
            ledger_table,
            dead_letter_bucket,
            alert_topic_arn,
            glue_job,
            raw,
            tables,
            events,
            runs,
            sources,
            dests,
            when,
            gather_ms,
            max_bytes,
            off_peak,
            redshift,
        })
    }
}

/// The warehouse's settings, which only count if one is named.
fn redshift<G: Fn(&str) -> Option<String>>(get: &G, variables: &mut Variables<&G>) -> Option<Redshift> {
    let set = |name: &str| get(name).filter(|value| !value.is_empty());
    let target = match (set("REDSHIFT_WORKGROUP"), set("REDSHIFT_CLUSTER")) {
        (None, None) => return None,
        (Some(name), None) => Target::Workgroup(name),
        (None, Some(name)) => Target::Cluster(name),
        (Some(_), Some(_)) => {
            variables.problem("REDSHIFT_CLUSTER", "there is a REDSHIFT_WORKGROUP as well; name one of them");
            return None;
        }
    };
    let role = |value: &str| (value == "default" || is_role(value)).then(|| value.to_owned());
    let database = variables.text("REDSHIFT_DATABASE");
    let schema = variables.text("REDSHIFT_SCHEMA");
    let copy_role = variables.one_of("REDSHIFT_COPY_ROLE", role, "`default`, or the ARN of a role");
    let secret = set("REDSHIFT_SECRET");
    Some(Redshift { target, database, secret, place: sql::Place { schema, copy_role: copy_role? } })
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/-".contains(c);
    matches!(parts.as_slice(), ["arn", _, "iam", "", _, name] if name.starts_with("role/") && name.chars().all(plain))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn set(name: &str) -> Option<String> {
        Some(match name {
            "RAW" => "s3://raw-bucket/".into(),
            "TABLES" => "s3://out-bucket/tables/".into(),
            "RUNS" => "s3://out-bucket/runs/".into(),
            "EVENTS" => "s3://out-bucket/events/".into(),
            "SOURCE_ALLOW_LIST" => "s3://raw-bucket/".into(),
            "DEST_ALLOW_LIST" => "s3://out-bucket/".into(),
            "BATCH_WHEN" => "landing".into(),
            "BATCH_GATHER_SECONDS" => "0".into(),
            "BATCH_MAX_BYTES" => "1000000".into(),
            "OFF_PEAK" => "22:00-06:00 UTC".into(),
            other if other.starts_with("REDSHIFT_") => return None,
            other => other.to_lowercase().replace('_', "-"),
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let config = Config::read(set).unwrap();
        assert_eq!((config.when, config.raw.to_string().as_str()), (When::Landing, "s3://raw-bucket/"));
    }

    #[test]
    fn a_warehouse_is_one_only_if_it_is_named() {
        let with = |own: &'static [(&str, &str)]| {
            let get = |name: &str| own.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
            Config::read(|name| get(name).or_else(|| set(name)))
        };
        assert_eq!(with(&[("REDSHIFT_WORKGROUP", ""), ("REDSHIFT_DATABASE", "dev")]).unwrap().redshift, None);
        let whole: &[(&str, &str)] = &[
            ("REDSHIFT_WORKGROUP", "reports"),
            ("REDSHIFT_DATABASE", "dev"),
            ("REDSHIFT_SCHEMA", "public"),
            ("REDSHIFT_COPY_ROLE", "arn:aws:iam::123456789012:role/a/copy"),
        ];
        let redshift = with(whole).unwrap().redshift.unwrap();
        assert_eq!(redshift.target, Target::Workgroup("reports".into()));
        let wrong: &[(&str, &str)] = &[("REDSHIFT_CLUSTER", "c"), ("REDSHIFT_COPY_ROLE", "arn:aws:iam::1:role/x' y")];
        let said = with(wrong).unwrap_err();
        for word in ["REDSHIFT_DATABASE is not set", "REDSHIFT_SCHEMA is not set", "REDSHIFT_COPY_ROLE"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(
            with(&[("REDSHIFT_CLUSTER", "c"), ("REDSHIFT_WORKGROUP", "w")]).unwrap_err().contains("name one of them")
        );
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
