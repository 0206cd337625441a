//! `weir redrive`: what was put aside, and how it is sent to where it came from again.

mod drive;
mod letters;
mod places;
mod send;
#[cfg(test)]
mod shapes;
#[cfg(test)]
mod storms;
mod which;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use futures::StreamExt;
use serde_json::json;
use weir_lake::{ObjectInfo, S3Lake, list_all};

use self::drive::{Drive, Report, found};
use self::letters::{Letter, To};
pub(crate) use self::places::Places;
use self::send::{Brokers, Sender};
use self::which::Which;
use crate::out::say;
use crate::{Stack, Stop};

/// Dead letters: list them, send them again.
#[derive(Args)]
pub(crate) struct Redrive {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// What lies there, by where it came from and why.
    List {
        #[command(flatten)]
        which: Which,
        /// Each letter as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Sends letters to where they came from, byte for byte. What is sent is no letter any more: it leaves the list. Interrupted, it goes
    /// on where it was when it is asked again.
    Send(Send),
}

#[derive(Args)]
struct Send {
    #[command(flatten)]
    which: Which,
    /// All of them: nothing else says which.
    #[arg(long)]
    all: bool,
    /// Says what would be sent, and sends nothing.
    #[arg(long)]
    dry_run: bool,
    /// At most so many a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    /// Kafka's brokers, as host:port,... for letters of topics.
    #[arg(long)]
    kafka: Option<String>,
    /// A file of librdkafka's settings, name=value lines, such as how to sign in.
    #[arg(long, requires = "kafka")]
    kafka_settings: Option<PathBuf>,
}

/// Objects that are read at a time. Those of Firehose may be a hundred megabytes.
const AT_ONCE: usize = 3;

impl Redrive {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let which = match &self.verb {
            Verb::List { which, .. } => which,
            Verb::Send(send) => {
                send.which.or_all(send.all)?;
                &send.which
            }
        };
        let mut places = Places::find(stack).await?;
        // A topic that nobody reads yet may be named.
        places.known.topics.extend(which.from.clone());
        let lake = S3Lake::new(&stack.aws);
        match &self.verb {
            Verb::List { which, json: true } => {
                each(&lake, &places, which, |letter, object| say!("{}", describe(letter, object))).await
            }
            Verb::List { which, json: false } => list(&lake, &places, which).await,
            Verb::Send(send) if send.dry_run => send.say(&lake, &places).await,
            Verb::Send(send) => send.run(stack, &lake, places).await,
        }
    }
}

/// Objects that may have letters, by their keys.
async fn objects(lake: &S3Lake, places: &Places, which: &Which) -> Result<Vec<ObjectInfo>, Stop> {
    let mut found = Vec::new();
    for under in places.under.iter().filter(|under| which.looks_under(under)) {
        let there = list_all(lake, under).await.map_err(Stop::aws)?;
        found.extend(there.into_iter().filter(|object| which.looks_in(&object.location)));
    }
    Ok(found)
}

/// Shows all letters that are meant. What can't be read is said, and is a failure in the end.
async fn each(
    lake: &S3Lake,
    places: &Places,
    which: &Which,
    mut show: impl FnMut(&Letter, &ObjectInfo),
) -> Result<(), Stop> {
    let reads = objects(lake, places, which)
        .await?
        .into_iter()
        .map(async |object| (found(lake, &object.location).await, object));
    let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
    let mut unread = 0;
    while let Some((read, object)) = reads.next().await {
        // It has gone meanwhile.
        let Some((bytes, _)) = read.map_err(Stop::aws)? else { continue };
        match letters::open(&object.location, &bytes, &places.known) {
            Ok(opened) => {
                opened.letters.iter().filter(|letter| which.takes(letter)).for_each(|letter| show(letter, &object))
            }
            Err(reason) => {
                unread += 1;
                eprintln!("weir: {}: {reason}; it is left where it is", object.location);
            }
        }
    }
    if unread > 0 { Err(Stop(1, format!("{unread} objects could not be read"))) } else { Ok(()) }
}

