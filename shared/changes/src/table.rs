//! A contract for a table that nobody has written one for: of what the capture says of its columns.
//!
//! Types are DMS' ("Data types for AWS Database Migration Service"), by both of the names that it gives them. What has no column type
//! here, or none that holds every value, is text, as it came: times of day, numbers without bounds, JSON, arrays, bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::value::RawValue;
use weir_contract::{Contract, ContractError};

use crate::{ColumnDefinition, Source, TableDefinition};

/// Digits that a contract's decimals hold.
const MOST_DIGITS: u32 = 18;

/// The contract's type of a column.
fn type_of(column: &ColumnDefinition) -> String {
    let kind = column.kind.to_ascii_uppercase();
    let plain = match kind.as_str() {
        "BOOLEAN" => "bool",
        "INT1" | "INT2" | "INT4" | "INT16" | "INT32" | "UINT1" | "UINT2" | "UINT16" => "int32",
        // DMS' own name of eight bytes, and JSON's of eight bits: the wider holds both.
        "INT8" | "INT64" | "UINT4" | "UINT8" | "UINT32" => "int64",
        "REAL4" | "REAL8" | "FLOAT" | "DOUBLE" => "float64",
        "DATE" => "date",
        "DATETIME" | "TIMESTAMP" => "timestamp",
        "NUMERIC" => match (column.precision, column.scale.unwrap_or(0)) {
            (Some(digits @ 1..=MOST_DIGITS), scale) if scale <= digits => return format!("decimal({digits},{scale})"),
            _ => "string",
        },
        _ => "string",
    };
    plain.to_owned()
}

/// Lowercase letters, digits and `_`, beginning with a letter: what Glue and every reader take.
pub fn plain_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let plain: String = lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_lowercase()) { plain } else { format!("c{plain}") }
}

/// What a table is called in a catalog: `public_customers`.
pub fn table_name(source: &Source) -> String {
    plain_name(&if source.schema.is_empty() {
        source.table.clone()
    } else {
        format!("{}_{}", source.schema, source.table)
    })
}

/// The column of a member that no definition has, by its values: truth values, or text, which holds everything. Whole numbers may have
/// digits behind the point in the next row.
pub fn inferred<'a>(values: impl IntoIterator<Item = &'a RawValue>) -> ColumnDefinition {
    let kind_of = |value: &RawValue| match value.get() {
        "null" => None,
        "true" | "false" => Some("BOOLEAN"),
        _ => Some("STRING"),
    };
    let kinds: BTreeSet<&str> = values.into_iter().filter_map(kind_of).collect();
    let kind = match (kinds.len(), kinds.first()) {
        (1, Some(kind)) => kind,
        _ => "STRING",
    };
    ColumnDefinition { kind: kind.to_owned(), nullable: true, precision: None, scale: None }
}

/// The contract of a table as its database has it: every column, nothing required but the key, no rules.
///
/// # Errors
/// What a contract can't say: names that fall together in lower case, too many columns, a table without a key.
pub fn contract_of(source: &Source, table: &TableDefinition) -> Result<Contract, ContractError> {
    let name = table_name(source);
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let key: Vec<String> = table.primary_key.iter().map(|column| quoted(&plain_name(column))).collect();
    let mut text = String::new();
    let _ = writeln!(text, "name = {}\ndescription = {}", quoted(&name), quoted(&format!("As {source} has it.")));
    let _ = writeln!(text, "key = [{}]", key.join(", "));
    let columns: BTreeMap<&String, &ColumnDefinition> = table.columns.iter().collect();
    for (column, definition) in columns {
        let plain = plain_name(column);
        let _ = writeln!(text, "\n[[field]]\nname = {}\ntype = {}", quoted(&plain), quoted(&type_of(definition)));
        if *column != plain {
            let _ = writeln!(text, "aliases = [{}]", quoted(column));
        }
        if table.primary_key.contains(column) {
            let _ = writeln!(text, "required = true");
        }
    }
    Contract::parse(&format!("the definition of {source}"), &text)
}

#[cfg(test)]
mod tests {
    use weir_contract::Type;

    use super::*;

    fn column(kind: &str, precision: Option<u32>, scale: Option<u32>) -> ColumnDefinition {
        ColumnDefinition { kind: kind.to_owned(), nullable: true, precision, scale }
    }

    fn source(table: &str) -> Source {
        Source { schema: "public".to_owned(), table: table.to_owned() }
    }

    fn table(columns: &[(&str, ColumnDefinition)]) -> TableDefinition {
        TableDefinition {
            columns: columns.iter().map(|(name, column)| ((*name).to_owned(), column.clone())).collect(),
            primary_key: columns.iter().take(1).map(|(name, _)| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn columns_have_the_type_that_holds_their_values() {
        let all = [
            ("id", column("INT32", None, None)),
            ("Big Number", column("INT8", None, None)),
            ("price", column("NUMERIC", Some(12), Some(2))),
            ("wide", column("NUMERIC", Some(38), Some(2))),
            ("unbound", column("NUMERIC", None, None)),
            ("ok", column("BOOLEAN", None, None)),
            ("at", column("DATETIME", None, None)),
            ("clock", column("TIME", None, None)),
            ("attributes", column("NCLOB", None, None)),
        ];
        let contract = contract_of(&source("Line Items"), &table(&all)).unwrap();
        assert_eq!((contract.name(), contract.key()), ("public_line_items", vec!["id"]));
        let types: BTreeMap<_, _> = contract.columns().map(|column| (column.name, column.kind)).collect();
        let expected = [
            ("id", Type::Int32),
            ("big_number", Type::Int64),
            ("price", Type::Decimal { precision: 12, scale: 2 }),
            ("wide", Type::String),
            ("unbound", Type::String),
            ("ok", Type::Bool),
            ("at", Type::Timestamp),
            ("clock", Type::String),
            ("attributes", Type::String),
        ];
        assert_eq!(types, expected.into());
    }

    #[test]
    fn rows_are_read_by_the_names_that_they_come_with() {
        let all = [("id", column("INT32", None, None)), ("Näme \"x\"", column("STRING", None, None))];
        let contract = contract_of(&source("t"), &table(&all)).unwrap();
        let mut cleaner = weir_contract::Cleaner::new(&contract, weir_contract::Audience::Tables, 0);
        cleaner.push_json(r#"{"id": 7, "Näme \"x\"": ""}"#.as_bytes());
        let rows = cleaner.take().unwrap();
        assert_eq!((rows.num_rows(), rows.column_by_name("n_me__x_").unwrap().null_count()), (1, 0));
    }

    #[test]
    fn what_no_definition_has_is_what_its_values_are() {
        let kind = |values: &[&str]| {
            let values: Vec<_> = values.iter().map(|text| RawValue::from_string((*text).to_owned()).unwrap()).collect();
            inferred(values.iter().map(AsRef::as_ref)).kind
        };
        assert_eq!(kind(&["1", "null", "-7"]), "STRING");
        assert_eq!(kind(&["true", "false"]), "BOOLEAN");
        assert_eq!(kind(&["1", "true"]), "STRING");
        assert_eq!(kind(&["1.5"]), "STRING", "as many digits as it has");
        assert_eq!(kind(&["99999999999999999999"]), "STRING");
        assert_eq!(kind(&["null"]), "STRING");
    }

    #[test]
    fn what_falls_together_is_refused() {
        let all = [("id", column("INT32", None, None)), ("ID", column("INT32", None, None))];
        assert!(contract_of(&source("t"), &table(&all)).is_err());
    }
}
