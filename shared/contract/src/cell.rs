//! One raw cell as a value of its column, or the rule it breaks.
//!
//! What is defined here, for every road (JSON, delimited text, columnar files, Spark):
//!
//! | column | takes | refuses |
//! | --- | --- | --- |
//! | whole numbers | `5`, `"5"`, `" 5 "`, `"+5"`, `"007"`, `5.0`, `5e0`, `-0` (as 0) | fractions, beyond 32 or 64 bits, truth values |
//! | `float64` | any finite number, in quotes or not; the nearest float; `-0.0` stays | `NaN`, `Infinity`, `1e309` |
//! | `decimal(p,s)` | what is exact with `s` decimals | what would be rounded, or has more than `p` digits |
//! | `bool` | `true`/`false`, 1/0, and the words yes/no, y/n, t/f, on/off in any case | all else |
//! | `string` | text as it is; numbers and truth values as their text; objects and arrays as their JSON | |
//! | `timestamp`, `date` | by the field's `formats`; without a zone in the field's `zone` (UTC) | days that are none, year 0, beyond 9999, second 60 |
//!
//! Null, a missing member and, in all columns but text, blank text are the same: nothing. In a zone with daylight saving, a
//! time that comes twice is the first of the two, and one that is skipped is moved forward by the gap. Digits beyond the
//! microsecond are cut off.

use std::fmt::Write as _;

use memchr::memchr2;
use weir_values as values;

use crate::error::{Rule, shown};
use crate::moment::{date, moment};
use crate::number::{decimal, float, truth, whole};
use crate::plan::{Bound, Field, TimeFormat};
use crate::{Type, Violation};

/// A value as it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number as text, as JSON writes it.
    Number(&'a str),
    /// Text.
    Text(&'a str),
    /// An array or object, as JSON.
    Nested(&'a str),
    /// A whole number.
    Int(i64),
    /// A float.
    Float(f64),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01T00:00, and whether that is UTC; otherwise it is a clock's reading in the field's zone.
    Stamp(i64, bool),
    /// Of a type that no column takes: a binary value, a list or a struct of a columnar file.
    Foreign,
}

/// A value as its column has it. Text lies in the row's own text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Whole numbers, decimals by their scale.
    Int(i64),
    Float(f64),
    Date(i32),
    Stamp(i64),
    /// From and to.
    Text(u32, u32),
}

/// Why a cell is not a value of its column.
pub(crate) struct Misfit {
    rule: Rule,
    reason: String,
    value: String,
}

impl Misfit {
    pub(crate) fn violation(self, field: &Field) -> Violation {
        Violation {
            rule: self.rule,
            field: field.name.to_string(),
            reason: self.reason.into(),
            value: Some(self.value),
        }
    }
}

/// 0001-01-01 and the end of 9999-12-31, in microseconds and days.
const FIRST_MICROS: i64 = -62_135_596_800_000_000;
const LAST_MICROS: i64 = 253_402_300_799_999_999;
const FIRST_DAY: i32 = -719_162;
const LAST_DAY: i32 = 2_932_896;

/// Reads a cell; `text` is where text is put.
#[inline]
pub(crate) fn value_of(field: &Field, cell: Cell<'_>, text: &mut String) -> Result<Value, Misfit> {
    let begin = text.len();
    let Some(value) = read(field, cell, text) else {
        text.truncate(begin);
        return Err(misfit(field, cell));
    };
    let bounded = field.min.is_some() || field.max.is_some() || field.max_length.is_some();
    if bounded || field.without_query || !field.one_of.is_empty() {
        check(field, value, cell, text)?;
    }
    Ok(value)
}

/// The rules about a value by itself.
fn check(field: &Field, value: Value, cell: Cell<'_>, text: &str) -> Result<(), Misfit> {
    let broken = |rule, reason: String| Err(Misfit { rule, reason, value: cell.shown() });
    let found = match value {
        Value::Null => return Ok(()),
        Value::Bool(truth) => Found::Bool(truth),
        Value::Int(number) | Value::Stamp(number) => Found::Int(number),
        Value::Date(days) => Found::Int(days.into()),
        Value::Float(number) => Found::Float(number),
        Value::Text(from, to) => Found::Text(text.get(from as usize..to as usize).unwrap_or_default()),
    };
    let outside = field.min.as_ref().is_some_and(|min| found.is_below(min))
        || field.max.as_ref().is_some_and(|max| found.is_above(max));
    if outside {
        return broken(Rule::Range, format!("it must be {}", field.range()));
    }
    if !field.one_of.is_empty() && !field.one_of.iter().any(|listed| found.is(listed)) {
        return broken(Rule::OneOf, "it is not among the values the contract lists".to_owned());
    }
    if let Found::Text(text) = found {
        if field.without_query && values::has_blank(text.as_bytes()) {
            return broken(Rule::Url, "a URL holds no blanks or control characters".to_owned());
        }
        if let Some(most) = field.max_length.filter(|most| text.len() > *most && text.chars().count() > *most) {
            return broken(Rule::MaxLength, format!("at most {most} characters"));
        }
    }
    Ok(())
}

/// A value beside what a contract names.
enum Found<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl Found<'_> {
    fn is_below(&self, bound: &Bound) -> bool {
        match (self, bound) {
            (Self::Int(value), Bound::Int(bound)) => value < bound,
            (Self::Float(value), Bound::Float(bound)) => value < bound,
            _ => false,
        }
    }

    fn is_above(&self, bound: &Bound) -> bool {
        match (self, bound) {
            (Self::Int(value), Bound::Int(bound)) => value > bound,
            (Self::Float(value), Bound::Float(bound)) => value > bound,
            _ => false,
        }
    }

    fn is(&self, listed: &Bound) -> bool {
        match (self, listed) {
            (Self::Bool(value), Bound::Bool(listed)) => value == listed,
            (Self::Int(value), Bound::Int(listed)) => value == listed,
            (Self::Float(value), Bound::Float(listed)) => value == listed,
            (Self::Text(value), Bound::Text(listed)) => value == listed,
            _ => false,
        }
    }
}

