//! What changes come to as rows of a table, purely: cleaned by its contract, one a key. What can't be a row is put aside.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, StringArray, new_null_array};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::concat::concat;
use arrow_select::filter::filter_record_batch;
use serde::Serialize;
use weir_changes::{Entry, Keyless, Source};
use weir_contract::{Audience, Cleaner, Contract, Verdict};
use weir_delivery::Failure;
use weir_hudi::Changes;
use weir_hudi::keys::{has_a_bucket, keys_where_there_are};

/// The column that says which of two versions of a row is the later one ([`weir_changes::Place::text`]).
pub const POSITION: &str = "_change_position";

/// The column that marks rows that are deleted, where they stay.
pub const DELETED: &str = "_deleted";

/// What a table is like.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// As the database calls it.
    pub source: &'a Source,
    /// Its columns.
    pub contract: &'a Contract,
    /// Whether rows that are deleted stay, marked.
    pub soft_deletes: bool,
    /// Whether its rows are in buckets.
    pub in_buckets: bool,
    /// The time that derived columns are given, in microseconds since 1970.
    pub now_micros: i64,
}

/// What became of changes.
#[derive(Debug)]
pub struct Made {
    /// What is to be done to the table.
    pub changes: Changes,
    /// What is put aside, a line of JSON each.
    pub quarantine: Vec<u8>,
    /// How much that is.
    pub bad: u64,
    /// Changes that the contract drops.
    pub dropped: u64,
}

/// The columns of a table: its contract's, and ours.
pub fn schema(contract: &Contract, soft_deletes: bool) -> SchemaRef {
    let own = contract.columns().map(|column| Field::new(column.name, column.kind.to_arrow(), true));
    let position = Field::new(POSITION, DataType::Utf8, true);
    let deleted = soft_deletes.then(|| Field::new(DELETED, DataType::Boolean, true));
    Arc::new(Schema::new(own.chain([position]).chain(deleted).collect::<Vec<_>>()))
}

fn broken(error: ArrowError) -> Failure {
    Failure::internal("Rows", error.to_string())
}

/// Makes rows of changes, one a key at most, whose members have their columns' names.
///
/// # Errors
/// A defect of ours.
pub fn make(how: How<'_>, entries: &[Entry], keyless: &[Keyless]) -> Result<Made, Failure> {
    let mut aside = Aside { source: how.source, lines: Vec::new(), count: 0 };
    for Keyless { entry, why, .. } in keyless {
        aside.add(entry, "key", "", &why.to_string(), None)?;
    }
    let of_key = how.contract.of_key();
    let mut dropped = 0;
    let (mut kept, mut batches, mut goes) = (Vec::new(), Vec::new(), Vec::new());
    for (contract, gone) in [(how.contract, false), (&of_key, true)] {
        let mut cleaner = Cleaner::new(contract, Audience::Tables, how.now_micros);
        let some: Vec<&Entry> = entries.iter().filter(|entry| entry.gone == gone).chain(goes.drain(..)).collect();
        for entry in some {
            let document =
                serde_json::to_vec(&entry.row).map_err(|error| Failure::internal("Rows", error.to_string()))?;
            match cleaner.push_json(&document) {
                Verdict::Clean => kept.push((entry, gone)),
                // It may have been a row before.
                Verdict::Dropped => {
                    dropped += 1;
                    goes.push(entry);
                }
                Verdict::Bad(bad) => {
                    aside.add(entry, bad.rule.name(), &bad.field, &bad.to_string(), bad.value.as_deref())?;
                }
            }
        }
        batches.push(cleaner.take().map_err(broken)?);
    }
    let rows = together(how, &batches, &kept).map_err(broken)?;
    let key: Vec<String> = how.contract.key().iter().map(|name| (*name).to_owned()).collect();
    let keys = keys_where_there_are(&rows, &key)?;
    // Of rows whose keys are the same once they are clean the later one stays.
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
    for (number, (key, (entry, _))) in keys.iter().zip(&kept).enumerate() {
        match key.as_deref() {
            None => aside.add(entry, "key", &key_names(how), "its key, or a part of it, is empty", None)?,
            Some(key) if how.in_buckets && !has_a_bucket(key) => {
                let reason = "a key with `,` or `:` has no place in a table with buckets: Java looks for it elsewhere";
                aside.add(entry, "key", &key_names(how), reason, Some(key))?;
            }
            Some(key) => {
                let known = last.entry(key).or_insert(number);
                // Rows come before those that go: a key that is the same again once it is clean did not change.
                if kept.get(*known).is_some_and(|(known, _)| known.at < entry.at) {
                    *known = number;
                }
            }
        }
    }
    let mut stays = vec![false; kept.len()];
    for number in last.into_values() {
        if let Some(stays) = stays.get_mut(number) {
            *stays = true;
        }
    }
    let deletes = kept.iter().zip(&stays).filter(|(_, stays)| **stays).map(|((_, gone), _)| *gone && !how.soft_deletes);
    let deletes = deletes.collect();
    let rows = filter_record_batch(&rows, &BooleanArray::from(stays)).map_err(broken)?;
    Ok(Made { changes: Changes { rows, deletes }, quarantine: aside.lines, bad: aside.count, dropped })
}

