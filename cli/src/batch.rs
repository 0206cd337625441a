//! `weir batch`: what has landed, the runs that work on it, and what a person can do about them.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use weir_contract::{contract, names};
use weir_ledger::Store;
use weir_ledger::batch::{Book, Landed, Lane, Phase};

use crate::jobs::describe;
use crate::out::say;
use crate::{Stack, Stop};

/// Batch runs: what waits, what runs, and what a person can do about it.
#[derive(Args)]
pub(crate) struct BatchArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What waits and what runs, by dataset.
    Status(Status),
    /// Work on what is pending of a dataset, now.
    Run(Run),
    /// Begin a run again that was halted.
    Retry(Retry),
    /// Load what runs added up into the warehouse, now.
    Load(LoadNow),
}

#[derive(Args)]
struct Status {
    /// Only this one.
    dataset: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Run {
    /// The dataset.
    dataset: String,
    /// First take up what lies in its input path and no event told of: from before this stack, or events that were lost.
    #[arg(long)]
    backfill: bool,
    /// Only what was written from then on: 2024-01-31, or a time with its zone. Means --backfill.
    #[arg(long)]
    from: Option<String>,
    /// Only what was written until then.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args)]
struct Retry {
    /// The dataset.
    dataset: String,
    /// Newer versions of objects that runs have done count: those runs are made again, one at a time, the oldest first.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    wait: Wait,
}

#[derive(Args)]
struct LoadNow {
    /// The dataset.
    dataset: String,
    /// Everything that lies on S3, not only what waits: for a new warehouse, or a table that was dropped. At most 2,000 runs at a time.
    #[arg(long)]
    all: bool,
    /// With --all: only runs behind this one, in the order of their names.
    #[arg(long, requires = "all", value_name = "RUN")]
    after: Option<String>,
    /// Let this run, which can't be loaded, wait no longer. Its sums stay on S3.
    #[arg(long, conflicts_with = "all", value_name = "RUN")]
    without: Option<String>,
    /// Wait until all is loaded; exit 1 if it can't be.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

#[derive(Args)]
struct Wait {
    /// Wait until nothing runs and nothing is pending; exit 1 if a run is halted.
    #[arg(long)]
    wait: bool,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 3600)]
    timeout: u64,
}

/// More objects than this are not counted one by one.
const MOST_COUNTED: usize = 100_000;

impl BatchArgs {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        match &self.verb {
            Verb::Status(status) => status.run(stack).await,
            Verb::Run(run) => run.run(stack).await,
            Verb::Retry(retry) => retry.run(stack).await,
            Verb::Load(load) => load.run(stack).await,
        }
    }
}

/// A dataset, as the ledger has it.
struct Standing {
    lane: Lane,
    pending: Vec<Landed>,
    conflicts: Vec<Landed>,
}

impl Standing {
    async fn of(stack: &Stack, dataset: &str) -> Result<Self, Stop> {
        let book = stack.ledger();
        let lane = book.lane(dataset).await.map_err(Stop::aws)?.unwrap_or_else(|| Lane::new(dataset));
        let pending = book.pending(dataset, MOST_COUNTED).await.map_err(Stop::aws)?;
        let conflicts = book.conflicts(dataset, MOST_COUNTED).await.map_err(Stop::aws)?;
        Ok(Self { lane, pending, conflicts })
    }

    fn is_empty(&self) -> bool {
        self.lane.version == 0 && self.pending.is_empty()
    }

    fn pending_bytes(&self) -> u64 {
        self.pending.iter().map(|object| object.version_of.size).sum()
    }

    fn to_json(&self) -> Value {
        json!({
            "dataset": self.lane.name, "phase": self.lane.phase, "run": self.lane.run, "failure": self.lane.failure,
            "pending": self.pending.len(), "pending_bytes": self.pending_bytes(),
            "written_again": self.conflicts.iter().map(|object| &object.uri).collect::<Vec<_>>(),
            "last_successful_run": self.lane.last_successful_run, "watermark_ms": self.lane.watermark_ms,
            "looked_at_ms": self.lane.look_at_ms, "load": self.lane.load, "to_load": self.lane.to_load,
        })
    }

