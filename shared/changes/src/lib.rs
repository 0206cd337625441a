//! What database change capture says, whoever captures: [`dms`] and [`debezium`] read their messages as the same [`Message`].
//!
//! A message is a change of one row, or says something about a table. Values stay the JSON texts that they came as: a number is not
//! rounded before somebody knows what its column holds. [`reduce`] leaves of many changes what they come to.
//!
//! This crate is pure.

mod debezium;
mod dms;
mod place;
mod reduce;
mod table;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::error::Category;
use serde_json::value::RawValue;

pub use place::{At, Phase, Place};
pub use reduce::{Entry, Keyless, reduce};
pub use table::{contract_of, inferred, plain_name, table_name};

/// One message of a change stream.
#[derive(Debug, Clone)]
pub enum Message {
    /// A row was changed.
    Change(Change),
    /// Something about a table, or about the capture: to be logged and counted.
    Control(Control),
}

/// A table, as the database calls it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// Its schema; empty where there is none.
    pub schema: String,
    /// Its name.
    pub table: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A row's members, as JSON.
pub type Row = BTreeMap<String, Box<RawValue>>;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// It was there when the capture began.
    Load,
    /// It came.
    Insert,
    /// It was changed, its key perhaps.
    Update,
    /// It went.
    Delete,
}

/// A row was changed.
#[derive(Debug, Clone)]
pub struct Change {
    /// Of which table.
    pub source: Source,
    /// How.
    pub operation: Operation,
    /// What it is now; of a deleted one what is known of it, its key at least. A member that is left out may be null, or unchanged.
    pub row: Row,
    /// What it was, as far as that is known: the members of a key that was changed, for one.
    pub before: Row,
    /// Which of two changes of a row is the later one.
    pub place: Place,
}

/// Something about a table.
#[derive(Debug, Clone)]
pub struct Control {
    /// Which table.
    pub source: Source,
    /// What: `create-table`, `add-column`, …, as it is called.
    pub operation: String,
    /// How the table is now, if that is said.
    pub table: Option<TableDefinition>,
}

/// A table's columns.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct TableDefinition {
    /// By name, with the capture's word for the type.
    pub columns: BTreeMap<String, ColumnDefinition>,
    /// The columns of its key.
    pub primary_key: Vec<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ColumnDefinition {
    /// As DMS calls it: `INT32`, `STRING`, `NUMERIC`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether a row may lack it.
    #[serde(default)]
    pub nullable: bool,
    /// Digits in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<u32>,
    /// Digits after the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u32>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Tables that DMS keeps for itself, and that are nobody's data.
pub fn is_captures_own(source: &Source) -> bool {
    source.table.starts_with("awsdms_")
}

/// Reads a message.
///
/// # Errors
/// What is neither DMS' nor Debezium's, with what is missing. `None` is a message that says nothing: Debezium's tombstone.
pub fn read(bytes: &[u8], at: At<'_>) -> Result<Option<Message>, Unreadable> {
    if bytes.trim_ascii().is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(None);
    }
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes)
        .map_err(|error| Unreadable(format!("it is no JSON object: {}", place_of(&error))))?;
    match (members.get("metadata"), members.get("payload"), members.get("op")) {
        (Some(_), _, _) => dms::read(&members, at).map(Some),
        (None, Some(payload), _) if payload.get() == "null" => Ok(None),
        (None, Some(payload), _) => {
            let inner: BTreeMap<String, &RawValue> = member(payload, "payload")?;
            debezium::read(&inner, at).map(Some)
        }
        (None, None, Some(_)) => debezium::read(&members, at).map(Some),
        (None, None, None) => Err(Unreadable(
            "it has neither `metadata`, as DMS' messages have, nor `op` or `payload`, as Debezium's".to_owned(),
        )),
    }
}

fn member<'a, T: serde::Deserialize<'a>>(value: &'a RawValue, name: &str) -> Result<T, Unreadable> {
    serde_json::from_str(value.get())
        .map_err(|error| Unreadable(format!("`{name}` is not as expected: {}", place_of(&error))))
}

/// What is wrong, and where: not the parser's words, which show values.
fn place_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") {
        return text;
    }
    let what = match error.classify() {
        Category::Syntax => "broken JSON",
        Category::Eof => "it ends too early",
        Category::Data => "a value of another type",
        Category::Io => "unreadable",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

/// A row; null is one without members.
fn row(value: Option<&&RawValue>, name: &str) -> Result<Row, Unreadable> {
    let found: Option<Option<Row>> = value.map(|value| member(value, name)).transpose()?;
    Ok(found.flatten().unwrap_or_default())
}
