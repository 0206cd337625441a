//! AWS DMS' messages, as it puts them on Kinesis (DMS user guide, "Using Amazon Kinesis Data Streams as a target").
//!
//! What the guide leaves out was seen in captures of PostgreSQL: deletes have all members, null but for the key; a JSON column is a
//! text; nulls are left out unless `IncludeNullAndEmpty`; commit times and positions are there only with
//! `IncludeTransactionDetails`, and never of rows that are loaded.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{At, Change, Control, Message, Operation, Phase, Place, Source, TableDefinition, Unreadable, member, row};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Metadata {
    operation: String,
    #[serde(default)]
    record_type: Option<String>,
    #[serde(default)]
    schema_name: String,
    table_name: String,
    #[serde(default)]
    commit_timestamp: Option<String>,
    #[serde(default)]
    stream_position: Option<String>,
    #[serde(default)]
    transaction_record_id: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Definitions {
    #[serde(default)]
    table_def: Option<TableDefinition>,
}

/// The guide's prose and captures call some of them differently.
fn operation_of(name: &str) -> Option<Operation> {
    match name {
        "load" | "read" => Some(Operation::Load),
        "insert" | "create" => Some(Operation::Insert),
        "update" => Some(Operation::Update),
        "delete" => Some(Operation::Delete),
        _ => None,
    }
}

pub(crate) fn read(members: &BTreeMap<String, &RawValue>, at: At<'_>) -> Result<Message, Unreadable> {
    let metadata = members.get("metadata").ok_or_else(|| Unreadable("`metadata` is missing".to_owned()))?;
    let metadata: Metadata = member(metadata, "metadata")?;
    let source = Source { schema: metadata.schema_name, table: metadata.table_name };
    let is_control = metadata.record_type.as_deref() == Some("control");
    let Some(operation) = operation_of(&metadata.operation).filter(|_| !is_control) else {
        if metadata.record_type.as_deref() == Some("data") {
            let reason = format!("`{}` is no operation on a row of {source}", metadata.operation);
            return Err(Unreadable(reason));
        }
        let definitions: Option<Definitions> =
            members.get("control").map(|control| member(control, "control")).transpose()?;
        let table = definitions.and_then(|control| control.table_def);
        return Ok(Message::Control(Control { source, operation: metadata.operation, table }));
    };
    let phase = if operation == Operation::Load { Phase::Load } else { Phase::Change };
    let committed = metadata.commit_timestamp.as_deref();
    let committed_us = committed.map(|text| {
        let stamp = weir_values::stamp(text.as_bytes()).map(|(micros, _)| micros);
        stamp.ok_or_else(|| Unreadable(format!("`commit-timestamp` is no time: {text}")))
    });
    let place = Place {
        committed_us: committed_us.transpose()?,
        log: metadata.stream_position.unwrap_or_default(),
        record: metadata.transaction_record_id,
        ..Place::new(phase, at)
    };
    let (mut changed, mut before) =
        (row(members.get("data"), "data")?, row(members.get("before-image"), "before-image")?);
    if operation == Operation::Delete && changed.is_empty() {
        // All that was known of it.
        changed = std::mem::take(&mut before);
    }
    if changed.is_empty() {
        return Err(Unreadable(format!("`data` has no member of a row of {source}")));
    }
    Ok(Message::Change(Change { source, operation, row: changed, before, place }))
}
