//! The bill, line by line.

use serde::Serialize;

use super::data::{CALL_MS, Calls, JOB_BATCH, JOB_LANES, Measured, Prices};
use super::{Architecture, Load, Source};

const HOURS: f64 = 730.0;
const DAYS: f64 = HOURS / 24.0;
const SECONDS: f64 = HOURS * 3600.0;
/// As AWS counts: 1,024 bytes are a kilobyte.
const KB: f64 = 1024.0;
const GB: f64 = KB * KB * KB;

/// MB of a Lambda that are one vCPU: what is counted in CPU time costs that much memory, whatever the function has.
const VCPU_MB: f64 = 1769.0;

/// Taken to be so: what one invocation writes into its log, Lambda's own lines included.
const LOG_BYTES: f64 = 2_000.0;

/// Of which a sweep that finds nothing writes so much: Lambda's own.
const SWEEP_LOG: f64 = 0.2;

/// Taken to be so: a write goes to the ledger and to both of its indexes, and is of 1 KB; in a transaction (`ingest`) it counts twice.
const WRITES: f64 = 3.0;

/// Metrics that a function says while nothing is wrong (its said.rs or event.rs).
mod metrics {
    pub(super) const REALTIME: f64 = 9.0;
    pub(super) const ORCHESTRATOR: f64 = 4.0;
    pub(super) const TRANSFORM: f64 = 9.0;
    pub(super) const INGEST: f64 = 11.0;
    /// And `cdc-commit`.
    pub(super) const CDC: f64 = 22.0;
    /// With those of trips.
    pub(super) const ANALYTICS: f64 = 21.0;
}

/// Alarms of each stack, and of a part.
mod alarms {
    pub(super) const ALWAYS: f64 = 10.0;
    pub(super) const KAFKA: f64 = 7.0;
    pub(super) const CHANGES: f64 = 10.0;
    pub(super) const ANALYTICS: f64 = 3.0;
}

/// Firehose hands so much on at a time, or what came in a minute; it writes a file of so much, or of so long: the template's defaults.
const TRANSFORM_BYTES: f64 = 1e6;
const TRANSFORM_SECONDS: f64 = 60.0;
const FILE_SECONDS: f64 = 300.0;
const FILE_BYTES: f64 = 128e6;

/// A shard takes in so much a second (Kinesis developer guide, "Quotas and limits").
pub(crate) const SHARD_RECORDS: f64 = 1_000.0;
pub(crate) const SHARD_BYTES: f64 = 1e6;

/// The Timeout of `cdc-commit`.
const LONGEST_COMMIT_MS: f64 = 300_000.0;

/// How many shards a rate asks for, if it were even.
fn shards(records: f64, bytes: f64) -> f64 {
    (records / SHARD_RECORDS).max(records * bytes / SHARD_BYTES).ceil().max(1.0)
}

/// Records of a batch at most: the template's 10,000, or 6 MB of Lambda's JSON with what stands around each.
pub(crate) fn batch_of(bytes: f64) -> f64 {
    (6e6 / (bytes * 4.0 / 3.0 + 150.0)).clamp(1.0, 10_000.0).floor()
}

/// A line of the bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) part: &'static str,
    /// What it is for, with its quantity.
    pub(crate) what: String,
    /// A month.
    pub(crate) dollars: f64,
}

/// Prices of what invocations do.
struct Work<'a> {
    prices: &'a Prices,
    gb_second: f64,
}

impl Work<'_> {
    /// So many invocations, each of so many milliseconds in so much memory.
    fn lambda(&self, invocations: f64, ms: f64, mb: f64) -> f64 {
        invocations * (self.prices.lambda_request + ms / 1000.0 * mb / 1024.0 * self.gb_second)
    }

    fn calls(&self, s3: Calls, ledger: f64) -> f64 {
        s3.puts * self.prices.s3_put + s3.gets * self.prices.s3_get + ledger * WRITES * self.prices.dynamodb_write
    }

    fn logs(&self, invocations: f64) -> f64 {
        invocations * LOG_BYTES / GB * self.prices.cloudwatch_log_gb
    }
}

