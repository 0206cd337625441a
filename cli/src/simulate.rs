//! `weir simulate`: how far a function lags behind in a spike, from what the benches measured. On paper: nothing is asked of AWS.

mod model;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use self::model::{Load, Moment, Service, World};
use crate::Stop;
use crate::cost::{CALL_MS, Measured, SHARD_BYTES, SHARD_RECORDS, batch_of, number, one_or_more};
use crate::out::say;

/// How far a function lags behind in a spike, on paper, from measured service times.
#[derive(Args)]
pub(crate) struct Simulate {
    /// Whose mapping, as the template sets it.
    #[arg(default_value = "realtime")]
    function: Function,
    /// Records a second.
    #[arg(long, default_value = "100", value_parser = number)]
    rate: f64,
    /// Records a second in the spike; ten times as many unless said.
    #[arg(long, value_parser = number)]
    spike: Option<f64>,
    /// How long the spike is, in seconds. It begins after a minute.
    #[arg(long, default_value = "300", value_parser = number)]
    lasts: f64,
    /// How long is looked at, in seconds, up to a day.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    until: u32,
    /// Shards of the stream, or partitions of the topic.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    shards: u32,
    /// Batches of a shard at a time (ParallelizationFactor), if others than the template's.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    lanes: Option<u8>,
    /// The share of the busiest shard, such as 0.5: keys are seldom even.
    #[arg(long, default_value = "0", value_parser = share)]
    hottest: f64,
    /// Lambda invocations at a time that the account leaves it.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    concurrency: u32,
    /// Bytes of a record, for what a shard takes in.
    #[arg(long, default_value = "500", value_parser = one_or_more)]
    bytes: f64,
    /// Bytes of a job's input (realtime).
    #[arg(long, default_value = "100k", value_parser = number)]
    job_bytes: f64,
    /// One JSON object a moment.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Function {
    Realtime,
    Ingest,
    Cdc,
    Analytics,
}

/// A part of all.
fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("`{text}` is no number from 0 to 1"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(format!("`{text}` is not from 0 to 1")) }
}

/// Jobs of a batch that run at a time (`JobsAtOnce`).
const JOBS_AT_ONCE: f64 = 8.0;

/// Rows that are shown.
const SHOWN: usize = 24;

/// The lag that is worth a line.
const LATE: f64 = 5.0;

impl Simulate {
    fn world(&self, measured: &Measured) -> World {
        let call = CALL_MS / 1000.0;
        let kinesis = SHARD_RECORDS.min(SHARD_BYTES / self.bytes);
        let calls = |s3: f64, ledger: f64| (s3 + ledger) * call;
        let batch_wide = |cpu: f64, wait: f64| Service { cpu, wait, at_once: 10_000.0 };
        // As template.yaml has them: lanes, batch, window, and what a shard takes in.
        let (lanes, batch, window, intake, service) = match self.function {
            Function::Realtime => {
                let cpu = measured.job_ms / 1000.0 + self.job_bytes / 1e6 / measured.clean_mb_s;
                let wait = calls(measured.job_s3.puts + measured.job_s3.gets, measured.job_ledger_calls);
                (4, 100.0, 0.0, kinesis, Service { cpu, wait, at_once: JOBS_AT_ONCE })
            }
            Function::Ingest => {
                let wait = calls(measured.ingest_s3.puts + measured.ingest_s3.gets, measured.ingest_ledger_calls);
                (1, batch_of(self.bytes), 60.0, 1e12, batch_wide(1.0 / measured.ingest_s, wait))
            }
            Function::Cdc => {
                (1, batch_of(self.bytes), 5.0, kinesis, batch_wide(1.0 / measured.stage_s, calls(1.0, 2.0)))
            }
            // Its state comes and goes with the batch; the window's end calls S3.
            Function::Analytics => (1, batch_of(self.bytes), 1.0, kinesis, batch_wide(1.0 / measured.live_s, call)),
        };
        World {
            shards: f64::from(self.shards),
            lanes: self.lanes.map_or(lanes, usize::from),
            batch,
            window,
            concurrency: f64::from(self.concurrency),
            intake,
            hottest: self.hottest,
            service,
        }
    }

    pub(crate) fn run(&self) -> Result<(), Stop> {
        let measured = Measured::known().map_err(|error| Stop(3, error))?;
        let world = self.world(&measured);
        let load =
            Load { rate: self.rate, spike: self.spike.unwrap_or(self.rate * 10.0), from: 60.0, to: 60.0 + self.lasts };
        let until = f64::from(self.until);
        // Fine enough for what is shown, and done in a second.
        let moments = world.run(&load, until, (until / 50_000.0).max(0.02));
        let shown = moments.iter().step_by(moments.len().div_ceil(SHOWN).max(1));
        if self.json {
            for Moment { second, rate, outside, waiting, lag, done } in shown {
                say!(
                    "{}",
                    json!({"second": second, "rate": rate, "outside": outside, "waiting": waiting, "lag": lag, "done": done})
                );
            }
            return Ok(());
        }
        let full = world.service.of(world.batch);
        say!(
            "{:?}, {} shard{}: {} batches of each at a time, of {} at most in {full:.2} s: {:.0} records/s at most",
            self.function,
            self.shards,
            if self.shards == 1 { "" } else { "s" },
            world.lanes,
            world.batch,
            world.most()
        );
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["SECOND", "IN/S", "NOT TAKEN IN", "WAITING", "LAG, S"]);
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for Moment { second, rate, outside, waiting, lag, .. } in shown {
            table.add_row([
                format!("{second:.0}"),
                format!("{rate:.0}"),
                format!("{outside:.0}"),
                format!("{waiting:.0}"),
                format!("{lag:.1}"),
            ]);
        }
        say!("{table}");
        say!("{}", verdict(&moments, &world));
        say!(
            "(From service times measured {}, and {CALL_MS} ms a call of S3 or DynamoDB, which is taken to be so.)",
            measured.days()
        );
        Ok(())
    }
}

/// What a person wants to know of it.
fn verdict(moments: &[Moment], world: &World) -> String {
    let late: Vec<&Moment> = moments.iter().filter(|moment| moment.lag > world.window + LATE).collect();
    let Some((first, last)) = late.first().zip(late.last()) else {
        return format!(
            "Nothing waits for more than {LATE} s (beside the {} s for which batches are gathered).",
            world.window
        );
    };
    let most = late.iter().map(|moment| moment.lag).fold(0.0, f64::max);
    let refused = if late.iter().any(|moment| moment.outside >= 1.0) {
        " The stream takes in no more, and producers are throttled: more shards."
    } else {
        ""
    };
    let over = moments.last().is_some_and(|moment| moment.second - last.second > 1.0);
    let end = if over { format!("to second {:.0}", last.second) } else { "to the end, and on".to_owned() };
    format!("It lags from second {:.0} {end}, by {most:.0} s at most.{refused}", first.second)
}
