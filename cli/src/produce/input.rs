//! Rows from a file or standard input.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use weir_contract::{Contract, Type};

use super::array::elements;
use super::channel::RowsIn;
use super::lanes::Row;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Written {
    /// With a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
    /// One JSON array of objects.
    Json,
}

/// Reads rows and hands them on, at a pace.
pub(crate) struct Reading {
    pub(crate) contract: Contract,
    /// The member whose value is the partition key; none means any shard.
    pub(crate) key: Option<String>,
    pub(crate) format: Option<Written>,
    /// Rows a second.
    pub(crate) rate: Option<f64>,
    /// Set to end early: what has been taken from the input is still handed on, down to the last whole row.
    pub(crate) stop: Arc<AtomicBool>,
}

/// Opens a path, or standard input for `-`.
pub(crate) fn open(path: &str) -> io::Result<Box<dyn Read + Send>> {
    Ok(match path {
        "-" => Box::new(io::stdin()),
        path => Box::new(File::open(path)?),
    })
}

impl Reading {
    /// Until the input ends or nobody wants more.
    pub(crate) fn run(&self, input: Box<dyn Read + Send>, rows: &RowsIn) -> io::Result<()> {
        let mut input = BufReader::with_capacity(1 << 20, input);
        let format = match self.format {
            Some(format) => format,
            None => {
                let first = input.fill_buf()?.iter().find(|byte| !byte.is_ascii_whitespace());
                match first {
                    Some(b'{') => Written::Ndjson,
                    Some(b'[') => Written::Json,
                    _ => Written::Csv,
                }
            }
        };
        let mut pace = Pace { begun: Instant::now(), sent: 0, rate: self.rate, stop: Arc::clone(&self.stop) };
        match format {
            Written::Ndjson => self.lines(input, &mut pace, rows),
            Written::Json => self.array(input, &mut pace, rows),
            Written::Csv => self.table(input, &mut pace, rows),
        }
    }

    fn lines(&self, mut input: BufReader<impl Read>, pace: &mut Pace, rows: &RowsIn) -> io::Result<()> {
        let (mut line, mut number) = (Vec::new(), 0u64);
        loop {
            line.clear();
            if pace.stopped() && !input.buffer().contains(&b'\n') {
                return Ok(());
            }
            if input.by_ref().take(MOST_ROW_BYTES).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            number += 1;
            if line.len() as u64 == MOST_ROW_BYTES && line.last() != Some(&b'\n') {
                return Err(too_large(&format!("line {number}"), "is it NDJSON?"));
            }
            let document = line.trim_ascii();
            if document.is_empty() {
                continue;
            }
            // What is not JSON goes on as well: saying what is wrong with it is the contract's.
            if !pace.send(rows, self.key_in(document), Bytes::copy_from_slice(document)) {
                return Ok(());
            }
        }
    }

    fn array(&self, input: BufReader<impl Read>, pace: &mut Pace, rows: &RowsIn) -> io::Result<()> {
        let (input, cut, since) = self.stopping(input, "is a quote or a bracket left open?");
        // Byte by byte is how it is read.
        let ended = elements(BufReader::new(input), |element| {
            since.set(0);
            pace.send(rows, self.key_in(element.as_bytes()), Bytes::from(element))
        });
        // What the early end cut in two is no element.
        if cut.get() { Ok(()) } else { ended }
    }

    /// The input, with whether it was ended early, and the bytes since the last row.
    fn stopping<R: Read>(
        &self,
        input: BufReader<R>,
        hint: &'static str,
    ) -> (Stopping<R>, Rc<Cell<bool>>, Rc<Cell<u64>>) {
        let (cut, since) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let stop = Arc::clone(&self.stop);
        (Stopping { input, stop, cut: Rc::clone(&cut), since: Rc::clone(&since), hint }, cut, since)
    }

    fn key_in(&self, document: &[u8]) -> Option<String> {
        self.key.as_deref().and_then(|key| key_of(document, |name| self.same_column(name, key)))
    }

