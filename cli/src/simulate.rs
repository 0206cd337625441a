//! `weir simulate`: how far a function lags behind in a spike, from what the benches measured. On paper: nothing is asked of AWS.

mod model;

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::json;

use self::model::{Load, Moment, World};
use crate::Stop;
use crate::cost::{
    CALL_MS, JOB_BATCH, JOB_LANES, Measured, SHARD_BYTES, SHARD_RECORDS, Service, batch_of, job_bytes, number,
    one_or_more,
};
use crate::out::say;

/// How far a function lags behind in a spike, on paper, from measured service times.
#[derive(Args)]
#[command(allow_negative_numbers = true)]
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
    /// How long is looked at, in seconds: longer than until the spike, up to a day.
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u32).range(61..=86_400))]
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
    #[arg(long, default_value = "100k", value_parser = job_bytes)]
    job_bytes: f64,
    /// Moments, an object a line, and one for all of it in the end.
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

/// What AWS says of an event poller of Kafka (Lambda developer guide, "Kafka event poller scaling modes"): of a provisioned one; taken to be
/// that of the others, and each partition to have one.
const POLLER_BYTES: f64 = 5e6;

/// `RealtimeTimeoutSeconds`, and as long as the others may take at least.
const TIMEOUT: f64 = 60.0;

/// When the spike begins, in seconds.
const SPIKE_AT: f64 = 60.0;

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
                (JOB_LANES, JOB_BATCH.min(batch_of(self.bytes)), 0.0, kinesis, measured.job(self.job_bytes))
            }
            Function::Ingest => {
                let wait = calls(measured.ingest_s3.puts + measured.ingest_s3.gets, measured.ingest_ledger_calls);
                (1, batch_of(self.bytes), 60.0, POLLER_BYTES / self.bytes, batch_wide(1.0 / measured.ingest_s, wait))
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

    fn moments(&self, world: &World) -> Vec<Moment> {
        let load = Load {
            rate: self.rate,
            spike: self.spike.unwrap_or(self.rate * 10.0),
            from: SPIKE_AT,
            to: SPIKE_AT + self.lasts,
        };
        let until = f64::from(self.until);
        // Fine enough for what is shown, and done in a second.
        world.run(&load, until, (until / 50_000.0).max(0.02))
    }

    pub(crate) fn run(&self) -> Result<(), Stop> {
        let measured = Measured::known().map_err(|error| Stop(3, error))?;
        if self.lanes.is_some() && self.function == Function::Ingest {
            return Err(Stop(
                2,
                "--lanes is for streams of Kinesis: a partition of Kafka has one batch at a time".to_owned(),
            ));
        }
        // Who rounds an even share is not meant.
        if self.hottest > 0.0 && self.hottest * f64::from(self.shards) < 0.99 {
            let even = 1.0 / f64::from(self.shards);
            let reason = format!(
                "--hottest {} is less than each of {} shards has if all are even ({even:.3})",
                self.hottest, self.shards
            );
            return Err(Stop(2, reason));
        }
        let world = self.world(&measured);
        let full = world.service.of(world.batch);
        if full > TIMEOUT {
            let reason = format!(
                "a batch of {} takes {full:.0} s, longer than the function may ({TIMEOUT} s): it hands such jobs to the worker, which is not simulated; try smaller --job-bytes",
                world.batch
            );
            return Err(Stop(2, reason));
        }
        let moments = self.moments(&world);
        let shown = moments.iter().step_by(moments.len().div_ceil(SHOWN).max(1));
        let late = Late::of(&moments, &world);
        if self.json {
            for Moment { second, rate, outside, waiting, lag, done } in shown {
                say!(
                    "{}",
                    json!({"second": second, "rate": rate, "outside": outside, "waiting": waiting, "lag": lag, "done": done})
                );
            }
            say!("{}", json!({"records_per_second_at_most": world.most(), "lags": late}));
            return Ok(());
        }
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
        say!("{}", verdict(late.as_ref(), &world));
        say!(
            "(From service times measured {}, and {CALL_MS} ms a call of S3 or DynamoDB, which is taken to be so.)",
            measured.days()
        );
        Ok(())
    }
}

/// When something waited for long.
#[derive(Serialize)]
struct Late {
    /// Seconds; nothing in `to`: until the end, and on.
    from: f64,
    to: Option<f64>,
    lag_at_most: f64,
    /// Whether the stream took in no more.
    refused: bool,
}

impl Late {
    fn of(moments: &[Moment], world: &World) -> Option<Self> {
        let late: Vec<&Moment> = moments.iter().filter(|moment| moment.lag > world.window + LATE).collect();
        let (first, last) = late.first().zip(late.last())?;
        let is_over = moments.last().is_some_and(|moment| moment.second - last.second > 1.0);
        Some(Self {
            from: first.second,
            to: is_over.then_some(last.second),
            lag_at_most: late.iter().map(|moment| moment.lag).fold(0.0, f64::max),
            refused: late.iter().any(|moment| moment.outside >= 1.0),
        })
    }
}

