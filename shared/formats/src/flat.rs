//! JSON rows that look like the row before: no arrays or objects in them, and members in the same order.
//!
//! Nearly every file of events is made of such rows. Once a row is known, the next is compared with it, text by text between
//! the values, instead of being parsed; only its values are looked at. Whatever is different, escaped or wrong anywhere in a
//! row leaves the row to `jiter`, before anything of it is taken. Only a value that contradicts its column is found when
//! values before it are taken: then all of the block is thrown away and read again.

use std::ops::Range;

use memchr::memchr2;

use crate::cells::equal_bytes;
use crate::column::{Column, Members, Mismatch};
use crate::value;

/// What stands before a value: from the value before it, or the beginning, with the name and the colon.
#[derive(Debug, Clone)]
struct Lead {
    text: String,
    /// The text by whole words and where they stand; the last one overlaps. Empty for a text shorter than a word.
    words: Vec<(usize, u64)>,
    place: usize,
}

impl Lead {
    fn new(text: &str, place: usize) -> Self {
        let bytes = text.as_bytes();
        let last = bytes.len().checked_sub(8);
        let starts = last.into_iter().flat_map(|last| (0..last).step_by(8).chain([last]));
        let words = starts.filter_map(|at| Some((at, word_at(bytes, at)?))).collect();
        Self { text: text.to_owned(), words, place }
    }

    /// Whether it stands there. Names are too short for a call of `memcmp` to pay.
    #[inline]
    fn stands_at(&self, bytes: &[u8]) -> bool {
        if self.words.is_empty() {
            return bytes.starts_with(self.text.as_bytes());
        }
        for (at, word) in &self.words {
            if word_at(bytes, *at) != Some(*word) {
                return false;
            }
        }
        true
    }
}

#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Text,
    Number,
    True,
    False,
    Null,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    token: Token,
    start: usize,
    end: usize,
}

/// The row before.
#[derive(Debug, Default)]
pub(crate) struct Flat {
    leads: Vec<Lead>,
    values: Vec<Value>,
    wait: usize,
}

/// After one is learnt, or could not be, so many different rows pass before the next.
const PATIENCE: usize = 16;

impl Flat {
    /// Reads a row that looks like the one before; `None` if it doesn't, and then nothing was taken.
    pub(crate) fn read(&mut self, row: &str, members: &mut Members) -> Option<Result<(), Mismatch>> {
        if self.leads.is_empty() || !self.values_of(row, members) {
            return None;
        }
        let mut each = || {
            for (lead, value) in self.leads.iter().zip(&self.values) {
                let column = members.enter_at(lead.place).ok_or(Mismatch)?;
                push(column, value.token, row, value.start..value.end)?;
            }
            members.end_row();
            Ok(())
        };
        Some(each())
    }

    fn values_of(&mut self, row: &str, members: &Members) -> bool {
        let bytes = row.as_bytes();
        self.values.clear();
        let mut at = 0;
        for lead in &self.leads {
            if !bytes.get(at..).is_some_and(|rest| lead.stands_at(rest)) {
                return false;
            }
            let Some((value, after)) = value_at(bytes, at + lead.text.len()) else { return false };
            // What is no text is kept as its JSON; whether it is JSON, `jiter` knows.
            if matches!(value.token, Token::Number | Token::True | Token::False) && members.is_text(lead.place) {
                return false;
            }
            self.values.push(value);
            at = after;
        }
        bytes.get(blanks(bytes, at)..) == Some(b"}")
    }

    /// Learns a row that [`Flat::read`] did not know and that proved to be one.
    pub(crate) fn learn(&mut self, row: &str, members: &Members) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        self.wait = PATIENCE;
        self.leads = leads_of(row, members).unwrap_or_default();
    }
}

/// What JSON allows between its tokens; not all that Rust calls whitespace (RFC 8259, 2).
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Behind the blanks from here.
fn blanks(bytes: &[u8], at: usize) -> usize {
    at + bytes.iter().skip(at).take_while(|byte| is_blank(**byte)).count()
}

