//! The records of one topic-partition as files: the table's, by partition of the dataset, and what is put aside. Purely.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use serde_json::{Value, json};
use weir_contract::{Audience, Cleaner, Contract, Rule, Verdict, Violation};
use weir_delivery::Failure;
use weir_delivery::kafka::Record;
use weir_formats::{ConvertError, by_partition, to_parquet};

/// What anyone can prove completeness with.
pub const TOPIC: &str = "_topic";
/// See [`TOPIC`].
pub const PARTITION: &str = "_partition";
/// See [`TOPIC`].
pub const OFFSET: &str = "_offset";

/// Where records come from, and what they are.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub number: i32,
    /// What the topic's records are cleaned by, if anything.
    pub contract: Option<Arc<Contract>>,
}

/// What became of the records.
#[derive(Debug, Default)]
pub struct Made {
    /// The table's files.
    pub files: Vec<TableFile>,
    /// Rows that break a rule, a line of JSON each.
    pub quarantine: Aside,
    /// Records that are no rows at all, in the same way.
    pub letters: Aside,
    /// Rows in the table's files.
    pub clean: u64,
    /// Rows that the contract drops.
    pub dropped: u64,
    /// Records without a value.
    pub tombstones: u64,
}

/// A file of a table.
#[derive(Debug)]
pub struct TableFile {
    /// `event_date=2024-01-04/`.
    pub folder: Arc<str>,
    /// How many rows.
    pub rows: u64,
    /// Parquet.
    pub bytes: Bytes,
}

/// Lines about records that are not in the table.
#[derive(Debug, Default)]
pub struct Aside {
    /// NDJSON.
    pub lines: Vec<u8>,
    /// How many.
    pub count: u64,
}

impl Aside {
    /// Adds a record with all that is needed to send it again.
    pub fn add(&mut self, origin: &Origin, record: &Record, violation: &Violation) {
        let base64 = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
        let headers: Vec<Value> =
            record.headers.iter().map(|(name, value)| json!({"name": name, "value_base64": base64(value)})).collect();
        let raw = match &record.value {
            Ok(value) => json!({"value_base64": value.as_deref().map(base64)}),
            // Not Kafka's bytes but the event's: they could not be told apart.
            Err(unreadable) => json!({"event_record_base64": base64(&unreadable.raw)}),
        };
        let mut line = json!({
            "topic": origin.topic,
            "partition": origin.number,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "rule": violation.rule.name(),
            "field": violation.field,
            "reason": violation.to_string(),
            "value": violation.value,
            "key_base64": record.key.as_deref().map(base64),
            "headers": headers,
        });
        if let (Value::Object(line), Value::Object(mut raw)) = (&mut line, raw) {
            line.append(&mut raw);
        }
        self.lines.extend_from_slice(line.to_string().as_bytes());
        self.lines.push(b'\n');
        self.count += 1;
    }
}

/// Cleans records and makes files of them. `now_micros` is the time that derived columns are given, in microseconds since 1970.
///
/// # Errors
/// A defect of ours.
pub fn make<'a>(
    origin: &Origin,
    records: impl IntoIterator<Item = (i64, &'a Record)>,
    now_micros: i64,
) -> Result<Made, Failure> {
    let mut made = Made::default();
    let Some(contract) = &origin.contract else {
        let reason =
            format!("no contract is set for the topic `{}`; the parameter KafkaTopics does that", origin.topic);
        let violation = Violation::unreadable(reason);
        records.into_iter().for_each(|(_, record)| made.letters.add(origin, record, &violation));
        return Ok(made);
    };
    let mut cleaner = Cleaner::new(contract, Audience::Tables, now_micros);
    let mut offsets = Vec::new();
    for (offset, record) in records {
        let value = match &record.value {
            Ok(Some(value)) => value,
            Ok(None) => {
                made.tombstones += 1;
                continue;
            }
            Err(unreadable) => {
                made.letters.add(origin, record, &Violation::unreadable(unreadable.reason.clone()));
                continue;
            }
        };
        match cleaner.push_json(value) {
            Verdict::Clean => offsets.push(offset),
            Verdict::Dropped => made.dropped += 1,
            Verdict::Bad(violation) => {
                let aside = match violation.rule {
                    Rule::Json | Rule::Object => &mut made.letters,
                    _ => &mut made.quarantine,
                };
                aside.add(origin, record, &violation);
            }
        }
    }
    made.clean = offsets.len() as u64;
    if made.clean > 0 {
        let internal = |error: arrow_schema::ArrowError| Failure::internal("Rows", error.to_string());
        let rows = placed(origin, cleaner.take().map_err(internal)?, offsets).map_err(internal)?;
        made.files = files(contract, &rows).map_err(|error| Failure::internal("Parquet", error.to_string()))?;
    }
    Ok(made)
}

