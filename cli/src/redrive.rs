//! `weir redrive`: what was put aside, and how it is sent to where it came from again.

mod letters;
mod places;
mod send;
#[cfg(test)]
mod shapes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use futures::StreamExt;
use serde_json::json;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, ObjectInfo, S3Lake, list_all};

use self::letters::{Letter, To};
use self::places::Places;
use self::send::{Brokers, Sender};
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

/// Which letters; those that fit all that is said.
#[derive(Args)]
struct Which {
    /// From this stream, delivery stream, topic or function.
    #[arg(long)]
    from: Option<String>,
    /// Put aside for a reason that has this in it.
    #[arg(long)]
    reason: Option<String>,
    /// That came at this moment or later, such as 2024-05-01T10:00:00Z.
    #[arg(long, value_parser = moment)]
    since: Option<u64>,
    /// That came before this moment.
    #[arg(long, value_parser = moment)]
    until: Option<u64>,
    /// Under this key, such as poison/weir-commands/.
    #[arg(long)]
    under: Option<String>,
}

fn moment(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no moment: write it as 2024-05-01T10:00:00Z");
    let at: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(at.as_millisecond()).map_err(|_| wrong())
}

impl Which {
    fn says_nothing(&self) -> bool {
        self.from.is_none()
            && self.reason.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.under.is_none()
    }

    fn takes(&self, letter: &Letter) -> bool {
        self.from.as_deref().is_none_or(|from| letter.to.name() == from)
            && self.reason.as_deref().is_none_or(|reason| letter.reason.contains(reason))
            && self.since.is_none_or(|since| letter.arrived_ms >= since)
            && self.until.is_none_or(|until| letter.arrived_ms < until)
    }

    /// Whether there may be some under a prefix, or among the objects below it.
    fn looks(&self, at: &Location) -> bool {
        self.under.as_deref().is_none_or(|under| at.key().starts_with(under) || under.starts_with(at.key()))
    }
}

/// Objects that are read at a time.
const AT_ONCE: usize = 16;

/// The most of a request: PutRecords and PutRecordBatch take 500 records, and 4 MiB together.
const REQUEST_LETTERS: usize = 500;
const REQUEST_BYTES: usize = 4 << 20;

/// An object, and its letters that were asked for.
struct Object {
    info: ObjectInfo,
    bytes: bytes::Bytes,
    /// How many it has in all.
    count: usize,
    letters: Vec<Letter>,
}

impl Redrive {
    pub(crate) async fn run(&self, stack: &Stack) -> Result<(), Stop> {
        let places = Places::find(stack).await?;
        let lake = S3Lake::new(&stack.aws);
        match &self.verb {
            Verb::List { which, json } => list(&lake, &places, which, *json).await,
            Verb::Send(send) => send.run(stack, &lake, places).await,
        }
    }
}

/// Objects that may have letters, oldest names first.
async fn objects(lake: &S3Lake, places: &Places, which: &Which) -> Result<Vec<ObjectInfo>, Stop> {
    let mut found = Vec::new();
    for under in places.under.iter().filter(|under| which.looks(under)) {
        let there = list_all(lake, under).await.map_err(Stop::aws)?;
        found.extend(there.into_iter().filter(|object| which.looks(&object.location)));
    }
    Ok(found)
}

/// Nothing if it has gone meanwhile.
async fn read(lake: &S3Lake, places: &Places, which: &Which, info: ObjectInfo) -> Result<Option<Object>, Stop> {
    let bytes = match lake.get(&info.location, Some(&info.etag), 0, info.size).await {
        Err(failure) if matches!(failure.code.as_str(), "NoSuchKey" | "PreconditionFailed") => return Ok(None),
        bytes => bytes.map_err(Stop::aws)?,
    };
    let letters = match letters::read(info.location.key(), &bytes, &places.known) {
        Ok(letters) => letters,
        Err(reason) => {
            eprintln!("weir: {}: {reason}; it is left where it is", info.location);
            return Ok(None);
        }
    };
    let count = letters.len();
    let letters = letters.into_iter().filter(|letter| which.takes(letter)).collect();
    Ok(Some(Object { info, bytes, count, letters }))
}

async fn list(lake: &S3Lake, places: &Places, which: &Which, as_json: bool) -> Result<(), Stop> {
    let found = objects(lake, places, which).await?;
    let reads: Vec<_> = found.into_iter().map(|info| read(lake, places, which, info)).collect();
    let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    while let Some(object) = reads.next().await {
        let Some(object) = object? else { continue };
        for letter in &object.letters {
            if as_json {
                say!("{}", describe(letter, &object.info));
            } else {
                let of = (letter.to.name().to_owned(), short(&letter.reason));
                groups.entry(of).or_default().add(letter, &object.info);
            }
        }
    }
    if as_json {
        return Ok(());
    }
    if groups.is_empty() {
        say!("there are no dead letters{}", if which.says_nothing() { "" } else { " of that kind" });
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["LETTERS", "FROM", "WHY", "FIRST", "LAST", "SUCH AS"]);
    for ((from, why), group) in groups {
        let at = |ms: u64| match jiff::Timestamp::from_millisecond(ms as i64) {
            Ok(at) if ms > 0 => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            _ => "?".to_owned(),
        };
        table.add_row([group.count.to_string(), from, why, at(group.first_ms), at(group.last_ms), group.example]);
    }
    say!("{table}");
    Ok(())
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
    if let To::Nowhere(why) = &letter.to {
        said["not_sent_because"] = why.as_str().into();
    }
    said
}

