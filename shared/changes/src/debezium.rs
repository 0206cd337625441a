//! Debezium's messages: its JSON envelope, with or without the schema around it (Debezium reference, "Change events").

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{At, Change, Control, Message, Operation, Phase, Place, Source, Unreadable, member, row};

#[derive(Deserialize)]
struct Origin {
    #[serde(default)]
    schema: Option<String>,
    #[serde(default)]
    table: Option<String>,
    /// When the change was made in the database, in milliseconds.
    #[serde(default)]
    ts_ms: Option<i64>,
    #[serde(default)]
    ts_us: Option<i64>,
    /// PostgreSQL's log position.
    #[serde(default)]
    lsn: Option<u64>,
}

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    total_order: u64,
}

/// What Debezium puts in the place of a value that PostgreSQL did not send (`unavailable.value.placeholder`).
const UNAVAILABLE: &str = r#""__debezium_unavailable_value""#;

pub(crate) fn read(members: &BTreeMap<String, &RawValue>, at: At<'_>) -> Result<Message, Unreadable> {
    let required = |name: &str| members.get(name).ok_or_else(|| Unreadable(format!("`{name}` is missing")));
    let op: String = member(required("op")?, "op")?;
    let origin: Origin = member(required("source")?, "source")?;
    let source = Source { schema: origin.schema.unwrap_or_default(), table: origin.table.unwrap_or_default() };
    let operation = match op.as_str() {
        "r" => Operation::Load,
        "c" => Operation::Insert,
        "u" => Operation::Update,
        "d" => Operation::Delete,
        // `t` empties a table, `m` is a message to whoever listens.
        _ => return Ok(Message::Control(Control { source, operation: op, table: None })),
    };
    let phase = if operation == Operation::Load { Phase::Load } else { Phase::Change };
    let transaction: Option<Option<Transaction>> =
        members.get("transaction").map(|value| member(value, "transaction")).transpose()?;
    let place = Place {
        committed_us: origin.ts_us.or_else(|| origin.ts_ms.and_then(|ms| ms.checked_mul(1000))),
        record: transaction.flatten().map_or(0, |transaction| transaction.total_order),
        ..Place::new(phase, at)
    };
    let place = match origin.lsn {
        Some(lsn) => place.at(lsn),
        None => place,
    };
    let (before, after) = (row(members.get("before"), "before")?, row(members.get("after"), "after")?);
    let (changed, before) = match operation {
        Operation::Delete => (before, BTreeMap::new()),
        _ => (after, before),
    };
    if let Some((name, _)) = changed.iter().find(|(_, value)| value.get() == UNAVAILABLE) {
        let reason = format!(
            "`{name}` of {source} is not said, because it did not change and is stored apart (TOAST): set REPLICA IDENTITY FULL for the table"
        );
        return Err(Unreadable(reason));
    }
    if changed.is_empty() {
        let reason = format!("it has no member of a row of {source}; a delete needs a replica identity");
        return Err(Unreadable(reason));
    }
    Ok(Message::Change(Change { source, operation, row: changed, before, place }))
}
