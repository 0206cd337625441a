//! `weir stats`: what is happening now, as windows of a stream have it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Map, Value};
use weir_command::Location;
use weir_contract::{Live, Statistic, contract};
use weir_lake::{Lake, S3Lake, list_after};
use weir_live::Published;

use crate::out::{self, say};
use crate::{Stack, Stop};

/// Live statistics of a stream: the last window, and how it came to be.
#[derive(Args)]
pub(crate) struct Stats {
    /// The dataset.
    dataset: String,
    /// Go on, window by window, until interrupted.
    #[arg(long)]
    watch: bool,
    /// How many windows charts show.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=500))]
    windows: u16,
    /// Each window's rows as JSON, the oldest first: all groups together, then each group.
    #[arg(long)]
    json: bool,
}

/// How often is looked for new windows.
const LOOKS: Duration = Duration::from_secs(1);

/// How far back windows are looked for, each if there are not enough in the one before.
const BACK_S: [u64; 3] = [900, 86_400, 31 * 86_400];

type Line = Map<String, Value>;

/// Windows by their keys, which order as they do, with their etags.
#[derive(Default)]
struct Windows(BTreeMap<String, (String, Vec<Line>)>);

impl Stats {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let dataset = contract(&self.dataset).map_err(|error| Stop(2, error.to_string()))?;
        let Some(live) = dataset.live() else {
            return Err(Stop(
                2,
                format!("the contract of `{}` has no [live]: nothing is kept of its windows", self.dataset),
            ));
        };
        let statistics = statistics(stack).await?;
        let lake = S3Lake::new(&stack.aws);
        let mut windows = Windows::default();
        let mut shown = BTreeMap::new();
        loop {
            windows.look(&lake, &statistics, &self.dataset, usize::from(self.windows)).await?;
            let there: BTreeMap<String, String> =
                windows.0.iter().map(|(key, (etag, _))| (key.clone(), etag.clone())).collect();
            if there != shown {
                self.show(&windows, live, &shown);
                shown = there;
            }
            if !self.watch {
                if shown.is_empty() {
                    say!("there are no windows of {} yet; one is there when it has ended", self.dataset);
                }
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOKS) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }

    fn show(&self, windows: &Windows, live: &Live, shown: &BTreeMap<String, String>) {
        let all: Vec<&[Line]> = windows.0.values().map(|(_, lines)| lines.as_slice()).collect();
        if self.json {
            // What is new, and what has changed.
            let fresh = windows.0.iter().filter(|(key, (etag, _))| shown.get(*key) != Some(etag));
            let lines = fresh.flat_map(|(_, (_, lines))| lines);
            lines.for_each(|line| say!("{}", Value::from(line.clone())));
        } else if self.watch && std::io::stdout().is_terminal() {
            out::write(format_args!("\x1b[H\x1b[2J{}", page(&all, live)));
        } else {
            out::write(format_args!("{}", page(&all, live)));
        }
    }
}

/// Where the stack's function puts results.
async fn statistics(stack: &Stack) -> Result<Location, Stop> {
    let variables = stack.variables("analytics").await?;
    let variables = variables
        .ok_or_else(|| stack.lacks("analytics", "windows (TelemetrySource=KINESIS AnalyticsWindowSeconds=60)"))?;
    let set = variables.get("STATISTICS").ok_or_else(|| Stop(3, "analytics has no STATISTICS".to_owned()))?;
    let statistics = Location::parse(set).map_err(|error| Stop(3, error.to_string()))?;
    Ok(statistics.as_prefix())
}

impl Windows {
    /// Reads what is new or has changed since; keeps the last so many.
    async fn look(&mut self, lake: &S3Lake, statistics: &Location, dataset: &str, most: usize) -> Result<(), Stop> {
        let now_ms = crate::now_ms();
        for back_s in BACK_S {
            let since = Published::since(statistics, dataset, now_ms.saturating_sub(back_s * 1000));
            let folder = Published::folder(statistics, dataset);
            let there = list_after(lake, &folder, Some(since.key())).await.map_err(Stop::aws)?;
            let enough = there.len() >= most;
            let skipped = there.len().saturating_sub(most);
            for object in there.into_iter().skip(skipped) {
                let key = object.location.key();
                if self.0.get(key).is_some_and(|(etag, _)| *etag == object.etag) {
                    continue;
                }
                let bytes = match lake.get(&object.location, Some(&object.etag), 0, object.size).await {
                    // A shard that was late has changed it: the next look finds it.
                    Err(failure) if matches!(failure.code.as_str(), "PreconditionFailed" | "NoSuchKey") => continue,
                    bytes => bytes.map_err(Stop::aws)?,
                };
                let published = Published::read(&bytes);
                let no_result = || Stop(1, format!("{} is no result of a window", object.location));
                self.0.insert(key.to_owned(), (object.etag.clone(), published.ok_or_else(no_result)?.lines));
            }
            while self.0.len() > most {
                self.0.pop_first();
            }
            // What is there already says how far back it need be.
            if enough || !self.0.is_empty() && self.0.len() >= most {
                break;
            }
        }
        Ok(())
    }
}

