//! How far behind the command stream is: whether what came has become a job or a dead letter. (CloudWatch's IteratorAge says it better; this
//! asks nobody but those who are asked anyway.)

use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use weir_command::{Command, Location};
use weir_delivery::kinesis::{Origin, SequenceNumber};
use weir_lake::S3Lake;
use weir_ledger::Store;

use super::finding::{Finding, Report};
use crate::now_ms;
use crate::stack::{Stack, said};

/// Records are looked for that came so long before they were late, in seconds: the nearest that there are.
const BACK: [u64; 4] = [60, 600, 3_600, 86_400];

/// So many of them are looked at.
const RECORDS: usize = 20;

/// And so many answers are read for them, of which some may be empty; no faster, because a shard gives five in a second, to whoever asks:
/// to the functions, too.
const ANSWERS: usize = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Looks at each shard; what waits for longer than `late_s` is a problem.
pub(crate) async fn look(stack: &Stack, late_s: u64, report: &mut Report) {
    let what = format!("stream {}", stack.stream());
    let shards = match Looking::at(stack).await {
        Ok((looking, shards)) => looking.each(&shards, late_s).await,
        Err(why) => Err(why),
    };
    match shards {
        Ok(said) if said.is_empty() => {
            report.add(Finding::ok(what, format!("nothing waits for longer than {late_s} s")));
        }
        Ok(said) => {
            for (shard, said) in said {
                let what = format!("{what}, {shard}");
                report.add(match said {
                    Said::Waits(said) => {
                        let way_out = format!(
                            "see {0}-realtime and its mapping, and its log for what is tried again; what Lambda gave up shows `weir redrive list --from {0}-commands`",
                            stack.name
                        );
                        Finding::problem(what, said).or(way_out)
                    }
                    Said::Unread => {
                        let said = "nothing came for so long that it could not be read up to now";
                        Finding::note(what, said, "`weir doctor --probe` tries it")
                    }
                });
            }
        }
        Err(why) => report.add(Finding::unknown(what, why)),
    }
}

/// Of a shard that is not as it should be.
enum Said {
    /// Something waits.
    Waits(String),
    /// It was not read to its end, and nothing was found.
    Unread,
}

/// Where is looked.
struct Looking<'a> {
    stack: &'a Stack,
    client: Client,
    lake: S3Lake,
    /// Where the stream's dead letters lie.
    letters: Location,
}

impl<'a> Looking<'a> {
    /// And its shards.
    async fn at(stack: &'a Stack) -> Result<(Self, Vec<String>), String> {
        let client = Client::new(&stack.aws);
        let variables = stack.variables("realtime").await.map_err(|stop| stop.1)?.unwrap_or_default();
        let letters = variables.get("DEAD_LETTER_BUCKET").ok_or("realtime has no DEAD_LETTER_BUCKET")?;
        let letters = Location::parse(&format!("s3://{letters}/poison/{}/", stack.stream()));
        let letters = letters.map_err(|error| error.to_string())?;
        let listed = client.list_shards().stream_name(stack.stream()).send().await;
        let listed = listed.map_err(|error| said(&error))?;
        let shards = listed.shards().iter().map(|shard| shard.shard_id().to_owned()).collect();
        Ok((Self { stack, client, lake: S3Lake::new(&stack.aws), letters }, shards))
    }

    /// What is to be said of them.
    async fn each(&self, shards: &[String], late_s: u64) -> Result<Vec<(String, Said)>, String> {
        let mut said = Vec::new();
        for shard in shards {
            said.extend(self.shard(shard, late_s).await?.map(|it| (shard.clone(), it)));
        }
        Ok(said)
    }

    async fn shard(&self, shard: &str, late_s: u64) -> Result<Option<Said>, String> {
        let before = (now_ms() / 1000).saturating_sub(late_s);
        let mut whole = true;
        for back in BACK {
            let (found, is_whole) = self.read(shard, before.saturating_sub(back), before).await?;
            whole = is_whole;
            for record in &found {
                if !self.is_known(shard, record).await? {
                    let waited = (now_ms() / 1000).saturating_sub(arrived_s(record));
                    let number = record.sequence_number();
                    let said = format!("a record of {waited} s ago is no job and no dead letter yet ({number})");
                    return Ok(Some(Said::Waits(said)));
                }
            }
            if !found.is_empty() {
                return Ok(None);
            }
        }
        Ok((!whole).then_some(Said::Unread))
    }

    /// The first records that came from one moment up to another; and whether there are more, for all that was read.
    async fn read(&self, shard: &str, from_s: u64, before_s: u64) -> Result<(Vec<Record>, bool), String> {
        let from = DateTime::from_secs(i64::try_from(from_s).unwrap_or_default());
        let asked = self.client.get_shard_iterator().stream_name(self.stack.stream()).shard_id(shard);
        let asked = asked.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(from).send().await;
        let asked = asked.map_err(|error| said(&error))?;
        let (mut next, mut found) = (asked.shard_iterator().map(str::to_owned), Vec::new());
        for answer in 0..ANSWERS {
            let Some(iterator) = next else { return Ok((found, true)) };
            if answer > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let told = self.client.get_records().shard_iterator(iterator).limit(RECORDS as i32).send().await;
            let told = told.map_err(|error| said(&error))?;
            found.extend(told.records().iter().filter(|record| arrived_s(record) < before_s).cloned());
            let is_past = told.records().last().is_some_and(|record| arrived_s(record) >= before_s);
            let is_last = told.millis_behind_latest().is_none_or(|behind| behind == 0);
            if found.len() >= RECORDS || is_past || is_last {
                return Ok((found, true));
            }
            next = told.next_shard_iterator().map(str::to_owned);
        }
        Ok((found, false))
    }

    /// Whether a record is a job, came before under the same id, or lies with the dead letters or did: what was sent again is not there
    /// any more, but as a version. What is compressed or aggregated is not judged.
    async fn is_known(&self, shard: &str, record: &Record) -> Result<bool, String> {
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
            let job = self.stack.ledger().get(&id).await;
            if job.map_err(|failure| format!("{}: {}", failure.code, failure.reason))?.is_some() {
                return Ok(true);
            }
        }
        let at = self.letters.join(&format!("{shard}/{}", record.sequence_number()));
        let versions = self.lake.client().list_object_versions().bucket(at.bucket()).prefix(at.key()).max_keys(1);
        let versions = versions.send().await.map_err(|error| said(&error))?;
        Ok(!versions.versions().is_empty() || !versions.delete_markers().is_empty())
    }
}

fn arrived_s(record: &Record) -> u64 {
    record.approximate_arrival_timestamp().map_or(0, |at| at.secs().unsigned_abs())
}
