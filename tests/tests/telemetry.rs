//! Telemetry end to end: `weir produce` to Kinesis or straight to Firehose, the deployed transformation, Parquet by the Glue
//! table, read back by DuckDB; and the peer's library reading what we aggregate.
#![expect(clippy::indexing_slicing)] // JSON by names

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;
use weir_command::Location;
use weir_tests::{Failed, Stack, aws, cli};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

async fn weir(arguments: &[&str]) -> Result<Output, Failed> {
    Ok(cli()?.args(arguments).stdin(Stdio::null()).output().await?)
}

/// Trips of this run as CSV, every fiftieth bad; how many are good, and how long they took in all.
fn trips(run: &str, count: u64) -> (String, u64, u64) {
    let mut text =
        String::from("id,vendorId,pickupDate,dropoffDate,passengerCount,dropoffLatitude,tripDuration,source\n");
    let (mut good, mut sum) = (0, 0);
    for number in 0..count {
        let (day, latitude) = (number % 28 + 1, if number % 50 == 7 { "91.5" } else { "40.7" });
        text += &format!(
            "{run}-{number},2,2024-01-{day:02} 09:59:57,2024-02-01 00:00:00,3,{latitude},{number},\"a \"\"meter\"\"\"\n"
        );
        if number % 50 != 7 {
            good += 1;
            sum += number;
        }
    }
    (text, good, sum)
}

async fn landed(run: &str) -> Result<Value, Failed> {
    let bucket = std::env::var("WEIR_OUTPUT_BUCKET")?;
    let script = format!("{ROOT}/tests/landed.py");
    let said = Command::new("python3").args([&script, &bucket, "telemetry/trips/"]).env("RUN", run).output().await?;
    if !said.status.success() {
        return Err(String::from_utf8_lossy(&said.stderr).into());
    }
    Ok(serde_json::from_slice(&said.stdout)?)
}

/// The dead letters' documents and problems that name a record's trips of this run.
async fn bad_of(stack: &Stack, stream: &str, run: &str) -> Result<usize, Failed> {
    let at = Location::parse(&format!("s3://{}/poison/firehose/{stream}/", stack.dead_letters))?;
    let mut count = 0;
    for letter in stack.lines(&at).await? {
        use base64::Engine as _;
        let raw =
            base64::engine::general_purpose::STANDARD.decode(letter["raw_base64"].as_str().unwrap_or_default())?;
        count += usize::from(String::from_utf8_lossy(&raw).contains(run));
    }
    Ok(count)
}