/// What it costs a month.
pub(crate) fn bill(load: &Load, prices: &Prices, measured: &Measured) -> Vec<Line> {
    let gb_second = match load.architecture {
        Architecture::X86 => prices.lambda_gb_second_x86_64,
        Architecture::Arm64 => prices.lambda_gb_second_arm64,
    };
    let work = Work { prices, gb_second };
    let mut lines = Vec::new();
    // Jobs of so many a second go through one shard.
    let full = JOB_LANES as f64 * JOB_BATCH / measured.job(load.job_bytes).of(JOB_BATCH);
    let on_demand = load.jobs / 86_400.0 > full.min(SHARD_RECORDS);
    idle(&work, load, on_demand, &mut lines);
    jobs(&work, load, measured, on_demand, &mut lines);
    telemetry(&work, load, measured, &mut lines);
    kafka(&work, load, measured, &mut lines);
    changes(&work, load, measured, &mut lines);
    batch(&work, load, measured, &mut lines);
    lines
}

fn idle(work: &Work<'_>, load: &Load, on_demand: bool, lines: &mut Vec<Line>) {
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "always", what, dollars });
    let prices = work.prices;
    if on_demand {
        let gb = load.jobs * DAYS * KB / GB;
        let moved = gb * (prices.kinesis_on_demand_gb_in + prices.kinesis_on_demand_gb_out);
        add("command stream, on demand".to_owned(), HOURS * prices.kinesis_on_demand_hour + moved);
    } else {
        add("command stream, one shard".to_owned(), HOURS * prices.kinesis_shard_hour);
    }
    let (minute, five, quarter) = (SECONDS / 60.0, SECONDS / 300.0, SECONDS / 900.0);
    let swept = |times: f64, mb: f64| work.lambda(times, 2.0 * CALL_MS, mb) + work.logs(times) * SWEEP_LOG;
    let mut sweeps = swept(minute, VCPU_MB) + swept(five, 512.0);
    let mut alarms = alarms::ALWAYS;
    if load.kafka_events_per_day > 0.0 {
        sweeps += swept(five, VCPU_MB) + swept(quarter, VCPU_MB);
        alarms += alarms::KAFKA;
    }
    if load.changes_per_day > 0.0 {
        alarms += alarms::CHANGES;
    }
    if load.live {
        alarms += alarms::ANALYTICS;
    }
    add("sweeps, by schedule".to_owned(), sweeps);
    add(format!("{alarms} alarms"), alarms * prices.cloudwatch_alarm);
}

fn jobs(work: &Work<'_>, load: &Load, measured: &Measured, on_demand: bool, lines: &mut Vec<Line>) {
    let jobs = load.jobs * DAYS;
    if jobs == 0.0 {
        return;
    }
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "jobs", what, dollars });
    let Calls { puts, gets } = measured.job_s3;
    let calls = puts + gets + measured.job_ledger_calls;
    let ms = measured.job(load.job_bytes).of(1.0) * 1000.0;
    if !on_demand {
        add("records on the stream".to_owned(), jobs * work.prices.kinesis_put_unit);
    }
    add(format!("Lambda, {ms:.0} ms a job"), work.lambda(jobs, ms, VCPU_MB));
    let s3 = Calls { puts: puts * jobs, gets: gets * jobs };
    add(format!("{calls:.1} calls of S3 and DynamoDB a job"), work.calls(s3, measured.job_ledger_calls * jobs));
    observed(work, metrics::REALTIME, jobs, &mut add);
}

/// Logs, and metrics while there is something to say in every hour.
fn observed(work: &Work<'_>, metrics: f64, invocations: f64, add: &mut impl FnMut(String, f64)) {
    let hours = (invocations / HOURS).min(1.0);
    add(
        format!("logs and {metrics} metrics"),
        work.logs(invocations) + metrics * hours * work.prices.cloudwatch_metric,
    );
}

