//! `weir produce` to streams of the test's own, through a proxy that throttles and holds: what arrives, and in which order.
#![expect(clippy::indexing_slicing)] // JSON by names

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::ShardIteratorType;
use bytes::Bytes;
use serde_json::Value;
use tokio::process::Command;
use weir_kpl::{MOST_BYTES, Unpacked, hash_key, unpack};
use weir_local::faults::{Fault, Proxy, Rule};
use weir_tests::{Failed, Stack, cli};

const KEYS: usize = 23;
const THIRD: NonZeroU64 = NonZeroU64::MIN.saturating_add(2);

/// A stream, gone with the test.
struct Stream {
    client: Client,
    name: String,
    proxy: Proxy,
}

/// A row as it was found: its number, and whether the KCL would hand it to anybody.
struct Found {
    number: usize,
    delivered: bool,
}

impl Stream {
    async fn new(name: &str, shards: i32) -> Result<Self, Failed> {
        let stack = Stack::open(name).await?;
        let client = Client::new(&stack.aws);
        client.create_stream().stream_name(&stack.run).shard_count(shards).send().await?;
        for _ in 0..100 {
            let described = client.describe_stream_summary().stream_name(&stack.run).send().await?;
            if described
                .stream_description_summary()
                .is_some_and(|summary| summary.stream_status().as_str() == "ACTIVE")
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let proxy = Proxy::start(0, &std::env::var("AWS_ENDPOINT_URL")?).await?;
        Ok(Self { client, name: stack.run, proxy })
    }

    fn puts(&self, fault: Fault, after: u64) -> usize {
        let contains = vec!["Kinesis_20131202.PutRecords".to_owned()];
        self.proxy.faults.add(Rule { contains, fault, after, times: None })
    }

    /// The CLI with so many rows of these keys, filled up to about so many bytes.
    fn command(&self, folder: &Path, rows: usize, bytes: usize, more: &[&str]) -> Result<Command, Failed> {
        let path = folder.join("rows.ndjson");
        let fill = "x".repeat(bytes.saturating_sub(40));
        let row =
            |number: usize| format!("{{\"id\":\"key-{}\",\"number\":{number},\"fill\":\"{fill}\"}}\n", number % KEYS);
        std::fs::write(&path, (0..rows).map(row).collect::<String>())?;
        let path = path.to_string_lossy();
        let arguments = ["produce", &path, "--stream", &self.name, "--partition-key", "id", "--json", "--linger", "20"];
        let mut command = cli()?;
        command.args([&arguments[..], more].concat()).env("AWS_ENDPOINT_URL", self.proxy.endpoint());
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    async fn produce(&self, rows: usize, more: &[&str]) -> Result<Output, Failed> {
        let folder = tempfile::tempdir()?;
        Ok(self.command(folder.path(), rows, 50, more)?.output().await?)
    }

    /// All rows in the open shards, by key, in the order of their shard.
    async fn rows(&self) -> Result<BTreeMap<String, Vec<Found>>, Failed> {
        let mut found: BTreeMap<String, Vec<Found>> = BTreeMap::new();
        for shard in self.client.list_shards().stream_name(&self.name).send().await?.shards() {
            let range = shard.hash_key_range().ok_or("a shard without a range")?;
            let range: std::ops::RangeInclusive<u128> =
                range.starting_hash_key().parse()?..=range.ending_hash_key().parse()?;
            let request = self.client.get_shard_iterator().stream_name(&self.name).shard_id(shard.shard_id());
            let mut next = request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await?.shard_iterator;
            while let Some(iterator) = next {
                let page = self.client.get_records().shard_iterator(iterator).send().await?;
                for record in page.records() {
                    let data = Bytes::copy_from_slice(record.data().as_ref());
                    let key = record.partition_key().unwrap_or_default().to_owned();
                    let users = match unpack(&data, &mut MOST_BYTES.clone())? {
                        Unpacked::Plain => vec![(key, data)],
                        Unpacked::One(plain) => vec![(key, plain)],
                        Unpacked::Many(users) => {
                            users.into_iter().map(|(user, _)| (user.partition_key, user.data)).collect()
                        }
                    };
                    for (key, data) in users {
                        let row: Value = serde_json::from_slice(&data)?;
                        assert_eq!(row["id"], key.as_str());
                        let number = usize::try_from(row["number"].as_u64().ok_or("no number")?)?;
                        let delivered = range.contains(&hash_key(&key));
                        found.entry(key).or_default().push(Found { number, delivered });
                    }
                }
                next = page.next_shard_iterator.filter(|_| !page.records.is_empty());
            }
        }
        Ok(found)
    }

    async fn delete(self) -> Result<(), Failed> {
        self.client.delete_stream().stream_name(&self.name).send().await?;
        Ok(())
    }
}

/// The rows of a key, in the order they were written.
fn numbers_of(key: &str, rows: usize) -> Result<Vec<usize>, Failed> {
    let first = key.trim_start_matches("key-").parse()?;
    Ok((first..rows).step_by(KEYS).collect())
}

#[tokio::test]
async fn throttled_records_come_again_and_rows_of_a_key_stay_in_order() -> Result<(), Failed> {
    const ROWS: usize = 1000;
    for more in [
        &["--aggregate", "off"][..],
        &["--aggregate-bytes", "1500"],
        &["--compress", "zstd", "--aggregate-bytes", "1500"],
    ] {
        let stream = Stream::new("throttled", 2).await?;
        stream.puts(Fault::Throttle(THIRD), 0);
        let sent = stream.produce(ROWS, more).await?;
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        let said: Value = serde_json::from_slice(&sent.stdout)?;
        assert_eq!((said["rows"].as_u64(), said["failed"].as_u64()), (Some(ROWS as u64), Some(0)), "{said}");
        assert!(said["throttled"].as_u64() > Some(10) && said["throttled"] == said["retries"], "{said}");
        let found = stream.rows().await?;
        assert_eq!(found.len(), KEYS);
        for (key, rows) in &found {
            assert!(rows.iter().all(|row| row.delivered), "{key} is in another shard's aggregate");
            let numbers: Vec<usize> = rows.iter().map(|row| row.number).collect();
            assert_eq!(numbers, numbers_of(key, ROWS)?, "{more:?}");
        }
        stream.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_to_the_end_is_kept_and_can_be_sent_again() -> Result<(), Failed> {
    let stream = Stream::new("refused", 1).await?;
    stream.puts(Fault::Throttle(NonZeroU64::MIN), 0);
    let folder = tempfile::tempdir()?;
    let unsent = folder.path().join("unsent.ndjson");
    let unsent = unsent.to_string_lossy();
    let sent = stream.produce(100, &["--attempts", "2", "--unsent", &unsent]).await?;
    assert_eq!(sent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&sent.stderr).contains("100 rows were not sent"), "{sent:?}");
    stream.proxy.faults.clear();
    let arguments = ["produce", &unsent, "--stream", &stream.name, "--partition-key", "id"];
    let again = cli()?.args(arguments).stdin(Stdio::null()).output().await?;
    assert!(again.status.success(), "{again:?}");
    let found = stream.rows().await?;
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 100);
    assert!(found.values().all(|rows| rows.is_sorted_by_key(|row| row.number)));
    stream.delete().await
}

/// Ctrl-C while everything waits for a stream that does not answer: what has been read is sent, when it does again.
#[tokio::test]
async fn an_interrupted_producer_sends_all_that_it_has_read() -> Result<(), Failed> {
    const ROWS: usize = 60_000;
    let stream = Stream::new("interrupted", 1).await?;
    let held = stream.puts(Fault::Hold, 0);
    let folder = tempfile::tempdir()?;
    let producer = stream.command(folder.path(), ROWS, 1000, &[])?.spawn()?;
    let pid = producer.id().ok_or("it is gone")?.to_string();
    let interrupt = async {
        stream.proxy.faults.until_held(held).await?;
        // All room is taken soon.
        tokio::time::sleep(Duration::from_secs(2)).await;
        std::process::Command::new("kill").args(["-INT", &pid]).status()?;
        // Longer than a quiet reader is waited for.
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.proxy.faults.release(held);
        Ok::<_, Failed>(())
    };
    let (ended, interrupted) = tokio::join!(producer.wait_with_output(), interrupt);
    let (ended, ()) = (ended?, interrupted?);
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    let said: Value = serde_json::from_slice(&ended.stdout)?;
    let mut numbers: Vec<usize> = stream.rows().await?.into_values().flatten().map(|row| row.number).collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 10_000 && numbers.len() < ROWS, "{said}");
    assert_eq!(said["rows"].as_u64(), Some(numbers.len() as u64), "{said}");
    // The first so many of the file, without a gap.
    assert!(numbers.iter().enumerate().all(|(at, number)| at == *number), "{said}");
    stream.delete().await
}

/// The stream is split under the producer. The emulator forgets a shard that is split, so what it holds is read before.
#[tokio::test]
async fn a_stream_that_is_resharded_gets_every_row_where_it_is_delivered() -> Result<(), Failed> {
    const ROWS: usize = 3000;
    let stream = Stream::new("resharded", 1).await?;
    let held = stream.puts(Fault::Hold, 2);
    let split = async {
        stream.proxy.faults.until_held(held).await?;
        // The two that passed are answered by then, and nothing more comes to the shard that is read now.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = stream.rows().await?;
        let shards = stream.client.list_shards().stream_name(&stream.name).send().await?;
        let shard = shards.shards().first().ok_or("no shard")?.shard_id().to_owned();
        let half = (u128::MAX / 2 + 1).to_string();
        let request = stream.client.split_shard().stream_name(&stream.name).shard_to_split(shard);
        request.new_starting_hash_key(half).send().await?;
        stream.proxy.faults.release(held);
        Ok::<_, Failed>(before)
    };
    let (sent, before) = tokio::join!(stream.produce(ROWS, &["--aggregate-bytes", "1500"]), split);
    let (sent, before) = (sent?, before?);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let said: Value = serde_json::from_slice(&sent.stdout)?;
    assert!(said["resent"].as_u64() > Some(0), "what came to the wrong shard is sent again: {said}");
    let after = stream.rows().await?;
    for key in (0..KEYS).map(|key| format!("key-{key}")) {
        let delivered =
            [&before, &after].into_iter().filter_map(|rows| rows.get(&key)).flatten().filter(|row| row.delivered);
        let mut first_seen = Vec::new();
        for row in delivered {
            if !first_seen.contains(&row.number) {
                first_seen.push(row.number);
            }
        }
        assert_eq!(first_seen, numbers_of(&key, ROWS)?, "{key}: lost, or out of order");
    }
    stream.delete().await
}