/// The last window, each number with its chart over all windows.
fn page(windows: &[&[Line]], live: &Live) -> String {
    let last = windows.last().and_then(|lines| lines.split_first());
    let Some((all, groups)) = last else { return String::new() };
    let text = |name: &str| all.get(name).map_or(String::new(), plain);
    let mut said = format!(
        "{} from {} to {}, of {} shards\n\n",
        text("dataset"),
        text("window_start"),
        text("window_end"),
        text("shards")
    );
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let is_top = |how: &Statistic| matches!(how, Statistic::Top { .. });
    for column in live.columns.iter().filter(|column| !is_top(&column.how)) {
        let name = column.name.as_ref();
        let values: Vec<Option<f64>> = windows.iter().map(|lines| lines.first()?.get(name)?.as_f64()).collect();
        let score = all.get("scores").and_then(|scores| scores.get(name)?.as_f64());
        let score =
            score.filter(|score| score.abs() > UNUSUAL).map_or(String::new(), |score| format!("unusual: {score:+.1}"));
        table.add_row([name.to_owned(), text(name), chart(&values), score]);
    }
    said += &format!("{table}\n");
    for column in live.columns.iter().filter(|column| is_top(&column.how)) {
        let values = all.get(column.name.as_ref()).and_then(Value::as_array).into_iter().flatten();
        let values = values.map(|one| {
            let of = |name: &str| one.get(name).map_or(String::new(), plain);
            format!("{} ({})", of("value"), of("count"))
        });
        said += &format!("\n{}: {}\n", column.name, values.collect::<Vec<_>>().join("  "));
    }
    if !groups.is_empty() {
        said += &format!("\n{}\n", of_groups(groups, live, all));
    }
    let counts =
        ["events", "late", "bad", "dropped", "unreadable", "repeated"].map(|name| format!("{name} {}", text(name)));
    said += &format!("\n{}\n", counts.join("  "));
    if all.get("incomplete").and_then(Value::as_bool) == Some(true) {
        said += "This window is incomplete: a new version was deployed in its middle.\n";
    }
    said
}

/// Scores beyond this stand out (see weir_live::score).
const UNUSUAL: f64 = 3.5;

fn of_groups(groups: &[Line], live: &Live, all: &Line) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let plain_columns = live.columns.iter().filter(|column| !matches!(column.how, Statistic::Top { .. }));
    let plain_columns: Vec<&str> = plain_columns.map(|column| column.name.as_ref()).collect();
    // What a group is of is whatever it has that all together have not.
    let of = |line: &Line| {
        let own = line.iter().filter(|(name, _)| !all.contains_key(*name) && name.as_str() != "is_other");
        let own: Vec<String> = own.map(|(name, value)| format!("{name} {}", plain(value))).collect();
        if own.is_empty() { "others".to_owned() } else { own.join(" ") }
    };
    table.set_header(std::iter::once("").chain(plain_columns.iter().copied()));
    for line in groups {
        let values = plain_columns.iter().map(|name| line.get(*name).map_or(String::new(), plain));
        table.add_row(std::iter::once(of(line)).chain(values));
    }
    table
}

/// A value as people read it.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(float)) => format!("{float:.1}"),
            (None, None) => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// A bar for each value, between the least and the greatest; a blank for none.
fn chart(values: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let there = values.iter().flatten();
    let least = there.clone().copied().fold(f64::INFINITY, f64::min);
    let greatest = there.copied().fold(f64::NEG_INFINITY, f64::max);
    let height = greatest - least;
    let bar = |value: f64| {
        let share = if height > 0.0 { (value - least) / height } else { 0.5 };
        BARS.get((share * 7.0).round() as usize).copied().unwrap_or(' ')
    };
    values.iter().map(|value| value.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn charts_go_from_the_least_to_the_greatest() {
        assert_eq!(chart(&[Some(0.0), Some(7.0), None, Some(3.5)]), "▁█ ▅");
        assert_eq!(chart(&[Some(2.0), Some(2.0)]), "▅▅");
        assert_eq!(chart(&[]), "");
    }

    #[test]
    fn a_page_has_every_statistic_every_group_and_what_is_unusual() {
        let trips = contract("trips").unwrap();
        let line = |value: Value| value.as_object().cloned().unwrap();
        let window = |trips: u64| {
            vec![
                line(
                    json!({"dataset": "trips", "window_start": "2024-05-01T10:00:00Z", "window_end": "2024-05-01T10:01:00Z", "shards": 2,
                    "trips": trips, "avg_duration": 12.25, "scores": {"trips": 7.5, "avg_duration": 1.0}, "events": trips, "late": 3,
                    "dropoff_cells": [{"value": "40.77,-73.96", "count": 4, "at_least": 4}], "incomplete": false}),
                ),
                line(
                    json!({"dataset": "trips", "window_start": "2024-05-01T10:00:00Z", "vendor_id": 2, "trips": trips}),
                ),
                line(json!({"dataset": "trips", "is_other": true, "trips": 1})),
            ]
        };
        let (first, second) = (window(5), window(10));
        let page = page(&[&first, &second], trips.live().unwrap());
        for words in
            ["of 2 shards", "▁█", "unusual: +7.5", "12.2", "40.77,-73.96 (4)", "vendor_id 2", "others", "late 3"]
        {
            assert!(page.contains(words), "{words} is not in:\n{page}");
        }
        assert!(!page.contains("+1.0") && !page.contains("incomplete"), "{page}");
    }
}
