//! One row: its cells as they come, its values, and the verdict.

use sha2::{Digest, Sha256};
use weir_values::{self as values, FlatRows};

use crate::cell::{Cell, Value, value_of};
use crate::error::Rule;
use crate::plan::{Audience, Derivation, Hide};
use crate::{Contract, Type, Violation};

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Clean: its values may be taken.
    Clean,
    /// No data, as the contract says: heartbeats, tests.
    Dropped,
    /// It breaks a rule. Of several, the one about the first column.
    Bad(Violation),
}

/// A row being cleaned. One is used for all rows of a thread: it keeps its memory.
pub struct Row<'c> {
    pub(crate) contract: &'c Contract,
    /// The places of fields that must be there, and of those that are hidden from whom the row is for.
    required: Vec<usize>,
    hidden: Vec<(usize, Hide)>,
    pub(crate) now_micros: i64,
    /// The same as text: most rows have it.
    pub(crate) now_text: Vec<u8>,
    pub(crate) values: Vec<Value>,
    /// What the text values point into.
    pub(crate) text: String,
    seen: u128,
    worst: Option<(usize, Violation)>,
    /// The names of the last row's members in their order, and where they belong: the next row's are mostly the same.
    pub(crate) order: Vec<(String, Option<usize>)>,
    /// Rows that look like rows before need not be parsed.
    pub(crate) flat: FlatRows,
    /// The last day that was written, and its text: the next is mostly the same.
    pub(crate) day: (i32, Vec<u8>),
    /// `,"name":` for each column, and its type.
    pub(crate) keys: Vec<(String, Type)>,
}

impl Contract {
    /// A row to be filled. `now_micros` is what derived columns take for the time, in microseconds since 1970.
    pub fn row(&self, audience: Audience, now_micros: i64) -> Row<'_> {
        let required = self.fields.iter().enumerate().filter(|(_, field)| field.required).map(|(place, _)| place);
        let hidden = self.fields.iter().enumerate().filter_map(|(place, field)| {
            let (hide, whose) = field.sensitive?;
            (whose == Audience::Tables || whose == audience).then_some((place, hide))
        });
        let mut now_text = Vec::new();
        values::write_stamp(&mut now_text, now_micros);
        Row {
            contract: self,
            required: required.collect(),
            hidden: hidden.collect(),
            now_micros,
            now_text,
            values: vec![Value::Null; self.column_count()],
            text: String::new(),
            seen: 0,
            worst: None,
            order: Vec::new(),
            flat: FlatRows::default(),
            day: (0, b"1970-01-01".to_vec()),
            keys: self.columns().map(|column| (format!(",\"{}\":", column.name), column.kind)).collect(),
        }
    }

    /// Where a member or column of the raw data belongs, by name or alias; `None` for what the contract doesn't know,
    /// which is left out.
    pub fn place_of(&self, name: &str) -> Option<usize> {
        self.lookup.get(name).copied()
    }
}