    fn row(&self) -> [String; 7] {
        let Lane { name, phase, run, failure, last_successful_run, watermark_ms, to_load, load, .. } = &self.lane;
        let mut why = failure.as_ref().map_or(String::new(), |failure| failure.reason.clone());
        if *phase != Phase::Loading && !to_load.is_empty() {
            why = format!("{} for the warehouse: `weir batch load {name}`. {why}", waiting(to_load.len()));
        }
        if !self.conflicts.is_empty() {
            let count = self.conflicts.len();
            why = format!("{count} objects were written again: `weir batch retry {name} --replace`. {why}");
        }
        [
            name.clone(),
            phase.to_string(),
            match (run, load) {
                (Some(run), _) => format!("{} ({} objects)", run.id, run.objects),
                (None, Some(load)) => format!("{} of {} into the warehouse", runs(load.runs), to_load.len()),
                (None, None) => String::new(),
            },
            format!("{} objects, {} bytes", self.pending.len(), self.pending_bytes()),
            last_successful_run.clone().unwrap_or_default(),
            watermark_ms
                .and_then(|ms| jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok())
                .map_or(String::new(), |at| at.to_string()),
            why,
        ]
    }
}

impl Status {
    async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let wanted: Vec<&str> = match &self.dataset {
            Some(dataset) => vec![known(dataset)?],
            None => names().collect(),
        };
        let mut standings = Vec::new();
        for dataset in wanted {
            let standing = Standing::of(stack, dataset).await?;
            if self.dataset.is_some() || !standing.is_empty() {
                standings.push(standing);
            }
        }
        if self.json {
            for standing in &standings {
                say!("{}", standing.to_json());
            }
            return Ok(());
        }
        if standings.is_empty() {
            say!(
                "nothing has landed yet: put files under DATASET/ in the raw bucket (the stack's output RawBucketName)"
            );
            return Ok(());
        }
        let mut table = Table::new();
        let header = ["DATASET", "PHASE", "RUN", "PENDING", "LAST RUN", "LANDED UNTIL", "WHY"];
        table.load_style(presets::NOTHING).set_header(header);
        standings.iter().for_each(|standing| {
            table.add_row(standing.row());
        });
        say!("{table}");
        Ok(())
    }
}

impl Run {
    async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let dataset = known(&self.dataset)?;
        let mut request = Map::from_iter([("dataset".to_owned(), dataset.into())]);
        if self.backfill || self.from.is_some() || self.to.is_some() {
            let bounds = [("from", &self.from), ("to", &self.to)];
            let bounds = bounds.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at.clone()?.into())));
            request.insert("backfill".to_owned(), Value::Object(bounds.collect()));
        }
        let told = ask(stack, &Value::Object(request)).await?;
        tell(dataset, &told);
        self.wait.until_idle(stack, dataset).await
    }
}

impl Retry {
    async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let dataset = known(&self.dataset)?;
        let told = ask(stack, &json!({"dataset": dataset, "retry": {"replace": self.replace}})).await?;
        tell(dataset, &told);
        self.wait.until_idle(stack, dataset).await
    }
}

