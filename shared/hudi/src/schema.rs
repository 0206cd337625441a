//! A table's columns: as Arrow has them here, as Avro has them in commits and footers, and how they may change.
//!
//! The mapping is Hudi's (Avro 1.11 "Logical Types"; Spark's `SchemaConverters`): every column may be null, decimals are `fixed`.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use serde_json::{Value, json};
use weir_delivery::Failure;

/// The columns that Hudi adds in front, in their order.
pub const META_COLUMNS: [&str; 5] = [
    "_hoodie_commit_time",
    "_hoodie_commit_seqno",
    "_hoodie_record_key",
    "_hoodie_partition_path",
    "_hoodie_file_name",
];

/// Timestamps are instants in microseconds.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn unsupported(column: &str, what: &str) -> Failure {
    Failure::user("HudiSchema", format!("the column `{column}` is {what}, which is not kept in Hudi tables here"))
}

/// The columns with Hudi's own in front.
pub fn with_meta(schema: &Schema) -> SchemaRef {
    let meta = META_COLUMNS.iter().map(|name| Arc::new(Field::new(*name, DataType::Utf8, true)));
    Arc::new(Schema::new(meta.chain(schema.fields().iter().cloned()).collect::<Vec<FieldRef>>()))
}

/// A name that Avro takes, and with it Java.
///
/// # Errors
/// `HudiSchema`.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(());
    }
    let reason = format!("`{name}` is no name in a Hudi table: letters, digits and `_`, not beginning with a digit");
    Err(Failure::user("HudiSchema", reason))
}

/// That every reader tells the columns apart: Hive folds their case.
pub(crate) fn check_names(schema: &Schema) -> Result<(), Failure> {
    let mut seen: std::collections::HashSet<String> = META_COLUMNS.map(str::to_owned).into();
    for field in schema.fields() {
        check_name(field.name())?;
        if !seen.insert(field.name().to_lowercase()) {
            let reason = format!("the column `{}` is there already, in upper or lower case", field.name());
            return Err(Failure::user("HudiSchema", reason));
        }
    }
    Ok(())
}

/// Bytes of a decimal of so many digits, as `fixed`.
pub(crate) fn fixed_bytes(precision: u8) -> usize {
    let largest = 10f64.powi(i32::from(precision)).log2();
    ((largest + 1.0) / 8.0).ceil() as usize
}

fn avro_type(column: &str, kind: &DataType, scope: &str) -> Result<Value, Failure> {
    Ok(match kind {
        DataType::Utf8 => json!("string"),
        DataType::Boolean => json!("boolean"),
        DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Binary => json!("bytes"),
        DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            json!({"type": "long", "logicalType": "timestamp-micros"})
        }
        DataType::Decimal128(precision, scale) if (0..=i8::try_from(*precision).unwrap_or(0)).contains(scale) => {
            json!({
                "type": "fixed", "name": "fixed", "namespace": format!("{scope}.{column}"), "size": fixed_bytes(*precision),
                "logicalType": "decimal", "precision": precision, "scale": scale,
            })
        }
        other => return Err(unsupported(column, &format!("of the type {other}"))),
    })
}

/// A table's schema in Avro's JSON, as Spark writes it.
///
/// # Errors
/// `HudiSchema`: a column of a type that has no place here.
pub fn to_avro(schema: &Schema, table: &str) -> Result<String, Failure> {
    let (name, namespace) = (format!("{table}_record"), format!("hoodie.{table}"));
    let scope = format!("{namespace}.{name}");
    let fields = schema.fields().iter().map(|field| {
        let kind = avro_type(field.name(), field.data_type(), &scope)?;
        Ok(json!({"name": field.name(), "type": ["null", kind], "default": null}))
    });
    let fields = fields.collect::<Result<Vec<_>, Failure>>()?;
    Ok(json!({"type": "record", "name": name, "namespace": namespace, "fields": fields}).to_string())
}

/// A schema in Avro's JSON, as Arrow has it. Hudi's own columns are left out.
///
/// # Errors
/// `HudiSchema`: it can't be read, or holds a column that can't be kept.
pub fn from_avro(text: &str) -> Result<SchemaRef, Failure> {
    let broken = |why: &str| Failure::user("HudiSchema", format!("the table's Avro schema can't be read: {why}"));
    let schema: Value = serde_json::from_str(text).map_err(|error| broken(&error.to_string()))?;
    let fields = schema.get("fields").and_then(Value::as_array).ok_or_else(|| broken("it has no `fields`"))?;
    let mut found = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| broken("a field has no name"))?;
        if META_COLUMNS.contains(&name) {
            continue;
        }
        let kind = arrow_type(name, field.get("type").unwrap_or(&Value::Null))?;
        found.push(Field::new(name, kind, true));
    }
    Ok(Arc::new(Schema::new(found)))
}

