//! Members of rows by the names of their table's columns.

use std::collections::BTreeSet;

use weir_changes::{Entry, Row};
use weir_contract::Contract;

/// A contract's columns, by the names and aliases that members may have.
pub struct Columns<'c> {
    contract: &'c Contract,
    names: Vec<&'c str>,
}

impl<'c> Columns<'c> {
    /// Of a contract.
    pub fn of(contract: &'c Contract) -> Self {
        Self { contract, names: contract.columns().map(|column| column.name).collect() }
    }

    fn name_of(&self, member: &str) -> Option<&'c str> {
        self.names.get(self.contract.place_of(member)?).copied()
    }

    /// A change with its members by their columns' names. A member that is there twice, under two names, keeps one of them, and is found by
    /// that when the row is cleaned; what the contract does not know stays as it is.
    pub fn rename(&self, mut entry: Entry) -> Entry {
        for row in [&mut entry.row, &mut entry.before] {
            self.rename_row(row);
        }
        entry
    }

    fn rename_row(&self, row: &mut Row) {
        let wrong = row.keys().filter(|member| self.name_of(member).is_some_and(|name| name != member.as_str()));
        for member in wrong.cloned().collect::<Vec<_>>() {
            if let Some(name) = self.name_of(&member).filter(|name| !row.contains_key(*name))
                && let Some(value) = row.remove(&member)
            {
                row.insert(name.to_owned(), value);
            }
        }
    }

    /// Members that are none of the contract's.
    pub fn unknown<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> BTreeSet<&'a str> {
        let members = entries.into_iter().flat_map(|entry| entry.row.keys());
        members.map(String::as_str).filter(|member| self.contract.place_of(member).is_none()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> Entry {
        Entry { at: String::new(), gone: false, row: serde_json::from_str(json).unwrap(), before: Row::new() }
    }

    #[test]
    fn members_get_their_columns_names() {
        let contract = weir_contract::contract("orders").unwrap();
        let columns = Columns::of(&contract);
        let renamed = columns.rename(entry(r#"{"transactionId":"a","price":1,"extra":2}"#));
        let names: Vec<_> = renamed.row.keys().map(String::as_str).collect();
        assert_eq!(names, ["extra", "price", "transaction_id"]);
        assert_eq!(columns.unknown([&renamed]), ["extra"].into());
        let twice = columns.rename(entry(r#"{"transactionId":"a","transaction_id":"b"}"#));
        assert_eq!(twice.row.len(), 2, "neither is lost");
    }
}
