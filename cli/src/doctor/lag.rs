//! How far behind the command stream is: whether what came has become a job or a dead letter. (CloudWatch's IteratorAge says it better; this
//! asks nobody but those who are asked anyway.)

use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use weir_command::{Command, Location};
use weir_delivery::kinesis::{Origin, SequenceNumber};
use weir_lake::{Lake, S3Lake};
use weir_ledger::{Job, Store};

use super::finding::{Finding, Report};
use crate::{Stack, now_ms};

const DAY_MS: u64 = 24 * 3_600_000;

/// So many jobs are looked through for the newest of each shard.
const JOBS: usize = 1_000;

/// So many records behind it are looked at, and so many answers without one are believed to be not the last.
const RECORDS: usize = 100;
const EMPTY_ANSWERS: usize = 5;

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

/// By the shard: what waits in it.
async fn shards(stack: &Stack, late_s: u64) -> Result<Vec<(String, String)>, String> {
    let (client, now) = (aws_sdk_kinesis::Client::new(&stack.aws), now_ms());
    let recent =
        stack.ledger().recent(now.saturating_sub(DAY_MS), now, JOBS).await.map_err(|failure| failure.reason)?;
    let listed = client.list_shards().stream_name(stack.stream()).send().await;
    let listed = listed.map_err(|error| DisplayErrorContext(error).to_string())?;
    let mut late = Vec::new();
    for shard in listed.shards() {
        let from = newest(&recent, &stack.stream(), shard.shard_id());
        for record in read(&client, stack, shard.shard_id(), from).await? {
            let waited = record
                .approximate_arrival_timestamp()
                .map_or(0, |at| now.saturating_sub(at.to_millis().unwrap_or_default().unsigned_abs()) / 1000);
            if waited <= late_s {
                break;
            }
            if !is_known(stack, shard.shard_id(), &record).await? {
                let said = format!(
                    "a record of {waited} s ago is no job and no dead letter yet ({})",
                    record.sequence_number()
                );
                late.push((shard.shard_id().to_owned(), said));
                break;
            }
        }
    }
    Ok(late)
}

/// The number of the newest record of a shard that has become a job.
fn newest(jobs: &[Job], stream: &str, shard: &str) -> Option<SequenceNumber> {
    let within = format!("{stream}/{shard}/");
    let numbers = jobs.iter().filter_map(|job| job.origin.strip_prefix(&within)?.split('/').next());
    numbers.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).map(SequenceNumber::new).max()
}

/// The first records behind one, or of all that there are.
async fn read(
    client: &aws_sdk_kinesis::Client,
    stack: &Stack,
    shard: &str,
    from: Option<SequenceNumber>,
) -> Result<Vec<Record>, String> {
    let asked = client.get_shard_iterator().stream_name(stack.stream()).shard_id(shard);
    let asked = match from {
        Some(number) => asked
            .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
            .starting_sequence_number(number.to_string()),
        None => asked.shard_iterator_type(ShardIteratorType::TrimHorizon),
    };
    let asked = asked.send().await.map_err(|error| DisplayErrorContext(error).to_string())?;
    let (mut next, mut found, mut empty) = (asked.shard_iterator().map(str::to_owned), Vec::new(), 0);
    // An answer may be empty though there is more.
    while let Some(iterator) = next.filter(|_| found.len() < RECORDS && empty < EMPTY_ANSWERS) {
        let told = client.get_records().shard_iterator(iterator).limit(RECORDS as i32).send().await;
        let told = told.map_err(|error| DisplayErrorContext(error).to_string())?;
        empty += usize::from(told.records().is_empty());
        found.extend_from_slice(told.records());
        let is_last = told.millis_behind_latest().is_none_or(|behind| behind == 0);
        next = told.next_shard_iterator().filter(|_| !is_last).map(str::to_owned);
    }
    Ok(found)
}

/// Whether a record is a job, came before under the same id, or lies with the dead letters.
async fn is_known(stack: &Stack, shard: &str, record: &Record) -> Result<bool, String> {
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
    let variables = stack.variables("realtime").await.map_err(|stop| stop.1)?.unwrap_or_default();
    let bucket = variables.get("DEAD_LETTER_BUCKET").ok_or("realtime has no DEAD_LETTER_BUCKET")?;
    let at = format!("s3://{bucket}/poison/{}/{shard}/{}", stack.stream(), record.sequence_number());
    let at = Location::parse(&at).map_err(|error| error.to_string())?;
    let letters = S3Lake::new(&stack.aws).list(&at, None).await.map_err(|failure| failure.reason)?;
    Ok(!letters.objects.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_job_of_a_shard_is_found_by_its_number() {
        let job = |origin: &str| Job { origin: origin.to_owned(), ..job() };
        let jobs = [
            job("s/shard-0/9"),
            job("s/shard-0/10/3"),
            job("s/shard-1/99"),
            job("s2/shard-0/99"),
            job("s/shard-0/no sequence number"),
        ];
        assert_eq!(newest(&jobs, "s", "shard-0"), Some(SequenceNumber::new("10")));
        assert_eq!(newest(&jobs, "s", "shard-2"), None);
    }

    fn job() -> Job {
        serde_json::from_value(serde_json::json!({
            "id": "j", "command": "", "payload_hash": "", "origin": "", "state": "DONE", "version": 1, "write_token": "", "fence": 0,
            "lease_until_ms": 0, "attempts": 1, "received_ms": 0, "expires_s": 0,
        }))
        .unwrap()
    }
}
