//! JSON rows that look like rows before: no arrays or objects in them, and members in an order that is known.
//!
//! Nearly every file and stream of events is made of such rows, with a member more or less. Once a row is known, the next
//! is compared with it, text by text between the values, instead of being parsed; only its values are looked at. Whatever is different, escaped or wrong
//! anywhere in a row leaves it to a careful reader, before anything of it is taken.

use std::ops::Range;

use memchr::memchr2;

use crate::is_plain;

/// What stands before a value: from the value before it, or the beginning, with the name and the colon.
#[derive(Debug, Clone)]
struct Lead {
    text: Box<[u8]>,
    /// The text by whole words and where they stand; the last one overlaps. Empty for a text shorter than a word.
    words: Box<[(usize, u64)]>,
    member: Member,
}

impl Lead {
    fn new(text: &str, member: Member) -> Self {
        let bytes = text.as_bytes();
        let last = bytes.len().checked_sub(8);
        let starts = last.into_iter().flat_map(|last| (0..last).step_by(8).chain([last]));
        let words = starts.filter_map(|at| Some((at, word_at(bytes, at)?))).collect();
        Self { text: bytes.into(), words, member }
    }

    /// Whether it stands there. Names are too short for a call of `memcmp` to pay.
    #[inline]
    fn stands_at(&self, bytes: &[u8]) -> bool {
        if self.words.is_empty() {
            return bytes.starts_with(&self.text);
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

/// What a member of a row is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A column, by its place.
    Column(usize),
    /// It is passed over.
    Unknown,
}

/// What a value is, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A string without escapes.
    Text,
    /// A number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

#[derive(Debug, Clone, Copy)]
struct Value {
    token: Token,
    start: usize,
    end: usize,
}

/// A member where rows before had it, and what they had behind it.
#[derive(Debug)]
struct Node {
    lead: Lead,
    next: Vec<usize>,
}

/// The rows before.
#[derive(Debug, Default)]
pub struct FlatRows {
    nodes: Vec<Node>,
    /// What rows began with.
    first: Vec<usize>,
    values: Vec<(Member, Value)>,
    learnt: usize,
    wait: usize,
}

/// More members than this, in all their orders, are not remembered; of one row, all are.
const MOST_NODES: usize = 1024;

impl FlatRows {
    /// Reads the row at the beginning of `bytes` if it looks like one that was learnt: where it ends. Its values are
    /// [`FlatRows::values`] then. That their bytes are UTF-8 is not looked at.
    #[inline]
    pub fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        self.values.clear();
        let (mut at, mut next) = (0, &self.first);
        loop {
            let rest = bytes.get(at..)?;
            let node = next.iter().filter_map(|node| self.nodes.get(*node)).find(|node| node.lead.stands_at(rest))?;
            let member = node.lead.member;
            let (value, after) = value_at(bytes, at + node.lead.text.len())?;
            self.values.push((member, value));
            let end = blanks(bytes, after);
            if bytes.get(end) == Some(&b'}') {
                return Some(end + 1);
            }
            (at, next) = (after, &node.next);
        }
    }

    /// The values of the row that was read, if one was: the places of their columns, each once, what they are, and where. Of a text,
    /// what is between the quotes.
    pub fn values(&self) -> impl Iterator<Item = (usize, Token, Range<usize>)> {
        let known = |(member, value): &(Member, Value)| match member {
            Member::Column(place) => Some((*place, value.token, value.start..value.end)),
            Member::Unknown => None,
        };
        self.values.iter().filter_map(known)
    }

    /// Learns a row that [`FlatRows::read`] did not know and that proved to be one; what follows it is not looked at.
    /// `member_of` says what a member is by its name, or that a row with it is not to be learnt.
    pub fn learn(&mut self, row: &str, member_of: impl Fn(&str) -> Option<Member>) {
        if self.wait > 0 {
            self.wait -= 1;
            return;
        }
        // Where every row is different there is no use in it.
        self.learnt += 1;
        self.wait = self.learnt;
        let Some(leads) = leads_of(row, member_of) else { return };
        if self.nodes.len() >= MOST_NODES {
            self.nodes.clear();
            self.first.clear();
        }
        let mut parent = None;
        for lead in leads {
            let next = parent.and_then(|parent: usize| self.nodes.get(parent)).map_or(&self.first, |node| &node.next);
            let same = |node: &usize| self.nodes.get(*node).is_some_and(|node| node.lead.text == lead.text);
            let known = next.iter().copied().find(same);
            let node = known.unwrap_or_else(|| {
                let node = self.nodes.len();
                self.nodes.push(Node { lead, next: Vec::new() });
                match parent.and_then(|parent| self.nodes.get_mut(parent)) {
                    Some(parent) => parent.next.push(node),
                    None => self.first.push(node),
                }
                node
            });
            parent = Some(node);
        }
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

fn leads_of(row: &str, member_of: impl Fn(&str) -> Option<Member>) -> Option<Vec<Lead>> {
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
        let member = member_of(row.get(name.start..name.end)?)?;
        if member != Member::Unknown && leads.iter().any(|lead| lead.member == member) {
            return None;
        }
        leads.push(Lead::new(row.get(from..begins)?, member));
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
            let simple = inner.get(length) == Some(&b'"') && is_plain(text);
            simple.then_some((Value { token: Token::Text, start: at + 1, end: at + 1 + length }, at + length + 2))
        }
        b'-' | b'0'..=b'9' => {
            let end = at + number_end(rest)?;
            Some((Value { token: Token::Number, start: at, end }, end))
        }
        b't' => literal(Token::True, b"true"),
        b'f' => literal(Token::False, b"false"),
        b'n' => literal(Token::Null, b"null"),
        _ => None,
    }
}

/// What `jiter` reads of a number before its point; longer ones are left to it.
const MOST_DIGITS: usize = 4300;

/// How long the number is that `bytes` begins with (RFC 8259, 6).
#[inline]
fn number_end(bytes: &[u8]) -> Option<usize> {
    let digits = |at: usize| at + bytes.iter().skip(at).take_while(|byte| byte.is_ascii_digit()).count();
    let whole = usize::from(bytes.first() == Some(&b'-'));
    let mut end = digits(whole);
    if end == whole || end > whole + MOST_DIGITS || end > whole + 1 && bytes.get(whole) == Some(&b'0') {
        return None;
    }
    if bytes.get(end) == Some(&b'.') {
        let fraction = end + 1;
        end = digits(fraction);
        if end == fraction {
            return None;
        }
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(exponent);
        if end == exponent {
            return None;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"id": 1, "name": "Ann", "price": 1.5, "ok": true, "new": 1}"#;

    fn member(name: &str) -> Option<Member> {
        Some(match name {
            "id" => Member::Column(0),
            "name" => Member::Column(1),
            "price" => Member::Column(2),
            "ok" => Member::Column(3),
            "never" => return None,
            _ => Member::Unknown,
        })
    }

    /// What is read of the second row after the first, as texts, and what follows it.
    fn alike<'t>(first: &str, second: &'t str) -> Option<(Vec<&'t str>, &'t str)> {
        let mut rows = FlatRows::default();
        rows.learn(first, member);
        let end = rows.read(second.as_bytes())?;
        Some((rows.values().map(|(_, _, place)| &second[place]).collect(), &second[end..]))
    }

    #[test]
    fn a_row_like_the_one_before_is_read() {
        let second = r#"{"id": -20, "name": "Ümläut?", "price": 3e-7, "ok": null, "new": "x" } {"#;
        assert_eq!(alike(FIRST, second), Some((vec!["-20", "Ümläut?", "3e-7", "null"], " {")));
        assert_eq!(alike(FIRST, FIRST).unwrap().0, ["1", "Ann", "1.5", "true"]);
    }

    #[test]
    fn several_kinds_of_rows_are_remembered_and_what_they_begin_with_is_one_too() {
        let mut rows = FlatRows::default();
        let kinds = [
            r#"{"id": 1, "name": "Ann"}"#,
            r#"{"id": 1, "ok": true}"#,
            r#"{"price": 1}"#,
            r#"{"id": 1, "ok": true, "price": 2}"#,
        ];
        for kind in kinds {
            // The more are known, the rarer another is learnt.
            for _ in 0..10 {
                if rows.read(kind.as_bytes()).is_none() {
                    rows.learn(kind, member);
                }
            }
        }
        for kind in kinds {
            assert_eq!(rows.read(kind.as_bytes()), Some(kind.len()), "{kind}");
        }
        assert_eq!(rows.read(br#"{"id": 7}"#), Some(9));
        assert_eq!(rows.read(br#"{"price": 1, "ok": true}"#), None);
    }

    #[test]
    fn rows_that_never_repeat_are_not_piled_up() {
        let mut rows = FlatRows::default();
        for number in 0..10_000 {
            let row = format!(r#"{{"m{number}": 1, "n{number}": 2}}"#);
            rows.wait = 0;
            rows.learn(&row, member);
            assert!(rows.nodes.len() <= MOST_NODES + 1);
            assert_eq!(rows.read(row.as_bytes()), Some(row.len()));
        }
    }

    #[test]
    fn a_row_that_is_different_or_wrong_anywhere_is_left_alone() {
        for (from, to) in [
            ("\"id\": 1", "\"id\":1"),
            ("\"id\"", "\"ie\""),
            ("Ann", "A\\\"n"),
            ("Ann", "A\tn"),
            ("1.5", "[1]"),
            ("1.5", ".5"),
            ("1.5", "-.5"),
            ("1.5", "1."),
            ("1.5", "1e"),
            ("1.5", "1e+"),
            ("1.5", "01"),
            ("1.5", "-01"),
            ("1.5", "1-2"),
            ("1.5", "-"),
            ("1.5", "+1"),
            ("true", "tru"),
            ("true", "truee"),
            ("}", ", \"more\": 1}"),
            ("}", "\x0c}"),
            ("}", ""),
        ] {
            assert_eq!(alike(FIRST, &FIRST.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(alike(FIRST, ""), None);
        assert_eq!(alike(FIRST, &FIRST.replacen("1.5", &"1".repeat(MOST_DIGITS + 1), 1)), None);
    }

    #[test]
    fn what_can_not_be_learnt_is_not() {
        for first in
            [r#"{"id": 1, "id": 2}"#, r#"{"never": 1}"#, r#"{"id": [1]}"#, r#"{"i\u0064": 1}"#, r#"["id", 1]"#, "{}"]
        {
            assert_eq!(alike(first, first), None, "{first}");
        }
    }
}
