//! A job by the stream: put, recorded, done, read back. If it is not, the function is given the same record by hand: the end of its log says why.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::error::DisplayErrorContext;
use aws_sdk_kinesis::primitives::Blob;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::json;
use weir_command::Location;
use weir_lake::{Lake, S3Lake};
use weir_ledger::{State, Store};

use super::finding::{Finding, Report};
use crate::now_ms;
use crate::stack::{Fault, Stack};

/// Until then a small job is done where nothing is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a probe is of.
const ROWS: &str = "what\nprobe\n";

pub(crate) async fn send(stack: &Stack, report: &mut Report) {
    match probe(stack).await {
        Ok(found) => found.into_iter().for_each(|finding| report.add(finding)),
        Err(why) => report.add(Finding::problem("probe", why)),
    }
}

/// The first of a list of places, as functions are told them.
fn first(list: Option<&String>) -> Option<Location> {
    Location::parse(list?.split(',').next()?).ok()
}

async fn probe(stack: &Stack) -> Result<Vec<Finding>, String> {
    let variables = stack.variables("realtime").await.map_err(|stop| stop.1)?.ok_or("there is no function realtime")?;
    let [Some(source), Some(dest)] = ["SOURCE_ALLOW_LIST", "DEST_ALLOW_LIST"].map(|name| first(variables.get(name)))
    else {
        return Err("the function realtime is not told what it may read and write".to_owned());
    };
    let id = format!("doctor-{}", now_ms());
    // Of this probe alone: another may be under way.
    let [source, dest] = [source, dest].map(|place| place.join(&format!("doctor/{id}.csv")));
    let lake = S3Lake::new(&stack.aws);
    lake.put(&source, Bytes::from_static(ROWS.as_bytes()), "text/csv")
        .await
        .map_err(|failure| format!("you can't put what is to be copied: {}: {}", failure.code, failure.reason))?;
    let command = json!({"source": source.to_string(), "dest": dest.to_string(), "command": "copy", "job_id": id});
    let data = command.to_string().into_bytes();
    let kinesis = aws_sdk_kinesis::Client::new(&stack.aws);
    let put = kinesis.put_record().stream_name(stack.stream()).partition_key("doctor").data(Blob::new(data.clone()));
    let put = put.send().await.map_err(|error| format!("you can't put a record: {}", DisplayErrorContext(error)))?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let job = stack.ledger().get(&id).await.map_err(|failure| failure.reason)?;
        match job {
            Some(job) if job.state == State::Done => {
                let found =
                    lake.head(&dest).await.map_err(|failure| format!("{dest} is not there: {}", failure.reason))?;
                if found.size != ROWS.len() as u64 {
                    return Err(format!("{dest} has {} bytes; {} were copied", found.size, ROWS.len()));
                }
                // Where that is refused, a few bytes are left.
                let _ = lake.delete(&[source, dest]).await;
                let took = begun.elapsed().as_millis();
                return Ok(vec![Finding::ok("probe", format!("a job by the stream is done in {took} ms"))]);
            }
            Some(job) if job.state == State::Failed || job.failure.is_some() => {
                let failure =
                    job.failure.map_or_else(String::new, |failure| format!("{}: {}", failure.code, failure.reason));
                return Err(format!("job {id} is {}: {failure}", job.state));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    let late = format!("job {id} was put on the stream, and is not done after {} s", PATIENCE.as_secs());
    let mut findings =
        vec![Finding::problem("probe", late).or("what is said of the mapping and the function says why")];
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
    let called = called.map_err(|error| format!("the function can't be called: {}", DisplayErrorContext(error)))?;
    let what = format!("function {}-realtime", stack.name);
    let failed = called.answer.as_ref().is_ok_and(|answer| answer.get("batchItemFailures") != Some(&json!([])));
    let fault = called.answer.as_ref().err().map(Fault::to_string);
    let wrong = fault.into_iter().chain(called.complaints());
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