fn files(contract: &Contract, rows: &RecordBatch) -> Result<Vec<TableFile>, ConvertError> {
    let file = |(folder, rows): (Arc<str>, RecordBatch)| {
        Ok(TableFile { folder, rows: rows.num_rows() as u64, bytes: to_parquet(&rows)? })
    };
    by_partition(rows, &contract.partition_by())?.into_iter().map(file).collect()
}

/// The columns of a dataset's table: the contract's, and where each row comes from.
pub fn schema(contract: &Contract) -> SchemaRef {
    let own = contract.schema();
    Arc::new(Schema::new(own.fields().iter().cloned().chain(places()).collect::<Vec<_>>()))
}

fn places() -> [Arc<Field>; 3] {
    let places = [(TOPIC, DataType::Utf8), (PARTITION, DataType::Int32), (OFFSET, DataType::Int64)];
    places.map(|(name, kind)| Arc::new(Field::new(name, kind, false)))
}

/// A table's file without a row: what is put by a name that nothing may be written to any more. Without a contract it has the columns
/// that every table has.
///
/// # Errors
/// A defect of ours.
pub fn empty_file(contract: Option<&Contract>) -> Result<Bytes, Failure> {
    let schema = match contract {
        None => Schema::new(places().to_vec()),
        Some(contract) => {
            let (all, folders) = (schema(contract), contract.partition_by());
            let is_kept = |field: &&Arc<Field>| !folders.contains(&field.name().as_str());
            Schema::new(all.fields().iter().filter(is_kept).cloned().collect::<Vec<_>>())
        }
    };
    to_parquet(&RecordBatch::new_empty(Arc::new(schema)))
        .map_err(|error| Failure::internal("Parquet", error.to_string()))
}

