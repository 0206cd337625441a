//! What a column holds, as far as we know, and how two findings agree.

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// What a column holds. Findings are joined as data is read; joining only ever widens, so a conversion that starts
/// again after a contradiction comes to an end.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing but nulls so far; written as text.
    Null,
    /// `true` and `false`, in any case.
    Bool,
    /// Whole numbers that fit 64 bits, written as numbers are: `7`, `-7`, and not `007` or `+7`, which are text because
    /// a number would lose something (a postal code its zero).
    Int,
    /// Whole numbers of which some are too large to be exactly a float (beyond 2^53).
    BigInt,
    /// Numbers. A column of whole numbers becomes one only while each is exactly a float.
    Float,
    /// `2024-02-29`.
    Date,
    /// A date and a time of day without a zone, to the microsecond.
    Stamp,
    /// A date and a time of day with a zone, to the microsecond; kept as UTC.
    StampUtc,
    /// Anything. In JSON, a value that is not a string is kept as its JSON text.
    Text,
    /// A JSON array.
    List(Box<Kind>),
    /// A JSON object, members in order of appearance.
    Struct(Vec<(String, Kind)>),
    /// A type that came with its file and is kept as it is.
    Exact(DataType),
}

/// The most members an object may have before its column is kept as JSON text: beyond it, keys are data.
const MOST_MEMBERS: usize = 1000;

impl Kind {
    /// The narrowest kind that holds both without losing anything, [`Kind::Text`] if there is no other.
    pub fn join(&self, other: &Self) -> Self {
        use Kind::{BigInt, Exact, Float, Int, List, Null, Struct, Text};
        match (self, other) {
            (a, b) if a == b => a.clone(),
            (Null, a) | (a, Null) => a.clone(),
            (Int, Float) | (Float, Int) => Float,
            (Int, BigInt) | (BigInt, Int) => BigInt,
            (List(a), List(b)) => List(Box::new(a.join(b))),
            (Struct(a), Struct(b)) => {
                let mut members = a.clone();
                for (name, kind) in b {
                    match members.iter_mut().find(|(known, _)| known == name) {
                        Some((_, known)) => *known = known.join(kind),
                        None => members.push((name.clone(), kind.clone())),
                    }
                }
                if members.len() > MOST_MEMBERS { Text } else { Struct(members) }
            }
            (Exact(a), Exact(b)) => match (plainer(a), plainer(b)) {
                (Some(a), Some(b)) => a.join(&b),
                _ => Text,
            },
            (Exact(a), b) | (b, Exact(a)) => plainer(a).map_or(Text, |a| a.join(b)),
            _ => Text,
        }
    }

    /// From a type that came with a file.
    pub fn from_arrow(data_type: &DataType) -> Self {
        match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool,
            DataType::Int64 => Self::Int,
            DataType::Float64 => Self::Float,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Stamp,
            DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => Self::StampUtc,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, value) => Self::from_arrow(value),
            other => Self::Exact(other.clone()),
        }
    }

    /// The type it is written as.
    pub fn to_arrow(&self) -> DataType {
        match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int | Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Stamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::StampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::List(item) => DataType::List(Arc::new(Field::new("item", item.to_arrow(), true))),
            // Parquet has no struct without members.
            Self::Struct(members) if members.is_empty() => DataType::Utf8,
            Self::Struct(members) => DataType::Struct(fields(members)),
            Self::Exact(data_type) => data_type.clone(),
        }
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z" | "Etc/UTC")
}

/// The kind whose values include all of an exact type's, if there is one.
fn plainer(data_type: &DataType) -> Option<Kind> {
    use DataType::{Float16, Float32, Int8, Int16, Int32, UInt8, UInt16, UInt32};
    match data_type {
        Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 => Some(Kind::Int),
        Float16 | Float32 => Some(Kind::Float),
        _ => None,
    }
}

fn fields(columns: &[(String, Kind)]) -> Fields {
    columns.iter().map(|(name, kind)| Field::new(name, kind.to_arrow(), true)).collect()
}

/// The columns of a job, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns(pub Vec<(String, Kind)>);

impl Columns {
    /// Joined column by column; new ones at the end.
    pub fn join(&self, other: &Self) -> Self {
        let mut columns = self.0.clone();
        for (name, kind) in &other.0 {
            match columns.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = known.join(kind),
                None => columns.push((name.clone(), kind.clone())),
            }
        }
        Self(columns)
    }

    /// The columns' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// As an Arrow schema, every column nullable.
    pub fn to_arrow(&self) -> SchemaRef {
        Arc::new(Schema::new(fields(&self.0)))
    }

    /// From a schema that came with a file.
    pub fn from_arrow(schema: &Schema) -> Self {
        Self(schema.fields().iter().map(|field| (field.name().clone(), Kind::from_arrow(field.data_type()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_kind() -> impl Strategy<Value = Kind> {
        let leaf = prop::sample::select(vec![
            Kind::Null,
            Kind::Bool,
            Kind::Int,
            Kind::BigInt,
            Kind::Float,
            Kind::Date,
            Kind::Stamp,
            Kind::StampUtc,
            Kind::Text,
            Kind::Exact(DataType::Int32),
            Kind::Exact(DataType::Float32),
            Kind::Exact(DataType::Decimal128(10, 2)),
        ]);
        leaf.prop_recursive(2, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|kind| Kind::List(Box::new(kind))),
                prop::collection::vec(("[a-c]", inner), 0..3)
                    .prop_map(|members| Columns(vec![]).join(&Columns(members)).0)
                    .prop_map(Kind::Struct),
            ]
        })
    }

    proptest! {
        #[test]
        fn joining_only_widens(a in any_kind(), b in any_kind()) {
            let joined = a.join(&b);
            prop_assert_eq!(joined.join(&a), joined.clone());
            prop_assert_eq!(joined.join(&b), joined.clone());
            prop_assert_eq!(b.join(&a).to_arrow().is_nested(), joined.to_arrow().is_nested());
        }
    }

    #[test]
    fn small_exact_types_meet_in_the_plain_one() {
        assert_eq!(Kind::Exact(DataType::Int32).join(&Kind::Int), Kind::Int);
        assert_eq!(Kind::Exact(DataType::Int32).join(&Kind::Exact(DataType::Int16)), Kind::Int);
        assert_eq!(Kind::Exact(DataType::Float32).join(&Kind::Int), Kind::Float);
        assert_eq!(Kind::Exact(DataType::Decimal128(9, 2)).join(&Kind::Int), Kind::Text);
    }
}
