//! Rows that are put aside: each with its place, the reason and its raw text.

use memchr::memchr_iter;
use serde_json::json;
use weir_contract::Violation;

use crate::{ConvertError, Output, Sink};

/// The file rejects are put in, hidden from table readers by its underscore.
pub(crate) const QUARANTINE: &str = "_quarantine/part-00000.ndjson";

/// A row that is put aside.
#[derive(Debug, Clone)]
pub(crate) struct Reject {
    line: u64,
    reason: String,
    /// The contract's rule it breaks, if one was applied.
    violation: Option<Violation>,
    raw: Vec<u8>,
}

impl Reject {
    pub(crate) fn new(line: u64, reason: &str, raw: &[u8]) -> Self {
        Self { line, reason: reason.to_owned(), violation: None, raw: raw.trim_ascii_end().to_vec() }
    }

    pub(crate) fn broken(line: u64, violation: Violation, raw: &[u8]) -> Self {
        Self { violation: Some(violation.clone()), ..Self::new(line, &violation.to_string(), raw) }
    }

    /// What it breaks, for counting: without its value.
    pub(crate) fn kind(&self) -> String {
        match &self.violation {
            Some(violation) if violation.field.is_empty() => format!("rule {}", violation.rule.name()),
            Some(violation) => format!("`{}` breaks {}", violation.field, violation.rule.name()),
            None => "no row of the file's format".to_owned(),
        }
    }

    /// One line: where it stood, why it is here, and its text; in hex where it isn't UTF-8.
    fn to_line(&self, input: &str) -> String {
        let mut line = json!({"source": input, "line": self.line, "reason": self.reason});
        let (name, raw) = match std::str::from_utf8(&self.raw) {
            Ok(text) => ("raw", text.to_owned()),
            Err(_) => ("raw_hex", hex::encode(&self.raw)),
        };
        if let Some(members) = line.as_object_mut() {
            if let Some(violation) = &self.violation {
                members.insert("rule".to_owned(), violation.rule.name().into());
                members.insert("field".to_owned(), violation.field.as_str().into());
                members.insert("value".to_owned(), violation.value.as_deref().into());
            }
            members.insert(name.to_owned(), raw.into());
        }
        format!("{line}\n")
    }

    fn describe(&self, input: &str) -> String {
        format!("{input}, line {}: {}", self.line, self.reason)
    }
}

/// Which lines the rows of a block are on, asked for from front to back. Counted from the last one that was asked for: of a
/// wrong file every row is asked for, and counting each from the block's beginning would take longer than anything else.
pub(crate) struct Lines<'b> {
    bytes: &'b [u8],
    counted: usize,
    line: u64,
}

impl<'b> Lines<'b> {
    /// `first` is the number of the block's first line.
    pub(crate) fn new(bytes: &'b [u8], first: u64) -> Self {
        Self { bytes, counted: 0, line: first }
    }

    /// The line that the byte at this place is on.
    pub(crate) fn at(&mut self, place: usize) -> u64 {
        self.line += memchr_iter(b'\n', self.bytes.get(self.counted..place).unwrap_or_default()).count() as u64;
        self.counted = self.counted.max(place);
        self.line
    }
}

/// The file, once there is something to put in it.
pub(crate) struct Quarantine<'a> {
    output: &'a dyn Output,
    file: Option<Box<dyn Sink>>,
    count: u64,
    first: Option<String>,
}

impl<'a> Quarantine<'a> {
    pub(crate) fn new(output: &'a dyn Output) -> Self {
        Self { output, file: None, count: 0, first: None }
    }

    pub(crate) fn add(&mut self, rejects: &[Reject], input: &str) -> Result<(), ConvertError> {
        for reject in rejects {
            self.count += 1;
            self.first.get_or_insert_with(|| reject.describe(input));
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(self.output.create(QUARANTINE)?),
            };
            file.write_all(reject.to_line(input).as_bytes())?;
        }
        Ok(())
    }

    /// Rows, and none of them good: that is not a dataset with bad rows but the wrong file.
    pub(crate) fn nothing_else(&self) -> Result<(), ConvertError> {
        match &self.first {
            None => Ok(()),
            Some(first) => {
                Err(ConvertError::data("no row could be read", format!("{} were bad; the first: {first}", self.count)))
            }
        }
    }

    /// Makes it visible; how many rows are in it, and the first.
    pub(crate) fn finish(self) -> Result<(u64, Option<String>), ConvertError> {
        if let Some(file) = self.file {
            file.finish()?;
        }
        Ok((self.count, self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_on_from_the_last_one_asked_for() {
        let mut lines = Lines::new(b"a\nb\n\nc\n", 7);
        assert_eq!([0, 0, 2, 4, 5, 7].map(|place| lines.at(place)), [7, 7, 8, 9, 10, 11]);
    }
}