fn key_names(how: How<'_>) -> String {
    how.contract.key().join(",")
}

/// Rows and keys of rows as one batch of the table's columns.
fn together(how: How<'_>, batches: &[RecordBatch], kept: &[(&Entry, bool)]) -> Result<RecordBatch, ArrowError> {
    let schema = schema(how.contract, how.soft_deletes);
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef, ArrowError> {
        Ok(match field.name().as_str() {
            POSITION => Arc::new(StringArray::from_iter_values(kept.iter().map(|(entry, _)| &entry.at))),
            DELETED => Arc::new(kept.iter().map(|(_, gone)| Some(*gone)).collect::<BooleanArray>()),
            name => {
                let parts = batches.iter().map(|batch| match batch.column_by_name(name) {
                    Some(column) => Arc::clone(column),
                    None => new_null_array(field.data_type(), batch.num_rows()),
                });
                let parts: Vec<ArrayRef> = parts.collect();
                concat(&parts.iter().map(|part| part.as_ref() as &dyn Array).collect::<Vec<_>>())?
            }
        })
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns)
}

/// A change that is not in the table. Its values stay the texts that they came as, whatever numbers they are.
#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    rule: &'a str,
    field: &'a str,
    reason: &'a str,
    value: Option<&'a str>,
    change: &'a Entry,
}

/// Changes that are not in the table.
struct Aside<'a> {
    source: &'a Source,
    lines: Vec<u8>,
    count: u64,
}

