//! A job by the stream: put, recorded, done, read back. If it is not, the function is given the same record by hand: the end of its log says why.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, S3Lake};
use weir_ledger::{State, Store};

use super::finding::{Finding, Report};
use crate::now_ms;
use crate::stack::{Stack, Variables, failure, named};

/// Until then a small job is done where nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a probe is of.
const ROWS: &str = "what\nprobe\n";

/// `variables` are those of the function `realtime`.
pub(crate) async fn send(stack: &Stack, variables: &Variables, report: &mut Report) {
    match probe(stack, variables).await {
        Ok(found) => found.into_iter().for_each(|finding| report.add(finding)),
        Err(failure) => report.add(Finding::failed("probe", &failure)),
    }
}

/// The first of a list of places, as functions are told them.
fn first(list: Option<&String>) -> Option<Location> {
    Location::parse(list?.split(',').next()?).ok()
}

/// What came of it.
///
/// # Errors
/// What whoever looks may not do.
async fn probe(stack: &Stack, variables: &Variables) -> Result<Vec<Finding>, Failure> {
    let [Some(source), Some(dest)] = ["SOURCE_ALLOW_LIST", "DEST_ALLOW_LIST"].map(|name| first(variables.get(name)))
    else {
        let said = "the function realtime is not told what it may read and write";
        return Ok(vec![Finding::problem("probe", said).or("deploy the stack again")]);
    };
    let id = format!("doctor-{}", now_ms());
    // Of this probe alone: another may be under way.
    let [source, dest] = [source, dest].map(|place| place.join(&format!("doctor/{id}.csv")));
    let lake = S3Lake::new(&stack.aws);
    lake.put(&source, Bytes::from_static(ROWS.as_bytes()), "text/csv").await?;
    let command = json!({"source": source.to_string(), "dest": dest.to_string(), "command": "copy", "job_id": id});
    let data = command.to_string().into_bytes();
    let kinesis = aws_sdk_kinesis::Client::new(&stack.aws);
    let put = kinesis.put_record().stream_name(stack.stream()).partition_key("doctor").data(Blob::new(data.clone()));
    let put = match put.send().await {
        Ok(put) => put,
        Err(error) => {
            let _ = lake.delete(&[source]).await;
            return Err(failure(&error));
        }
    };
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let job = stack.ledger().get(&id).await?;
        match job {
            Some(job) if job.state == State::Done => {
                let took = begun.elapsed().as_millis();
                let size = ROWS.len() as u64;
                let finding = match lake.head(&dest).await {
                    Ok(found) if found.size == size => {
                        Finding::ok("probe", format!("a job by the stream is done in {took} ms"))
                    }
                    Ok(found) => {
                        Finding::problem("probe", format!("{dest} has {} bytes; {size} were copied", found.size))
                    }
                    Err(failure) => Finding::failed("probe", &failure),
                };
                // Where that is refused, a few bytes are left.
                let _ = lake.delete(&[source, dest]).await;
                return Ok(vec![finding]);
            }
            Some(job) if job.state == State::Failed || job.failure.is_some() => {
                let failure = job.failure.as_ref().map_or_else(String::new, named);
                let finding = Finding::problem("probe", format!("job {id} is {}: {failure}", job.state));
                return Ok(vec![if job.state == State::Failed {
                    let _ = lake.delete(&[source, dest]).await;
                    finding
                } else {
                    // It is tried again, and needs what it copies.
                    finding.or(format!("then delete {source} and {dest}"))
                }]);
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let late = format!("job {id} was put on the stream, and is not done after {} s", PATIENCE.as_secs());
    let mut findings = vec![Finding::problem("probe", late).or(format!(
        "what is said of the mapping and the function says why; when it came through, delete {source} and {dest}"
    ))];
    let (shard, number) = (put.shard_id(), put.sequence_number());
    let event = json!({"Records": [{
        "kinesis": {
            "kinesisSchemaVersion": "1.0", "partitionKey": "doctor", "sequenceNumber": number,
            "data": STANDARD.encode(&data), "approximateArrivalTimestamp": now_ms() as f64 / 1000.0,
        },
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventName": "aws:kinesis:record",
        "eventID": format!("{shard}:{number}"),
        "eventSourceARN": format!("arn:aws:kinesis:doctor:0:stream/{}", stack.stream()),
    }]});
    let called = stack.call("realtime", &event).await;
    let what = format!("function {}-realtime", stack.name);
    let called = match called {
        Ok(called) => called,
        Err(error) => {
            findings.push(Finding::failed(what, &failure(&*error)));
            return Ok(findings);
        }
    };
    let failed = called.answer.as_ref().is_ok_and(|answer| answer.get("batchItemFailures") != Some(&json!([])));
    let wrong = called.wrong().into_iter();
    findings.extend(wrong.map(|said| Finding::problem(&what, format!("given the same record: {said}"))));
    if findings.len() == 1 {
        let said = if failed {
            "it fails the same record, and does not say why"
        } else {
            "it takes the same record: what comes late comes by the mapping"
        };
        findings.push(
            Finding::problem(what, said)
                .or("see the mapping above, and the alarm IteratorAge: is there more than it can do?"),
        );
    }
    Ok(findings)
}
