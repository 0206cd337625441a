//! What can be wrong: with a contract, and with a row.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A contract that can't be used, and all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractError {
    /// The file's name, as it was given.
    pub file: String,
    /// In the order of the file; never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from one.
    pub line: usize,
    /// The key it is about, such as `field.vendor_id.type`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl std::error::Error for ContractError {}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, key, reason }) in self.problems.iter().enumerate() {
            let end = if index + 1 < self.problems.len() { "\n" } else { "" };
            let key = if key.is_empty() { String::new() } else { format!("`{key}`: ") };
            write!(f, "{}:{line}: {key}{reason}{end}", self.file)?;
        }
        Ok(())
    }
}

/// Collects problems while a file is checked.
pub(crate) struct Problems<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, found: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: Range<usize>, key: impl Into<String>, reason: impl Into<String>) {
        let before = self.text.get(..at.start).unwrap_or_default();
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.found.push(Problem { line, key: key.into(), reason: reason.into() });
    }

    pub(crate) fn finish(mut self, file: &str) -> Result<(), ContractError> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|problem| problem.line);
        Err(ContractError { file: file.to_owned(), problems: self.found })
    }
}

/// The rules a row can break, by their names in a quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// It is not JSON.
    Json,
    /// It is JSON, but no object.
    Object,
    /// A member that matters is given twice.
    Duplicate,
    /// A value is not of its column's type.
    Type,
    /// A value that must be there is not.
    Required,
    /// A value is below `min` or above `max`.
    Range,
    /// A value is not among those listed.
    OneOf,
    /// A text is too long.
    MaxLength,
    /// A text is no URL.
    Url,
}

impl Rule {
    /// As a quarantine spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Object => "object",
            Self::Duplicate => "duplicate",
            Self::Type => "type",
            Self::Required => "required",
            Self::Range => "range",
            Self::OneOf => "one_of",
            Self::MaxLength => "max_length",
            Self::Url => "url",
        }
    }
}

/// Why a row is not clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What it breaks.
    pub rule: Rule,
    /// The column, by its name in the contract; empty where the row as a whole is none.
    pub field: String,
    /// What would be right; never shows the value, so that it may be logged.
    pub reason: Cow<'static, str>,
    /// The value, cut short. It may be anything: for a quarantine, not for a log.
    pub value: Option<String>,
}

impl Violation {
    /// Of what can't even be read as a row.
    pub fn unreadable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::of_row(Rule::Json, reason)
    }

    pub(crate) fn of_row(rule: Rule, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { rule, field: String::new(), reason: reason.into(), value: None }
    }
}

/// Without the value.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, field, reason, .. } = self;
        if field.is_empty() {
            return write!(f, "{}: {reason}", rule.name());
        }
        write!(f, "`{field}` breaks {}: {reason}", rule.name())
    }
}

/// A value for a message.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
