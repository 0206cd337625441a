//! Many changes as few: of each row what it came to.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{Change, Operation, Row, Unreadable};

/// A change, as far as a table has to know it: a row as it is to be, or one that is to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// Its place among the changes of its row: of two the greater one is the later ([`crate::Place::text`]).
    pub at: String,
    /// Whether the row goes. Then only its key is known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Its members.
    pub row: Row,
    /// What the members were that its key is of, while nobody has looked whether that changed.
    #[serde(default, skip_serializing_if = "Row::is_empty")]
    pub before: Row,
}

impl From<Change> for Entry {
    fn from(change: Change) -> Self {
        let Change { operation, row, before, place, .. } = change;
        Self { at: place.text(), gone: operation == Operation::Delete, row, before }
    }
}

/// A change that lacks a member of its row's key.
#[derive(Debug, Clone)]
pub struct Keyless {
    /// Its number among all.
    pub number: usize,
    /// The change.
    pub entry: Entry,
    /// What it lacks.
    pub why: Unreadable,
}

/// A row's key, as JSON has its values: `42`, `"a",7`.
fn key_of(row: &Row, key: &[String]) -> Result<String, Unreadable> {
    let mut text = String::new();
    for name in key {
        let value = row.get(name).filter(|value| value.get() != "null");
        let value = value.ok_or_else(|| Unreadable(format!("it has no `{name}`, which the table's key is of")))?;
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(value.get());
    }
    Ok(text)
}

/// One entry a row: the last by [`Entry::at`], whatever order they come in; of two at the same place the one that comes last. A changed key
/// is two entries, the one that goes and the one that comes.
///
/// To reduce parts and then what is left of them comes to the same.
///
/// Beside them, those that lack a member of the key.
pub fn reduce(entries: Vec<Entry>, key: &[String]) -> (Vec<Entry>, Vec<Keyless>) {
    let mut last: HashMap<String, Entry> = HashMap::with_capacity(entries.len());
    let mut bad = Vec::new();
    for (number, entry) in entries.into_iter().enumerate() {
        let own = match key_of(&entry.row, key) {
            Ok(own) => own,
            Err(why) => {
                bad.push(Keyless { number, entry, why });
                continue;
            }
        };
        let Entry { at, gone, mut row, mut before } = entry;
        // A member that is not said is as it was.
        for name in key {
            if let (false, Some(value)) = (before.is_empty() || before.contains_key(name), row.get(name)) {
                before.insert(name.clone(), value.clone());
            }
        }
        if let Some(old) = key_of(&before, key).ok().filter(|old| *old != own && !gone) {
            before.retain(|name, _| key.contains(name));
            keep(&mut last, old, Entry { at: at.clone(), gone: true, row: before, before: Row::new() });
        }
        if gone {
            row.retain(|name, _| key.contains(name));
        }
        keep(&mut last, own, Entry { at, gone, row, before: Row::new() });
    }
    let mut left: Vec<(String, Entry)> = last.into_iter().collect();
    left.sort_by(|(one, _), (other, _)| one.cmp(other));
    (left.into_iter().map(|(_, entry)| entry).collect(), bad)
}

fn keep(last: &mut HashMap<String, Entry>, key: String, entry: Entry) {
    match last.get_mut(&key) {
        Some(known) if known.at > entry.at => {}
        Some(known) => *known = entry,
        None => drop(last.insert(key, entry)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::to_raw_value;

    use super::*;

    fn row(members: &[(&str, i64)]) -> Row {
        members.iter().map(|(name, value)| ((*name).to_owned(), to_raw_value(value).unwrap())).collect()
    }

    fn key() -> Vec<String> {
        vec!["id".to_owned()]
    }

    /// What a database has after changes in this order.
    fn applied<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        for entry in entries {
            if let Some(old) = entry.before.get("id") {
                rows.remove(old.get());
            }
            let id = entry.row.get("id").unwrap().get().to_owned();
            match entry.gone {
                true => drop(rows.remove(&id)),
                false => drop(rows.insert(id, entry.row.get("v").unwrap().get().to_owned())),
            }
        }
        rows
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let one = (0i64..6, 0i64..6, 0i64..100, 0..4);
        proptest::collection::vec(one, 0..30).prop_map(|all| {
            let made = all.into_iter().enumerate().map(|(n, (id, old, v, kind))| Entry {
                at: format!("{n:04}"),
                gone: kind == 0,
                row: row(&[("id", id), ("v", v)]),
                before: if kind == 1 { row(&[("id", old)]) } else { Row::new() },
            });
            made.collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_left_comes_to_the_same(all in entries(), cuts in proptest::collection::vec(0usize..30, 0..3), turn in 0usize..30) {
            let expected = applied(&all);
            // In parts, and not in order.
            let mut parts = vec![all];
            for cut in cuts {
                let last = parts.pop().unwrap();
                let (one, other) = last.split_at(cut.min(last.len()));
                parts.extend([one.to_vec(), other.to_vec()]);
            }
            let by = turn % parts.len();
            parts.rotate_left(by);
            let mut left: Vec<Entry> = parts.into_iter().flat_map(|part| reduce(part, &key()).0).collect();
            let by = turn % left.len().max(1);
            left.rotate_left(by);
            let (left, bad) = reduce(left, &key());
            prop_assert!(bad.is_empty());
            let there: BTreeMap<String, String> = left
                .iter()
                .filter(|entry| !entry.gone)
                .map(|entry| (entry.row["id"].get().to_owned(), entry.row["v"].get().to_owned()))
                .collect();
            prop_assert_eq!(there, expected);
        }
    }

    #[test]
    fn a_changed_key_goes_and_comes() {
        let entry = Entry { at: "1".into(), gone: false, row: row(&[("id", 2), ("v", 7)]), before: row(&[("id", 1)]) };
        let (left, _) = reduce(vec![entry], &key());
        let told: Vec<String> = left.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect();
        assert_eq!(told, [r#"{"at":"1","gone":true,"row":{"id":1}}"#, r#"{"at":"1","row":{"id":2,"v":7}}"#]);
        // Of a key of two, one may be left out of what was before.
        let both = ["id".to_owned(), "v".to_owned()];
        let entry = Entry { at: "1".into(), gone: false, row: row(&[("id", 2), ("v", 7)]), before: row(&[("id", 1)]) };
        let (left, _) = reduce(vec![entry], &both);
        assert_eq!(serde_json::to_string(&left[0]).unwrap(), r#"{"at":"1","gone":true,"row":{"id":1,"v":7}}"#);
    }

    #[test]
    fn what_has_no_key_is_named() {
        let null = BTreeMap::from([("id".to_owned(), to_raw_value(&None::<i64>).unwrap())]);
        let entries = [row(&[("v", 1)]), null, row(&[("id", 1)])];
        let entries = entries.map(|row| Entry { at: "1".into(), gone: false, row, before: Row::new() });
        let (left, bad) = reduce(entries.into(), &key());
        assert_eq!((left.len(), bad.len(), bad[1].number), (1, 2, 1));
        assert!(bad[0].why.to_string().contains("`id`"));
    }
}
