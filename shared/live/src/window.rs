//! A shard's window, or several as one.

use std::collections::HashMap;
use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use serde::{Deserialize, Serialize};
use weir_contract::{Numbers, Type, key_of};
use weir_values as values;

use crate::kept::{Damaged, Kept};
use crate::plan::{Input, MOST_TEXT, Plan};

/// What became of a window's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that the statistics are of.
    pub events: u64,
    /// Of those, ones that happened long before the window.
    pub late: u64,
    /// Rows that break a rule of the contract.
    pub bad: u64,
    /// Rows that the contract drops.
    pub dropped: u64,
    /// Records that can't be opened.
    pub unreadable: u64,
    /// Records that had come before, and were left out.
    pub repeated: u64,
}

impl Counts {
    pub(crate) fn merge(&mut self, other: Self) {
        self.events += other.events;
        self.late += other.late;
        self.bad += other.bad;
        self.dropped += other.dropped;
        self.unreadable += other.unreadable;
        self.repeated += other.repeated;
    }
}

/// A group's value of a column it is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

pub(crate) struct Group {
    pub(crate) values: Vec<Scalar>,
    pub(crate) kept: Vec<Kept>,
}

/// What is kept of a window's rows.
#[derive(Default)]
pub struct Window {
    /// The first and the last record that is in it, by sequence number.
    pub span: Option<(String, String)>,
    /// What became of its records.
    pub counts: Counts,
    /// Whether some of it is lost.
    pub incomplete: bool,
    /// By the bytes of their values, in which order nothing is lost when it is written and read.
    pub(crate) groups: HashMap<Vec<u8>, Group>,
    /// Rows of groups for which there was no room.
    pub(crate) others: Option<Vec<Kept>>,
}

