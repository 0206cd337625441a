//! What lies on S3 between a batch of the stream and the table that it is for: a file a batch and table, compressed lines of JSON.
//!
//! A file is named by its shard and the sequence numbers that its batch had, the last one first: so a shard's files sort by how far they come,
//! and what a table has not covered yet is listed from there. A batch that comes again cut otherwise makes other files of the same
//! changes; a table knows them by their places.

use std::io::{self, BufRead, BufReader, Write};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use weir_changes::{Entry, Source, TableDefinition};
use weir_command::Location;
use weir_delivery::Failure;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A row as it is to be, or that is to go.
    Change(Entry),
    /// How the table is from here on.
    Definition(TableDefinition),
}

/// A staged file, as it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The table.
    pub source: Source,
    /// The stream and its shard: `stream.shardId-000000000000`.
    pub shard: String,
    /// The last sequence number of the batch, in a form that sorts.
    pub last: String,
    /// The first one.
    pub first: String,
}

/// Digits of a Kinesis sequence number: 56 now, and some to grow.
const DIGITS: usize = 64;

/// What is a letter, a digit, `_` or `-` stays; no name is another folder, or two.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// In a shard's name dots stay as well: it is no folder of dots, and people read it.
const KEPT_IN_SHARDS: &AsciiSet = &KEPT.remove(b'.');

/// The level of zstd that is fastest: half as large already as none.
const LEVEL: i32 = 1;

const EXTENSION: &str = ".ndjson.zst";

/// A sequence number in a form that sorts.
pub fn padded(number: &str) -> String {
    format!("{number:0>DIGITS$}")
}

/// The folder of what is staged of a table's shard, below `root`.
pub fn folder(root: &Location, source: &Source, shard: &str) -> Location {
    let part = |text: &str| utf8_percent_encode(text, KEPT).to_string();
    let shard = utf8_percent_encode(shard, KEPT_IN_SHARDS);
    root.as_prefix().join(&format!("{}/{}/{shard}/", part(&source.schema), part(&source.table)))
}

/// What the ledger calls a table: `public.customers`. Dots in its names are escaped.
pub fn backlog_of(source: &Source) -> String {
    let part = |text: &str| utf8_percent_encode(text, KEPT).to_string();
    format!("{}.{}", part(&source.schema), part(&source.table))
}

/// The table that the ledger calls so.
pub fn source_of(backlog: &str) -> Option<Source> {
    let (schema, table) = backlog.split_once('.')?;
    let part = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    Some(Source { schema: part(schema)?, table: part(table)? })
}

impl Name {
    /// Where it lies below `root`.
    pub fn at(&self, root: &Location) -> Location {
        folder(root, &self.source, &self.shard).join(&format!("{}-{}{EXTENSION}", self.last, self.first))
    }

    /// From where it lies; nothing if nothing of ours lies so.
    pub fn read(root: &Location, at: &Location) -> Option<Self> {
        let mut parts = at.key().strip_prefix(root.as_prefix().key())?.split('/');
        let mut next = || Some(percent_decode_str(parts.next()?).decode_utf8().ok()?.into_owned());
        let (schema, table, shard, file) = (next()?, next()?, next()?, next()?);
        let (last, first) = file.strip_suffix(EXTENSION)?.split_once('-')?;
        let number = |text: &str| text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let whole = parts.next().is_none() && number(last) && number(first);
        whole.then(|| Self { source: Source { schema, table }, shard, last: last.to_owned(), first: first.to_owned() })
    }
}

/// Lines as a file.
///
/// # Errors
/// None but for a defect of ours.
pub fn write(lines: &[Line]) -> Result<Bytes, Failure> {
    let broken = |error: io::Error| Failure::internal("Staged", error.to_string());
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(broken)?;
    for line in lines {
        serde_json::to_writer(&mut encoder, line).map_err(|error| broken(error.into()))?;
        encoder.write_all(b"\n").map_err(broken)?;
    }
    encoder.finish().map(Bytes::from).map_err(broken)
}

/// A file's lines, and how many bytes they are. `at` is where it lies, for messages.
///
/// # Errors
/// `Staged`: it is none of ours, or broken.
pub fn read(bytes: &[u8], at: &Location) -> Result<(Vec<Line>, u64), Failure> {
    let broken = |error: io::Error| Failure::internal("Staged", format!("{at} can't be read: {error}"));
    let decoder = BufReader::new(zstd::Decoder::new(bytes).map_err(broken)?);
    let (mut lines, mut size) = (Vec::new(), 0);
    for text in decoder.lines() {
        let text = text.map_err(broken)?;
        size += text.len() as u64;
        lines.push(serde_json::from_str(&text).map_err(|error| broken(error.into()))?);
    }
    Ok((lines, size))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> Location {
        Location::parse("s3://tables/changes/_staged/").unwrap()
    }

    fn name(schema: &str, table: &str, last: &str) -> Name {
        Name {
            source: Source { schema: schema.to_owned(), table: table.to_owned() },
            shard: "weir-changes.shardId-000000000001".to_owned(),
            last: padded(last),
            first: padded("7"),
        }
    }

    proptest! {
        #[test]
        fn names_come_back(schema in "\\PC{0,12}", table in "\\PC{1,12}", last in "[0-9]{1,56}") {
            let name = name(&schema, &table, &last);
            let at = name.at(&root());
            prop_assert!(root().covers(&at));
            prop_assert_eq!(source_of(&backlog_of(&name.source)), Some(name.source.clone()));
            prop_assert_eq!(Name::read(&root(), &at), Some(name));
        }
    }

    #[test]
    fn files_sort_by_how_far_they_come() {
        let keys = ["99", "100", "49654321098765432109876543210987654321098765432109876546"];
        let keys = keys.map(|last| name("public", "t", last).at(&root()).key().to_owned());
        assert!(keys.is_sorted());
        // What a table has covered is where its listing begins.
        let Name { source, shard, .. } = name("public", "t", "1");
        let covered = folder(&root(), &source, &shard).join(&padded("99"));
        assert!(keys[0].as_str() > covered.key() && keys[0].starts_with(covered.key()));
    }

    #[test]
    fn what_is_not_ours_has_no_name() {
        let good = name("a", "b", "9").at(&root());
        for other in ["x.ndjson.zst", "a/b/c/x.ndjson.zst", "a/b/c/1-2.ndjson.zst"] {
            assert_eq!(Name::read(&root(), &root().join(other)), None, "{other}");
        }
        assert_eq!(Name::read(&root(), &good.join("more")), None);
    }

    #[test]
    fn lines_come_back() {
        let text = r#"{"change":{"at":"3 1","row":{"id":1,"sum":12345678901234567890.10,"text":"ä\nb"}}}"#;
        let line: Line = serde_json::from_str(text).unwrap();
        let definition = Line::Definition(TableDefinition::default());
        let bytes = write(&[line, definition]).unwrap();
        let at = root().join("x");
        let back: Vec<String> =
            read(&bytes, &at).unwrap().0.iter().map(|line| serde_json::to_string(line).unwrap()).collect();
        assert_eq!(back, [text, r#"{"definition":{"columns":{},"primary-key":[]}}"#]);
        assert!(read(b"no file", &at).unwrap_err().reason.contains("_staged/x"));
        let broken = bytes.slice(..bytes.len() / 2);
        assert!(read(&broken, &at).is_err());
    }
}
