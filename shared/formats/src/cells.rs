//! Records of delimited text as cells.

use memchr::{memchr, memchr2};

pub(crate) const QUOTE: u8 = b'"';

/// A cell: its text without the outer quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) quoted: bool,
    /// Holds doubled quotes.
    pub(crate) doubled: bool,
}

/// One record from `start`: its cells, where the next begins, and what is wrong with it if something is. `None` if a
/// quote is not closed before the end.
pub(crate) fn record(
    bytes: &[u8],
    start: usize,
    delimiter: u8,
    cells: &mut Vec<Cell>,
) -> Option<(usize, Option<&'static str>)> {
    cells.clear();
    let mut at = start;
    let mut wrong = None;
    loop {
        let quoted = bytes.get(at) == Some(&QUOTE);
        let mut cell = Cell { start: at, end: at, quoted, doubled: false };
        if quoted {
            at += 1;
            cell.start = at;
            loop {
                at += memchr(QUOTE, bytes.get(at..)?)?;
                if bytes.get(at + 1) != Some(&QUOTE) {
                    break;
                }
                cell.doubled = true;
                at += 2;
            }
            cell.end = at;
            at += 1;
        }
        let rest = bytes.get(at..).unwrap_or_default();
        let length = memchr2(delimiter, b'\n', rest).unwrap_or(rest.len());
        let ended_by = rest.get(length).copied();
        let mut end = at + length;
        // The carriage return belongs to the end of the line.
        if ended_by != Some(delimiter) && length > 0 && bytes.get(end - 1) == Some(&b'\r') {
            end -= 1;
        }
        if !quoted {
            cell.end = end;
        } else if end > at {
            wrong = Some("there is text after a closing quote");
        }
        cells.push(cell);
        at += length + 1;
        if ended_by != Some(delimiter) {
            return Some((at.min(bytes.len()), wrong));
        }
    }
}

/// The same for a record of a text that holds no quote: eight bytes at a time.
pub(crate) fn plain_record(bytes: &[u8], start: usize, delimiter: u8, cells: &mut Vec<Cell>) -> usize {
    cells.clear();
    let mut begins = start;
    let mut word_at = start;
    let mut push = |begins: usize, end: usize| cells.push(Cell { start: begins, end, quoted: false, doubled: false });
    loop {
        let word = match bytes.get(word_at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(word) => *word,
            None => {
                // What is behind the end looks like one more line's.
                let mut word = [b'\n'; 8];
                let rest = bytes.get(word_at..).unwrap_or_default();
                word.iter_mut().zip(rest).for_each(|(place, byte)| *place = *byte);
                word
            }
        };
        let mut marks = equal_bytes(word, delimiter) | equal_bytes(word, b'\n');
        while marks != 0 {
            let at = word_at + marks.trailing_zeros() as usize / 8;
            marks &= marks - 1;
            if bytes.get(at) == Some(&delimiter) {
                push(begins, at);
                begins = at + 1;
                continue;
            }
            let returned = at > begins && bytes.get(at - 1) == Some(&b'\r');
            push(begins, at - usize::from(returned));
            return (at + 1).min(bytes.len());
        }
        word_at += 8;
    }
}

/// The high bit of each byte that is equal to this one (Warren, "Hacker's Delight", 6-1).
#[inline]
pub(crate) fn equal_bytes(word: [u8; 8], byte: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let different = u64::from_le_bytes(word) ^ u64::from_le_bytes([byte; 8]);
    !(((different & LOW) + LOW) | different | LOW)
}

/// Where the record from `start` ends when it is wrong: after its line.
pub(crate) fn next_line(bytes: &[u8], start: usize) -> usize {
    memchr(b'\n', bytes.get(start..).unwrap_or_default()).map_or(bytes.len(), |length| start + length + 1)
}

pub(crate) fn text_of<'a>(text: &'a str, cell: Cell, scratch: &'a mut String) -> &'a str {
    let raw = text.get(cell.start..cell.end).unwrap_or_default();
    if !cell.doubled {
        return raw;
    }
    scratch.clear();
    scratch.push_str(&raw.replace("\"\"", "\""));
    scratch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_without_quotes_has_the_same_cells_either_way(text in "[a,;\\r\\n ü\u{ac}\u{8a}]{0,60}") {
            let bytes = text.as_bytes();
            let (mut careful, mut plain) = (Vec::new(), Vec::new());
            let mut at = 0;
            while at < bytes.len() {
                let (end, wrong) = record(bytes, at, b',', &mut careful).unwrap();
                prop_assert_eq!(plain_record(bytes, at, b',', &mut plain), end);
                prop_assert_eq!((&plain, wrong), (&careful, None));
                at = end;
            }
        }
    }
}