    fn table(&self, input: BufReader<impl Read>, pace: &mut Pace, rows: &RowsIn) -> io::Result<()> {
        let (input, cut, since) = self.stopping(input, "is a quote left open?");
        let mut table = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let names: Vec<String> =
            table.headers().map_err(io::Error::other)?.iter().map(|name| name.trim().to_owned()).collect();
        let numeric: Vec<bool> = names.iter().map(|name| self.is_number(name)).collect();
        let place = self.key.as_ref().and_then(|key| names.iter().position(|name| self.same_column(name, key)));
        let mut record = csv::ByteRecord::new();
        while table.read_byte_record(&mut record).map_err(io::Error::other)? {
            since.set(0);
            // What the early end cut in two is no row.
            if cut.get() {
                break;
            }
            let whole = record.len() == names.len() && std::str::from_utf8(record.as_slice()).is_ok();
            if !whole {
                // Cells in the wrong columns could pass as clean. It goes on as it stands, which is no JSON.
                let cells: Vec<&[u8]> = record.iter().collect();
                if !pace.send(rows, None, Bytes::from(cells.join(&b","[..]))) {
                    break;
                }
                continue;
            }
            let mut document = String::from("{");
            for ((cell, name), numeric) in record.iter().zip(&names).zip(&numeric) {
                if cell.is_empty() {
                    continue;
                }
                if document.len() > 1 {
                    document.push(',');
                }
                let text = String::from_utf8_lossy(cell);
                // As JSON writes numbers: `.5` is one for us, and not for JSON.
                let digit = cell.strip_prefix(b"-").unwrap_or(cell).first().is_some_and(u8::is_ascii_digit);
                let number =
                    *numeric && digit && (weir_values::int(cell).is_some() || weir_values::float(cell).is_some());
                document.push_str(&serde_json::Value::from(name.as_str()).to_string());
                document.push(':');
                document.push_str(&if number { text.into_owned() } else { serde_json::Value::from(text).to_string() });
            }
            document.push('}');
            let key = place.and_then(|place| record.get(place)).filter(|key| !key.is_empty());
            let key = key.map(|key| String::from_utf8_lossy(key).into_owned());
            if !pace.send(rows, key, Bytes::from(document)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_number(&self, name: &str) -> bool {
        let column = self.contract.place_of(name).and_then(|place| self.contract.columns().nth(place));
        column.is_some_and(|column| {
            matches!(column.kind, Type::Int32 | Type::Int64 | Type::Float64 | Type::Decimal { .. })
        })
    }

    fn same_column(&self, name: &str, key: &str) -> bool {
        name == key || self.contract.place_of(name).is_some_and(|place| self.contract.place_of(key) == Some(place))
    }
}

/// Nothing that is a row is larger: a record holds a megabyte. It is read whole, so there must be an end.
const MOST_ROW_BYTES: u64 = 64 << 20;

fn too_large(what: &str, hint: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is larger than {} MiB; {hint}", MOST_ROW_BYTES >> 20))
}

/// Ends when it is told to, once everything that was read ahead has been used.
struct Stopping<R> {
    input: BufReader<R>,
    stop: Arc<AtomicBool>,
    /// Whether it has ended so.
    cut: Rc<Cell<bool>>,
    /// Bytes since the last row.
    since: Rc<Cell<u64>>,
    /// Why a row may be too large.
    hint: &'static str,
}

impl<R: Read> Read for Stopping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) && self.input.buffer().is_empty() {
            self.cut.set(true);
            return Ok(0);
        }
        let count = self.input.read(buffer)?;
        self.since.set(self.since.get() + count as u64);
        if self.since.get() > MOST_ROW_BYTES {
            return Err(too_large("a row", self.hint));
        }
        Ok(count)
    }
}

/// Not faster than was asked for.
struct Pace {
    begun: Instant,
    sent: u64,
    rate: Option<f64>,
    stop: Arc<AtomicBool>,
}

impl Pace {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// False if nobody wants more.
    fn send(&mut self, rows: &RowsIn, key: Option<String>, data: Bytes) -> bool {
        if let Some(rate) = self.rate {
            let due = self.begun + Duration::from_secs_f64(self.sent as f64 / rate);
            while Instant::now() < due && !self.stopped() {
                std::thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
            }
        }
        self.sent += 1;
        let key = key.filter(|key| !key.is_empty()).map(|key| key.chars().take(MOST_KEY_CHARS).collect());
        let key = key.unwrap_or_else(|| format!("{:032x}", rand::rng().random::<u128>()));
        rows.send(Row { key, data, read_at: Instant::now() })
    }
}

/// Kinesis API reference, PutRecord: a partition key is up to 256 characters.
const MOST_KEY_CHARS: usize = 256;

/// A member's value as a partition key: text as it is, other scalars as their JSON.
fn key_of(document: &[u8], is_key: impl Fn(&str) -> bool) -> Option<String> {
    let mut json = serde_json::Deserializer::from_slice(document);
    Find(is_key).deserialize(&mut json).ok().flatten()
}

/// Looks for one member and passes over all others.
struct Find<F>(F);