fn leads_of(row: &str, members: &Members) -> Option<Vec<Lead>> {
    let bytes = row.as_bytes();
    let blank = |at: usize| blanks(bytes, at);
    let mut leads: Vec<Lead> = Vec::new();
    let (mut from, mut opening) = (0, b'{');
    loop {
        let mut at = blank(from);
        match bytes.get(at) {
            Some(b'}') if opening == b',' => return Some(leads),
            Some(byte) if *byte == opening => at = blank(at + 1),
            _ => return None,
        }
        let (name, after) = value_at(bytes, at).filter(|(name, _)| name.token == Token::Text)?;
        let colon = blank(after);
        if bytes.get(colon) != Some(&b':') {
            return None;
        }
        let begins = blank(colon + 1);
        let place = members.place(row.get(name.start..name.end)?)?;
        if leads.iter().any(|lead| lead.place == place) {
            return None;
        }
        leads.push(Lead::new(row.get(from..begins)?, place));
        from = value_at(bytes, begins)?.1;
        opening = b',';
    }
}

/// The value at a place, and what is behind it; `None` for what is not simple, or not JSON.
#[inline]
fn value_at(bytes: &[u8], at: usize) -> Option<(Value, usize)> {
    let rest = bytes.get(at..)?;
    let literal = |token, text: &[u8]| {
        rest.starts_with(text).then_some((Value { token, start: at, end: at + text.len() }, at + text.len()))
    };
    match rest.first()? {
        b'"' => {
            let inner = rest.get(1..)?;
            let length = memchr2(b'"', b'\\', inner)?;
            let text = inner.get(..length)?;
            let simple = inner.get(length) == Some(&b'"') && !text.iter().any(|byte| *byte < 0x20);
            simple.then_some((Value { token: Token::Text, start: at + 1, end: at + 1 + length }, at + length + 2))
        }
        b'-' | b'0'..=b'9' => {
            // Where it ends; whether it is a number, its column says.
            let end = at + number_end(rest)?;
            Some((Value { token: Token::Number, start: at, end }, end))
        }
        b't' => literal(Token::True, b"true"),
        b'f' => literal(Token::False, b"false"),
        b'n' => literal(Token::Null, b"null"),
        _ => None,
    }
}

/// Up to the comma or the brace behind it, without blanks.
#[inline]
fn number_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let end = loop {
        let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            let rest = bytes.get(at..)?;
            break at + rest.iter().position(|byte| matches!(byte, b',' | b'}'))?;
        };
        let marks = equal_bytes(*word, b',') | equal_bytes(*word, b'}');
        if marks != 0 {
            break at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    };
    let blank = bytes.get(..end)?.iter().rev().take_while(|byte| is_blank(**byte)).count();
    Some(end - blank)
}