/// What came of it.
#[derive(Default)]
struct Report {
    sent: usize,
    left: usize,
    /// The first reason why one was left.
    why: Option<String>,
}

impl Send {
    async fn run(&self, stack: &Stack, lake: &S3Lake, places: Places) -> Result<(), Stop> {
        if self.which.says_nothing() && !self.all {
            let reason = "say which letters (--from, --reason, --since, --until, --under), or --all; `weir redrive list` shows them";
            return Err(Stop(2, reason.to_owned()));
        }
        let settings = self.kafka_settings.as_deref().map(crate::produce::kafka::read_settings).transpose()?;
        let brokers = self.kafka.clone().map(|addresses| Brokers { addresses, settings: settings.unwrap_or_default() });
        let mut sender = Sender::new(stack, places.sources.clone(), brokers);
        let (mut report, begun) = (Report::default(), Instant::now());
        let interrupted = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&interrupted);
        tokio::spawn(async move {
            let is_interrupt = tokio::signal::ctrl_c().await.is_ok();
            heard.store(is_interrupt, Ordering::Relaxed);
        });
        for info in objects(lake, &places, &self.which).await? {
            let Some(mut object) = read(lake, &places, &self.which, info).await? else { continue };
            let room = self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(report.sent));
            let whole = !letters::has_lines(object.info.location.key(), &places.known);
            // What can't be taken apart is sent whole, or not at all.
            if room == 0 || whole && object.letters.len() > room {
                break;
            }
            object.letters.truncate(room);
            if self.dry_run {
                object.letters.iter().for_each(|letter| say!("{}", describe(letter, &object.info)));
                report.sent += object.letters.len();
                continue;
            }
            let sent = self.send_object(&mut sender, &object, begun, &mut report).await?;
            take_away(lake, &object, &sent, whole).await?;
            // What was sent of this object is taken away first.
            if interrupted.load(Ordering::Relaxed) {
                break;
            }
        }
        let Report { sent, left, why } = report;
        if self.dry_run {
            say!("{sent} letters would be sent");
            return Ok(());
        }
        say!(
            "{sent} letters were sent{}",
            if left > 0 { format!(", {left} are left where they were") } else { String::new() }
        );
        match why {
            _ if interrupted.load(Ordering::Relaxed) => {
                Err(Stop(130, "interrupted; ask again, and it goes on".to_owned()))
            }
            Some(why) => Err(Stop(1, why)),
            None => Ok(()),
        }
    }

    /// Which of an object's letters were sent, by their places among those that were asked for.
    async fn send_object(
        &self,
        sender: &mut Sender,
        object: &Object,
        begun: Instant,
        report: &mut Report,
    ) -> Result<Vec<usize>, Stop> {
        let mut sent = Vec::new();
        // Those of one place together, in order.
        let mut by_place: BTreeMap<String, Vec<(usize, &Letter)>> = BTreeMap::new();
        for (place, letter) in object.letters.iter().enumerate() {
            by_place.entry(letter.to.name().to_owned()).or_default().push((place, letter));
        }
        for letters in by_place.into_values() {
            for request in requests(&letters, self.rate) {
                let asked: Vec<&Letter> = request.iter().map(|(_, letter)| *letter).collect();
                let answers: Vec<Result<(), Failure>> = sender.send(&asked).await?;
                for ((place, _), answer) in request.iter().zip(answers) {
                    match answer {
                        Ok(()) => {
                            sent.push(*place);
                            report.sent += 1;
                        }
                        Err(failure) => {
                            report.left += 1;
                            let at = &object.info.location;
                            report.why.get_or_insert_with(|| format!("{at}: {}: {}", failure.code, failure.reason));
                        }
                    }
                }
                if let Some(rate) = self.rate {
                    let due = Duration::from_secs_f64(report.sent as f64 / f64::from(rate));
                    tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
                }
            }
        }
        Ok(sent)
    }
}

/// As much at a time as a request takes, and as the rate allows in a second.
fn requests<'a, 'b>(letters: &'a [(usize, &'b Letter)], rate: Option<u32>) -> Vec<&'a [(usize, &'b Letter)]> {
    let most = rate.map_or(REQUEST_LETTERS, |rate| REQUEST_LETTERS.min(rate as usize));
    let (mut found, mut rest) = (Vec::new(), letters);
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(most).take_while(|(_, letter)| {
            bytes += letter.raw.as_ref().map_or(0, Vec::len) + 256;
            bytes <= REQUEST_BYTES
        });
        // One that is too large is sent all the same, to be refused by name.
        let (request, after) = rest.split_at(fits.count().max(1));
        found.push(request);
        rest = after;
    }
    found
}

/// Takes away what was sent: lines, or the object if nothing of it is left.
async fn take_away(lake: &S3Lake, object: &Object, sent: &[usize], whole: bool) -> Result<(), Stop> {
    let Object { info, bytes, count, letters } = object;
    if sent.is_empty() || whole && sent.len() < *count {
        return Ok(());
    }
    let lines: Vec<usize> = sent.iter().filter_map(|place| letters.get(*place)).map(|letter| letter.line).collect();
    let rest = if whole { None } else { letters::without(bytes, &lines) };
    let done = match rest {
        None => lake.delete(std::slice::from_ref(&info.location)).await,
        Some(rest) => lake.put_if(&info.location, &info.etag, rest.into(), "application/x-ndjson").await,
    };
    done.map_err(|failure| Stop::aws(format!("{} was sent, but is still there: {failure:?}", info.location)))
}
