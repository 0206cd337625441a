//! `weir doctor`: what is wrong with a deployed stack, and what to do.

mod finding;
mod functions;
mod probe;
mod records;
mod streams;

use clap::Args;

use self::finding::{Finding, Level};
use crate::out::say;
use crate::{Stack, Stop};

/// What is wrong with the stack, and what to do about it.
///
/// Looks at the ledger, the streams, the mappings and the dead letters, and calls each function as its schedule does (or with an empty
/// batch): its own role and settings are tried, and what its log says is shown. Exit code 1 if there is a problem.
#[derive(Args)]
pub(crate) struct Doctor {
    /// Also send a job by the command stream, that copies a few bytes from and to `doctor/` in the stack's buckets, and wait until it is done.
    #[arg(long)]
    probe: bool,
    /// What is as it should be, too.
    #[arg(long)]
    all: bool,
    /// Each finding as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let mut findings = Vec::new();
        // Before the functions are called: what is left, they take up.
        records::look(stack, &mut findings).await;
        let there = functions::look(stack, &mut findings).await;
        streams::look(stack, &there, &mut findings).await;
        records::letters(stack, &mut findings).await;
        if self.probe {
            probe::send(stack, &mut findings).await;
        }
        let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
        self.show(&findings)?;
        let looked = findings.len();
        if problems > 0 {
            return Err(Stop(1, format!("{problems} of {looked} findings are problems; docs/operations.md says more")));
        }
        if !self.json {
            say!("{looked} things looked at, no problem");
        }
        Ok(())
    }

    fn show(&self, findings: &[Finding]) -> Result<(), Stop> {
        for finding in findings {
            if self.json {
                say!("{}", serde_json::to_string(finding).map_err(|error| Stop(3, error.to_string()))?);
                continue;
            }
            let level = match finding.level {
                Level::Ok if !self.all => continue,
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Problem => "PROBLEM",
            };
            say!("{level:<8} {}: {}", finding.what, finding.said);
            if let Some(way_out) = &finding.way_out {
                say!("{:<8} -> {way_out}", "");
            }
        }
        Ok(())
    }
}