impl LoadNow {
    async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let dataset = known(&self.dataset)?;
        let load = json!({"all": self.all, "after": self.after, "without": self.without});
        let told = ask(stack, &json!({"dataset": dataset, "load": load})).await?;
        let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or(0);
        match number("to_load") as usize {
            0 if self.all => say!("no run of {dataset} has left sums on S3"),
            0 => say!("nothing of {dataset} waits for the warehouse"),
            count => say!("{} for the warehouse; {dataset} is {}", waiting(count), phase_of(&told)),
        }
        if number("by_another_contract") > 0 {
            say!(
                "{} left out: their sums are by another contract than the present one",
                runs(number("by_another_contract") as usize)
            );
        }
        if let Some(next) = told.get("next").and_then(Value::as_str) {
            say!("there are more: when these are loaded, `weir batch load {dataset} --all --after {next}`");
        }
        match told.pointer("/failure/reason").and_then(Value::as_str) {
            Some(why) if phase_of(&told) == "IDLE" => Err(Stop(1, why.to_owned())),
            _ if self.wait => self.until_loaded(stack, dataset).await,
            _ => Ok(()),
        }
    }

    async fn until_loaded(&self, stack: &Stack, dataset: &str) -> Result<(), Stop> {
        let begun = Instant::now();
        loop {
            let lane = stack.ledger().lane(dataset).await.map_err(Stop::aws)?.unwrap_or_else(|| Lane::new(dataset));
            match (lane.to_load.len(), lane.phase, &lane.failure) {
                (0, ..) => {
                    say!("all runs of {dataset} are in the warehouse");
                    return Ok(());
                }
                (left, Phase::Idle | Phase::Halted, Some(why)) => {
                    return Err(Stop(1, format!("{} for the warehouse: {why}", waiting(left))));
                }
                (left, phase, _) if begun.elapsed().as_secs() > self.timeout => {
                    let said = format!("{} after {} s; {dataset} is {phase}", waiting(left), self.timeout);
                    return Err(Stop(1, said));
                }
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

fn waiting(count: usize) -> String {
    format!("{} {}", runs(count), if count == 1 { "waits" } else { "wait" })
}

fn phase_of(told: &Value) -> &str {
    told.get("phase").and_then(Value::as_str).unwrap_or("IDLE")
}

fn known(dataset: &str) -> Result<&str, Stop> {
    contract(dataset).map(|_| dataset).map_err(|error| Stop(2, error.to_string()))
}

fn tell(dataset: &str, told: &Value) {
    match told.pointer("/run/id").and_then(Value::as_str) {
        Some(run) => say!("{run} is {}", phase_of(told)),
        None if phase_of(told) == "LOADING" => say!("{dataset} is loading the warehouse"),
        None => say!("nothing of {dataset} is pending"),
    }
    if let Some(found) = told.get("found").and_then(Value::as_u64).filter(|found| *found > 0) {
        say!("{found} objects taken up");
    }
    if let Some(left) = told.get("left").and_then(Value::as_u64).filter(|left| *left > 0) {
        say!("{left} objects of other runs are left: ask again when this one is done");
    }
}

/// Asks the orchestrator; what it refuses is the caller's.
async fn ask(stack: &Stack, request: &Value) -> Result<Value, Stop> {
    let told = stack.ask("orchestrator", request).await?.map_err(|fault| Stop(3, fault.said))?;
    match told.get("error").and_then(Value::as_str) {
        Some(refused) => Err(Stop(1, refused.to_owned())),
        None => Ok(told),
    }
}

impl Wait {
    async fn until_idle(&self, stack: &Stack, dataset: &str) -> Result<(), Stop> {
        if !self.wait {
            return Ok(());
        }
        // Drawn on a terminal only.
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        bar.enable_steady_tick(Duration::from_millis(100));
        let begun = Instant::now();
        loop {
            let book = stack.ledger();
            let lane = book.lane(dataset).await.map_err(Stop::aws)?.unwrap_or_else(|| Lane::new(dataset));
            let pending = book.pending(dataset, 1).await.map_err(Stop::aws)?;
            let run = lane.run.as_ref().map_or(dataset, |run| run.id.as_str());
            bar.set_message(format!("{run}: {}", lane.phase));
            match (lane.phase, &lane.failure) {
                (Phase::Halted, failure) => {
                    bar.finish_and_clear();
                    let why = failure.as_ref().map_or("", |failure| failure.reason.as_str());
                    return Err(Stop(1, format!("{run} is halted: {why}")));
                }
                (Phase::Idle, _) if pending.is_empty() => {
                    bar.finish_and_clear();
                    if let Some(last) = &lane.last_successful_run
                        && let Some(job) = stack.ledger().get(last).await.map_err(Stop::aws)?
                    {
                        say!("{}", describe(&job));
                    }
                    if !lane.to_load.is_empty() {
                        say!("{} for the warehouse; see `weir batch status`", waiting(lane.to_load.len()));
                    }
                    return Ok(());
                }
                _ if begun.elapsed().as_secs() > self.timeout => {
                    let said =
                        format!("{run} is {} after {} s; `weir batch status` shows on", lane.phase, self.timeout);
                    return Err(Stop(1, said));
                }
                _ => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }
}