async fn send_and_check(stack: &Stack, to: &[&str], stream: &str, count: u64, more: &[&str]) -> Result<Value, Failed> {
    let run = format!("t{}", stack.run.replace(|c: char| !c.is_ascii_alphanumeric(), ""));
    let (text, good, sum) = trips(&run, count);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    let path = file.path().to_string_lossy().into_owned();
    let sent = weir(&[&["produce", &path, "--json"], to, more].concat()).await?;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let said: Value = serde_json::from_slice(&sent.stdout)?;
    assert_eq!((&said["rows"], &said["failed"]), (&json!(count), &json!(0)), "{said}");
    let begun = Instant::now();
    loop {
        let found = landed(&run).await?;
        if found["rows"] == json!(good) {
            assert_eq!((&found["ids"], &found["duration"]), (&json!(good), &json!(sum)), "{found}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{found} of {good} rows");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Of aggregates, what is bad lies with us; of single rows, Firehose has them, and the emulator forgets those.
    if !more.contains(&"off") {
        assert_eq!(bad_of(stack, stream, &run).await?, 6);
    }
    Ok(said)
}

#[tokio::test]
async fn trips_by_kinesis_land_once_and_bad_ones_are_accounted_for() -> Result<(), Failed> {
    let stack = Stack::open("kinesis").await?;
    let said = send_and_check(&stack, &["--stream", "weir-telemetry"], "weir-trips", 300, &[]).await?;
    assert!(said["records"].as_u64().is_some_and(|records| records < 100), "they are aggregated: {said}");
    Ok(())
}

#[tokio::test]
async fn compressed_aggregates_are_opened_as_well() -> Result<(), Failed> {
    let stack = Stack::open("zstd").await?;
    send_and_check(&stack, &["--stream", "weir-telemetry"], "weir-trips", 300, &["--compress", "zstd"]).await?;
    Ok(())
}

#[tokio::test]
async fn single_rows_land_as_well() -> Result<(), Failed> {
    let stack = Stack::open("single").await?;
    let said =
        send_and_check(&stack, &["--stream", "weir-telemetry"], "weir-trips", 60, &["--aggregate", "off"]).await?;
    assert_eq!(said["records"], json!(60));
    Ok(())
}

/// A delivery stream of one's own, put to directly, by the contract that `MoreContracts` gives it.
#[tokio::test]
async fn trips_straight_to_firehose_land_as_well() -> Result<(), Failed> {
    const OWN: &str = "weir-trips-direct";
    let stack = Stack::open("direct").await?;
    let described =
        aws(&["firehose", "describe-delivery-stream", "--delivery-stream-name", "weir-trips", "--output", "json"])
            .await?;
    let mut destination: Value = serde_json::from_str(&described)?;
    let mut destination =
        destination["DeliveryStreamDescription"]["Destinations"][0]["ExtendedS3DestinationDescription"].take();
    if let Some(members) = destination.as_object_mut() {
        // The emulator gives these back as text.
        members.remove("BufferingHints");
        members.retain(|_, value| !value.is_null());
    }
    let configuration = destination.to_string();
    let created = aws(&[
        "firehose",
        "create-delivery-stream",
        "--delivery-stream-name",
        OWN,
        "--extended-s3-destination-configuration",
        &configuration,
    ])
    .await;
    if let Err(error) = created {
        // Of a run before.
        assert!(error.to_string().contains("ResourceInUse"), "{error}");
    }
    send_and_check(&stack, &["--delivery-stream", OWN], OWN, 300, &["--aggregate", "on"]).await?;
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_sent_is_kept_to_be_sent_again() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let unsent = folder.path().join("unsent.ndjson");
    let (rows, unsent_path) = (folder.path().join("rows.ndjson"), unsent.to_string_lossy().into_owned());
    let large = format!("{{\"id\":\"large\",\"x\":\"{}\"}}\n", "x".repeat(2 << 20));
    std::fs::write(&rows, format!("{{\"id\":\"small\"}}\n{large}"))?;
    let path = rows.to_string_lossy().into_owned();
    let sent = weir(&["produce", &path, "--stream", "weir-telemetry", "--unsent", &unsent_path]).await?;
    assert_eq!(sent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&sent.stderr).contains("1 rows were not sent"), "{sent:?}");
    assert_eq!(std::fs::read_to_string(&unsent)?, large);
    let none = weir(&["produce", &path, "--stream", "no-such-stream"]).await?;
    assert_eq!(none.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("stream no-such-stream: ResourceNotFoundException"),
        "{none:?}"
    );
    Ok(())
}

/// Random user records both ways between us and awslabs' library.
#[tokio::test]
async fn aws_kinesis_agg_reads_what_we_aggregate_and_we_what_it_does() -> Result<(), Failed> {
    use base64::Engine as _;
    let codec = base64::engine::general_purpose::STANDARD;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut batches = Vec::new();
    for _ in 0..50 {
        let records: Vec<weir_kpl::SubRecord> = (0..1 + random(60))
            .map(|_| weir_kpl::SubRecord {
                partition_key: format!("kéy-{}", random(9)),
                explicit_hash_key: (random(3) == 0)
                    .then(|| (u128::from(random(u64::MAX)) << 64 | u128::from(random(9))).to_string()),
                data: (0..random(400)).map(|_| random(256) as u8).collect::<Vec<u8>>().into(),
            })
            .collect();
        batches.push(records);
    }
    let lines: Vec<String> = batches
        .iter()
        .map(|records| {
            let mut aggregate = weir_kpl::Aggregate::new();
            records.iter().for_each(|record| aggregate.push(record.clone()));
            let plain: Vec<Value> = records
                .iter()
                .map(|record| json!([record.partition_key, record.explicit_hash_key, codec.encode(&record.data)]))
                .collect();
            json!({"ours": codec.encode(aggregate.finish()), "records": plain}).to_string()
        })
        .collect();
    let script = format!("{ROOT}/tests/kpl_peer.py");
    let mut peer =
        std::process::Command::new("python3").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = peer.stdin.take().ok_or("no stdin")?;
    let feed = std::thread::spawn(move || input.write_all((lines.join("\n") + "\n").as_bytes()));
    let said = peer.wait_with_output()?;
    feed.join().map_err(|_| "the feeder broke down")??;
    assert!(said.status.success());
    let answers: Vec<Value> =
        String::from_utf8(said.stdout)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(answers.len(), batches.len());
    for (answer, records) in answers.iter().zip(&batches) {
        let plain: Vec<Value> = records
            .iter()
            .map(|record| json!([record.partition_key, record.explicit_hash_key, codec.encode(&record.data)]))
            .collect();
        let mut read = answer["read"].clone();
        for (user, record) in read.as_array_mut().into_iter().flatten().zip(records) {
            // It takes the first explicit hash key for a record that has none.
            if record.explicit_hash_key.is_none() {
                user[1] = Value::Null;
            }
        }
        assert_eq!(read, json!(plain), "what it read of ours");
        let theirs = codec.decode(answer["theirs"].as_str().unwrap_or_default())?;
        assert_eq!(weir_kpl::open(&theirs.into()).as_ref(), Some(records), "what we read of its");
    }
    Ok(())
}
