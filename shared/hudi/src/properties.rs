//! `.hoodie/hoodie.properties`: what kind of table this is, in Java's properties format.
//!
//! The format is Java's (`java.util.Properties.load` and `store`): Latin-1, escapes, continued lines. The crate for it brings a regular
//! expression engine into every function, for sixty lines.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Reads properties. Of a key that comes twice the last one counts, as in Java.
pub fn parse(bytes: &[u8]) -> BTreeMap<String, String> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut found = BTreeMap::new();
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).map(str::trim_start);
    while let Some(line) = lines.next() {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while is_continued(&whole) {
            whole.pop();
            whole.push_str(lines.next().unwrap_or_default());
        }
        let (key, value) = split(&whole);
        found.insert(unescape(key), unescape(value));
    }
    found
}

/// Whether a line ends in a backslash that is not escaped itself.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A key ends at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let end = line.find(|c: char| {
        let ends = !is_escaped && (matches!(c, '=' | ':') || c.is_ascii_whitespace());
        is_escaped = !is_escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescape(text: &str) -> String {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match (c, c == '\\') {
            (_, false) => c,
            _ => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    // Java's escapes are UTF-16: two of them may be one character.
                    units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xFFFD));
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16_lossy(&units)
}

/// Writes properties as Java does, in the order of their keys.
pub fn write(properties: &BTreeMap<String, String>) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in properties {
        escape(&mut text, key, true);
        text.push('=');
        escape(&mut text, value, false);
        text.push('\n');
    }
    text.into_bytes()
}

/// Java escapes every space of a key and those that a value begins with.
fn escape(into: &mut String, text: &str, is_key: bool) {
    let mut leads = true;
    for c in text.chars() {
        match c {
            ' ' if is_key || leads => into.push_str("\\ "),
            '\t' => into.push_str("\\t"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\u{c}' => into.push_str("\\f"),
            '\\' | ':' | '=' | '#' | '!' => into.extend(['\\', c]),
            ' '..='~' => into.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(into, "\\u{unit:04X}");
                }
            }
        }
        leads &= c == ' ';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_java_stores_is_read() {
        let text = b"#Updated at 2024-11-21T10:30:00.123Z\n! also a comment\nhoodie.table.name=orders\n  key.with\\ space : a\\tb\n\
            long=one,\\\r\n    two\\\\\nempty\nhoodie.schema={\"type\"\\:\"record\"}\r\nname=J\\u00FCrgen \\uD834\\uDD1E caf\xe9\n";
        let found = parse(text);
        let get = |key: &str| found.get(key).map(String::as_str);
        assert_eq!(get("hoodie.table.name"), Some("orders"));
        assert_eq!(get("key.with space"), Some("a\tb"));
        assert_eq!(get("long"), Some("one,two\\"));
        assert_eq!(get("empty"), Some(""));
        assert_eq!(get("hoodie.schema"), Some(r#"{"type":"record"}"#));
        assert_eq!(get("name"), Some("Jürgen 𝄞 café"));
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn what_is_written_is_what_java_writes() {
        let properties = BTreeMap::from([("a b".to_owned(), "  x: é=#\n".to_owned())]);
        assert_eq!(String::from_utf8(write(&properties)).unwrap(), "a\\ b=\\ \\ x\\: \\u00E9\\=\\#\\n\n");
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(all in proptest::collection::btree_map("\\PC{1,8}", "(\\PC|[ \t\r\n\\\\=:#!]){0,12}", 0..6)) {
            prop_assert_eq!(parse(&write(&all)), all);
        }
    }
}