impl<'de, F: Fn(&str) -> bool> DeserializeSeed<'de> for Find<F> {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: Fn(&str) -> bool> Visitor<'de> for Find<F> {
    type Value = Option<String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if (self.0)(&name) {
                found = match map.next_value::<serde_json::Value>()? {
                    serde_json::Value::String(text) => Some(text),
                    serde_json::Value::Null => None,
                    other => Some(other.to_string()),
                };
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::channel::{RowsOut, bounded};
    use futures::executor::block_on;

    fn received(rows: &mut RowsOut) -> Vec<Row> {
        let mut all = Vec::new();
        while block_on(rows.recv_many(&mut all, 100)) > 0 {}
        all
    }

    fn read(text: &'static str, key: Option<&str>) -> Vec<(String, String)> {
        let contract = weir_contract::contract("trips").unwrap();
        let reading = Reading { contract, key: key.map(str::to_owned), format: None, rate: None, stop: Arc::default() };
        let (sender, mut receiver) = bounded(100, 1 << 20);
        reading.run(Box::new(text.as_bytes()), &sender).unwrap();
        drop(sender);
        received(&mut receiver)
            .into_iter()
            .map(|row| (row.key, String::from_utf8(row.data.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn a_table_becomes_objects_with_the_contracts_types() {
        let rows = read("id,vendorId,pickupDate,source\na1,2,2024-01-01,\"x \"\"y\"\"\"\n007,n/a,,5\n", Some("id"));
        let expected = [
            ("a1", r#"{"id":"a1","vendorId":2,"pickupDate":"2024-01-01","source":"x \"y\""}"#),
            ("007", r#"{"id":"007","vendorId":"n/a","source":"5"}"#),
        ];
        assert_eq!(rows, expected.map(|(key, data)| (key.to_owned(), data.to_owned())));
    }

    #[test]
    fn what_has_no_end_is_not_read_for_ever() {
        for (start, said) in [
            ("{\"a\":1}\n{", "line 2 is larger"),
            ("id,source\na,1\nb,\"", "a row is larger"),
            ("[{}, {\"", "a row is larger"),
        ] {
            let contract = weir_contract::contract("trips").unwrap();
            let reading = Reading { contract, key: None, format: None, rate: None, stop: Arc::default() };
            let (sender, _receiver) = bounded(100, 1 << 20);
            let error = reading.run(Box::new(start.as_bytes().chain(io::repeat(b'x'))), &sender).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn numbers_are_written_as_json_does() {
        let rows = read("id,gcDistance,tripDuration\na,.5,-7\nb,-.5,0.5\n", Some("id"));
        assert_eq!(rows[0].1, r#"{"id":"a","gcDistance":".5","tripDuration":-7}"#);
        assert_eq!(rows[1].1, r#"{"id":"b","gcDistance":"-.5","tripDuration":0.5}"#);
    }

    #[test]
    fn an_early_end_hands_on_what_was_read_and_no_half_row() {
        let stopped = |text: &'static str| {
            let contract = weir_contract::contract("trips").unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let (sender, mut receiver) = bounded(100, 1 << 20);
            let reading = Reading { contract, key: None, format: None, rate: None, stop: Arc::clone(&stop) };
            stop.store(true, Ordering::Relaxed);
            // All of it is read ahead at once, before the first row is asked for.
            reading.run(Box::new(text.as_bytes()), &sender).unwrap();
            drop(sender);
            received(&mut receiver).len()
        };
        assert_eq!(stopped("{\"a\":1}\n{\"a\":2}\n{\"a\":"), 2);
        assert_eq!(stopped("id,source\na,1\nb,2\nc,"), 2);
        assert_eq!(stopped("[{\"a\":1},\n{\"a\":2}, {\"a\":"), 2);
    }

    #[test]
    fn an_array_is_read_by_its_elements() {
        let rows = read("[\n  {\n    \"id\": 7\n  },\n  8\n]\n", Some("id"));
        assert_eq!(rows[0], ("7".to_owned(), "{     \"id\": 7   }".to_owned()));
        assert_eq!((rows.len(), rows[1].1.as_str()), (2, "8"));
    }

    #[test]
    fn lines_go_on_as_they_are_even_broken_ones() {
        let rows = read("{\"id\":\"a\",\"x\":{\"id\":1}}\n\n  {\"id\":7}  \n{\"id\":\nnot json", Some("id"));
        assert_eq!(rows[0], ("a".to_owned(), "{\"id\":\"a\",\"x\":{\"id\":1}}".to_owned()));
        assert_eq!(rows[1], ("7".to_owned(), "{\"id\":7}".to_owned()));
        assert_eq!((rows.len(), rows[2].1.as_str(), rows[3].1.as_str()), (4, "{\"id\":", "not json"));
        assert_ne!(rows[2].0, rows[3].0, "without a key, any shard");
    }
}
