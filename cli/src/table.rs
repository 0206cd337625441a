//! `weir table`: what is in a Hudi table, what was done to it, and whether it is whole.

use arrow_array::RecordBatch;
use clap::{Args, Subcommand};
use comfy_table::{Table as Lines, presets};
use serde_json::{Value, json};
use weir_command::Location;
use weir_delivery::{Failure, Fault};
use weir_hudi::schema::META_COLUMNS;
use weir_hudi::timeline::{Action, Entry, Instant, State};
use weir_hudi::view::Slice;
use weir_hudi::{Place, Table};
use weir_lake::S3Lake;

use crate::out::{self, say};
use crate::{Cli, Stack, Stop};

/// Hudi tables on S3: their files, their history, their rows, and whether they are whole. Nothing is written.
#[derive(Args)]
pub(crate) struct TableArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What kind of table it is, and its files by partition.
    Show {
        /// The table's folder: s3://bucket/path/.
        path: String,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
    /// What was done to it, newest last.
    History {
        /// The table's folder.
        path: String,
        /// One JSON object an instant.
        #[arg(long)]
        json: bool,
    },
    /// Its rows, one JSON object a line.
    Read {
        /// The table's folder.
        path: String,
        /// As it was at an instant of its history (20241121103000123), or at a time (2024-11-21T10:30:00Z).
        #[arg(long, value_name = "WHEN", value_parser = instant)]
        as_of: Option<Instant>,
        /// Only rows whose version was committed after that. What was deleted since is in nobody's rows.
        #[arg(long, value_name = "WHEN", value_parser = instant)]
        since: Option<Instant>,
        /// At most so many.
        #[arg(long)]
        limit: Option<usize>,
        /// Hudi's own columns, too.
        #[arg(long)]
        meta: bool,
    },
    /// Reads all of it, and says what is broken: missing or strange files, keys that are there twice, rows in the wrong place.
    Verify {
        /// The table's folder.
        path: String,
        /// One JSON object.
        #[arg(long)]
        json: bool,
    },
}

fn instant(text: &str) -> Result<Instant, String> {
    let of_time = || Instant::of(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    Instant::parse(text)
        .or_else(of_time)
        .ok_or_else(|| format!("`{text}` is no instant: write 20241121103000123 or 2024-11-21T10:30:00Z"))
}

/// A table that is refused or broken is the user's; that AWS can't be asked is another exit code.
fn stop(failure: Failure) -> Stop {
    match failure.fault {
        Fault::User if failure.code.starts_with("Hudi") => Stop(1, failure.reason),
        _ => Stop::aws(failure),
    }
}

impl TableArgs {
    pub(crate) async fn run(&self, cli: &Cli) -> Result<(), Stop> {
        let (Verb::Show { path, .. }
        | Verb::History { path, .. }
        | Verb::Read { path, .. }
        | Verb::Verify { path, .. }) = &self.verb;
        let at = Location::parse(path).map_err(|error| Stop(2, error.to_string()))?.as_prefix();
        let lake = std::sync::Arc::new(S3Lake::new(&Stack::open(cli).await?.aws));
        let table = Table::open(&Place { lake, at: at.clone() }).await.map_err(stop)?;
        let none = || Stop(1, format!("{at} is no Hudi table: it has no .hoodie/hoodie.properties"));
        let table = table.ok_or_else(none)?;
        match &self.verb {
            Verb::Show { json, .. } => show(&table, *json).await,
            Verb::History { json, .. } => history(&table, *json).await,
            Verb::Read { as_of, since, limit, meta, .. } => {
                read(&table, as_of.as_ref(), since.as_ref(), limit.unwrap_or(usize::MAX), *meta).await
            }
            Verb::Verify { json, .. } => verify(&table, *json).await,
        }
    }
}

async fn show(table: &Table, as_json: bool) -> Result<(), Stop> {
    let (settings, view) = (&table.settings, &table.view);
    let own = table.own_members().await.map_err(stop)?;
    let slices = view.slices(None);
    let commits: Vec<&Instant> = view.timeline.commits().collect();
    let columns: Vec<Value> = table
        .schema
        .fields()
        .iter()
        .map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}))
        .collect();
    let index =
        settings.buckets.map_or_else(|| "simple, over all partitions".to_owned(), |count| format!("{count} buckets"));
    if as_json {
        let file = |slice: &&Slice| {
            json!({
                "partition": slice.partition, "file": slice.object.location.to_string(), "bytes": slice.object.size,
                "instant": slice.base.instant,
            })
        };
        let found = json!({
            "name": settings.name, "database": settings.database, "key": settings.key, "ordering": settings.ordering,
            "partition": settings.partition, "index": index, "columns": columns, "commits": commits,
            "covers": own, "read_only": table.not_written.as_ref().map(|failure| &failure.reason), "files": slices.iter().map(file).collect::<Vec<_>>(),
        });
        say!("{found}");
        return Ok(());
    }
    let name = if settings.database.is_empty() {
        settings.name.clone()
    } else {
        format!("{}.{}", settings.database, settings.name)
    };
    say!("{name}: Hudi copy-on-write, version 6");
    say!("key          {}", settings.key.join(", "));
    say!("ordering     {}", settings.ordering);
    say!("partition    {}", settings.partition.as_deref().unwrap_or("none"));
    say!("index        {index}");
    let listed = table.schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    say!("columns      {}", listed.collect::<Vec<_>>().join(", "));
    match (commits.first(), commits.last()) {
        (Some(first), Some(last)) => say!("commits      {}, from {first} to {last}", commits.len()),
        _ => say!("commits      none yet"),
    }
    for (member, value) in &own {
        say!("covers       {member} to {value}");
    }
    if let Some(failure) = &table.not_written {
        say!("read only    {failure}");
    }
    let mut by_partition: std::collections::BTreeMap<&str, (u64, u64)> = std::collections::BTreeMap::new();
    for slice in &slices {
        let (files, bytes) = by_partition.entry(&slice.partition).or_default();
        (*files, *bytes) = (*files + 1, *bytes + slice.object.size);
    }
    let mut lines = Lines::new();
    lines.load_style(presets::NOTHING).set_header(["PARTITION", "FILES", "BYTES"]);
    for (partition, (files, bytes)) in by_partition {
        let partition = if partition.is_empty() { "(all)" } else { partition };
        lines.add_row([partition.to_owned(), files.to_string(), bytes.to_string()]);
    }
    say!("{lines}");
    Ok(())
}