/// What a person wants to know of it.
fn verdict(late: Option<&Late>, world: &World) -> String {
    let Some(Late { from, to, lag_at_most, refused }) = late else {
        return format!(
            "Nothing waits for more than {LATE} s (beside the {} s for which batches are gathered).",
            world.window
        );
    };
    let end = to.map_or_else(|| "to the end, and on".to_owned(), |second| format!("to second {second:.0}"));
    let refused =
        if *refused { " Its shards take in no more (producers are throttled) or pollers bring no more." } else { "" };
    format!("It lags from second {from:.0} {end}, by {lag_at_most:.0} s at most.{refused}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;
    use weir_template::Template;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        simulate: Simulate,
    }

    fn asked(arguments: &[&str]) -> (Simulate, World) {
        let Cli { simulate } = Cli::try_parse_from([&["weir"], arguments].concat()).unwrap();
        let world = simulate.world(&Measured::known().unwrap());
        (simulate, world)
    }

    #[test]
    fn mappings_are_the_templates() {
        let template = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
        let template = Template::parse(&std::fs::read_to_string(template).unwrap()).unwrap();
        let default = |name: &str| {
            let (_, parameter) = template.section("Parameters").find(|(known, _)| *known == name).unwrap();
            parameter["Default"].as_f64().unwrap()
        };
        for (name, function) in
            [("realtime", "RealtimeFunction"), ("cdc", "CdcFunction"), ("analytics", "AnalyticsFunction")]
        {
            let events = template.resource(function)["Properties"]["Events"].as_object().unwrap();
            let mapping = events.values().find(|event| event["Type"] == "Kinesis").unwrap();
            let said = |setting: &str| mapping["Properties"][setting].as_f64();
            // Records so small that their count is what ends a batch.
            let (_, world) = asked(&[name, "--bytes", "1"]);
            assert_eq!(Some(world.lanes as f64), said("ParallelizationFactor"), "{name}");
            assert_eq!(Some(world.batch), said("BatchSize"), "{name}");
            assert_eq!(Some(world.window), said("MaximumBatchingWindowInSeconds"), "{name}");
        }
        let (_, kafka) = asked(&["ingest", "--bytes", "1"]);
        assert_eq!((kafka.batch, kafka.window), (default("KafkaBatchSize"), default("KafkaBatchSeconds")));
        assert_eq!(Measured::known().unwrap().job(1.0).at_once, default("JobsAtOnce"));
        assert_eq!(TIMEOUT, default("RealtimeTimeoutSeconds"));
    }

    /// The spike of docs/scaling.md and the README, as they tell it.
    #[test]
    fn the_scaling_page_tells_the_spike_as_it_is() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scaling.md")).unwrap();
        let (simulate, world) = asked(&["--shards", "4", "--rate", "100", "--spike", "3k"]);
        assert!(page.contains("`weir simulate --shards 4 --rate 100 --spike 3k`"));
        assert!(page.contains(&format!("{:.0} records/s at most", world.most())), "{}", world.most());
        let late = Late::of(&simulate.moments(&world), &world);
        let said = verdict(late.as_ref(), &world);
        assert!(page.contains(&said), "{said}");
    }

    #[test]
    fn what_is_no_load_is_refused_with_the_way_out() {
        for (wrong, word) in [
            (["--hottest", "5"], "from 0 to 1"),
            (["--lanes", "11"], "1..=10"),
            (["--shards", "0"], "1..="),
            (["--rate", "many"], "20k"),
            (["--until", "10"], "61..="),
            (["--hottest", "-1"], "from 0 to 1"),
            (["--job-bytes", "1G"], "150 MB"),
        ] {
            let said = Cli::try_parse_from([&["weir"], &wrong[..]].concat()).err().unwrap().to_string();
            assert!(said.contains(word), "{wrong:?}: {said}");
        }
        for (slow, word) in [
            (["realtime", "--job-bytes", "100M"], "--job-bytes"),
            (["ingest", "--lanes", "2"], "partition"),
            (["cdc", "--hottest", "0.5"], "1.000"),
        ] {
            let Stop(code, said) = asked(&slow).0.run().unwrap_err();
            assert!(code == 2 && said.contains(word), "{slow:?}: {said}");
        }
    }

    #[test]
    fn json_says_who_never_catches_up() {
        let (simulate, world) = asked(&["--rate", "2k"]);
        let late: Value = serde_json::to_value(Late::of(&simulate.moments(&world), &world)).unwrap();
        assert_eq!((late["to"].is_null(), late["refused"].as_bool()), (true, Some(true)), "{late}");
    }
}
