//! How far behind the command stream is: whether what came has become a job or a dead letter. (CloudWatch's IteratorAge says it better; this
//! asks nobody but those who are asked anyway.)

use std::collections::VecDeque;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use weir_command::{Command, Location};
use weir_delivery::Failure;
use weir_delivery::kinesis::{Origin, SequenceNumber};
use weir_lake::S3Lake;
use weir_ledger::Store;

use super::finding::{Finding, Report};
use crate::now_ms;
use crate::stack::{Stack, Variables, failure};

/// Records are looked for that came so long before they were late, in seconds: the nearest that there are.
const BACK: [u64; 4] = [60, 600, 3_600, 86_400];

/// So many of them are looked at, the last.
const RECORDS: usize = 20;

/// So many come with an answer, and so much: a shard gives 2 MB in a second, to whoever asks.
const AT_ONCE: i32 = 1_000;

/// So many answers are read for them, of which some may be empty; no faster, because a shard gives five in a second, to the functions, too.
const ANSWERS: usize = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Looks at each shard; what waits for longer than `late_s` is a problem. `variables` are those of the function `realtime`.
pub(crate) async fn look(stack: &Stack, variables: &Variables, late_s: u64, report: &mut Report) {
    let what = format!("stream {}", stack.stream());
    let letters = variables.get("DEAD_LETTER_BUCKET").map(|bucket| format!("s3://{bucket}/poison/{}/", stack.stream()));
    let Some(letters) = letters.and_then(|letters| Location::parse(&letters).ok()) else {
        let said = "the function realtime is not told where dead letters lie (DEAD_LETTER_BUCKET)";
        return report.add(Finding::problem(what, said).or("deploy the stack again"));
    };
    let looking = Looking { stack, client: Client::new(&stack.aws), lake: S3Lake::new(&stack.aws), letters };
    let shards = match looking.client.list_shards().stream_name(stack.stream()).send().await {
        Ok(listed) => listed.shards.unwrap_or_default(),
        Err(error) => return report.add(Finding::failed(what, &failure(&error))),
    };
    let mut waits = false;
    for shard in shards.iter().map(Shard::shard_id) {
        let what = format!("{what}, {shard}");
        let Some(finding) =
            looking.shard(&what, shard, late_s).await.unwrap_or_else(|failure| Some(Finding::failed(&what, &failure)))
        else {
            continue;
        };
        waits = true;
        report.add(finding);
    }
    if !waits {
        report.add(Finding::ok(what, format!("nothing waits for longer than {late_s} s")));
    }
}

/// Where is looked.
struct Looking<'a> {
    stack: &'a Stack,
    client: Client,
    lake: S3Lake,
    /// Where the stream's dead letters lie.
    letters: Location,
}

impl Looking<'_> {
    /// What is to be said of a shard. It is read in order: where the last records that are late enough are known, so are those before them,
    /// but for what a batch of other keys holds back.
    async fn shard(&self, what: &str, shard: &str, late_s: u64) -> Result<Option<Finding>, Failure> {
        let before = (now_ms() / 1000).saturating_sub(late_s);
        let mut is_whole = true;
        for back in BACK {
            let found;
            (found, is_whole) = self.read(shard, before.saturating_sub(back), before).await?;
            for record in &found {
                if !self.is_known(shard, record).await? {
                    let waited = (now_ms() / 1000).saturating_sub(arrived_s(record));
                    let number = record.sequence_number();
                    let said = format!("a record of {waited} s ago is no job and no dead letter yet ({number})");
                    let way_out = format!(
                        "see {0}-realtime and its mapping, and its log for what is tried again; what Lambda gave up shows `weir redrive list --from {0}-commands`",
                        self.stack.name
                    );
                    return Ok(Some(Finding::problem(what, said).or(way_out)));
                }
            }
            if !found.is_empty() {
                return Ok(None);
            }
        }
        let unread = || {
            Finding::unknown(
                what,
                format!("not read to its end in {ANSWERS} answers"),
                "`weir doctor --probe` tries it",
            )
        };
        Ok((!is_whole).then(unread))
    }

    /// The last records that came from one moment up to another; and whether all that lies between was read.
    async fn read(&self, shard: &str, from_s: u64, before_s: u64) -> Result<(VecDeque<Record>, bool), Failure> {
        let from = DateTime::from_secs(i64::try_from(from_s).unwrap_or_default());
        let asked = self.client.get_shard_iterator().stream_name(self.stack.stream()).shard_id(shard);
        let asked = asked.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(from).send().await;
        let (mut next, mut last) = (asked.map_err(|error| failure(&error))?.shard_iterator, VecDeque::new());
        for _ in 0..ANSWERS {
            let Some(iterator) = next else { return Ok((last, true)) };
            tokio::time::sleep(PAUSE).await;
            let told = self.client.get_records().shard_iterator(iterator).limit(AT_ONCE).send().await;
            let told = told.map_err(|error| failure(&error))?;
            last.extend(told.records().iter().filter(|record| arrived_s(record) < before_s).cloned());
            last.drain(..last.len().saturating_sub(RECORDS));
            let is_past = told.records().last().is_some_and(|record| arrived_s(record) >= before_s);
            if is_past || told.millis_behind_latest().is_none_or(|behind| behind == 0) {
                return Ok((last, true));
            }
            next = told.next_shard_iterator;
        }
        Ok((last, false))
    }

    /// Whether a record is a job, came before under the same id, or lies with the dead letters or did: what was sent again is not there
    /// any more, but as a version. What is compressed or aggregated is not judged.
    async fn is_known(&self, shard: &str, record: &Record) -> Result<bool, Failure> {
        if !record.data().as_ref().trim_ascii_start().starts_with(b"{") {
            return Ok(true);
        }
        if let Ok(command) = Command::parse(record.data().as_ref()) {
            let number = SequenceNumber::new(record.sequence_number());
            let origin = Origin {
                stream: self.stack.stream(),
                shard: shard.to_owned(),
                sequence_number: Some(number),
                ..Origin::unknown(0)
            };
            let id = command.job_id.as_ref().map_or_else(|| origin.default_job_id(), ToString::to_string);
            if self.stack.ledger().get(&id).await?.is_some() {
                return Ok(true);
            }
        }
        let at = self.letters.join(&format!("{shard}/{}", record.sequence_number()));
        let versions = self.lake.client().list_object_versions().bucket(at.bucket()).prefix(at.key()).max_keys(1);
        let versions = versions.send().await.map_err(|error| failure(&error))?;
        Ok(!versions.versions().is_empty() || !versions.delete_markers().is_empty())
    }
}

fn arrived_s(record: &Record) -> u64 {
    record.approximate_arrival_timestamp().map_or(0, |at| at.secs().unsigned_abs())
}