/// An instant, in words.
fn words(entry: &Entry) -> (String, &'static str) {
    let action = match &entry.action {
        Action::Commit => "commit",
        Action::Replace => "replace",
        Action::Clean => "clean",
        Action::Rollback => "rollback",
        Action::Savepoint => "savepoint",
        Action::Other(other) => other,
    };
    let state = match entry.state {
        State::Requested => "requested",
        State::Inflight => "begun",
        State::Completed => "done",
    };
    (action.to_owned(), state)
}

async fn history(table: &Table, as_json: bool) -> Result<(), Stop> {
    let mut lines = Lines::new();
    let header = ["INSTANT", "TIME", "ACTION", "STATE", "FILES", "INSERTED", "UPDATED", "DELETED", "BYTES"];
    lines.load_style(presets::NOTHING).set_header(header);
    for entry in table.view.timeline.entries() {
        let (action, state) = words(entry);
        let time = entry.instant.ms().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        let has_files = entry.state == State::Completed && matches!(entry.action, Action::Commit | Action::Replace);
        let mut counts = None;
        if has_files {
            let commit = table.commit_at(&entry.instant).await.map_err(stop)?;
            let stats = commit.partition_to_write_stats.values().flatten();
            counts = Some(stats.fold([0i64; 5], |[files, inserted, updated, deleted, bytes], stat| {
                [
                    files + 1,
                    inserted + stat.num_inserts,
                    updated + stat.num_update_writes,
                    deleted + stat.num_deletes,
                    bytes + stat.file_size_in_bytes,
                ]
            }));
        }
        if as_json {
            let [files, inserted, updated, deleted, bytes] = counts
                .map_or([Value::Null, Value::Null, Value::Null, Value::Null, Value::Null], |counts| {
                    counts.map(Value::from)
                });
            say!(
                "{}",
                json!({
                    "instant": entry.instant, "time": time, "action": action, "state": state, "files": files,
                    "inserted": inserted, "updated": updated, "deleted": deleted, "bytes": bytes,
                })
            );
        } else {
            let counts =
                counts.map_or_else(|| vec![String::new(); 5], |counts| counts.map(|count| count.to_string()).into());
            lines.add_row([entry.instant.to_string(), time, action, state.to_owned()].into_iter().chain(counts));
        }
    }
    if !as_json {
        say!("{lines}");
    }
    Ok(())
}

async fn read(
    table: &Table,
    as_of: Option<&Instant>,
    since: Option<&Instant>,
    limit: usize,
    meta: bool,
) -> Result<(), Stop> {
    table.asks_for(as_of).map_err(stop)?;
    let mut left = limit;
    for slice in table.view.slices(as_of) {
        for rows in table.rows_of(slice).await.map_err(stop)? {
            let rows = match since {
                Some(since) => weir_hudi::committed_after(&rows, since).map_err(stop)?,
                None => rows,
            };
            let rows = rows.slice(0, rows.num_rows().min(left));
            left -= rows.num_rows();
            let text = text_of(&rows, meta)?;
            out::write(format_args!("{}", String::from_utf8_lossy(&text)));
            if left == 0 {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn text_of(rows: &RecordBatch, meta: bool) -> Result<Vec<u8>, Stop> {
    let columns = rows
        .schema()
        .fields()
        .iter()
        .enumerate()
        .filter_map(|(n, field)| (meta || !META_COLUMNS.contains(&field.name().as_str())).then_some(n))
        .collect::<Vec<_>>();
    let mut text = Vec::new();
    let mut writer = arrow_json::LineDelimitedWriter::new(&mut text);
    let written = rows.project(&columns).and_then(|shown| writer.write(&shown)).and_then(|()| writer.finish());
    written.map(|()| text).map_err(|error| Stop(1, error.to_string()))
}

async fn verify(table: &Table, as_json: bool) -> Result<(), Stop> {
    let verdict = table.verify().await.map_err(stop)?;
    if as_json {
        say!("{}", serde_json::to_string(&verdict).map_err(|error| Stop(1, error.to_string()))?);
    } else {
        for text in &verdict.broken {
            say!("broken: {text}");
        }
        for text in &verdict.left_over {
            say!("left over, no harm: {text}");
        }
        say!("{} rows in {} files, {} bytes", verdict.rows, verdict.files, verdict.bytes);
    }
    match verdict.broken.len() {
        0 => Ok(()),
        count => Err(Stop(1, format!("{count} findings: readers get something wrong, or not at all"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_digits_or_times() {
        let of_time = instant("2024-11-21T10:30:00.123Z").unwrap();
        assert_eq!(of_time, instant("20241121103000123").unwrap());
        assert!(instant("yesterday").unwrap_err().contains("2024-11-21T10:30:00Z"));
    }
}
