//! `weir doctor`: what is wrong with a deployed stack, and what to do.

mod alerts;
mod finding;
mod functions;
mod lag;
mod probe;
mod records;
mod streams;

use clap::Args;

use self::finding::Report;
use crate::{Stack, Stop};

/// What is wrong with the stack.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Also send a job by the command stream, that copies a few bytes from and to `doctor/` in the stack's buckets, and wait until it is done.
    #[arg(long)]
    probe: bool,
    /// A command that waits in the stream for longer than so many seconds is a problem.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    late: u64,
    /// What is as it should be, too.
    #[arg(long)]
    all: bool,
    /// Each finding as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        // If AWS can't be asked, or there is no such stack, that is all there is to say.
        let variables = stack.variables("realtime").await?.ok_or_else(|| stack.lacks("realtime", "that part"))?;
        let mut report = Report::new(self.json, self.all);
        // Before the functions are called: what is left, they take up.
        records::look(stack, &mut report).await;
        lag::look(stack, &variables, self.late, &mut report).await;
        let there = functions::look(stack, &mut report).await;
        streams::look(stack, &there, &mut report).await;
        records::letters(stack, &mut report).await;
        alerts::look(stack, variables.get("ALERT_TOPIC_ARN").map(String::as_str), &mut report).await;
        if self.probe {
            probe::send(stack, &variables, &mut report).await;
        }
        report.verdict()
    }
}