#[inline]
fn push(column: &mut Column, token: Token, row: &str, place: Range<usize>) -> Result<(), Mismatch> {
    let bytes = row.as_bytes().get(place.clone()).ok_or(Mismatch)?;
    match (column, token) {
        (column, Token::Null) => column.push_null(),
        (Column::Text(builder), Token::Text) => builder.append_value(row.get(place).ok_or(Mismatch)?),
        // Both are as strict as JSON, but for a fraction with nothing before the point.
        (Column::Int(builder), Token::Number) => builder.append_value(value::int(bytes).ok_or(Mismatch)?),
        (Column::Float(_), Token::Number) if matches!(bytes, [b'-', b'.', ..]) => return Err(Mismatch),
        (Column::Float(builder), Token::Number) => builder.append_value(value::float(bytes).ok_or(Mismatch)?),
        (Column::Bool(builder), Token::True | Token::False) => builder.append_value(token == Token::True),
        (column @ (Column::Date(_) | Column::Stamp { .. }), Token::Text) => column.push_time(bytes)?,
        _ => return Err(Mismatch),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;
    use proptest::prelude::*;

    fn members() -> Members {
        let columns = [("id", Kind::Int), ("name", Kind::Text), ("price", Kind::Float), ("ok", Kind::Bool)];
        Members::new(&columns.map(|(name, kind)| (name.to_owned(), kind)), 8)
    }

    /// Whether the second row is read like the first.
    fn alike(first: &str, second: &str) -> Option<Result<(), Mismatch>> {
        let (mut flat, mut members) = (Flat::default(), members());
        flat.learn(first, &members);
        let read = flat.read(second, &mut members);
        assert_eq!(members.rows(), usize::from(read == Some(Ok(()))));
        read
    }

    const FIRST: &str = r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": true}"#;

    #[test]
    fn a_row_like_the_one_before_is_read() {
        for second in [
            FIRST,
            r#"{"id": -20, "name": "Ümläut, \u00fc?", "price": 3e-7, "ok": null}"#.replace("\\u00fc", "u").as_str(),
            r#"{"id": 0, "name": "", "price": 2, "ok": false }"#,
        ] {
            assert_eq!(alike(FIRST, second), Some(Ok(())), "{second}");
        }
    }

    #[test]
    fn a_row_that_is_different_or_wrong_anywhere_is_left_alone() {
        for second in [
            r#"{"id":1,"name":"Ann","price":1.5,"ok":true}"#,
            r#"{"name": "Ann", "id": 1, "price": 1.5, "ok": true}"#,
            r#"{"id": 1, "name": "A\"n", "price": 1.5, "ok": true}"#,
            "{\"id\": 1, \"name\": \"A\tn\", \"price\": 1.5, \"ok\": true}",
            r#"{"id": 1, "name": "Ann", "price": .5, "ok": true}"#,
            r#"{"id": 1, "name": 5, "price": 1.5, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": [1], "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": true, "more": 1}"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": true"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": tru}"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": truee}"#,
            "{\"id\": 1, \"name\": \"Ann\", \"price\": 1.5, \"ok\": true\x0c}",
            "",
        ] {
            assert_eq!(alike(FIRST, second), None, "{second}");
        }
    }

    #[test]
    fn a_value_that_contradicts_its_column_is_refused() {
        for second in [
            r#"{"id": 1.5, "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": "1", "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": "x", "ok": true}"#,
            r#"{"id": 01, "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": 1-2, "name": "Ann", "price": 1.5, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": -.5, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": 1., "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": 1e, "ok": true}"#,
            r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": 1}"#,
        ] {
            assert_eq!(alike(FIRST, second), Some(Err(Mismatch)), "{second}");
        }
    }

    #[test]
    fn what_can_not_be_learnt_is_not() {
        for first in
            [r#"{"id": 1, "id": 2}"#, r#"{"unknown": 1}"#, r#"{"id": [1]}"#, r#"{"i\u0064": 1}"#, r#"["id", 1]"#, "{}"]
        {
            assert_eq!(alike(first, first), None, "{first}");
        }
    }

    proptest! {
        /// What is read quickly is a row for `jiter`, too, and the same one.
        #[test]
        fn what_is_read_is_what_the_careful_reader_reads(
            edits in prop::collection::vec((0..FIRST.len(), prop::sample::select(b"0123456789.-+eE\"\\{}[],: \t\x0c\x0bntx".to_vec())), 0..4)
        ) {
            let mut second = FIRST.as_bytes().to_vec();
            for (at, byte) in edits {
                second[at] = byte;
            }
            let second = String::from_utf8(second).unwrap();
            let (mut flat, mut quick, mut careful) = (Flat::default(), members(), members());
            flat.learn(FIRST, &quick);
            if flat.read(&second, &mut quick) == Some(Ok(())) {
                prop_assert!(crate::json::row(second.as_bytes(), &mut careful).is_ok(), "{}", second);
                prop_assert_eq!(quick.finish().unwrap(), careful.finish().unwrap());
            }
        }
    }
}
