//! What the function may be invoked with. Read leniently, record by record: one that is not understood is a dead letter and
//! disturbs no other.

use serde_json::Value;

use crate::load::What;

/// What an invocation asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Objects were created; and what of the event is not understood.
    Landed(Vec<Created>, Vec<String>),
    /// A run of a Glue job changed its state.
    GlueChanged {
        /// The job's name.
        job: String,
        /// The run's id.
        run: String,
    },
    /// Statements of the Redshift Data API ended.
    LoadEnded {
        /// What they were called.
        name: String,
    },
    /// Look at everything that is due.
    Sweep,
    /// Work on what is pending of a dataset, now.
    Run {
        /// The dataset.
        dataset: String,
        /// What to take up first.
        take_up: TakeUp,
    },
    /// Begin a halted run again.
    Retry {
        /// The dataset.
        dataset: String,
        /// Whether newer versions of objects that are done count.
        replace: bool,
    },
    /// Load what runs added up into the warehouse.
    Load {
        /// The dataset.
        dataset: String,
        /// What of it.
        what: What,
    },
    /// Nothing: S3 tests a new notification.
    Test,
    /// Something else, and why.
    Unknown(String),
}

/// Objects that no event told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeUp {
    /// None.
    Nothing,
    /// All in the dataset's default input path.
    Everything,
    /// Those that were written there in these milliseconds since the epoch.
    Between(u64, u64),
}

/// An object that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its bucket.
    pub bucket: String,
    /// Its key, decoded.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// S3's order of this key's events; may be empty.
    pub sequencer: String,
    /// In milliseconds since the epoch; 0 if the event doesn't say.
    pub landed_ms: u64,
}

/// Reads an invocation.
pub fn read(payload: &Value) -> Asked {
    let text = |pointer: &str| payload.pointer(pointer).and_then(Value::as_str);
    if let Some(records) = payload.get("Records").and_then(Value::as_array) {
        return native(records);
    }
    if text("/Event") == Some("s3:TestEvent") {
        return Asked::Test;
    }
    if let (Some(source), Some(kind)) = (text("/source"), text("/detail-type")) {
        return match (source, kind) {
            ("aws.s3", "Object Created") => bridged(payload),
            ("aws.glue", "Glue Job State Change") => match (text("/detail/jobName"), text("/detail/jobRunId")) {
                (Some(job), Some(run)) => Asked::GlueChanged { job: job.to_owned(), run: run.to_owned() },
                _ => Asked::Unknown("a Glue Job State Change without `detail.jobName` and `detail.jobRunId`".into()),
            },
            ("aws.redshift-data", "Redshift Data Statement Status Change") => match text("/detail/statementName") {
                Some(name) => Asked::LoadEnded { name: name.to_owned() },
                None => Asked::Unknown("a Redshift Data Statement Status Change without `detail.statementName`".into()),
            },
            _ => {
                Asked::Unknown(format!("an event of a kind that is not ours: source `{source}`, detail-type `{kind}`"))
            }
        };
    }
    direct(payload)
}

const DIRECT: &str = "write {\"sweep\":{}}, {\"dataset\":NAME}, {\"dataset\":NAME,\"backfill\":{\"from\":TIME,\"to\":TIME}}, \
                      {\"dataset\":NAME,\"backfill\":{}}, {\"dataset\":NAME,\"retry\":{\"replace\":false}} or \
                      {\"dataset\":NAME,\"load\":{\"all\":false}}";

fn direct(payload: &Value) -> Asked {
    let Some(members) = payload.as_object() else {
        return Asked::Unknown(format!("the invocation is no object; {DIRECT}"));
    };
    if members.len() == 1 && members.contains_key("sweep") {
        return Asked::Sweep;
    }
    if let Some(stranger) =
        members.keys().find(|name| !["dataset", "backfill", "retry", "load"].contains(&name.as_str()))
    {
        let shown: String = stranger.chars().take(40).collect();
        return Asked::Unknown(format!("an invocation with the member `{shown}`; {DIRECT}"));
    }
    let Some(dataset) = members.get("dataset").and_then(Value::as_str).map(str::to_owned) else {
        return Asked::Unknown(format!("an invocation without a `dataset`; {DIRECT}"));
    };
    let flag = |verb: &Value, name: &str| verb.get(name).and_then(Value::as_bool).unwrap_or(false);
    match (members.get("backfill"), members.get("retry"), members.get("load")) {
        (None, None, None) => Asked::Run { dataset, take_up: TakeUp::Nothing },
        (Some(backfill), None, None) => match between(backfill) {
            Ok(take_up) => Asked::Run { dataset, take_up },
            Err(reason) => Asked::Unknown(reason),
        },
        (None, Some(retry), None) => Asked::Retry { dataset, replace: flag(retry, "replace") },
        (None, None, Some(load)) => {
            let text = |name: &str| load.get(name).and_then(Value::as_str).map(str::to_owned);
            let what = match text("without") {
                Some(run) => What::Without(run),
                None if flag(load, "all") => What::OnS3(text("after")),
                None => What::Waiting,
            };
            Asked::Load { dataset, what }
        }
        _ => Asked::Unknown("`backfill`, `retry` and `load` are an invocation each".to_owned()),
    }
}