impl Aside<'_> {
    /// Adds one with all that is known of it.
    fn add(
        &mut self,
        entry: &Entry,
        rule: &str,
        field: &str,
        reason: &str,
        value: Option<&str>,
    ) -> Result<(), Failure> {
        let line = Line { source: &self.source.to_string(), rule, field, reason, value, change: entry };
        serde_json::to_writer(&mut self.lines, &line).map_err(|error| Failure::internal("Rows", error.to_string()))?;
        self.lines.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use serde_json::Value;
    use weir_changes::{Row, reduce};

    use super::*;

    fn entry(at: &str, gone: bool, row: &str) -> Entry {
        Entry { at: at.to_owned(), gone, row: serde_json::from_str(row).unwrap(), before: Row::new() }
    }

    fn source() -> Source {
        Source { schema: "public".to_owned(), table: "customers".to_owned() }
    }

    fn made(entries: Vec<Entry>, soft_deletes: bool, in_buckets: bool) -> Made {
        let contract = weir_contract::contract("customers").unwrap();
        let (left, keyless) = reduce(entries, &["id".to_owned()]);
        let source = source();
        let how = How { source: &source, contract: &contract, soft_deletes, in_buckets, now_micros: 0 };
        make(how, &left, &keyless).unwrap()
    }

    #[test]
    fn rows_and_keys_of_rows_are_one_batch_and_the_others_are_put_aside() {
        let entries = vec![
            entry("1", false, r#"{"id":1,"name":"a","time_stamp":"2024-07-29T00:59:07Z"}"#),
            entry("2", true, r#"{"id":2}"#),
            entry("3", false, r#"{"id":3,"name":"c","time_stamp":"whenever"}"#),
            entry("4", false, r#"{"name":"nobody"}"#),
            entry("5", true, r#"{"id":"five"}"#),
            // The same key as the first one, once it is a number.
            entry("6", false, r#"{"id":"1","name":"later"}"#),
        ];
        let Made { changes, quarantine, bad, dropped } = made(entries, false, false);
        let by_id: Vec<(i64, bool)> =
            changes.rows["id"].as_primitive::<Int64Type>().values().iter().copied().zip(changes.deletes).collect();
        assert_eq!(by_id, [(1, false), (2, true)]);
        assert_eq!(changes.rows["name"].as_string::<i32>().value(0), "later");
        assert_eq!(changes.rows[POSITION].as_string::<i32>().value(1), "2");
        assert_eq!((bad, dropped), (3, 0));
        let lines: Vec<Value> =
            std::str::from_utf8(&quarantine).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = lines
            .iter()
            .map(|line| (line["field"].as_str().unwrap(), line["change"]["at"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [("", "4"), ("time_stamp", "3"), ("id", "5")]);
        assert_eq!(lines[1]["change"]["row"]["id"], 3);
    }

    #[test]
    fn what_is_put_aside_keeps_its_digits_whatever_they_are() {
        let digits = "9".repeat(400);
        let row = format!(r#"{{"id":1,"time_stamp":"whenever","sum":{digits}.10}}"#);
        let made = made(vec![entry("1", false, &row)], false, false);
        assert!(String::from_utf8(made.quarantine).unwrap().contains(&format!("{digits}.10")));
    }

    fn trimmed(more: &str) -> weir_contract::Contract {
        let fields =
            "[[field]]\nname = \"id\"\ntype = \"string\"\ntrim = true\n[[field]]\nname = \"kind\"\ntype = \"string\"\n";
        let text = format!("name = \"t\"\ndescription = \"d\"\nkey = [\"id\"]\n{fields}{more}");
        weir_contract::Contract::parse("t", &text).unwrap()
    }

    #[test]
    fn a_key_that_is_the_same_once_it_is_clean_did_not_change() {
        let (contract, source) = (trimmed(""), source());
        let changed =
            Entry { before: serde_json::from_str(r#"{"id":"a "}"#).unwrap(), ..entry("7", false, r#"{"id":"a"}"#) };
        let (left, _) = reduce(vec![changed], &["id".to_owned()]);
        let how = How { source: &source, contract: &contract, soft_deletes: false, in_buckets: false, now_micros: 0 };
        let made = make(how, &left, &[]).unwrap();
        assert_eq!((made.changes.rows.num_rows(), made.changes.deletes), (1, vec![false]));
    }

    #[test]
    fn a_row_that_the_contract_drops_goes() {
        let (contract, source) = (trimmed("[[drop]]\nfield = \"kind\"\nequals = [\"test\"]\n"), source());
        let how = How { source: &source, contract: &contract, soft_deletes: false, in_buckets: false, now_micros: 0 };
        let made = make(how, &[entry("7", false, r#"{"id":"a","kind":"test"}"#)], &[]).unwrap();
        assert_eq!((made.changes.deletes, made.dropped), (vec![true], 1));
    }

    #[test]
    fn rows_that_go_may_stay_marked() {
        let Made { changes, .. } =
            made(vec![entry("1", true, r#"{"id":1}"#), entry("2", false, r#"{"id":2}"#)], true, false);
        assert_eq!(changes.deletes, [false, false]);
        let marks: Vec<_> = changes.rows[DELETED].as_boolean().iter().collect();
        assert_eq!(marks, [Some(false), Some(true)], "those that stay come first");
    }

    #[test]
    fn keys_that_no_row_can_have_are_put_aside() {
        let contract = trimmed("");
        let entries = vec![
            entry("1", false, r#"{"id":" "}"#),
            entry("2", false, r#"{"id":"a:b"}"#),
            entry("3", false, r#"{"id":"c"}"#),
        ];
        let source = source();
        let how = How { source: &source, contract: &contract, soft_deletes: false, in_buckets: true, now_micros: 0 };
        let Made { changes, bad, .. } = make(how, &entries, &[]).unwrap();
        assert_eq!((changes.rows.num_rows(), bad), (1, 2));
    }
}
