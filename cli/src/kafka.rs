//! `weir kafka`: how far topics are read, and what a person decides.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use weir_ledger::batch::Swap;
use weir_ledger::positions::{Position, Positions, Range, anew};

use crate::out::say;
use crate::{Stack, Stop, now_ms};

/// How far Kafka's topics are read.
#[derive(Args)]
pub(crate) struct KafkaArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Every partition that was ever read: what is committed, and what is missing.
    Status {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Say that a topic was made anew: its offsets begin again, and what is committed by them was another's.
    Anew {
        /// As `status` shows it: cluster/topic/partition; or cluster/topic, for all of its partitions that are stopped.
        position: String,
        /// Even if the partition is not stopped. If the topic is the same, what comes again is written twice.
        #[arg(long)]
        force: bool,
    },
}

/// The most gaps that a line shows.
const GAPS_SHOWN: usize = 3;

impl KafkaArgs {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        match &self.verb {
            Verb::Status { json } => status(stack, *json).await,
            Verb::Anew { position, force } => begin_anew(stack, position, *force).await,
        }
    }
}

async fn status(stack: &Stack, json: bool) -> Result<(), Stop> {
    let all = stack.ledger().positions().await.map_err(Stop::aws)?;
    if json {
        for position in all {
            say!("{}", serde_json::to_string(&position).map_err(|error| Stop(3, error.to_string()))?);
        }
        return Ok(());
    }
    if all.is_empty() {
        say!("nothing was read from Kafka yet");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["POSITION", "COMMITTED", "NEWEST", "MISSING", "NOW"]);
    for position in &all {
        table.add_row(line(position, now_ms()));
    }
    say!("{table}");
    Ok(())
}

fn line(position: &Position, now_ms: u64) -> [String; 5] {
    let offsets = |range: &Range| format!("{}-{}", range.from, range.to - 1);
    let newest = position.newest_ms.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let mut gaps: Vec<String> = position.gaps.iter().take(GAPS_SHOWN).map(offsets).collect();
    if position.gaps.len() > GAPS_SHOWN {
        gaps.push(format!("and {} more", position.gaps.len() - GAPS_SHOWN));
    }
    let now = match (&position.intent, position.lease_until_ms > now_ms) {
        _ if position.stopped.is_some() => {
            format!("stopped: its topic seems to be made anew; if so: weir kafka anew {}", position.name)
        }
        (_, true) => format!("taken for {} s at most", (position.lease_until_ms - now_ms).div_ceil(1000)),
        (Some(_), false) => "left by its worker; the next one or the sweep clears it".to_owned(),
        (None, false) => String::new(),
    };
    [
        position.name.clone(),
        position.committed.as_ref().map_or("nothing".to_owned(), offsets),
        newest.map_or(String::new(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string()),
        gaps.join(", "),
        now,
    ]
}

async fn begin_anew(stack: &Stack, name: &str, force: bool) -> Result<(), Stop> {
    let ledger = stack.ledger();
    let chosen = match ledger.position(name).await.map_err(Stop::aws)? {
        Some(position) => vec![position],
        None => of_topic(ledger.positions().await.map_err(Stop::aws)?, name)?,
    };
    for position in chosen {
        let name = &position.name;
        if let Some(reason) = objection(&position, force, now_ms()) {
            return Err(Stop(1, reason));
        }
        let next = Position { write_token: format!("cli-{}-{}", std::process::id(), now_ms()), ..anew(&position) };
        match ledger.put_position(&next, position.version, None).await.map_err(Stop::aws)? {
            Swap::Stored => say!("{name}: whatever comes next is new; files that are there stay"),
            Swap::Conflict(_) => return Err(Stop(1, format!("somebody was at `{name}` just now; try again"))),
        }
    }
    Ok(())
}

/// A topic's partitions that are stopped.
fn of_topic(all: Vec<Position>, topic: &str) -> Result<Vec<Position>, Stop> {
    let whole = all.into_iter().filter(|position| position.name.rsplit_once('/').is_some_and(|(of, _)| of == topic));
    let whole: Vec<Position> = whole.collect();
    if whole.is_empty() {
        return Err(Stop(1, format!("nothing was ever read of `{topic}`; `weir kafka status` lists what was")));
    }
    let stopped: Vec<Position> = whole.into_iter().filter(|position| position.stopped.is_some()).collect();
    if stopped.is_empty() {
        return Err(Stop(1, format!("no partition of `{topic}` is stopped: all of them are read as they are")));
    }
    Ok(stopped)
}

/// Why a position must not begin anew now.
fn objection(position: &Position, force: bool, now_ms: u64) -> Option<String> {
    let name = &position.name;
    if position.lease_until_ms > now_ms {
        return Some(format!("somebody is at `{name}`; try again in a minute or two"));
    }
    (position.stopped.is_none() && !force).then(|| {
        format!(
            "`{name}` is not stopped: what it has committed would be read and written again if it still is the same topic; \
             if you know that it is another, say --force"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_committed_and_missing_and_who_is_at_it() {
        let mut position = Position::new("c/t/0");
        assert_eq!(line(&position, 5), ["c/t/0", "nothing", "", "", ""]);
        position.committed = Some(Range { from: 0, to: 10 });
        position.gaps = (0..5).map(|n| Range { from: 2 * n, to: 2 * n + 1 }).collect();
        (position.newest_ms, position.lease_until_ms) = (Some(1_700_000_000_000), 2_500);
        let [_, committed, newest, missing, now] = line(&position, 1_000);
        assert_eq!((committed.as_str(), newest.as_str()), ("0-9", "2023-11-14 22:13:20"));
        assert_eq!((missing.as_str(), now.as_str()), ("0-0, 2-2, 4-4, and 2 more", "taken for 2 s at most"));
    }

    #[test]
    fn only_what_is_stopped_begins_anew_unless_forced() {
        let at = |name: &str, stopped| Position { stopped, ..Position::new(name) };
        let all = vec![at("c/t/0", None), at("c/t/1", Some(7)), at("c/tt/0", Some(7)), at("c/u/0", None)];
        let names = |topic: &str| match of_topic(all.clone(), topic) {
            Ok(chosen) => chosen.into_iter().map(|position| position.name).collect::<Vec<_>>().join(" "),
            Err(Stop(_, reason)) => reason,
        };
        assert_eq!(names("c/t"), "c/t/1");
        assert!(names("c/u").contains("no partition of `c/u` is stopped"));
        assert!(names("c").contains("nothing was ever read of `c`"));
        assert!(objection(&all[0], false, 5).unwrap().contains("--force"));
        assert_eq!([objection(&all[0], true, 5), objection(&all[1], false, 5)], [None, None]);
        let taken = Position { lease_until_ms: 9, ..at("c/t/1", Some(7)) };
        assert!(objection(&taken, true, 5).unwrap().contains("somebody is at"));
    }
}
