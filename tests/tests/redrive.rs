//! Dead letters on their way back: to the stream, the delivery, the topic and the function they came from, byte for byte.

use std::time::{Duration, Instant};

use aws_sdk_kinesis::types::ShardIteratorType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use weir_command::Location;
use weir_lake::Lake;
use weir_ledger::State;
use weir_local::kafka::make_topics;
use weir_tests::kafka::brokers;
use weir_tests::{Failed, Stack, cli};

/// `weir redrive` with these arguments: its exit code, and what it said.
async fn redrive(arguments: &[&str]) -> Result<(Option<i32>, String, String), Failed> {
    let asked = cli()?.arg("redrive").args(arguments).output().await?;
    Ok((asked.status.code(), String::from_utf8(asked.stdout)?, String::from_utf8(asked.stderr)?))
}

async fn done(arguments: &[&str]) -> Result<String, Failed> {
    match redrive(arguments).await? {
        (Some(0), said, _) => Ok(said),
        (code, said, wrong) => Err(format!("weir redrive {arguments:?}: {code:?}\n{said}\n{wrong}").into()),
    }
}

async fn listed(arguments: &[&str]) -> Result<Vec<Value>, Failed> {
    let said = done(&[&["list", "--json"], arguments].concat()).await?;
    Ok(said.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

async fn leave(stack: &Stack, key: &str, text: &str) -> Result<Location, Failed> {
    let at = Location::parse(&format!("s3://{}/{key}", stack.dead_letters))?;
    stack.lake.put(&at, Bytes::from(text.to_owned()), "application/json").await?;
    Ok(at)
}

#[tokio::test]
async fn a_command_that_is_understood_now_is_done_and_leaves_the_list() -> Result<(), Failed> {
    let stack = Stack::open("redrive").await?;
    stack.put("a.csv", "id,name\n1,Ann\n").await?;
    let id = format!("{}-again", stack.run);
    let command = json!({
        "job_id": id, "source": stack.input("a.csv")?.to_string(), "dest": stack.output("again/")?.to_string(), "command": "copy",
    });
    // As a version before this one would have kept it.
    let letter = json!({
        "reason": format!("{}: it knows no `copy`", stack.run), "arrived_ms": 1_714_557_600_000u64, "stored_ms": 1_714_557_600_001u64,
        "origin": {"stream": "weir-commands", "shard": "shardId-000000000000", "sequence_number": "1", "index": 0, "partition_key": "k"},
        "raw_base64": STANDARD.encode(command.to_string()),
    });
    let at =
        leave(&stack, &format!("poison/weir-commands/shardId-000000000000/{}.json", stack.run), &letter.to_string())
            .await?;
    let of_run = ["--reason", stack.run.as_str()];
    let found = listed(&of_run).await?;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["from"], &found[0]["at"]), (&json!("weir-commands"), &json!(at.to_string())));
    let table = done(&["list", "--reason", &stack.run]).await?;
    assert!(table.contains("weir-commands") && table.contains("2024-05-01 10:00:00"), "{table}");
    let said = done(&["send", "--reason", &stack.run, "--dry-run"]).await?;
    assert!(said.contains("would be sent: 1"), "{said}");
    assert_eq!(listed(&of_run).await?.len(), 1, "nothing was sent");
    assert!(listed(&["--reason", &stack.run, "--since", "2024-05-02T00:00:00Z"]).await?.is_empty());
    let said = done(&["send", "--reason", &stack.run, "--from", "weir-commands"]).await?;
    assert!(said.contains("sent: 1"), "{said}");
    assert_eq!(stack.settled(&id).await?.state, State::Done);
    assert!(listed(&of_run).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_still_is_not_understood_comes_back() -> Result<(), Failed> {
    let stack = Stack::open("redrive-poison").await?;
    let raw = format!("{}: no command \u{1F30A}\n", stack.run).into_bytes();
    let [number] = stack.send(std::slice::from_ref(&raw)).await?.try_into().map_err(|_| "another count")?;
    let first = stack.dead_letter(&number).await?;
    assert_eq!(first["origin"]["partition_key"], "test");
    let key = format!("poison/weir-commands/shardId-000000000000/{number}.json");
    let said = done(&["send", "--under", &key]).await?;
    assert!(said.contains("sent: 1"), "{said}");
    let begun = Instant::now();
    loop {
        let all = Location::parse(&format!("s3://{}/poison/weir-commands/", stack.dead_letters))?;
        let mut again = Vec::new();
        for object in weir_lake::list_all(&stack.lake, &all).await? {
            let read = stack.lake.get(&object.location, None, 0, object.size).await;
            let letter: Value = read.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            if letter["raw_base64"]
                .as_str()
                .is_some_and(|base64| STANDARD.decode(base64).is_ok_and(|bytes| bytes == raw))
            {
                again.push(object.location.key().to_owned());
            }
        }
        if let [one] = again.as_slice()
            && *one != key
        {
            return Ok(());
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{again:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn lines_leave_one_by_one_and_go_to_what_the_delivery_reads() -> Result<(), Failed> {
    let stack = Stack::open("redrive-lines").await?;
    let shards = stack.kinesis.list_shards().stream_name("weir-telemetry").send().await?;
    let mut ends = Vec::new();
    for shard in shards.shards() {
        let end = stack.kinesis.get_shard_iterator().stream_name("weir-telemetry").shard_id(shard.shard_id());
        ends.push(end.shard_iterator_type(ShardIteratorType::Latest).send().await?.shard_iterator);
    }
    let line = |n: u32, why: &str| {
        let raw = format!("{{\"id\":\"{}-{n}\",\"source\":\"heartbeat\"}}", stack.run);
        let letter = json!({
            "document": 0, "rule": "range", "field": "vendor_id", "reason": format!("{}: {why}", stack.run), "kept": "here", "value": 1,
            "raw_base64": STANDARD.encode(&raw), "delivery_stream": "weir-trips", "record_id": "1", "arrived_ms": 1_714_557_600_000u64,
        });
        (raw, letter.to_string())
    };
    let elsewhere = json!({"reason": stack.run, "problems": [], "kept": "firehose", "raw_sha256": "00"}).to_string();
    let lines = [line(0, "mended"), line(1, "not mended"), line(2, "mended")];
    let text = [lines[0].1.as_str(), &elsewhere, &lines[1].1, &lines[2].1].join("\n");
    let at = leave(&stack, &format!("poison/firehose/weir-trips/2024-05-01/{}.ndjson", stack.run), &text).await?;
    let reason = format!("{}: mended", stack.run);
    let begun = Instant::now();
    let said = done(&["send", "--reason", &reason, "--rate", "1"]).await?;
    assert!(begun.elapsed() >= Duration::from_secs(2), "one a second");
    assert!(said.contains("sent: 2"), "{said}");
    let left = stack.lines(&at).await?;
    let expected: Vec<Value> =
        [elsewhere.as_str(), &lines[1].1].iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    assert_eq!(left, expected, "the others stay");
    let (begun, mut came) = (Instant::now(), Vec::new());
    while came.len() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{came:?}");
        for end in &mut ends {
            let Some(iterator) = end.take() else { continue };
            let got = stack.kinesis.get_records().shard_iterator(iterator).send().await?;
            let ours = got.records().iter().map(|record| String::from_utf8_lossy(record.data().as_ref()).into_owned());
            came.extend(ours.filter(|text| text.contains(&stack.run)));
            *end = got.next_shard_iterator;
        }
    }
    came.sort();
    assert_eq!(came, [lines[0].0.clone(), lines[2].0.clone()]);
    // Sent twice from where it lies, it is gone the second time.
    let said = done(&["send", "--reason", &reason]).await?;
    assert!(said.contains("sent: 0"), "{said}");
    Ok(())
}

#[tokio::test]
async fn kafkas_records_are_as_they_were() -> Result<(), Failed> {
    let stack = Stack::open("redrive-kafka").await?;
    let (brokers, topic) = (brokers()?, stack.run.clone());
    make_topics(&brokers, std::slice::from_ref(&topic), 3).await?;
    let line = |n: i32, value: Value| {
        json!({
            "topic": topic, "partition": 2, "offset": n, "timestamp_ms": 1_714_557_600_000i64 + i64::from(n), "rule": "json", "field": null,
            "reason": format!("{topic}: no JSON"), "value": null, "key_base64": STANDARD.encode(format!("key-{n}")),
            "headers": [{"name": "trace", "value_base64": STANDARD.encode([0u8, 255])}], "value_base64": value,
        })
        .to_string()
    };
    let text = [line(0, STANDARD.encode([1u8, 2, 255]).into()), line(1, Value::Null)].join("\n");
    let at = leave(&stack, &format!("poison/ingest/{topic}/2/x.ndjson"), &text).await?;
    let (code, _, wrong) = redrive(&["send", "--from", &topic]).await?;
    assert!(code == Some(1) && wrong.contains("--kafka"), "{wrong}");
    let said = done(&["send", "--from", &topic, "--kafka", &brokers]).await?;
    assert!(said.contains("sent: 2"), "{said}");
    assert!(stack.lake.head(&at).await.is_err(), "nothing of it is left");
    let mut config = ClientConfig::new();
    let consumer: BaseConsumer = config.set("bootstrap.servers", &brokers).set("group.id", &topic).create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&topic, 2, Offset::Beginning)?;
    consumer.assign(&from)?;
    for n in 0..2 {
        let message = consumer.poll(Duration::from_secs(20)).ok_or("it did not come")??;
        let value: Option<&[u8]> = (n == 0).then_some(&[1, 2, 255]);
        assert_eq!((message.payload(), message.key()), (value, Some(format!("key-{n}").as_bytes())));
        // An old time would have the topic forget it at once.
        assert!(message.timestamp().to_millis() > Some(1_714_557_600_002), "{:?}", message.timestamp());
        let header = message.headers().ok_or("no headers")?.get(0);
        assert_eq!((header.key, header.value), ("trace", Some(&[0u8, 255][..])));
    }
    Ok(())
}

#[tokio::test]
async fn a_command_line_that_would_send_everything_is_refused() -> Result<(), Failed> {
    let (code, _, wrong) = redrive(&["send"]).await?;
    assert!(code == Some(2) && wrong.contains("--all"), "{wrong}");
    let (code, _, wrong) = redrive(&["list", "--since", "yesterday"]).await?;
    assert!(code == Some(2) && wrong.contains("2024-05-01T10:00:00Z"), "{wrong}");
    Ok(())
}