impl Bound {
    pub(crate) fn is_above(&self, other: &Self) -> bool {
        match self {
            Self::Int(value) => Found::Int(*value).is_above(other),
            Self::Float(value) => Found::Float(*value).is_above(other),
            Self::Bool(_) | Self::Text(_) => false,
        }
    }

    /// Whether a row's value is this.
    pub(crate) fn equals(&self, value: Value, text: &str) -> bool {
        match value {
            Value::Null => false,
            Value::Bool(truth) => Found::Bool(truth).is(self),
            Value::Int(number) | Value::Stamp(number) => Found::Int(number).is(self),
            Value::Date(days) => Found::Int(days.into()).is(self),
            Value::Float(number) => Found::Float(number).is(self),
            Value::Text(from, to) => Found::Text(text.get(from as usize..to as usize).unwrap_or_default()).is(self),
        }
    }
}

/// What a contract names, read as its field reads cells.
pub(crate) fn bound_of(field: &Field, cell: Cell<'_>) -> Option<Bound> {
    let mut text = String::new();
    Some(match read(field, cell, &mut text)? {
        Value::Null => return None,
        Value::Bool(truth) => Bound::Bool(truth),
        Value::Int(number) | Value::Stamp(number) => Bound::Int(number),
        Value::Date(days) => Bound::Int(days.into()),
        Value::Float(number) => Bound::Float(number),
        Value::Text(..) => Bound::Text(text),
    })
}

impl Cell<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(truth) => truth.to_string(),
            Self::Number(text) | Self::Text(text) | Self::Nested(text) => shown(text),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Date(days) => written(|out| values::write_date(out, *days)),
            Self::Stamp(micros, _) => written(|out| values::write_stamp(out, *micros)),
            Self::Foreign => "a value of a type that no column takes".to_owned(),
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn misfit(field: &Field, cell: Cell<'_>) -> Misfit {
    let reason = match field.kind {
        Type::Int32 => "it must be a whole number of at most 32 bits".to_owned(),
        Type::Int64 => "it must be a whole number of at most 64 bits".to_owned(),
        Type::Float64 => "it must be a finite number".to_owned(),
        Type::Decimal { precision, scale } => {
            format!("it must be a number of at most {precision} digits, {scale} of them behind the point")
        }
        Type::Bool => "it must be a truth value: true, false, 1, 0, yes, no".to_owned(),
        Type::String => "it must be text".to_owned(),
        Type::Date | Type::Timestamp => field.describe_formats(),
    };
    Misfit { rule: Rule::Type, reason, value: cell.shown() }
}

