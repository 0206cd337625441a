//! What is kept of some rows' values.

use datasketches::error::Error;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use datasketches::hll::{HllSketch, HllType, HllUnion};
use datasketches::tdigest::TDigestMut;
use weir_contract::{Number, Tally};

use crate::plan::{Input, MERGED_TOP, Plan, Precision};

/// Bytes that are no window of this plan's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no state of this version's: {0}")]
pub struct Damaged(pub(crate) String);

impl From<Error> for Damaged {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// For one input.
pub(crate) enum Kept {
    Rows(u64),
    Numbers(Tally),
    Digest(Box<TDigestMut>),
    Distinct(HllSketch),
    Top(FrequentItemsSketch<String>),
}

/// A frequent value: what it is, how often it is there, and how often at least.
pub(crate) struct Frequent {
    pub(crate) value: String,
    pub(crate) count: u64,
    pub(crate) at_least: u64,
}

impl Kept {
    pub(crate) fn new(input: &Input, precision: Precision) -> Result<Self, Damaged> {
        Ok(match input {
            Input::Rows => Self::Rows(0),
            Input::Numbers { .. } => Self::Numbers(Tally::EMPTY),
            Input::Digest { .. } => Self::Digest(Box::new(TDigestMut::new(precision.digest)?)),
            Input::Distinct { .. } => Self::Distinct(HllSketch::new(precision.distinct, HllType::Hll4)?),
            Input::Top { .. } => Self::Top(FrequentItemsSketch::new(precision.top)?),
        })
    }

    /// One for each input.
    pub(crate) fn all(plan: &Plan) -> Result<Vec<Self>, Damaged> {
        plan.inputs.iter().map(|input| Self::new(input, plan.precision)).collect()
    }

    /// One for each input, for what is merged.
    pub(crate) fn merged(plan: &Plan) -> Result<Vec<Self>, Damaged> {
        let precision = Precision { top: MERGED_TOP, ..plan.precision };
        plan.inputs.iter().map(|input| Self::new(input, precision)).collect()
    }

    /// Counts in what was kept of other rows.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<(), Damaged> {
        match (self, other) {
            (Self::Rows(ours), Self::Rows(theirs)) => *ours += theirs,
            (Self::Numbers(ours), Self::Numbers(theirs)) => ours.merge(theirs),
            (Self::Digest(ours), Self::Digest(theirs)) => ours.merge(theirs),
            (Self::Distinct(ours), Self::Distinct(theirs)) => {
                let mut union = HllUnion::new(ours.lg_config_k())?;
                union.update(ours);
                union.update(theirs);
                *ours = union.to_sketch(HllType::Hll4);
            }
            (Self::Top(ours), Self::Top(theirs)) => ours.merge(theirs),
            _ => return Err(Damaged("it keeps something else".to_owned())),
        }
        Ok(())
    }

    pub(crate) fn serialize(&mut self) -> Vec<u8> {
        match self {
            Self::Rows(count) => count.to_le_bytes().to_vec(),
            Self::Numbers(tally) => tally.to_bytes().to_vec(),
            Self::Digest(digest) => digest.serialize(),
            Self::Distinct(distinct) => distinct.serialize(),
            Self::Top(top) => top.serialize(),
        }
    }

    pub(crate) fn from_bytes(input: &Input, bytes: &[u8]) -> Result<Self, Damaged> {
        let damaged = || Damaged("its numbers are cut".to_owned());
        Ok(match input {
            Input::Rows => Self::Rows(u64::from_le_bytes(bytes.try_into().map_err(|_| damaged())?)),
            Input::Numbers { .. } => Self::Numbers(Tally::from_bytes(bytes).ok_or_else(damaged)?),
            Input::Digest { .. } => Self::Digest(Box::new(TDigestMut::deserialize(bytes)?)),
            Input::Distinct { .. } => Self::Distinct(HllSketch::deserialize(bytes)?),
            Input::Top { .. } => Self::Top(FrequentItemsSketch::deserialize(bytes)?),
        })
    }

    /// A number for a digest; nothing for no number.
    pub(crate) fn measure(&mut self, number: Number, unit: f64) {
        let value = match number {
            Number::None => return,
            Number::Int(value) => value as f64 / unit,
            Number::Float(value) => value,
        };
        if let Self::Digest(digest) = self
            && value.is_finite()
        {
            digest.update(value);
        }
    }

    /// The most frequent, the most first; of equally frequent ones by their text.
    pub(crate) fn frequent(&self, most: usize) -> Vec<Frequent> {
        let Self::Top(top) = self else { return Vec::new() };
        let rows = top.frequent_items(ErrorType::NoFalseNegatives).into_iter().map(|row| Frequent {
            count: row.estimate(),
            at_least: row.lower_bound(),
            value: row.item().clone(),
        });
        let mut rows: Vec<Frequent> = rows.collect();
        rows.sort_unstable_by(|a, b| (b.count, &a.value).cmp(&(a.count, &b.value)));
        rows.truncate(most);
        rows
    }
}
