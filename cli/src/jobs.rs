//! `weir jobs` and `weir job`.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};
use weir_command::Command;
use weir_ledger::{Job, State, Store};

use crate::out::say;
use crate::{Stack, Stop, now_ms};

/// List recent jobs.
#[derive(Args)]
pub(crate) struct Jobs {
    /// Only this state: running, waiting, handed, deferred, done or failed.
    #[arg(long)]
    state: Option<String>,
    /// How far back, in hours.
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// At most this many.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Keep looking.
    #[arg(long)]
    watch: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Everything known of one job.
#[derive(Args)]
pub(crate) struct One {
    /// The job's id.
    id: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Jobs {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let state = self.state.as_deref().map(parse_state).transpose()?;
        loop {
            let now = now_ms();
            // Filtered here: read more than is shown.
            let most = if state.is_some() { self.limit * 20 } else { self.limit };
            let since = now.saturating_sub(self.hours * 3_600_000);
            let mut jobs = stack.ledger().recent(since, now, most).await.map_err(Stop::aws)?;
            jobs.retain(|job| state.is_none_or(|state| job.state == state));
            jobs.truncate(self.limit);
            if self.watch && std::io::stdout().is_terminal() {
                print!("\x1b[2J\x1b[H");
            }
            self.show(&jobs)?;
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn show(&self, jobs: &[Job]) -> Result<(), Stop> {
        if self.json {
            for job in jobs {
                let line = serde_json::to_string(job).map_err(|error| Stop(3, error.to_string()))?;
                say!("{line}");
            }
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["JOB", "COMMAND", "STATE", "BY", "ROWS", "BYTES", "MS", "WHAT"]);
        for job in jobs {
            let report = job.report.as_ref();
            let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
            let what = match (&job.failure, report) {
                (Some(failure), _) => failure.reason.clone(),
                (None, Some(report)) if job.state == State::Done => report.output.clone(),
                (None, report) => report.and_then(|report| report.notes.first().cloned()).unwrap_or_default(),
            };
            table.add_row([
                job.id.clone(),
                Command::parse(job.command.as_bytes()).map_or(String::new(), |command| command.verb().to_owned()),
                job.state.to_string(),
                job.speed.map_or(String::new(), |speed| speed.to_string()),
                number(report.and_then(|report| report.rows)),
                number(report.map(|report| report.bytes_out)),
                number(report.map(|report| report.ms)),
                what,
            ]);
        }
        say!("{table}");
        Ok(())
    }
}

impl One {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let job = stack.ledger().get(&self.id).await.map_err(Stop::aws)?;
        let job =
            job.ok_or_else(|| Stop(1, format!("there is no job `{}`; `weir jobs` lists the recent ones", self.id)))?;
        if self.json {
            let text = serde_json::to_string_pretty(&job).map_err(|error| Stop(3, error.to_string()))?;
            say!("{text}");
        } else {
            say!("{}", describe(&job));
        }
        Ok(())
    }
}

fn parse_state(text: &str) -> Result<State, Stop> {
    State::ALL.into_iter().find(|state| state.to_string().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let all: Vec<String> = State::ALL.iter().map(|state| state.to_string().to_lowercase()).collect();
        Stop(2, format!("`{text}` is no state; there is {}", all.join(", ")))
    })
}

/// A state in a word, with who has it.
pub(crate) fn state_of(job: &Job) -> String {
    match job.speed {
        Some(speed) if job.state == State::Running => format!("{} ({speed})", job.state),
        _ => job.state.to_string(),
    }
}

/// A job in lines.
pub(crate) fn describe(job: &Job) -> String {
    let at = |ms: u64| {
        jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or(0)).map_or(String::new(), |at| at.to_string())
    };
    let mut lines = vec![
        format!("job       {}", job.id),
        format!("state     {}", state_of(job)),
        format!("received  {}", at(job.received_ms)),
        format!("attempts  {}", job.attempts),
        format!("origin    {}", job.origin),
    ];
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{name:<9} {value}"));
        }
    };
    put("command", job.command.clone());
    put("finished", job.finished_ms.map_or(String::new(), at));
    if let Some(report) = &job.report {
        put("output", report.output.clone());
        put("rows", report.rows.map_or(String::new(), |rows| rows.to_string()));
        put("objects", report.objects.to_string());
        put("bytes", format!("{} read, {} written in {} files", report.bytes_in, report.bytes_out, report.files));
        put("took", format!("{} ms, {} restarts", report.ms, report.restarts));
        if report.dropped > 0 {
            put("dropped", format!("{} rows that are no data, by the contract", report.dropped));
        }
        if report.quarantined > 0 {
            put(
                "set aside",
                format!("{} rows in {}", report.quarantined, report.quarantine.clone().unwrap_or_default()),
            );
        }
        for note in &report.notes {
            put("note", note.clone());
        }
    }
    if let Some(failure) = &job.failure {
        put("why", format!("{} ({:?}, {})", failure.reason, failure.fault, failure.code));
    }
    lines.join("\n")
}