fn telemetry(work: &Work<'_>, load: &Load, measured: &Measured, lines: &mut Vec<Line>) {
    let events = load.events_per_day * DAYS;
    let on_demand = load.source == Source::Kinesis || load.live;
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "telemetry", what, dollars });
    let prices = work.prices;
    let records = events / load.events_per_record;
    let gb = events * load.bytes / GB;
    if on_demand {
        let readers = if load.live { 2.0 } else { 1.0 };
        // In steps of 1 KB a record.
        let in_gb = records * (load.bytes * load.events_per_record / KB).ceil() * KB / GB;
        let dollars = HOURS * prices.kinesis_on_demand_hour
            + in_gb * prices.kinesis_on_demand_gb_in
            + in_gb * readers * prices.kinesis_on_demand_gb_out;
        add(format!("stream, on demand, {in_gb:.1} GB"), dollars);
    }
    if events == 0.0 {
        return;
    }
    let billed = records * (load.bytes * load.events_per_record / (5.0 * KB)).ceil() * 5.0 * KB / GB;
    let dollars = billed * (prices.firehose_gb + prices.firehose_conversion_gb);
    add(format!("Firehose, Parquet; {gb:.1} GB, billed as {billed:.1}"), dollars);
    // Seconds a record, by its size: through what was measured of two.
    let (small, large) = (1.0 / measured.transform_small_s, 1.0 / measured.transform_large_s);
    let cpu = events * (small + (large - small) * (load.bytes - 200.0) / 800.0).max(small / 2.0);
    let invocations = (gb * GB / TRANSFORM_BYTES).max(records.min(SECONDS / TRANSFORM_SECONDS));
    add(
        format!("transformation, {invocations:.0} calls"),
        work.lambda(invocations, cpu / invocations * 1000.0, VCPU_MB),
    );
    let files = (gb * GB / FILE_BYTES).max(records.min(SECONDS / FILE_SECONDS));
    add(format!("{files:.0} files"), files * prices.s3_put);
    observed(work, metrics::TRANSFORM, invocations, &mut add);
    if load.live {
        // An on-demand stream begins with four.
        let shards = shards(records / SECONDS, load.bytes * load.events_per_record).max(4.0);
        // Gathered for a second.
        let batches = (events / batch_of(load.bytes)).max(records.min(SECONDS * shards));
        let cpu = events / measured.live_s;
        // Each shard reads the shares of those that were done before it; measured of one.
        let shares = shards * (shards - 1.0) / 2.0 * SECONDS / 60.0 * prices.s3_get;
        let windows = shards * measured.windows_month_dollars + shares;
        add(
            format!("live statistics of {shards:.0} shards"),
            windows + work.lambda(batches, cpu / batches * 1000.0, VCPU_MB),
        );
        observed(work, metrics::ANALYTICS, batches, &mut add);
    }
}

fn kafka(work: &Work<'_>, load: &Load, measured: &Measured, lines: &mut Vec<Line>) {
    let events = load.kafka_events_per_day * DAYS;
    if events == 0.0 {
        return;
    }
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "kafka", what, dollars });
    let batches = (events / batch_of(load.bytes)).max(events.min(SECONDS / 60.0));
    let Calls { puts, gets } = measured.ingest_s3;
    let calls = puts + gets + measured.ingest_ledger_calls;
    let ms = events / measured.ingest_s / batches * 1000.0 + calls * CALL_MS;
    add(format!("Lambda, {batches:.0} batches of {ms:.0} ms"), work.lambda(batches, ms, VCPU_MB));
    let s3 = Calls { puts: puts * batches, gets: gets * batches };
    add(
        format!("{calls:.1} calls of S3 and DynamoDB a batch"),
        work.calls(s3, 2.0 * measured.ingest_ledger_calls * batches),
    );
    observed(work, metrics::INGEST, batches, &mut add);
}

fn changes(work: &Work<'_>, load: &Load, measured: &Measured, lines: &mut Vec<Line>) {
    let changes = load.changes_per_day * DAYS;
    if changes == 0.0 {
        return;
    }
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "changes", what, dollars });
    let prices = work.prices;
    let shards = shards(changes / SECONDS, load.bytes);
    let batches = changes.min((SECONDS / 5.0 * shards).max(changes / batch_of(load.bytes)));
    let puts = changes * (load.bytes / (25.0 * KB)).ceil() * prices.kinesis_put_unit;
    add(format!("stream of {shards} shards"), shards * HOURS * prices.kinesis_shard_hour + puts);
    let ms = changes / measured.stage_s / batches * 1000.0 + 3.0 * CALL_MS;
    let calls = Calls { puts: batches, gets: 0.0 };
    add(format!("staging, {batches:.0} batches"), work.lambda(batches, ms, VCPU_MB) + work.calls(calls, batches * 2.0));
    let commits = changes.min(SECONDS / 60.0);
    let Calls { puts, gets } = measured.commit_s3;
    // Measured of a thousand changes; of more, taken to take as much longer.
    let larger = (changes / commits / 1000.0).max(1.0);
    let ms = larger * measured.commit_seconds * 1000.0 + (puts + gets + measured.commit_ledger_calls) * CALL_MS;
    let calls =
        work.calls(Calls { puts: puts * commits, gets: gets * commits }, measured.commit_ledger_calls * commits);
    let beyond =
        if ms > LONGEST_COMMIT_MS { ", more than one may take: commit less often, or split the table" } else { "" };
    add(format!("{commits:.0} commits of {ms:.0} ms{beyond}"), work.lambda(commits, ms, VCPU_MB) + calls);
    observed(work, metrics::CDC, batches + commits, &mut add);
}

