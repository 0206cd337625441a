//! `clean` and `aggregate` over files of every format.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use weir_command::Format;
use weir_contract::{Audience, Contract, contract};
use weir_formats::{
    BytesInput, Cleaned, Cleaning, ConvertError, Input, MemoryOutput, Output, Settings, Sink, aggregate, clean, convert,
};

fn settings() -> Settings {
    // Units of a few hundred rows.
    Settings { threads: 3, block_bytes: 64 << 10, ..Settings::for_machine() }
}

fn cleaning(contract: &Contract) -> Cleaning<'_> {
    Cleaning { contract, audience: Audience::Tables, now_micros: 1_700_000_000_000_000 }
}

/// Page logs of ten days as NDJSON; every 50th is bad in one of three ways. Returns how many are good and their TTI in all.
fn page_logs(rows: usize) -> (String, usize, i64) {
    let (mut text, mut good, mut sum) = (String::new(), 0, 0);
    for row in 0..rows {
        let tti = row % 997;
        let line = format!(
            r#"{{"event_timestamp":"2024-03-{:02}T12:34:56.{:03}Z","session_id":"s-{row}","page_url":"https://shop.example/{}?q={row}","user_id":{row},"TTI":{tti},"TTAR":"{}"}}"#,
            row % 10 + 1,
            row % 1000,
            ["home", "cart", "search"][row % 3],
            tti + 5,
        );
        match row % 150 {
            7 => text += &line.replace("2024-03", "2024-13"),
            57 => text += &line[..40],
            107 => text += &line.replace("\"TTI\":", "\"TTI\":-1"),
            _ => {
                text += &line;
                good += 1;
                sum += tti as i64;
            }
        }
        text.push('\n');
    }
    (text, good, sum)
}

fn run(text: impl Into<bytes::Bytes>, name: &str, contract: &Contract, settings: &Settings) -> (Cleaned, MemoryOutput) {
    let inputs: Vec<Arc<dyn Input>> = vec![Arc::new(BytesInput::new(name, text))];
    let output = MemoryOutput::default();
    let cleaned = clean(&inputs, &cleaning(contract), &output, settings).unwrap();
    (cleaned, output)
}

fn rows(output: &MemoryOutput, name: &str) -> Vec<RecordBatch> {
    let bytes = output.files()[name].clone();
    ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().map(Result::unwrap).collect()
}

fn quarantine(output: &MemoryOutput) -> Vec<Value> {
    let files = output.files();
    let text = String::from_utf8(files["_quarantine/part-00000.ndjson"].to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// An output whose files take a while to be finished; of one partition they never are.
#[derive(Default)]
struct Slow {
    files: MemoryOutput,
    /// Files being finished now, and the most at a time.
    ending: Arc<(AtomicUsize, AtomicUsize)>,
    broken: Option<&'static str>,
}

struct SlowFile {
    file: Box<dyn Sink>,
    ending: Arc<(AtomicUsize, AtomicUsize)>,
    broken: bool,
}

impl Output for Slow {
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let broken = self.broken.is_some_and(|broken| name.contains(broken));
        Ok(Box::new(SlowFile { file: self.files.create(name)?, ending: Arc::clone(&self.ending), broken }))
    }
}

impl io::Write for SlowFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for SlowFile {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let (now, most) = &*self.ending;
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(50));
        now.fetch_sub(1, Ordering::SeqCst);
        if self.broken { Err(io::Error::other("the disk is full")) } else { self.file.finish() }
    }
}

#[test]
fn files_of_many_partitions_are_finished_together_and_after_one_that_is_not_no_more_are() {
    let logs = contract("page_logs").unwrap();
    let (text, ..) = page_logs(1_000);
    // A hundred days, of which no more than sixteen are begun at a time.
    let text: String = (0..10).map(|year| text.replace("2024-03-", &format!("20{}-03-", 10 + year))).collect();
    let inputs: Vec<Arc<dyn Input>> = vec![Arc::new(BytesInput::new("logs.json", text))];
    let slow = Slow::default();
    let cleaned = clean(&inputs, &cleaning(&logs), &slow, &settings()).unwrap();
    assert_eq!(cleaned.summary.files.len(), 100);
    let bytes: usize = cleaned.summary.files.iter().map(|name| slow.files.files()[name].len()).sum();
    assert_eq!(cleaned.summary.bytes_out, bytes as u64);
    assert!(slow.ending.1.load(Ordering::SeqCst) > 1, "one after the other");
    let slow = Slow { broken: Some("2010-03-01"), ..Slow::default() };
    let error = clean(&inputs, &cleaning(&logs), &slow, &settings()).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let finished = slow.files.files().keys().filter(|name| name.ends_with(".parquet")).count();
    assert!(finished < 50, "{finished} files were finished after one could not be");
}

