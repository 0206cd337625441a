//! Rows from JSON, and clean rows as JSON.
//!
//! Defined here: members that the contract doesn't know are skipped, whatever is in them (nesting beyond jiter's 200
//! levels is not JSON to us). A known member given twice, under one name or two, is a bad row. A string that matters with
//! a lone surrogate, a raw control character or bytes that are not UTF-8 makes a bad row.

use std::ops::Range;

use jiter::{Jiter, JiterError, Peek};
use weir_values::{self as values, Member, Token};

use crate::cell::{Cell, Value};
use crate::error::Rule;
use crate::row::{Row, Verdict};
use crate::{Type, Violation};

/// A document read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What it is.
    pub verdict: Verdict,
    /// Where it ends; `None` where that can't be told, because it is not JSON.
    pub end: Option<usize>,
}

impl Row<'_> {
    /// Reads the first document of `bytes`, which may be followed by others.
    pub fn read_json(&mut self, bytes: &[u8]) -> Read {
        self.begin();
        if let Some(end) = self.read_flat(bytes) {
            return Read { verdict: self.finish(), end: Some(end) };
        }
        let mut json = Jiter::new(bytes);
        match self.members(&mut json) {
            Ok(()) => {
                let (verdict, end) = (self.finish(), json.current_index());
                if verdict == Verdict::Clean {
                    self.learn(bytes.get(..end));
                }
                Read { verdict, end: Some(end) }
            }
            Err(violation) => {
                // What is JSON but no object has an end.
                let end = if violation.rule == Rule::Object { Some(json.current_index()) } else { None };
                Read { verdict: Verdict::Bad(violation), end }
            }
        }
    }

    /// Reads all documents of a payload, with or without line breaks between them. After one that is broken, the next line may be
    /// well. A payload without any is one broken document.
    pub fn each_document(&mut self, payload: &[u8], mut each: impl FnMut(&mut Self, Range<usize>, Verdict)) {
        if payload.trim_ascii().is_empty() {
            return each(self, 0..payload.len(), Verdict::Bad(Violation::unreadable("it is empty".to_owned())));
        }
        let mut at = 0;
        loop {
            let rest = payload.get(at..).unwrap_or_default();
            let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let rest = rest.get(blank..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            let read = self.read_json(rest);
            let line = || memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            let length = read.end.filter(|end| *end > 0).unwrap_or_else(line);
            let from = at + blank;
            at = from + length;
            each(self, from..at, read.verdict);
        }
    }

    /// Reads a text that must be one document.
    pub fn read_one_json(&mut self, bytes: &[u8]) -> Verdict {
        match self.read_json(bytes) {
            Read { end: Some(end), .. } if bytes.get(end..).is_some_and(|rest| !rest.trim_ascii().is_empty()) => {
                Verdict::Bad(Violation::of_row(Rule::Json, "something follows the object"))
            }
            read => read.verdict,
        }
    }

    /// Reads a row that looks like one before it: where it ends. Otherwise nothing is taken.
    #[inline]
    fn read_flat(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = self.flat.read(bytes)?;
        let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let flat = std::mem::take(&mut self.flat);
        for (place, token, at) in flat.values() {
            let cell = match (token, text.get(at).unwrap_or_default()) {
                (Token::Text, text) => Cell::Text(text),
                (Token::Number, number) => Cell::Number(number),
                (Token::True, _) => Cell::Bool(true),
                (Token::False, _) => Cell::Bool(false),
                (Token::Null, _) => Cell::Null,
            };
            self.set(place, cell);
        }
        self.flat = flat;
        Some(end)
    }

    fn learn(&mut self, row: Option<&[u8]>) {
        let Some(row) = row.and_then(|row| std::str::from_utf8(row).ok()) else { return };
        let contract = self.contract;
        self.flat.learn(row, |name| Some(contract.place_of(name).map_or(Member::Unknown, Member::Column)));
    }

    fn members(&mut self, json: &mut Jiter<'_>) -> Result<(), Violation> {
        let peek = json.peek().map_err(|error| not_json(&error))?;
        if peek != Peek::Object {
            json.known_skip(peek).map_err(|error| not_json(&error))?;
            return Err(Violation::of_row(Rule::Object, "it is JSON, but not an object"));
        }
        let mut position = 0;
        let mut key = json.known_object().map_err(|error| not_json(&error))?;
        while let Some(name) = key {
            let place = match self.order.get(position) {
                Some((known, place)) if known == name => {
                    position += 1;
                    *place
                }
                _ => self.recall(&mut position, name),
            };
            let peek = json.peek().map_err(|error| not_json(&error))?;
            match place {
                Some(place) => self.member(json, peek, place).map_err(|error| not_json(&error))?,
                None => json.known_skip(peek).map_err(|error| not_json(&error))?,
            }
            key = json.next_key().map_err(|error| not_json(&error))?;
        }
        Ok(())
    }

    /// A member that is not where the rows before had it.
    fn recall(&mut self, position: &mut usize, name: &str) -> Option<usize> {
        // Rows with thousands of unknown members need not be remembered.
        const MOST: usize = 256;
        if let Some(at) = self.order.iter().position(|(known, _)| known == name) {
            *position = at + 1;
            return self.order.get(at).and_then(|(_, place)| *place);
        }
        let place = self.contract.place_of(name);
        if self.order.len() < MOST {
            self.order.push((name.to_owned(), place));
            *position = self.order.len();
        }
        place
    }

    #[inline]
    fn member(&mut self, json: &mut Jiter<'_>, peek: Peek, place: usize) -> Result<(), JiterError> {
        match peek {
            Peek::String => {
                let text = json.known_str()?;
                self.set(place, Cell::Text(text));
            }
            Peek::Null => {
                json.known_null()?;
                self.set(place, Cell::Null);
            }
            Peek::True | Peek::False => {
                let truth = json.known_bool(peek)?;
                self.set(place, Cell::Bool(truth));
            }
            Peek::Array | Peek::Object => {
                let start = json.current_index();
                json.known_skip(peek)?;
                let nested = std::str::from_utf8(json.slice_to_current(start)).unwrap_or("\u{fffd}");
                self.set(place, Cell::Nested(nested));
            }
            _ => {
                // Jiter takes bytes apart; a number is ASCII.
                let number = std::str::from_utf8(json.known_number_bytes(peek)?).unwrap_or("");
                self.set(place, Cell::Number(number));
            }
        }
        Ok(())
    }

    /// Appends the clean row as a JSON object. What is null is left out.
    pub fn write_json(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut day = std::mem::take(&mut self.day);
        for ((key, kind), value) in self.keys.iter().zip(&self.values) {
            if *value != Value::Null {
                out.extend_from_slice(key.as_bytes());
                self.write_value(out, *kind, *value, &mut day);
            }
        }
        self.day = day;
        // Where the first member's comma is, or would be.
        match out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => out.push(b'{'),
        }
        out.push(b'}');
    }

    fn write_value(&self, out: &mut Vec<u8>, kind: Type, value: Value, day: &mut (i32, Vec<u8>)) {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
            Value::Int(number) => match kind {
                Type::Decimal { scale, .. } => write_decimal(out, number, scale),
                _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
            },
            Value::Float(number) => out.extend_from_slice(zmij::Buffer::new().format(number).as_bytes()),
            Value::Date(days) => quoted(out, |out| out.extend_from_slice(text_of_day(day, days))),
            Value::Stamp(micros) if micros == self.now_micros => {
                quoted(out, |out| out.extend_from_slice(&self.now_text))
            }
            Value::Stamp(micros) => quoted(out, |out| {
                out.extend_from_slice(text_of_day(day, values::days_of(micros)));
                values::write_time(out, micros);
            }),
            Value::Text(from, to) => write_text(out, self.text_of(from, to)),
        }
    }

    /// The values that say which partition a clean row belongs to, by column, as they stand in paths.
    pub fn partition(&self) -> impl Iterator<Item = (&str, String)> {
        self.contract.partition_by.iter().filter_map(|place| {
            let column = self.contract.columns().nth(*place)?;
            let mut out = Vec::new();
            match self.values.get(*place)? {
                Value::Text(from, to) => out.extend_from_slice(self.text_of(*from, *to).as_bytes()),
                Value::Date(days) => values::write_date(&mut out, *days),
                value => self.write_value(&mut out, column.kind, *value, &mut self.day.clone()),
            }
            Some((column.name, String::from_utf8_lossy(&out).into_owned()))
        })
    }
}