impl Field {
    fn describe_formats(&self) -> String {
        let formats = self.formats.iter().map(|format| match format {
            TimeFormat::Iso => "2024-02-29T12:34:56Z",
            TimeFormat::Epoch(6) => "seconds since 1970",
            TimeFormat::Epoch(3) => "milliseconds since 1970",
            TimeFormat::Epoch(_) => "microseconds since 1970",
            TimeFormat::Pattern(pattern) => pattern,
        });
        let formats: Vec<&str> = formats.collect();
        format!("it must be a {} from year 1 to 9999, such as {}", self.kind, formats.join(" or "))
    }

    /// What `min` and `max` ask for: "at least 1 and at most 9".
    pub(crate) fn range(&self) -> String {
        let mut range = String::new();
        for (word, bound) in [("at least", &self.min), ("at most", &self.max)] {
            let Some(bound) = bound else { continue };
            let and = if range.is_empty() { "" } else { " and " };
            let bound = match (bound, self.kind) {
                (Bound::Int(days), Type::Date) => written(|out| values::write_date(out, *days as i32)),
                (Bound::Int(micros), Type::Timestamp) => written(|out| values::write_stamp(out, *micros)),
                (Bound::Int(number), Type::Decimal { scale, .. }) => {
                    written(|out| crate::json::write_decimal(out, *number, scale))
                }
                (Bound::Int(number), _) => number.to_string(),
                (Bound::Float(number), _) => number.to_string(),
                (Bound::Bool(_) | Bound::Text(_), _) => continue,
            };
            let _ = write!(range, "{and}{word} {bound}");
        }
        range
    }
}

fn read(field: &Field, cell: Cell<'_>, text: &mut String) -> Option<Value> {
    match (field.kind, cell) {
        (_, Cell::Null) => Some(Value::Null),
        (_, Cell::Foreign) => None,
        (Type::String, _) => Some(read_text(field, cell, text)),
        // Everything but text: blanks around a value are no part of it.
        (_, Cell::Text(blank)) if blank.trim_ascii().is_empty() => Some(Value::Null),
        (Type::Bool, _) => truth(cell).map(Value::Bool),
        (Type::Int32, _) => i32::try_from(whole(cell)?).ok().map(|number| Value::Int(number.into())),
        (Type::Int64, _) => whole(cell).map(Value::Int),
        (Type::Float64, _) => float(cell).map(Value::Float),
        (Type::Decimal { precision, scale }, _) => {
            let number = decimal(cell, scale.into())?;
            (number.unsigned_abs() < 10u64.pow(precision.into())).then_some(Value::Int(number))
        }
        (Type::Date, _) => date(field, cell).filter(|days| (FIRST_DAY..=LAST_DAY).contains(days)).map(Value::Date),
        (Type::Timestamp, _) => {
            moment(field, cell).filter(|micros| (FIRST_MICROS..=LAST_MICROS).contains(micros)).map(Value::Stamp)
        }
    }
}

/// Without Unicode's blanks around it. Mostly there are none, and its ends say so.
fn trimmed(text: &str) -> &str {
    match text.as_bytes() {
        [b'!'..=b'~'] | [b'!'..=b'~', .., b'!'..=b'~'] => text,
        _ => text.trim(),
    }
}

fn read_text(field: &Field, cell: Cell<'_>, text: &mut String) -> Value {
    let from = text.len();
    match cell {
        Cell::Text(cell) => {
            let cell = if field.trim { trimmed(cell) } else { cell };
            let query = if field.without_query { memchr2(b'?', b'#', cell.as_bytes()) } else { None };
            let cell = query.map_or(cell, |end| cell.get(..end).unwrap_or_default());
            match field.lowercase {
                true => text.extend(cell.chars().flat_map(char::to_lowercase)),
                false => text.push_str(cell),
            }
        }
        Cell::Number(cell) | Cell::Nested(cell) => text.push_str(cell),
        Cell::Float(number) => text.push_str(zmij::Buffer::new().format(number)),
        other => text.push_str(&other.shown()),
    }
    // A row's text is far below 4 GiB: a document is at most 64 MiB.
    Value::Text(from as u32, text.len() as u32)
}