#[test]
fn page_logs_become_partitioned_parquet_and_bad_rows_lie_beside_them() {
    let logs = contract("page_logs").unwrap();
    let (text, good, sum) = page_logs(30_000);
    let (cleaned, output) = run(text, "logs.json", &logs, &settings());
    assert_eq!((cleaned.clean, cleaned.summary.rows, cleaned.partitions), (good as u64, good as u64, 10));
    let mut files = cleaned.summary.files.clone();
    files.sort();
    assert_eq!(files[0], "event_date=2024-03-01/part-00000.parquet");
    assert_eq!(files.len(), 10, "{files:?}");
    let (mut found, mut total) = (0, 0);
    for file in &files {
        for batch in rows(&output, file) {
            assert!(batch.column_by_name("event_date").is_none(), "a partition is a folder");
            assert!(batch["page_url"].as_string::<i32>().iter().flatten().all(|url| !url.contains('?')));
            found += batch.num_rows();
            total += batch["tti"].as_primitive::<Int64Type>().values().iter().sum::<i64>();
        }
    }
    assert_eq!((found, total), (good, sum));
    let bad = quarantine(&output);
    assert_eq!(bad.len() as u64, cleaned.summary.quarantined);
    assert_eq!(bad.len(), 30_000 - good);
    assert_eq!(
        (bad[0]["line"].as_u64(), bad[0]["rule"].as_str(), bad[0]["field"].as_str()),
        (Some(8), Some("type"), Some("event_timestamp"))
    );
    assert!(bad[0]["raw"].as_str().unwrap().starts_with("{\"event_timestamp\":\"2024-13"));
    assert_eq!(bad[1]["rule"], "json");
    assert_eq!((bad[2]["rule"].as_str(), bad[2]["field"].as_str()), (Some("range"), Some("tti")));
    let broken: BTreeMap<_, _> = cleaned.broken.iter().cloned().collect();
    assert_eq!(
        broken,
        BTreeMap::from([
            ("`event_timestamp` breaks type".to_owned(), 200),
            ("`tti` breaks range".to_owned(), 200),
            ("rule json".to_owned(), 200)
        ])
    );
}

#[test]
fn little_memory_makes_more_files_and_the_same_rows_in_the_same_order() {
    let logs = contract("page_logs").unwrap();
    let (text, good, _) = page_logs(30_000);
    let small = Settings { waiting_bytes: 200_000, open_bytes: 300_000, ..settings() };
    let (cleaned, output) = run(text.clone(), "logs.json", &logs, &small);
    assert!(cleaned.summary.files.len() > 10, "{}", cleaned.summary.files.len());
    let all = |output: &MemoryOutput| {
        let mut rows_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in output.files().keys().filter(|name| name.ends_with(".parquet")) {
            for batch in rows(output, file) {
                let sessions = batch["session_id"].as_string::<i32>().iter().flatten().map(str::to_owned);
                rows_of.entry(file.split('/').next().unwrap().to_owned()).or_default().extend(sessions);
            }
        }
        rows_of
    };
    let (_, whole) = run(text, "logs.json", &logs, &settings());
    assert_eq!(all(&output), all(&whole));
    assert_eq!(all(&whole).values().map(Vec::len).sum::<usize>(), good);
}