fn placed(origin: &Origin, rows: RecordBatch, offsets: Vec<i64>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let count = offsets.len();
    let fields: Vec<_> = rows.schema_ref().fields().iter().cloned().chain(places()).collect();
    let more: [ArrayRef; 3] = [
        Arc::new(StringArray::from(vec![origin.topic.as_str(); count])),
        Arc::new(Int32Array::from(vec![origin.number; count])),
        Arc::new(Int64Array::from(offsets)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), [rows.columns(), &more].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use weir_contract::contract;
    use weir_delivery::kinesis::Unreadable;

    fn origin(topic: &str, dataset: Option<&str>) -> Origin {
        let contract = dataset.map(|name| Arc::new(contract(name).unwrap()));
        Origin { topic: topic.into(), number: 3, contract }
    }

    fn record(offset: i64, value: Option<&str>) -> Record {
        let value = Ok(value.map(|text| text.as_bytes().to_vec()));
        Record { offset: Some(offset), timestamp_ms: Some(1), key: Some(b"k".to_vec()), value, headers: Vec::new() }
    }

    fn page_log(day: &str, tti: i64) -> String {
        format!(r#"{{"event_timestamp":"{day}T10:00:00Z","session_id":"s","page_url":"/a?q","TTI":{tti},"TTAR":2}}"#)
    }

    fn read(file: &TableFile) -> RecordBatch {
        ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap().build().unwrap().next().unwrap().unwrap()
    }

    fn lines(aside: &Aside) -> Vec<Value> {
        std::str::from_utf8(&aside.lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn rows_are_by_date_with_their_places_and_what_is_bad_is_put_aside_alone() {
        let origin = origin("log_topic", Some("page_logs"));
        let unreadable = Unreadable { reason: "not base64".into(), raw: b"{}".to_vec() };
        let records = [
            record(10, Some(&page_log("2024-05-01", 1))),
            record(11, Some(&page_log("2024-05-02", 1))),
            record(12, Some(&page_log("2024-05-01", -1))),
            record(13, Some("no json")),
            record(14, None),
            Record { value: Err(unreadable), ..record(15, None) },
            record(16, Some(&page_log("2024-05-01", 1))),
        ];
        let made = make(&origin, records.iter().map(|one| (one.offset.unwrap(), one)), 0).unwrap();
        assert_eq!((made.clean, made.tombstones, made.quarantine.count, made.letters.count), (3, 1, 1, 2));
        let folders: Vec<_> = made.files.iter().map(|file| (file.folder.as_ref(), file.rows)).collect();
        assert_eq!(folders, [("event_date=2024-05-01/", 2), ("event_date=2024-05-02/", 1)]);
        let rows = read(&made.files[0]);
        assert_eq!(rows[OFFSET].as_primitive::<Int64Type>().values(), &[10, 16]);
        assert_eq!((rows[TOPIC].as_string::<i32>().value(1), rows[PARTITION].len()), ("log_topic", 2));
        assert_eq!(rows["page_url"].as_string::<i32>().value(0), "/a");
        let bad = &lines(&made.quarantine)[0];
        assert_eq!(
            (bad["offset"].as_i64(), bad["rule"].as_str(), bad["field"].as_str()),
            (Some(12), Some("range"), Some("tti"))
        );
        let raw = base64_simd::STANDARD.decode_to_vec(bad["value_base64"].as_str().unwrap()).unwrap();
        assert_eq!(raw, page_log("2024-05-01", -1).as_bytes());
        assert_eq!(bad["key_base64"], "aw==");
        let letters = lines(&made.letters);
        assert_eq!((letters[0]["offset"].as_i64(), letters[0]["rule"].as_str()), (Some(13), Some("json")));
        assert_eq!(
            (letters[1]["reason"].as_str(), letters[1]["event_record_base64"].as_str()),
            (Some("json: not base64"), Some("e30="))
        );
    }

    #[test]
    fn a_topic_without_a_contract_loses_nothing() {
        let made = make(&origin("other", None), [(7, &record(7, Some("{}")))], 0).unwrap();
        assert_eq!((made.letters.count, made.files.len()), (1, 0));
        assert!(lines(&made.letters)[0]["reason"].as_str().unwrap().contains("KafkaTopics"));
    }

    #[test]
    fn a_closed_name_has_the_tables_columns_and_is_smaller_than_any_file_with_a_row() {
        for name in weir_contract::names() {
            let contract = contract(name).unwrap();
            let empty = empty_file(Some(&contract)).unwrap();
            let columns = ParquetRecordBatchReaderBuilder::try_new(empty.clone()).unwrap().schema().clone();
            assert_eq!(columns.fields().len() + contract.partition_by().len(), schema(&contract).fields().len());
        }
        let made =
            make(&origin("t", Some("page_logs")), [(7, &record(7, Some(&page_log("2024-05-01", 1))))], 0).unwrap();
        assert!(empty_file(contract("page_logs").ok().as_ref()).unwrap().len() < made.files[0].bytes.len());
        assert_eq!(
            read(&made.files[0]).schema().fields().len() + 1,
            schema(&contract("page_logs").unwrap()).fields().len()
        );
    }

    #[test]
    fn thousands_of_dates_are_as_many_files() {
        let origin = origin("log_topic", Some("page_logs"));
        let records: Vec<Record> = (0..3_000)
            .map(|n| {
                record(n, Some(&page_log(&format!("{}-{:02}-{:02}", 2000 + n / 336, n / 28 % 12 + 1, n % 28 + 1), 1)))
            })
            .collect();
        let made = make(&origin, records.iter().map(|one| (one.offset.unwrap(), one)), 0).unwrap();
        assert_eq!((made.files.len(), made.clean), (3_000, 3_000));
    }
}