/// A column's values, ready for an input.
enum Feed<'a> {
    Rows,
    Numbers(&'a ArrayRef, Numbers<'a>),
    Digest(&'a ArrayRef, Numbers<'a>, f64),
    Distinct(&'a ArrayRef),
    Top(Vec<&'a ArrayRef>),
    /// The column is not there: a defect of ours, and nothing to count.
    Nothing,
}

impl<'a> Feed<'a> {
    fn of(input: &Input, batch: &'a RecordBatch) -> Self {
        let numbers = |place: usize, kind: Type| {
            let array = batch.columns().get(place)?;
            Some((array, Numbers::of(array, kind)?))
        };
        match input {
            Input::Rows => Self::Rows,
            Input::Numbers { place, kind } => {
                numbers(*place, *kind).map_or(Self::Nothing, |(a, n)| Self::Numbers(a, n))
            }
            Input::Digest { place, kind } => {
                numbers(*place, *kind).map_or(Self::Nothing, |(a, n)| Self::Digest(a, n, unit_of(*kind)))
            }
            Input::Distinct { place } => batch.columns().get(*place).map_or(Self::Nothing, Self::Distinct),
            Input::Top { places, .. } => {
                Self::Top(places.iter().filter_map(|place| batch.columns().get(*place)).collect())
            }
        }
    }

    fn give(&self, row: usize, kept: &mut Kept, text: &mut Text) {
        match (self, kept) {
            (Self::Rows, Kept::Rows(count)) => *count += 1,
            (Self::Numbers(array, numbers), Kept::Numbers(tally)) if array.is_valid(row) => tally.add(numbers.at(row)),
            (Self::Digest(array, numbers, unit), kept @ Kept::Digest(_)) if array.is_valid(row) => {
                kept.measure(numbers.at(row), *unit);
            }
            (Self::Distinct(array), Kept::Distinct(distinct)) if array.is_valid(row) => {
                text.key.clear();
                key_of(array, row, &mut text.key);
                distinct.update(text.key.as_slice());
            }
            // Of several columns, values that are all there.
            (Self::Top(arrays), Kept::Top(top)) if arrays.iter().all(|array| array.is_valid(row)) => {
                text.value.clear();
                for (n, array) in arrays.iter().enumerate() {
                    if n > 0 {
                        text.value.push(',');
                    }
                    text.write(array, row);
                }
                top.update_ref(short(&text.value));
            }
            _ => {}
        }
    }
}

/// What whole numbers of a type are counted in.
pub(crate) fn unit_of(kind: Type) -> f64 {
    match kind {
        Type::Decimal { scale, .. } => 10f64.powi(scale.into()),
        _ => 1.0,
    }
}

/// As much of a text as is kept.
fn short(text: &str) -> &str {
    if text.len() <= MOST_TEXT {
        return text;
    }
    text.get(..text.floor_char_boundary(MOST_TEXT)).unwrap_or_default()
}

/// Room for values as text.
#[derive(Default)]
struct Text {
    value: String,
    key: Vec<u8>,
}

impl Text {
    /// Appends a value that is not null, as people write it.
    fn write(&mut self, array: &ArrayRef, row: usize) {
        let out = &mut self.value;
        if let Some(array) = array.as_string_opt::<i32>() {
            out.push_str(array.value(row));
        } else if let Some(array) = array.as_primitive_opt::<Int32Type>() {
            let _ = write!(out, "{}", array.value(row));
        } else if let Some(array) = array.as_primitive_opt::<Int64Type>() {
            let _ = write!(out, "{}", array.value(row));
        } else if let Some(array) = array.as_primitive_opt::<Float64Type>() {
            let _ = write!(out, "{}", array.value(row));
        } else if let Some(array) = array.as_boolean_opt() {
            let _ = write!(out, "{}", array.value(row));
        } else if let Some(array) = array.as_primitive_opt::<Decimal128Type>() {
            out.push_str(&array.value_as_string(row));
        } else if let Some(array) = array.as_primitive_opt::<Date32Type>() {
            self.key.clear();
            values::write_date(&mut self.key, array.value(row));
            out.push_str(&String::from_utf8_lossy(&self.key));
        } else if let Some(array) = array.as_primitive_opt::<TimestampMicrosecondType>() {
            self.key.clear();
            values::write_stamp(&mut self.key, array.value(row));
            out.push_str(&String::from_utf8_lossy(&self.key));
        }
    }
}

impl Window {
    /// Counts in clean rows; those that happened long before `start_ms` are late.
    ///
    /// # Errors
    /// For a defect of ours.
    pub fn add(&mut self, plan: &Plan, batch: &RecordBatch, start_ms: u64) -> Result<(), Damaged> {
        let feeds: Vec<Feed<'_>> = plan.inputs.iter().map(|input| Feed::of(input, batch)).collect();
        let keys: Vec<&ArrayRef> = plan.group_by.iter().filter_map(|group| batch.columns().get(group.place)).collect();
        let times = plan.event_time.and_then(|place| batch.columns().get(place));
        let times = times.and_then(|array| array.as_primitive_opt::<TimestampMicrosecondType>());
        let early = i64::try_from(start_ms.saturating_sub(plan.late_after_ms)).unwrap_or(i64::MAX).saturating_mul(1000);
        let (mut key, mut text) = (Vec::new(), Text::default());
        for row in 0..batch.num_rows() {
            self.counts.events += 1;
            if times.is_some_and(|times| times.is_valid(row) && times.value(row) < early) {
                self.counts.late += 1;
            }
            key.clear();
            keys.iter().for_each(|array| key_of(array, row, &mut key));
            let has_room = self.groups.len() < plan.most_groups || keys.is_empty();
            if has_room && !self.groups.contains_key(&key) {
                let values = keys.iter().map(|array| scalar(array, row, &mut text)).collect();
                self.groups.insert(key.clone(), Group { values, kept: Kept::all(plan)? });
            }
            let kept = match (self.groups.get_mut(&key), &mut self.others) {
                (Some(group), _) => &mut group.kept,
                (None, Some(others)) => others,
                (None, none) => none.insert(Kept::all(plan)?),
            };
            for (feed, kept) in feeds.iter().zip(kept) {
                feed.give(row, kept, &mut text);
            }
        }
        Ok(())
    }

    /// Counts in another shard's, or another part of the same. What it becomes may be too large to be carried on.
    ///
    /// # Errors
    /// If it is another plan's.
    pub fn merge(&mut self, plan: &Plan, other: &Self) -> Result<(), Damaged> {
        self.counts.merge(other.counts);
        self.incomplete |= other.incomplete;
        for (key, group) in &other.groups {
            if !self.groups.contains_key(key) {
                let kept = Kept::merged(plan)?;
                self.groups.insert(key.clone(), Group { values: group.values.clone(), kept });
            }
            self.groups.get_mut(key).map_or(Ok(()), |ours| merge_all(&mut ours.kept, &group.kept))?;
        }
        if let Some(theirs) = &other.others {
            let ours = match &mut self.others {
                Some(ours) => ours,
                none => none.insert(Kept::merged(plan)?),
            };
            merge_all(ours, theirs)?;
        }
        Ok(())
    }

    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
    }
}

pub(crate) fn merge_all(ours: &mut [Kept], theirs: &[Kept]) -> Result<(), Damaged> {
    ours.iter_mut().zip(theirs).try_for_each(|(ours, theirs)| ours.merge(theirs))
}

fn scalar(array: &ArrayRef, row: usize, text: &mut Text) -> Scalar {
    if array.is_null(row) {
        return Scalar::Null;
    }
    if let Some(array) = array.as_primitive_opt::<Int32Type>() {
        return Scalar::Int(array.value(row).into());
    }
    if let Some(array) = array.as_primitive_opt::<Int64Type>() {
        return Scalar::Int(array.value(row));
    }
    if let Some(array) = array.as_boolean_opt() {
        return Scalar::Bool(array.value(row));
    }
    text.value.clear();
    text.write(array, row);
    Scalar::Text(short(&text.value).to_owned())
}