fn batch(work: &Work<'_>, load: &Load, measured: &Measured, lines: &mut Vec<Line>) {
    let (bytes, runs) = (load.batch_bytes_per_day * DAYS, load.batch_runs_per_day * DAYS);
    if bytes == 0.0 {
        return;
    }
    let mut add = |what: String, dollars: f64| lines.push(Line { part: "batch", what, dollars });
    // Two workers of a DPU, 4 vCPUs, each; the one that drives does no work. A run is billed for a minute at least.
    let seconds = bytes / load.bytes / (measured.spark_s * 2.0);
    let billed = seconds.max(runs * 60.0);
    let what = format!(
        "{runs:.0} runs of {:.0} s on two workers, off-peak (Flex); CPU time: starting Spark and reading S3 are not in it",
        billed / runs
    );
    add(what, billed / 3600.0 * 2.0 * work.prices.glue_flex_dpu_hour);
    // The orchestrator's: a run is begun, looked at, finished and loaded.
    observed(work, metrics::ORCHESTRATOR, runs * 5.0, &mut add);
}

/// What others cost that run all the time, at their least.
pub(crate) fn others(prices: &Prices) -> Vec<Line> {
    let glue = |workers: &str, dpus: f64| Line {
        part: "glue",
        what: format!("AWS Glue streaming, 2 x {workers}"),
        dollars: HOURS * 2.0 * dpus * prices.glue_dpu_hour,
    };
    // One KPU that works, one that orchestrates, and the storage of the first.
    let flink = HOURS * 2.0 * prices.flink_kpu_hour + 50.0 * prices.flink_storage_gb;
    let flink = Line { part: "flink", what: "Managed Service for Apache Flink, 1 KPU".to_owned(), dollars: flink };
    vec![glue("G.1X", 1.0), glue("G.025X", 0.25), flink]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::Value;
    use weir_template::Template;

    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    fn nothing() -> Load {
        Load {
            jobs: 0.0,
            job_bytes: 1e6,
            events_per_day: 0.0,
            bytes: 500.0,
            events_per_record: 1.0,
            source: Source::Direct,
            live: false,
            kafka_events_per_day: 0.0,
            changes_per_day: 0.0,
            batch_bytes_per_day: 0.0,
            batch_runs_per_day: 1.0,
            architecture: Architecture::X86,
        }
    }

    fn lines(load: &Load) -> Vec<Line> {
        bill(load, &Prices::known().unwrap(), &Measured::known().unwrap())
    }

    fn total(load: &Load) -> f64 {
        lines(load).iter().map(|line| line.dollars).sum()
    }

    #[test]
    fn alarms_and_defaults_are_the_templates() {
        let template = std::fs::read_to_string(Path::new(ROOT).join("template.yaml")).unwrap();
        let template = Template::parse(&template).unwrap();
        let made = |by: Option<&str>| {
            let alarms = template.of_type("AWS::CloudWatch::Alarm");
            alarms.filter(|(_, alarm)| alarm.get("Condition").and_then(Value::as_str) == by).count() as f64
        };
        assert_eq!(
            [made(None), made(Some("HasKafka")), made(Some("HasChanges")), made(Some("HasAnalytics"))],
            [alarms::ALWAYS, alarms::KAFKA, alarms::CHANGES, alarms::ANALYTICS]
        );
        let default = |name: &str| {
            let (_, parameter) = template.section("Parameters").find(|(known, _)| *known == name).unwrap();
            let value = &parameter["Default"];
            value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap()
        };
        assert_eq!(default("TransformBufferMB") * 1e6, TRANSFORM_BYTES);
        assert_eq!(default("TelemetryBufferSeconds"), FILE_SECONDS);
        assert_eq!(default("TelemetryBufferMB") * 1e6, FILE_BYTES);
        assert_eq!(
            template.resource("CdcCommitFunction")["Properties"]["Timeout"].as_f64(),
            Some(LONGEST_COMMIT_MS / 1e3)
        );
        assert_eq!(template.resource("RealtimeFunction")["Properties"]["MemorySize"].as_f64(), Some(VCPU_MB));
    }

    /// What people read is what is reckoned: who measures anew writes these anew.
    #[test]
    fn the_readme_and_the_scaling_page_say_what_the_bill_says() {
        let page = |name: &str| std::fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        let (readme, scaling) = (page("README.md"), page("docs/scaling.md"));
        let small = Load { jobs: 1e3, events_per_day: 1e6, ..nothing() };
        let large = Load { jobs: 1e5, job_bytes: 10e6, events_per_day: 1e9, events_per_record: 100.0, ..nothing() };
        let live = Load { source: Source::Kinesis, live: true, ..large.clone() };
        for (row, load) in
            [("| idle |", nothing()), ("| small:", small), ("| large:", large), ("| the same by an on-demand", live)]
        {
            let line =
                readme.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("README has no {row}"));
            assert!(line.contains(&format!(" ${}", grouped(total(&load)))), "{row} {}: {line}", total(&load));
        }
        let second = 86_400.0;
        let packed = |events: f64| Load { events_per_day: events * second, events_per_record: 100.0, ..nothing() };
        let by_stream = |events: f64| Load { source: Source::Kinesis, ..packed(events) };
        let by_kafka = |events: f64| Load { kafka_events_per_day: events * second, ..nothing() };
        let rows: [(&str, &dyn Fn(f64) -> Load); 3] = [
            ("| telemetry put to Firehose | $", &packed),
            ("| telemetry by an on-demand stream |", &by_stream),
            ("| Kafka, Lambda and its calls", &by_kafka),
        ];
        for (row, load) in rows {
            let line =
                scaling.lines().find(|line| line.starts_with(row)).unwrap_or_else(|| panic!("scaling.md has no {row}"));
            let said = line.split('|').skip(2).filter(|cell| !cell.is_empty());
            for (cell, events) in said.zip([1e3, 1e5, 1e6]) {
                let said: String = cell.split('$').nth(1).unwrap().chars().take_while(|c| !" :".contains(*c)).collect();
                let (said, reckoned): (f64, f64) = (said.replace(',', "").parse().unwrap(), total(&load(events)));
                // Of three figures, or of whole dollars.
                let rounded = (reckoned * 0.005).max(0.5);
                assert!((said - reckoned).abs() <= rounded, "{row} {events}: {said}, and {reckoned:.0} is reckoned");
            }
        }
    }

    /// With its thousands apart.
    fn grouped(dollars: f64) -> String {
        let whole = dollars.round() as u64;
        if whole < 1_000 { whole.to_string() } else { format!("{},{:03}", whole / 1_000, whole % 1_000) }
    }

    #[test]
    fn an_idle_stack_is_its_shard_its_sweeps_and_its_alarms() {
        let lines = lines(&nothing());
        assert!(lines.iter().all(|line| line.part == "always"), "{lines:#?}");
        assert_eq!(lines.iter().map(|line| (line.dollars * 100.0).round()).collect::<Vec<_>>(), [1095.0, 6.0, 100.0]);
    }

    /// By hand: 30.4 million events of 500 B, each a record of its own of 5 KB (145 GB as AWS counts), at 4.7 cents a GB.
    #[test]
    fn firehose_asks_for_five_kilobytes_a_record() {
        let one = Load { events_per_day: 1e6, ..nothing() };
        let packed = Load { events_per_record: 10.0, ..one.clone() };
        let firehose = |load: &Load| {
            let all = lines(load);
            all.iter()
                .filter(|line| line.what.starts_with("Firehose"))
                .map(|line| (line.dollars * 100.0).round())
                .sum::<f64>()
        };
        assert_eq!((firehose(&one), firehose(&packed)), (682.0, 68.0));
    }

    proptest! {
        #[test]
        fn more_never_costs_less(
            jobs in 0.0..1e7, events in 0.0..1e10, bytes in 50.0..5_000.0, kafka in 0.0..1e9, changes in 0.0..1e8, landed in 0.0..1e13,
            live: bool, more in 1.0..100.0,
        ) {
            let load = Load {
                jobs, events_per_day: events, bytes, kafka_events_per_day: kafka, changes_per_day: changes, batch_bytes_per_day: landed, live,
                ..nothing()
            };
            let base = total(&load);
            prop_assert!(base.is_finite() && base >= total(&nothing()));
            for grown in [
                Load { jobs: jobs * more, ..load.clone() },
                Load { events_per_day: events * more, ..load.clone() },
                Load { kafka_events_per_day: kafka * more, ..load.clone() },
                Load { changes_per_day: changes * more, ..load.clone() },
                Load { batch_bytes_per_day: landed * more, ..load.clone() },
                Load { live: true, ..load.clone() },
            ] {
                prop_assert!(total(&grown) >= base - 1e-6, "{} of {grown:?}, {base} of {load:?}", total(&grown));
            }
            let arm = total(&Load { architecture: Architecture::Arm64, ..load });
            prop_assert!(arm <= base, "{} and {}", arm, base);
        }
    }
}
