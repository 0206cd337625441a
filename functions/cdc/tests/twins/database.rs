//! A database's table, what becomes of it by chance, and what DMS says of that.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

/// Rows by key: name, gender.
pub(crate) type Rows = BTreeMap<i64, (String, Option<String>)>;

/// A record of the stream.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) sequence: u64,
    pub(crate) data: String,
}

pub(crate) struct Database {
    dice: StdRng,
    pub(crate) rows: Rows,
    /// By shard.
    pub(crate) shards: Vec<Vec<Sent>>,
    changes_keys: bool,
    sequence: u64,
    transaction: u64,
    /// Changes that no row can be made of, by what their keys are.
    pub(crate) bad: Vec<String>,
    /// How many records are no changes.
    pub(crate) poison: usize,
}

const KEYS: i64 = 12;

impl Database {
    /// With rows that are loaded.
    pub(crate) fn new(seed: u64, shards: usize, changes_keys: bool) -> Self {
        let mut database = Self {
            dice: StdRng::seed_from_u64(seed),
            rows: Rows::new(),
            shards: vec![Vec::new(); shards],
            changes_keys,
            sequence: 100,
            transaction: 0,
            bad: Vec::new(),
            poison: 0,
        };
        for id in 0..KEYS / 2 {
            let row = database.row();
            database.rows.insert(id, row.clone());
            database.send(id, data("load", id, Some(&row)));
        }
        database
    }

    fn row(&mut self) -> (String, Option<String>) {
        (format!("name {}", self.dice.random_range(0..1000)), self.dice.random_bool(0.5).then(|| "f".to_owned()))
    }

    /// Puts a message where its key belongs.
    pub(crate) fn send(&mut self, id: i64, message: Value) {
        let shard = usize::try_from(id).unwrap() % self.shards.len();
        self.sequence += 1;
        self.shards[shard].push(Sent { sequence: self.sequence, data: message.to_string() });
    }

    /// So many changes, some of them of one transaction.
    pub(crate) fn work(&mut self, changes: usize) {
        let mut record = 0;
        for _ in 0..changes {
            if record == 0 || self.dice.random_bool(0.6) {
                (self.transaction, record) = (self.transaction + 1, 0);
            }
            record += 1;
            let (id, message) = self.change();
            self.send(id, at(message, self.transaction, record));
            if self.dice.random_bool(0.1) {
                self.send(id, json!("no change"));
                self.poison += 1;
            }
            if self.dice.random_bool(0.1) {
                let key = format!("no number {}", self.sequence);
                let mut message = data("insert", id, None);
                message["data"]["id"] = json!(key);
                self.send(id, at(message, self.transaction, record + 100));
                self.bad.push(key);
            }
        }
    }

    fn change(&mut self) -> (i64, Value) {
        let there: Vec<i64> = self.rows.keys().copied().collect();
        let free: Vec<i64> = (0..KEYS).filter(|id| !self.rows.contains_key(id)).collect();
        let mut any = |ids: &[i64]| (!ids.is_empty()).then(|| ids[self.dice.random_range(0..ids.len())]);
        let (old, new) = (any(&there), any(&free));
        let kind = self.dice.random_range(0..4);
        let row = self.row();
        match (kind, old, new) {
            (0, Some(id), _) => {
                self.rows.remove(&id);
                (id, data("delete", id, None))
            }
            (1, Some(old), Some(new)) if self.changes_keys => {
                self.rows.remove(&old);
                self.rows.insert(new, row.clone());
                let mut message = data("update", new, Some(&row));
                message["before-image"] = json!({"id": old});
                (new, message)
            }
            (2, _, Some(id)) | (_, None, Some(id)) => {
                self.rows.insert(id, row.clone());
                (id, data("insert", id, Some(&row)))
            }
            (_, Some(id), _) => {
                self.rows.insert(id, row.clone());
                (id, data("update", id, Some(&row)))
            }
            (_, None, None) => unreachable!("there are keys"),
        }
    }
}

fn data(operation: &str, id: i64, row: Option<&(String, Option<String>)>) -> Value {
    let data = match row {
        Some((name, Some(gender))) => json!({"id": id, "name": name, "gender": gender}),
        // Nulls are left out.
        Some((name, None)) => json!({"id": id, "name": name}),
        None => json!({"id": id, "name": null, "gender": null}),
    };
    let metadata =
        json!({"operation": operation, "record-type": "data", "schema-name": "public", "table-name": "people"});
    json!({"data": data, "metadata": metadata})
}

fn at(mut message: Value, transaction: u64, record: u64) -> Value {
    let minutes = transaction / 60;
    message["metadata"]["commit-timestamp"] =
        json!(format!("2024-07-29T{:02}:{:02}:{:02}Z", minutes / 60, minutes % 60, transaction % 60));
    message["metadata"]["stream-position"] = json!(format!("00000002/{transaction:08X}.2"));
    message["metadata"]["transaction-record-id"] = json!(record);
    message
}

/// How DMS says that the table is.
pub(crate) fn definition(more: &[(&str, &str)]) -> Value {
    let mut columns = json!({
        "id": {"type": "INT32", "nullable": false}, "name": {"type": "STRING", "nullable": true}, "gender": {"type": "STRING", "nullable": true},
    });
    for (name, kind) in more {
        columns[name] = json!({"type": kind, "nullable": true});
    }
    let metadata =
        json!({"operation": "create-table", "record-type": "control", "schema-name": "public", "table-name": "people"});
    json!({"control": {"table-def": {"columns": columns, "primary-key": ["id"]}}, "metadata": metadata})
}
