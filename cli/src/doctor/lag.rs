//! How far behind the command stream is: whether what came has become a job or a dead letter. (CloudWatch's IteratorAge says it better; this
//! asks nobody but those who are asked anyway.)

use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use weir_command::{Command, Location};
use weir_delivery::kinesis::{Origin, SequenceNumber};
use weir_lake::{Lake, S3Lake};
use weir_ledger::Store;

use super::finding::{Finding, Report};
use crate::{Stack, now_ms};

/// Records are looked for that came so long before they were late, in seconds: the nearest that there are.
const BACK: [u64; 4] = [60, 600, 3_600, 86_400];

/// So many of them are looked at, the last; and so many answers are read for them, of which some may be empty.
const RECORDS: usize = 20;
const ANSWERS: usize = 20;

/// Looks at each shard; what waits for longer than `late_s` is a problem.
pub(crate) async fn look(stack: &Stack, late_s: u64, report: &mut Report) {
    let what = format!("stream {}", stack.stream());
    match shards(stack, late_s).await {
        Ok(late) if late.is_empty() => {
            report.add(Finding::ok(what, format!("nothing waits for longer than {late_s} s")));
        }
        Ok(late) => {
            for (shard, said) in late {
                let way_out =
                    format!("see {}-realtime and its mapping, and its log for what is tried again", stack.name);
                report.add(Finding::problem(format!("{what}, {shard}"), said).or(way_out));
            }
        }
        Err(why) => report.add(Finding::problem(what, why)),
    }
}

/// By the shard: what waits in it. Shards are read in order: where the last of those that are late enough are known, so are those before
/// them, but for what a batch of other keys holds back.
async fn shards(stack: &Stack, late_s: u64) -> Result<Vec<(String, String)>, String> {
    let client = aws_sdk_kinesis::Client::new(&stack.aws);
    let variables = stack.variables("realtime").await.map_err(|stop| stop.1)?.unwrap_or_default();
    let letters = variables.get("DEAD_LETTER_BUCKET").ok_or("realtime has no DEAD_LETTER_BUCKET")?;
    let letters = format!("s3://{letters}/poison/{}", stack.stream());
    let listed = client.list_shards().stream_name(stack.stream()).send().await;
    let listed = listed.map_err(|error| DisplayErrorContext(error).to_string())?;
    let mut late = Vec::new();
    for shard in listed.shards().iter().map(Shard::shard_id) {
        let before = (now_ms() / 1000).saturating_sub(late_s);
        let mut found = Vec::new();
        for back in BACK {
            found = read(&client, stack, shard, before.saturating_sub(back), before).await?;
            if !found.is_empty() {
                break;
            }
        }
        for record in found.iter().rev().take(RECORDS).rev() {
            if !is_known(stack, &letters, shard, record).await? {
                let waited = (now_ms() / 1000).saturating_sub(arrived_s(record));
                let number = record.sequence_number();
                let said = format!("a record of {waited} s ago is no job and no dead letter yet ({number})");
                late.push((shard.to_owned(), said));
                break;
            }
        }
    }
    Ok(late)
}

fn arrived_s(record: &Record) -> u64 {
    record.approximate_arrival_timestamp().map_or(0, |at| at.secs().unsigned_abs())
}

/// The records that came from one moment up to another.
async fn read(
    client: &aws_sdk_kinesis::Client,
    stack: &Stack,
    shard: &str,
    from_s: u64,
    before_s: u64,
) -> Result<Vec<Record>, String> {
    let from = DateTime::from_secs(i64::try_from(from_s).unwrap_or_default());
    let asked = client.get_shard_iterator().stream_name(stack.stream()).shard_id(shard);
    let asked = asked.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(from).send().await;
    let asked = asked.map_err(|error| DisplayErrorContext(error).to_string())?;
    let (mut next, mut found) = (asked.shard_iterator().map(str::to_owned), Vec::new());
    for _ in 0..ANSWERS {
        let Some(iterator) = next else { break };
        let told = client.get_records().shard_iterator(iterator).send().await;
        let told = told.map_err(|error| DisplayErrorContext(error).to_string())?;
        found.extend(told.records().iter().filter(|record| arrived_s(record) < before_s).cloned());
        let is_past = told.records().last().is_some_and(|record| arrived_s(record) >= before_s);
        let is_last = told.millis_behind_latest().is_none_or(|behind| behind == 0);
        next = told.next_shard_iterator().filter(|_| !is_last && !is_past).map(str::to_owned);
    }
    Ok(found)
}

/// Whether a record is a job, came before under the same id, or lies with the dead letters. What is compressed or aggregated is not judged.
async fn is_known(stack: &Stack, letters: &str, shard: &str, record: &Record) -> Result<bool, String> {
    if !record.data().as_ref().trim_ascii_start().starts_with(b"{") {
        return Ok(true);
    }
    if let Ok(command) = Command::parse(record.data().as_ref()) {
        let number = SequenceNumber::new(record.sequence_number());
        let origin = Origin {
            stream: stack.stream(),
            shard: shard.to_owned(),
            sequence_number: Some(number),
            ..Origin::unknown(0)
        };
        let id = command.job_id.as_ref().map_or_else(|| origin.default_job_id(), ToString::to_string);
        if stack.ledger().get(&id).await.map_err(|failure| failure.reason)?.is_some() {
            return Ok(true);
        }
    }
    let at = format!("{letters}/{shard}/{}", record.sequence_number());
    let at = Location::parse(&at).map_err(|error| error.to_string())?;
    let letters = S3Lake::new(&stack.aws).list(&at, None).await.map_err(|failure| failure.reason)?;
    Ok(!letters.objects.is_empty())
}