fn arrow_type(column: &str, kind: &Value) -> Result<DataType, Failure> {
    let other = || unsupported(column, &format!("`{kind}` in Avro"));
    if let Value::Array(branches) = kind {
        let mut branches = branches.iter().filter(|branch| *branch != "null");
        return match (branches.next(), branches.next()) {
            (Some(only), None) => arrow_type(column, only),
            _ => Err(other()),
        };
    }
    let text = |name: &str| kind.get(name).and_then(Value::as_str);
    let base = kind.as_str().or_else(|| text("type")).ok_or_else(other)?;
    Ok(match (base, text("logicalType")) {
        ("fixed" | "bytes", Some("decimal")) => {
            let digits = |name: &str| kind.get(name).and_then(Value::as_u64).unwrap_or(0);
            let (precision, scale) = (u8::try_from(digits("precision")), i8::try_from(digits("scale")));
            match (precision, scale) {
                (Ok(precision @ 1..=38), Ok(scale)) => DataType::Decimal128(precision, scale),
                _ => return Err(other()),
            }
        }
        ("int", Some("date")) => DataType::Date32,
        ("long", Some("timestamp-micros")) => timestamp(),
        ("string", None | Some("uuid")) => DataType::Utf8,
        ("boolean", None) => DataType::Boolean,
        ("int", None) => DataType::Int32,
        ("long", None) => DataType::Int64,
        ("float", None) => DataType::Float32,
        ("double", None) => DataType::Float64,
        ("bytes", None) => DataType::Binary,
        _ => return Err(other()),
    })
}

/// Whether files of the one type are read as the other: by us, hudi-rs and Spark.
pub(crate) fn widens(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::Int32, DataType::Int64) | (DataType::Float32, DataType::Float64))
}

/// The table's columns when rows of these columns are added to it: all that it had, the wider of two types, and what is new behind.
///
/// # Errors
/// `HudiSchemaChange`: a column that would lose values, by its name and both types. `HudiSchema`: a name that is none.
pub fn evolve(table: &Schema, rows: &Schema) -> Result<SchemaRef, Failure> {
    let mut fields: Vec<FieldRef> = table.fields().to_vec();
    for new in rows.fields() {
        let Some(old) = fields.iter_mut().find(|field| field.name() == new.name()) else {
            fields.push(Arc::new(new.as_ref().clone().with_nullable(true)));
            continue;
        };
        let (has, comes) = (old.data_type(), new.data_type());
        if has == comes || widens(comes, has) {
            continue;
        }
        if !widens(has, comes) {
            let reason = format!(
                "the column `{}` is {has} in the table and would become {comes}, which its files can't be read as: give the new values a column of another name",
                new.name()
            );
            return Err(Failure::user("HudiSchemaChange", reason));
        }
        *old = Arc::new(Field::new(new.name(), comes.clone(), true));
    }
    let evolved = Schema::new(fields);
    check_names(&evolved)?;
    Ok(Arc::new(evolved))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
    }

    #[test]
    fn every_type_comes_back_from_avro() {
        let all = schema(&[
            ("a", DataType::Utf8),
            ("b", DataType::Boolean),
            ("c", DataType::Int32),
            ("d", DataType::Int64),
            ("e", DataType::Float32),
            ("f", DataType::Float64),
            ("g", DataType::Binary),
            ("h", DataType::Date32),
            ("i", timestamp()),
            ("j", DataType::Decimal128(38, 9)),
        ]);
        let text = to_avro(&all, "t").unwrap();
        assert_eq!(from_avro(&text).unwrap().as_ref(), &all);
        assert!(text.contains(r#""default":null"#) && text.contains(r#""size":16"#), "{text}");
        let refused = to_avro(&schema(&[("x", DataType::UInt8)]), "t").unwrap_err();
        assert!(refused.reason.contains("`x`"), "{refused}");
    }

    #[test]
    fn decimals_have_the_bytes_that_spark_gives_them() {
        // Decimal.minBytesForPrecision.
        let expected = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4), (9, 4), (10, 5), (18, 8), (19, 9), (38, 16)];
        for (precision, bytes) in expected {
            assert_eq!(fixed_bytes(precision), bytes, "{precision}");
        }
    }

    #[test]
    fn columns_are_added_and_widened_and_nothing_else() {
        let table = schema(&[("id", DataType::Int32), ("name", DataType::Utf8)]);
        let evolved = evolve(&table, &schema(&[("more", DataType::Date32), ("id", DataType::Int64)])).unwrap();
        assert_eq!(
            evolved.as_ref(),
            &schema(&[("id", DataType::Int64), ("name", DataType::Utf8), ("more", DataType::Date32)])
        );
        // What comes narrower than the table is fits.
        assert_eq!(evolve(&evolved, &table).unwrap(), evolved);
        for name in ["Name", "a b", "", "7", "_hoodie_file_name"] {
            let refused = evolve(&table, &schema(&[(name, DataType::Utf8)])).unwrap_err();
            assert!(refused.code == "HudiSchema" && refused.reason.contains(name), "{refused}");
        }
        for (name, kind) in [("id", DataType::Utf8), ("name", DataType::Int32), ("id", DataType::Float64)] {
            let refused = evolve(&table, &schema(&[(name, kind)])).unwrap_err();
            assert!(refused.code == "HudiSchemaChange" && refused.reason.contains(name), "{refused}");
        }
    }
}