#[cold]
fn not_json(error: &JiterError) -> Violation {
    Violation::of_row(Rule::Json, format!("{} at byte {}", error.error_type, error.index))
}

fn text_of_day(known: &mut (i32, Vec<u8>), days: i32) -> &[u8] {
    if known.0 != days || known.1.is_empty() {
        known.0 = days;
        known.1.clear();
        values::write_date(&mut known.1, days);
    }
    &known.1
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// A number with its point where `scale` says.
pub(crate) fn write_decimal(out: &mut Vec<u8>, number: i64, scale: u8) {
    if number < 0 {
        out.push(b'-');
    }
    let power = 10u64.pow(scale.into());
    let (whole, rest) = (number.unsigned_abs() / power, number.unsigned_abs() % power);
    out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    if scale > 0 {
        out.push(b'.');
        let digits = itoa::Buffer::new().format(rest).len();
        out.extend(std::iter::repeat_n(b'0', usize::from(scale).saturating_sub(digits)));
        out.extend_from_slice(itoa::Buffer::new().format(rest).as_bytes());
    }
}

/// A JSON string (RFC 8259, 7): quotes, backslashes and control characters are escaped, nothing else.
fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    if values::is_plain(rest) {
        out.extend_from_slice(rest);
        return out.push(b'"');
    }
    while let Some(at) = rest.iter().position(|byte| *byte < b' ' || matches!(byte, b'"' | b'\\')) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            other => out.extend_from_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use crate::{Audience, Verdict, contract};

    #[test]
    fn a_row_like_a_clean_one_is_not_parsed() {
        let logs = contract("page_logs").unwrap();
        let mut row = logs.row(Audience::Tables, 0);
        let log = br#"{"event_timestamp":"2024-03-01T12:00:00Z","session_id":"s","page_url":"/","user_id":5,"TTI":1,"TTAR":2,"agent":"x"}"#;
        row.begin();
        assert_eq!(row.read_flat(log), None);
        assert_eq!(row.read_json(log).verdict, Verdict::Clean);
        row.begin();
        assert_eq!(row.read_flat(log), Some(log.len()));
        assert_eq!(row.finish(), Verdict::Clean);
    }
}
