//! `weir cost`: what a stack costs a month, from what the benches measured and what AWS asks.

mod bill;
mod data;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use parse_size::parse_size;
use serde_json::json;

use self::bill::{Line, bill, others};
pub(crate) use self::bill::{SHARD_BYTES, SHARD_RECORDS, batch_of};
use self::data::Prices;
pub(crate) use self::data::{CALL_MS, JOB_BATCH, JOB_LANES, Measured, Service};
use crate::Stop;
use crate::out::say;

/// What a stack costs a month that is asked to do so much.
#[derive(Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct Cost {
    #[command(flatten)]
    load: Load,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// How telemetry comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// Put to Firehose.
    Direct,
    /// By the stack's on-demand Kinesis stream.
    Kinesis,
}

/// What processors it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    #[value(name = "x86_64")]
    X86,
    Arm64,
}

/// What a stack is asked to do.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// Small jobs a day, by the command stream. (The worker's, of 150 MB and more, are not reckoned.)
    #[arg(long, default_value = "0", value_parser = number)]
    pub(crate) jobs: f64,
    /// Bytes of a job's input.
    #[arg(long, default_value = "1M", value_parser = job_bytes)]
    pub(crate) job_bytes: f64,
    /// Telemetry events a day.
    #[arg(long, default_value = "0", value_parser = number)]
    pub(crate) events_per_day: f64,
    /// Bytes of an event of any kind.
    #[arg(long, default_value = "500", value_parser = one_or_more)]
    pub(crate) bytes: f64,
    /// Events that are sent as one record: packed documents, KPL aggregates (`weir produce`). Firehose asks for 5 KB a record at least.
    #[arg(long, default_value = "1", value_parser = one_or_more)]
    pub(crate) events_per_record: f64,
    /// How they come.
    #[arg(long, default_value = "direct")]
    pub(crate) source: Source,
    /// Live statistics of them, by windows of a minute (`AnalyticsWindowSeconds`). They read the Kinesis stream, which is then reckoned.
    #[arg(long)]
    pub(crate) live: bool,
    /// Events a day that come by Kafka.
    #[arg(long, default_value = "0", value_parser = number)]
    pub(crate) kafka_events_per_day: f64,
    /// Changes of database tables a day, committed every minute into one table of a million rows.
    #[arg(long, default_value = "0", value_parser = number)]
    pub(crate) changes_per_day: f64,
    /// Bytes a day that land for batch runs on Spark, off-peak: rows of `--bytes` each.
    #[arg(long, default_value = "0", value_parser = number)]
    pub(crate) batch_bytes_per_day: f64,
    /// Batch runs a day.
    #[arg(long, default_value = "1", value_parser = one_or_more, requires = "batch_bytes_per_day")]
    pub(crate) batch_runs_per_day: f64,
    /// The parameter of that name.
    #[arg(long, default_value = "x86_64")]
    pub(crate) architecture: Architecture,
}

/// `1.5M` and the like, of bytes and of anything else.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is no number such as 500, 20k, 1.5M or 2G");
    // Whole bytes are what parse-size is for; a rate may be of half a record.
    let plain = text.parse().map_or_else(|_| parse_size(text).map(|bytes| bytes as f64).map_err(|_| wrong()), Ok)?;
    if (0.0..=MOST).contains(&plain) { Ok(plain) } else { Err(wrong()) }
}

/// What a record may have (Firehose's quotas).
const RECORD_BYTES: f64 = 1_024_000.0;

/// More than anybody has of anything here.
const MOST: f64 = 1e18;

/// The same, and not nothing.
pub(crate) fn one_or_more(text: &str) -> Result<f64, String> {
    number(text).and_then(|value| if value >= 1.0 { Ok(value) } else { Err(format!("`{text}` is less than 1")) })
}

/// Bytes of a job that the stream's own function does.
pub(crate) fn job_bytes(text: &str) -> Result<f64, String> {
    match number(text)? {
        bytes if bytes > 150e6 => {
            Err(format!("`{text}`: jobs of more than 150 MB are the worker's or Spark's, which are not reckoned here"))
        }
        bytes => Ok(bytes),
    }
}

/// As a bill says it.
fn dollars(amount: f64) -> String {
    if amount > 0.0 && amount < 0.005 { "< 0.01".to_owned() } else { format!("{amount:.2}") }
}

impl Cost {
    pub(crate) fn run(&self) -> Result<(), Stop> {
        let record = self.load.bytes * self.load.events_per_record;
        if record > RECORD_BYTES {
            let reason = format!(
                "a record of {record:.0} bytes (--bytes, --events-per-record) is none: Firehose takes 1,000 KiB"
            );
            return Err(Stop(2, reason));
        }
        let broken = |error: String| Stop(3, error);
        let (prices, measured) = (Prices::known().map_err(broken)?, Measured::known().map_err(broken)?);
        let lines = bill(&self.load, &prices, &measured);
        let total: f64 = lines.iter().map(|line| line.dollars).sum();
        let others = others(&prices);
        if self.json {
            say!(
                "{}",
                json!({
                    "region": prices.region, "prices_of": prices.on, "measured_on": measured.days(), "month_dollars": total,
                    "lines": lines, "others_at_their_least": others,
                })
            );
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["PART", "WHAT", "$ A MONTH"]);
        for Line { part, what, dollars: amount } in &lines {
            table.add_row([(*part).to_owned(), what.clone(), dollars(*amount)]);
        }
        table.add_row(["all".to_owned(), String::new(), dollars(total)]);
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        say!("{table}");
        say!("\nBeside it, what runs all the time, when nothing comes:");
        for Line { what, dollars: amount, .. } in &others {
            say!("  {what}: {}", dollars(*amount));
        }
        say!(
            "\n{}, prices of {}, measured {}. Not in it: what S3 and the ledger keep, your Kafka or database and its pollers, DMS,",
            prices.region,
            prices.on,
            measured.days()
        );
        say!("OpenSearch, Redshift, data transfer, taxes, the free tier. It has not been compared with a bill.");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_write_them() {
        for (text, value) in [
            ("0", 0.0),
            ("500", 500.0),
            ("20k", 20e3),
            ("1.5M", 1.5e6),
            ("2GB", 2e9),
            ("3tb", 3e12),
            ("7B", 7.0),
            ("0.4", 0.4),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        for text in ["", "k", "-1", "many", "1.5X", "NaN", "inf", "ü", "1e308T", "100E", "2E", "1e300"] {
            assert!(number(text).is_err_and(|said| said.contains(text)), "{text}");
        }
    }
}