#[test]
fn the_same_rows_from_every_format_are_the_same_table() {
    let logs = contract("page_logs").unwrap();
    let (text, good, sum) = page_logs(3_000);
    // Only good lines: a typed format can't hold the bad ones.
    let text: String = text
        .lines()
        .filter(|line| line.ends_with("\"}") && !line.contains("2024-13") && !line.contains("\"TTI\":-1"))
        .map(|line| format!("{line}\n"))
        .collect();
    let inputs: Vec<Arc<dyn Input>> = vec![Arc::new(BytesInput::new("logs.json", text.clone()))];
    let mut tables = Vec::new();
    for format in [Format::NdJson, Format::Csv, Format::Parquet, Format::Avro] {
        let converted = MemoryOutput::default();
        let compression = format.compressions()[0];
        let summary = convert(&inputs, format, compression, &converted, &Settings::for_machine()).unwrap();
        let bytes = converted.files()[&summary.files[0]].clone();
        let (cleaned, output) = run(bytes, &summary.files[0], &logs, &settings());
        assert_eq!((cleaned.clean, cleaned.summary.quarantined), (good as u64, 0), "{format}");
        let table: Vec<RecordBatch> = output.files().keys().flat_map(|name| rows(&output, name)).collect();
        assert_eq!(
            table
                .iter()
                .map(|batch| batch["tti"].as_primitive::<Int64Type>().values().iter().sum::<i64>())
                .sum::<i64>(),
            sum
        );
        tables.push(arrow_select::concat::concat_batches(&table[0].schema(), &table).unwrap());
    }
    assert!(tables.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn delimited_text_with_quotes_line_breaks_and_bad_rows() {
    let orders = contract("orders").unwrap();
    let csv = "transactionId,customerId,productId,quantity,price,transactionTime,shippingAddress,paymentMethod\n\
        a,1,2,3,4.50,2024-01-01T00:00:00,\"1 \"\"Main\"\" St\nTown\",Cash\n\
        b,1,2,0,4.50,2024-01-01T00:00:00,\"\",Cash\n\
        c,1,2,3,4.505,2024-01-02T00:00:00,,Cash\n\
        d,1,2,3,4.5,2024-01-02T00:00:00,,\n\
        e,1,2,3,4.5,2024-01-02T00:00:00,,,,too,many\n";
    let (cleaned, output) = run(csv, "orders.csv", &orders, &settings());
    assert_eq!((cleaned.clean, cleaned.summary.quarantined), (2, 3));
    let a = &rows(&output, "event_date=2024-01-01/part-00000.parquet")[0];
    assert_eq!(a["shipping_address"].as_string::<i32>().value(0), "1 \"Main\" St\nTown");
    let d = &rows(&output, "event_date=2024-01-02/part-00000.parquet")[0];
    assert!(d["shipping_address"].is_null(0) && d["payment_method"].is_null(0));
    let bad = quarantine(&output);
    let of = |letter: &str| bad.iter().find(|line| line["raw"].as_str().unwrap().starts_with(letter)).unwrap();
    assert_eq!((of("b")["line"].as_u64(), of("b")["field"].as_str()), (Some(4), Some("quantity")));
    assert_eq!((of("c")["rule"].as_str(), of("c")["field"].as_str()), (Some("type"), Some("price")));
    assert!(of("e")["reason"].as_str().unwrap().contains("cells"));
}

#[test]
fn metrics_are_those_of_the_clean_rows() {
    let logs = contract("page_logs").unwrap();
    let (text, good, _) = page_logs(30_000);
    let inputs: Vec<Arc<dyn Input>> = vec![Arc::new(BytesInput::new("logs.json", text))];
    let output = MemoryOutput::default();
    let done = aggregate(&inputs, &cleaning(&logs), &output, &settings()).unwrap();
    assert_eq!((done.summary.rows, done.clean, done.summary.files.len()), (3, good as u64, 1));
    let table = &rows(&output, &done.summary.files[0])[0];
    let pages: Vec<_> = table["page_url"].as_string::<i32>().iter().flatten().collect();
    assert_eq!(pages, ["https://shop.example/cart", "https://shop.example/home", "https://shop.example/search"]);
    assert_eq!(table["event_count"].as_primitive::<Int64Type>().values().iter().sum::<i64>(), good as i64);
    assert_eq!(quarantine(&output).len(), 30_000 - good);
}

#[test]
fn a_file_without_one_good_row_is_an_error_and_heartbeats_alone_are_none() {
    let trips = contract("trips").unwrap();
    let inputs = |text: &str| -> Vec<Arc<dyn Input>> { vec![Arc::new(BytesInput::new("x.json", text.to_owned()))] };
    let output = MemoryOutput::default();
    let error = clean(&inputs("{\"a\":1}\n{\"a\":2}\n"), &cleaning(&trips), &output, &settings()).unwrap_err();
    assert!(
        matches!(&error, ConvertError::Data { reason, .. } if reason.contains("2 were bad") && reason.contains("`id` breaks required")),
        "{error}"
    );
    assert!(output.files().is_empty());
    let done = clean(&inputs("{\"source\":\"heartbeat\"}\n"), &cleaning(&trips), &output, &settings()).unwrap();
    assert_eq!((done.clean, done.dropped, done.summary.quarantined), (0, 1, 0));
}
