//! `weir compact`: few files of the many small ones of a day.

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use weir_contract::contract;

use crate::Stop;
use crate::out::say;
use crate::stack::{Fault, Stack};

/// Makes few files of the many small ones of a dataset's days. Readers by the catalog find each row once all the while; who lists
/// folders does not.
#[derive(Args)]
pub(crate) struct Compact {
    /// The dataset.
    dataset: String,
    /// A day, as the events have it: 2024-05-01. Without any, all days that are over and have many small files.
    #[arg(long = "date", value_name = "DATE", value_parser = date)]
    dates: Vec<String>,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object a partition.
    #[arg(long)]
    json: bool,
}

/// How long the function goes on before it is asked again, in seconds: no network forgets the call meanwhile.
const TURN_SECONDS: u64 = 30;

/// How long another compaction is waited for: a function's longest life.
const PATIENCE: Duration = Duration::from_secs(960);

/// Before it is asked again.
const PAUSE: Duration = Duration::from_secs(2);

fn date(text: &str) -> Result<String, String> {
    let date: jiff::civil::Date = text.parse().map_err(|_| format!("`{text}` is no day: write it as 2024-05-01"))?;
    Ok(date.to_string())
}

impl Compact {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        contract(&self.dataset).map_err(|error| Stop(2, error.to_string()))?;
        let asked = json!({"compact": {
            "dataset": self.dataset, "dates": self.dates, "seconds": TURN_SECONDS, "dry_run": self.dry_run,
        }});
        // Drawn on a terminal only.
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        let (mut all, mut too_large, mut waited): (Vec<Value>, Vec<Value>, _) =
            (Vec::new(), Vec::new(), Duration::ZERO);
        let ended = loop {
            match stack.ask("compact", &asked).await? {
                Ok(told) => {
                    let list = |name: &str| told.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
                    let done = list("partitions");
                    too_large = list("too_large");
                    let left = told.get("left").and_then(Value::as_u64).unwrap_or(0);
                    let idle = done.is_empty();
                    all.extend(done);
                    if left == 0 || idle || self.dry_run {
                        break Ok(left);
                    }
                    bar.set_message(format!("{} partitions done, {left} left", all.len()));
                }
                // Somebody else compacts, or the sweep.
                Err(Fault { kind, said }) if kind == "Busy" && waited < PATIENCE => {
                    bar.set_message(said);
                    tokio::time::sleep(PAUSE).await;
                    waited += PAUSE;
                }
                Err(Fault { said, .. }) => break Err(Stop(1, said)),
            }
        };
        bar.finish_and_clear();
        all.sort_by(|one, other| text(one, "folder").cmp(text(other, "folder")));
        if self.json {
            all.iter().for_each(|one| say!("{one}"));
        } else if all.is_empty() && too_large.is_empty() && matches!(ended, Ok(0)) {
            say!("{}", self.nothing());
        } else if !all.is_empty() {
            say!("{}\n{}", table(&all, self.dry_run), total(&all, self.dry_run));
        }
        for folder in too_large.iter().filter_map(Value::as_str) {
            eprintln!("{folder} has more small files than one invocation gets done: it stays as it is");
        }
        match ended? {
            left if left > 0 && !self.dry_run => Err(Stop(
                1,
                format!(
                    "{left} partitions are left: they wait until files of others that were compacted are deleted (CompactKeepHours)"
                ),
            )),
            _ => Ok(()),
        }
    }

    fn nothing(&self) -> String {
        match self.dates.as_slice() {
            [] => format!(
                "no day of {} that is over has many small files; --date asks for one all the same",
                self.dataset
            ),
            dates => format!("{} has no two small files of {}", self.dataset, dates.join(", ")),
        }
    }
}

fn text<'a>(one: &'a Value, name: &str) -> &'a str {
    one.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(one: &Value, name: &str) -> u64 {
    one.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn total(partitions: &[Value], dry_run: bool) -> String {
    let sum = |name: &str| partitions.iter().map(|one| number(one, name)).sum::<u64>();
    let (count, files) = (partitions.len(), sum("files"));
    if dry_run {
        format!("{files} files in {count} partitions")
    } else {
        format!("{files} files in {count} partitions are {} now", sum("into"))
    }
}

fn table(partitions: &[Value], dry_run: bool) -> Table {
    let mut table = Table::new();
    let last = if dry_run { "BYTES" } else { "BYTES NOW" };
    table.load_style(presets::NOTHING).set_header(["PARTITION", "FILES", "INTO", last]);
    for one in partitions {
        let folder = text(one, "folder").trim_end_matches('/').to_owned();
        let into = if dry_run { "?".to_owned() } else { number(one, "into").to_string() };
        table.add_row([folder, number(one, "files").to_string(), into, number(one, "bytes").to_string()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_days() {
        assert_eq!(date("2024-05-01").unwrap(), "2024-05-01");
        assert!(date("2024-5-1").unwrap_err().contains("2024-05-01"));
        assert!(date("yesterday").is_err());
    }

    #[test]
    fn a_line_a_partition() {
        let one = json!({"folder": "page_logs/event_date=2024-05-01/", "files": 40, "into": 1, "bytes": 9});
        let text = table(std::slice::from_ref(&one), false).to_string();
        assert!(text.contains("page_logs/event_date=2024-05-01") && text.contains("40"), "{text}");
        assert_eq!(total(&[one.clone(), one.clone()], false), "80 files in 2 partitions are 2 now");
        assert_eq!(total(&[one], true), "40 files in 1 partitions");
    }
}