async fn list(lake: &S3Lake, places: &Places, which: &Which) -> Result<(), Stop> {
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let shown = each(lake, places, which, |letter, object| {
        let of = (letter.to.name().to_owned(), short(&letter.reason));
        groups.entry(of).or_default().add(letter, object);
    })
    .await;
    if groups.is_empty() {
        shown?;
        say!("there are no dead letters{}", if which.says_nothing() { "" } else { " of that kind" });
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["LETTERS", "FROM", "WHY", "FIRST", "LAST", "SUCH AS"]);
    for ((from, why), group) in groups {
        let at = |ms: u64| match jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap_or_default()) {
            Ok(at) if ms > 0 => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            _ => "?".to_owned(),
        };
        table.add_row([group.count.to_string(), from, why, at(group.first_ms), at(group.last_ms), group.example]);
    }
    say!("{table}");
    shown
}

#[derive(Default)]
struct Group {
    count: usize,
    first_ms: u64,
    last_ms: u64,
    example: String,
}

impl Group {
    fn add(&mut self, letter: &Letter, object: &ObjectInfo) {
        if self.count == 0 {
            (self.first_ms, self.example) = (letter.arrived_ms, object.location.to_string());
        }
        self.count += 1;
        self.first_ms = self.first_ms.min(letter.arrived_ms);
        self.last_ms = self.last_ms.max(letter.arrived_ms);
    }
}

/// As much of a reason as tells it from others.
fn short(reason: &str) -> String {
    let mut said: String = reason.chars().take(60).collect();
    if said.len() < reason.len() {
        said.push('…');
    }
    said
}

fn describe(letter: &Letter, object: &ObjectInfo) -> serde_json::Value {
    let bytes = letter.raw.as_ref().map(Vec::len);
    let mut said = json!({
        "at": object.location.to_string(), "line": letter.line + 1, "from": letter.to.name(), "reason": letter.reason,
        "arrived_ms": letter.arrived_ms, "bytes": bytes,
    });
    if let (To::Nowhere(why), Some(members)) = (&letter.to, said.as_object_mut()) {
        members.insert("not_sent_because".to_owned(), why.as_str().into());
    }
    said
}

impl Send {
    async fn say(&self, lake: &S3Lake, places: &Places) -> Result<(), Stop> {
        let (mut count, most) = (0, self.limit.unwrap_or(usize::MAX));
        let shown = each(lake, places, &self.which, |letter, object| {
            if letter.to.is_somewhere() && count < most {
                count += 1;
                say!("{}", describe(letter, object));
            }
        })
        .await;
        say!("would be sent: {count}");
        shown
    }

    async fn run(&self, stack: &Stack, lake: &S3Lake, places: Places) -> Result<(), Stop> {
        let settings = self.kafka_settings.as_deref().map(crate::produce::kafka::read_settings).transpose()?;
        let brokers = self.kafka.clone().map(|addresses| Brokers { addresses, settings: settings.unwrap_or_default() });
        let stop = Arc::new(AtomicBool::new(false));
        tokio::spawn(interrupted(Arc::clone(&stop)));
        let mut drive = Drive {
            lake,
            known: &places.known,
            which: &self.which,
            carrier: Sender::new(stack, places.sources.clone(), brokers),
            rate: self.rate,
            limit: self.limit.unwrap_or(usize::MAX),
            stop: &stop,
            begun: Instant::now(),
            report: Report::default(),
        };
        let mut failed = None;
        for object in objects(lake, &places, &self.which).await? {
            if drive.is_over() {
                break;
            }
            if let Err(failure) = drive.object(&object.location).await {
                failed = Some(Stop::aws(failure));
                break;
            }
        }
        // Whatever happened.
        let Report { sent, refused, kept, why } = drive.report;
        say!("sent: {sent}");
        if kept > 0 {
            say!("can't be sent: {kept}; `weir redrive list --json` says why (not_sent_because)");
        }
        if refused > 0 {
            say!("refused, and where they were: {refused}");
        }
        match failed {
            Some(stop) => Err(stop),
            None if stop.load(Ordering::Relaxed) => Err(Stop(130, "interrupted; ask again, and it goes on".to_owned())),
            None if why.is_empty() => Ok(()),
            None => Err(Stop(1, why.join("\n"))),
        }
    }
}

/// The first interrupt ends it between two requests, the second at once.
async fn interrupted(stop: Arc<AtomicBool>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("weir: stopping when this request is answered; again to stop at once");
    }
}
