//! What is written of a field.

use jiff::tz::TimeZone;
use toml::{Spanned, Value};
use weir_settings::did_you_mean;

use super::Check;
use crate::Type;
use crate::cell::{Cell, bound_of};
use crate::plan::{Audience, Bound, Field, Hide, TimeFormat};
use crate::spec::{FieldSpec, SensitiveSpec};

const TYPES: [&str; 8] = ["bool", "int32", "int64", "float64", "decimal(P,S)", "string", "date", "timestamp"];

impl Check<'_> {
    pub(super) fn field(&mut self, index: usize, spec: &FieldSpec) -> Field {
        let name = spec.name.get_ref();
        let kind = match parse_type(spec.kind.get_ref()) {
            Some(kind) => kind,
            None => {
                let word = spec.kind.get_ref();
                let hint = did_you_mean(word, TYPES);
                let reason = format!(
                    "`{word}` is no type; there are {}{hint}",
                    TYPES.map(|kind| format!("`{kind}`")).join(", ")
                );
                self.problems.add(spec.kind.span(), format!("field.{name}.type"), reason);
                Type::String
            }
        };
        self.new_column(&spec.name, index, kind);
        let text = kind == Type::String;
        let timed = matches!(kind, Type::Date | Type::Timestamp);
        let ordered = !matches!(kind, Type::Bool | Type::String);
        self.only(text, &spec.trim, name, "trim", "text; blanks around other values never count");
        self.only(text, &spec.lowercase, name, "lowercase", "text");
        self.only(text, &spec.url, name, "url", "text");
        self.only(text, &spec.max_length, name, "max_length", "text");
        self.only(timed, &spec.formats, name, "formats", "dates and timestamps");
        self.only(kind == Type::Timestamp || kind == Type::Date, &spec.zone, name, "zone", "dates and timestamps");
        self.only(ordered, &spec.min, name, "min", "numbers, dates and timestamps");
        self.only(ordered, &spec.max, name, "max", "numbers, dates and timestamps");
        if let Some(url) = spec.url.as_ref().filter(|url| url.get_ref() != "without-query") {
            self.problems.add(
                url.span(),
                format!("field.{name}.url"),
                format!("`{}` is unknown; there is `without-query`", url.get_ref()),
            );
        }
        let mut field = Field {
            required: spec.required,
            trim: spec.trim.as_ref().is_some_and(|trim| *trim.get_ref()),
            lowercase: spec.lowercase.as_ref().is_some_and(|lowercase| *lowercase.get_ref()),
            without_query: spec.url.is_some(),
            max_length: spec.max_length.as_ref().map(|length| *length.get_ref()),
            formats: self.formats(spec),
            zone: spec.zone.as_ref().and_then(|zone| self.zone(zone, name)),
            sensitive: spec.sensitive.as_ref().and_then(|sensitive| self.sensitive(sensitive, name, kind)),
            ..Field::plain(name, kind)
        };
        let min = spec.min.as_ref().and_then(|value| self.bound(value, &format!("field.{name}.min"), &field));
        let max = spec.max.as_ref().and_then(|value| self.bound(value, &format!("field.{name}.max"), &field));
        if let (Some(low), Some(high), Some(value)) = (&min, &max, &spec.max)
            && low.is_above(high)
        {
            self.problems.add(value.span(), format!("field.{name}.max"), "is less than `min`, so no value would pass");
        }
        let listed = spec.one_of.iter().flat_map(|values| values.get_ref());
        let one_of = listed.filter_map(|value| self.bound(value, &format!("field.{name}.one_of"), &field)).collect();
        (field.min, field.max, field.one_of) = (min, max, one_of);
        field
    }

    fn only<T>(&mut self, right: bool, value: &Option<Spanned<T>>, name: &str, key: &str, what: &str) {
        if let Some(value) = value.as_ref().filter(|_| !right) {
            self.problems.add(value.span(), format!("field.{name}.{key}"), format!("is for {what}; leave it out"));
        }
    }

    /// A value in the file, read as the field would read it.
    pub(super) fn bound(&mut self, value: &Spanned<Value>, key: &str, field: &Field) -> Option<Bound> {
        let text = match value.get_ref() {
            Value::String(text) => text.clone(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Datetime(time) => time.to_string(),
            Value::Array(_) | Value::Table(_) => String::new(),
        };
        let bound = bound_of(field, Cell::Text(&text));
        if bound.is_none() {
            self.problems.add(value.span(), key, format!("`{text}` is no {}", field.kind));
        }
        bound
    }

    fn formats(&mut self, spec: &FieldSpec) -> Vec<TimeFormat> {
        let Some(formats) = &spec.formats else { return vec![TimeFormat::Iso] };
        let name = spec.name.get_ref();
        let mut parsed = Vec::new();
        for format in formats.get_ref() {
            match format.get_ref().as_str() {
                "iso" => parsed.push(TimeFormat::Iso),
                "epoch_s" => parsed.push(TimeFormat::Epoch(6)),
                "epoch_ms" => parsed.push(TimeFormat::Epoch(3)),
                "epoch_us" => parsed.push(TimeFormat::Epoch(0)),
                pattern if pattern.contains('%') && round_trips(pattern) => {
                    parsed.push(TimeFormat::Pattern(pattern.to_owned()))
                }
                other => {
                    let reason = format!(
                        "`{other}` is no format that a whole date can be read by; there are `iso`, `epoch_s`, `epoch_ms`, `epoch_us` and strftime directives such as `%m/%d/%Y %H:%M:%S`"
                    );
                    self.problems.add(format.span(), format!("field.{name}.formats"), reason);
                }
            }
        }
        let epochs = parsed.iter().filter(|format| matches!(format, TimeFormat::Epoch(_))).count();
        if epochs > 1 {
            self.problems.add(
                formats.span(),
                format!("field.{name}.formats"),
                "a number can't be told to be seconds or milliseconds; keep one `epoch_…`",
            );
        }
        if parsed.is_empty() {
            parsed.push(TimeFormat::Iso);
        }
        parsed
    }

    fn zone(&mut self, zone: &Spanned<String>, name: &str) -> Option<TimeZone> {
        match TimeZone::get(zone.get_ref()) {
            Ok(found) => Some(found).filter(|found| *found != TimeZone::UTC),
            Err(_) => {
                let reason = format!(
                    "`{}` is no time zone; write one of the IANA names, such as `America/New_York` or `UTC`",
                    zone.get_ref()
                );
                self.problems.add(zone.span(), format!("field.{name}.zone"), reason);
                None
            }
        }
    }

    fn sensitive(&mut self, spec: &Spanned<SensitiveSpec>, name: &str, kind: Type) -> Option<(Hide, Audience)> {
        let (key, sensitive) = (format!("field.{name}.sensitive"), spec.get_ref());
        let audience = match sensitive.place.as_ref().map(|place| place.get_ref().as_str()) {
            None => Audience::Tables,
            Some("dashboards") => Audience::Dashboards,
            Some(other) => {
                let reason = format!("`in` is `{other}`; there is `dashboards`, and leaving it out means everywhere");
                self.problems.add(spec.span(), key.clone(), reason);
                Audience::Tables
            }
        };
        let numeric = kind == Type::Float64;
        let hide = match (sensitive.hash, sensitive.drop, sensitive.mask) {
            (true, false, None) if kind == Type::String => Hide::Hash,
            (false, true, None) => Hide::Drop,
            (false, false, Some(kept)) if numeric || kind == Type::String => Hide::Mask(kept),
            (true, false, None) => {
                self.problems.add(spec.span(), key, "`hash` makes text, so it is for text; use `drop`");
                return None;
            }
            (false, false, Some(_)) => {
                self.problems.add(spec.span(), key, "`mask` is for text and float64; use `drop`");
                return None;
            }
            _ => {
                self.problems.add(spec.span(), key, "say exactly one of `hash = true`, `drop = true`, `mask = N`");
                return None;
            }
        };
        Some((hide, audience))
    }
}

fn parse_type(text: &str) -> Option<Type> {
    Some(match text {
        "bool" => Type::Bool,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "string" => Type::String,
        "date" => Type::Date,
        "timestamp" => Type::Timestamp,
        _ => {
            let (precision, scale) = text.strip_prefix("decimal(")?.strip_suffix(')')?.split_once(',')?;
            let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<u8>().ok()?);
            if !(1..=18).contains(&precision) || scale > precision {
                return None;
            }
            Type::Decimal { precision, scale }
        }
    })
}

/// Whether what a pattern writes is read by it as the same day.
fn round_trips(pattern: &str) -> bool {
    let day = jiff::civil::date(2024, 2, 29).at(13, 14, 15, 0).to_zoned(TimeZone::UTC);
    let Ok(day) = day else { return false };
    let Ok(text) = jiff::fmt::strtime::format(pattern, &day) else { return false };
    let read = jiff::fmt::strtime::parse(pattern, &text).and_then(|parsed| parsed.to_date());
    read.is_ok_and(|read| read == day.date())
}