/// `{}`, or from and to: a date (its first moment, its last) or a time with its zone.
fn between(backfill: &Value) -> Result<TakeUp, String> {
    let moment = |name: &str, default_ms: u64, end: bool| match backfill.get(name) {
        None => Ok(default_ms),
        Some(value) => moment_ms(value.as_str().unwrap_or_default(), end).ok_or_else(|| {
            format!("`backfill.{name}` is {value}; write it as \"2024-01-31\" or \"2024-01-31T06:00:00Z\"")
        }),
    };
    if backfill.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(TakeUp::Everything);
    }
    let (from, to) = (moment("from", 0, false)?, moment("to", u64::MAX, true)?);
    if from > to {
        return Err("`backfill.from` is after `backfill.to`".to_owned());
    }
    Ok(TakeUp::Between(from, to))
}

fn moment_ms(text: &str, end: bool) -> Option<u64> {
    let moment = match text.parse::<jiff::Timestamp>() {
        Ok(moment) => moment,
        Err(_) => {
            let date = text.parse::<jiff::civil::Date>().ok()?;
            let day = if end { date.tomorrow().ok()? } else { date };
            let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            if end { midnight - jiff::SignedDuration::from_millis(1) } else { midnight }
        }
    };
    u64::try_from(moment.as_millisecond()).ok()
}

fn native(records: &[Value]) -> Asked {
    let (mut created, mut odd) = (Vec::new(), Vec::new());
    for record in records {
        let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
        if !text("/eventName").is_some_and(|name| name.starts_with("ObjectCreated")) {
            odd.push("a record that is no ObjectCreated event of S3".to_owned());
            continue;
        }
        let key = text("/s3/object/key").and_then(decoded);
        match (text("/s3/bucket/name"), key) {
            (Some(bucket), Some(key)) => created.push(Created {
                bucket: bucket.to_owned(),
                key,
                size: record.pointer("/s3/object/size").and_then(Value::as_u64).unwrap_or(0),
                etag: text("/s3/object/eTag").unwrap_or_default().trim_matches('"').to_owned(),
                sequencer: text("/s3/object/sequencer").unwrap_or_default().to_owned(),
                landed_ms: text("/eventTime").and_then(|time| moment_ms(time, false)).unwrap_or(0),
            }),
            _ => odd.push("a record without a bucket and a key in UTF-8".to_owned()),
        }
    }
    Asked::Landed(created, odd)
}

/// EventBridge does not encode keys.
fn bridged(event: &Value) -> Asked {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let (Some(bucket), Some(key)) = (text("/detail/bucket/name"), text("/detail/object/key")) else {
        return Asked::Unknown("an Object Created event without `detail.bucket.name` and `detail.object.key`".into());
    };
    let created = Created {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        size: event.pointer("/detail/object/size").and_then(Value::as_u64).unwrap_or(0),
        etag: text("/detail/object/etag").unwrap_or_default().trim_matches('"').to_owned(),
        sequencer: text("/detail/object/sequencer").unwrap_or_default().to_owned(),
        landed_ms: text("/time").and_then(|time| moment_ms(time, false)).unwrap_or(0),
    };
    Asked::Landed(vec![created], Vec::new())
}

/// A key of a native notification: like a form's, with `+` for a blank (S3 user guide, "Event message structure").
fn decoded(key: &str) -> Option<String> {
    let blanks = key.replace('+', " ");
    percent_encoding::percent_decode_str(&blanks).decode_utf8().ok().map(|text| text.into_owned())
}