impl Row<'_> {
    /// Forgets the row before.
    pub fn begin(&mut self) {
        self.values.fill(Value::Null);
        self.text.clear();
        self.seen = 0;
        self.worst = None;
    }

    /// Takes a cell for the column at a [`Contract::place_of`].
    #[inline]
    pub fn set(&mut self, place: usize, cell: Cell<'_>) {
        let contract = self.contract;
        let kept = || contract.derived.get(place - contract.fields.len()).and_then(|derived| derived.kept.as_deref());
        let Some(field) = contract.fields.get(place).or_else(kept) else { return };
        // Nothing is not a value given.
        if cell == Cell::Null {
            return;
        }
        let bit = 1u128 << (place & 127);
        if self.seen & bit != 0 {
            let reason = "it is given twice, perhaps under two names";
            let field = field.name.to_string();
            return self.blame(place, Violation { rule: Rule::Duplicate, field, reason: reason.into(), value: None });
        }
        self.seen |= bit;
        match value_of(field, cell, &mut self.text) {
            Ok(value) => {
                if let Some(slot) = self.values.get_mut(place) {
                    *slot = value;
                }
            }
            Err(misfit) => self.blame(place, misfit.violation(field)),
        }
    }

    #[cold]
    fn blame(&mut self, place: usize, violation: Violation) {
        if self.worst.as_ref().is_none_or(|(first, _)| place < *first) {
            self.worst = Some((place, violation));
        }
    }

    /// All cells are there: the rules about the row as a whole, derived columns, what is sensitive.
    pub fn finish(&mut self) -> Verdict {
        let contract = self.contract;
        for rule in &contract.drops {
            let value = self.values.get(rule.field).copied().unwrap_or(Value::Null);
            if rule.equals.iter().any(|listed| listed.equals(value, &self.text)) {
                return Verdict::Dropped;
            }
        }
        let is_missing = |place: &usize| match self.values.get(*place) {
            None | Some(Value::Null) => true,
            // Text that says nothing is not there.
            Some(Value::Text(from, to)) => from == to,
            Some(_) => false,
        };
        if let Some(place) = self.required.iter().copied().find(is_missing)
            && self.worst.as_ref().is_none_or(|(first, _)| place < *first)
            && let Some(field) = contract.fields.get(place)
        {
            let reason = "it must be there and not be empty".into();
            let field = field.name.to_string();
            self.blame(place, Violation { rule: Rule::Required, field, reason, value: None });
        }
        if let Some((_, violation)) = self.worst.take() {
            return Verdict::Bad(violation);
        }
        for (index, derived) in contract.derived.iter().enumerate() {
            let place = contract.fields.len() + index;
            let value = self.derive(derived.how, place);
            if let Some(slot) = self.values.get_mut(place) {
                *slot = value;
            }
        }
        let hidden = std::mem::take(&mut self.hidden);
        for (place, hide) in &hidden {
            self.hide(*place, *hide);
        }
        self.hidden = hidden;
        Verdict::Clean
    }

    fn derive(&self, how: Derivation, place: usize) -> Value {
        let source = |of: usize| self.values.get(of).copied().unwrap_or(Value::Null);
        match how {
            Derivation::DateOf(of) => match source(of) {
                Value::Stamp(micros) => Value::Date(values::days_of(micros)),
                _ => Value::Null,
            },
            Derivation::HourOf(of) => match source(of) {
                Value::Stamp(micros) => Value::Int(micros.rem_euclid(values::MICROS_PER_DAY) / 3_600_000_000),
                _ => Value::Null,
            },
            Derivation::Quotient { of, by } => match source(of) {
                Value::Int(number) => Value::Float(number as f64 / by),
                Value::Float(number) => Value::Float(number / by),
                _ => Value::Null,
            },
            Derivation::Now => match source(place) {
                Value::Null => Value::Stamp(self.now_micros),
                kept => kept,
            },
        }
    }

    /// Hides a value. Hiding what is hidden changes nothing.
    fn hide(&mut self, place: usize, hide: Hide) {
        let Some(value) = self.values.get(place).copied() else { return };
        let hidden = match (hide, value) {
            (_, Value::Null) => return,
            (Hide::Drop, _) => Value::Null,
            (Hide::Mask(kept), Value::Float(number)) => {
                Value::Float(format!("{number:.*}", kept as usize).parse().unwrap_or(number))
            }
            (Hide::Mask(kept), Value::Text(from, to)) => {
                let text = self.text.get(from as usize..to as usize).unwrap_or_default();
                let hidden = text.chars().count().saturating_sub(kept as usize);
                let masked =
                    text.chars().enumerate().map(|(at, c)| if at < hidden { '*' } else { c }).collect::<String>();
                self.put_text(&masked)
            }
            (Hide::Hash, Value::Text(from, to)) => {
                let text = self.text.get(from as usize..to as usize).unwrap_or_default();
                if is_hashed(text) {
                    return;
                }
                let digest = hex::encode(Sha256::digest(text));
                self.put_text(&format!("{HASHED}{digest}"))
            }
            // The contract's check allows no other.
            _ => return debug_assert!(false, "column {place} can't be hidden so"),
        };
        if let Some(slot) = self.values.get_mut(place) {
            *slot = hidden;
        }
    }

    fn put_text(&mut self, text: &str) -> Value {
        let from = self.text.len();
        self.text.push_str(text);
        Value::Text(from as u32, self.text.len() as u32)
    }

    pub(crate) fn text_of(&self, from: u32, to: u32) -> &str {
        self.text.get(from as usize..to as usize).unwrap_or_default()
    }
}

const HASHED: &str = "sha256:";

fn is_hashed(text: &str) -> bool {
    text.strip_prefix(HASHED)
        .is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
