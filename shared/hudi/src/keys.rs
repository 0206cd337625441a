//! Record keys and partition paths, as Hudi's key generators make them of a row (`SimpleKeyGenerator`, `ComplexKeyGenerator`,
//! `NonpartitionedKeyGenerator`).

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use weir_delivery::Failure;

/// Where rows without a partition are (Hive's name for it, and Hudi's).
pub const NO_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, Failure> {
    let missing = || Failure::user("HudiKey", format!("the rows have no column `{name}`"));
    rows.column_by_name(name).ok_or_else(missing)
}

/// A column's values as texts: Java's of the value that Avro has.
fn texts(name: &str, array: &ArrayRef) -> Result<Vec<Option<String>>, Failure> {
    let plain = match array.data_type() {
        // Avro has the microseconds.
        DataType::Timestamp(..) => {
            let micros = arrow_cast::cast(array, &DataType::Int64).map_err(|error| unusable(name, &error))?;
            let micros = micros.as_primitive::<Int64Type>();
            return Ok(micros.iter().map(|value| value.map(|value| value.to_string())).collect());
        }
        DataType::Utf8 | DataType::Int32 | DataType::Int64 | DataType::Boolean | DataType::Date32 => array,
        // With more digits behind the point Java writes small ones with an exponent (`BigDecimal.toString`).
        DataType::Decimal128(_, 0..=6) => array,
        other => {
            return Err(Failure::user("HudiKey", format!("the column `{name}` is {other}: no key is made of that")));
        }
    };
    let options = FormatOptions::new();
    let format = ArrayFormatter::try_new(plain, &options).map_err(|error| unusable(name, &error))?;
    Ok((0..plain.len()).map(|row| plain.is_valid(row).then(|| format.value(row).to_string())).collect())
}

fn unusable(name: &str, error: &arrow_schema::ArrowError) -> Failure {
    Failure::internal("HudiKey", format!("the column `{name}`: {error}"))
}

/// Each row's key: the value of the one key column, or `a:1,b:2` of several.
///
/// # Errors
/// `HudiKey`: a key column that is missing, is null or empty in a row, or of a type that makes no key.
pub fn record_keys(rows: &RecordBatch, fields: &[String]) -> Result<Vec<String>, Failure> {
    let keyless = || Failure::user("HudiKey", format!("a row has no key: `{}` is empty", fields.join("` or `")));
    keys_where_there_are(rows, fields)?.into_iter().map(|key| key.ok_or_else(keyless)).collect()
}

/// The same; nothing for rows whose key lacks a part.
///
/// # Errors
/// `HudiKey`: a key column that is missing, or of a type that makes no key.
pub fn keys_where_there_are(rows: &RecordBatch, fields: &[String]) -> Result<Vec<Option<String>>, Failure> {
    let values = fields.iter().map(|name| Ok((name, texts(name, column(rows, name)?)?)));
    let values = values.collect::<Result<Vec<_>, Failure>>()?;
    let mut keys = vec![Some(String::new()); rows.num_rows()];
    for (name, texts) in &values {
        for (key, text) in keys.iter_mut().zip(texts) {
            match (text.as_deref().filter(|text| !text.is_empty()), &mut *key) {
                (None, _) => *key = None,
                (Some(text), Some(key)) if values.len() > 1 => {
                    let comma = if key.is_empty() { "" } else { "," };
                    let _ = write!(key, "{comma}{name}:{text}");
                }
                (Some(text), Some(key)) => text.clone_into(key),
                (Some(_), None) => {}
            }
        }
    }
    Ok(keys)
}

/// Whether Java finds a key's bucket by the whole of it: one with these it would take for several.
pub fn has_a_bucket(key: &str) -> bool {
    !key.contains([',', ':'])
}

/// Each row's partition: `field=value`, or nothing in a table without.
///
/// # Errors
/// `HudiKey`, as of keys.
pub fn partition_paths(rows: &RecordBatch, field: Option<&str>) -> Result<Vec<String>, Failure> {
    let Some(field) = field else { return Ok(vec![String::new(); rows.num_rows()]) };
    let values = texts(field, column(rows, field)?)?;
    let path = |value: Option<String>| match value.filter(|value| !value.is_empty()) {
        Some(value) => format!("{field}={}", escaped(&value)),
        None => format!("{field}={NO_PARTITION}"),
    };
    Ok(values.into_iter().map(path).collect())
}

/// As Hive escapes folder names, and Hudi where it is told to (`PartitionPathEncodeUtils.escapePathName`).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\u{0}'..='\u{1f}'
            | '\u{7f}'
            | '"'
            | '#'
            | '%'
            | '\''
            | '*'
            | '/'
            | ':'
            | '='
            | '?'
            | '\\'
            | '{'
            | '['
            | ']'
            | '^' => {
                let _ = write!(text, "%{:02X}", c as u32);
            }
            _ => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Date32Array, Decimal128Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn rows() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![1250, 5]).with_precision_and_scale(10, 2).unwrap();
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![7, -1])) as ArrayRef),
            ("name", Arc::new(StringArray::from(vec![Some("a/b=c d"), None]))),
            ("day", Arc::new(Date32Array::from(vec![Some(19_844), None]))),
            ("sum", Arc::new(decimals)),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![1_714_521_600_000_001, 0]).with_timezone("UTC"))),
        ])
        .unwrap()
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn keys_are_what_javas_are() {
        assert_eq!(record_keys(&rows(), &names(&["id"])).unwrap(), ["7", "-1"]);
        assert_eq!(record_keys(&rows(), &names(&["id", "sum"])).unwrap(), ["id:7,sum:12.50", "id:-1,sum:0.05"]);
        assert_eq!(record_keys(&rows(), &names(&["at"])).unwrap(), ["1714521600000001", "0"]);
        for (fields, word) in [(&["id", "name"], "`name`"), (&["id", "no"], "`no`")] {
            let refused = record_keys(&rows(), &names(fields)).unwrap_err();
            assert!(refused.reason.contains(word), "{refused}");
        }
    }

    #[test]
    fn partitions_are_folders() {
        assert_eq!(
            partition_paths(&rows(), Some("day")).unwrap(),
            ["day=2024-05-01", "day=__HIVE_DEFAULT_PARTITION__"]
        );
        assert_eq!(partition_paths(&rows(), Some("name")).unwrap()[0], "name=a%2Fb%3Dc d");
        assert_eq!(partition_paths(&rows(), None).unwrap(), ["", ""]);
    }
}
