//! What is kept of a group's values while they are counted, and the columns it makes.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    Date32Builder, Decimal128Builder, Float64Builder, Int64Builder, TimestampMicrosecondBuilder,
};
use arrow_schema::{ArrowError, DataType, Field};

use crate::plan::Aggregation;

/// A sum that is too large for 64 bits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sum `{0}` is larger than a 64-bit number; make its field a float64")]
pub struct Overflow(String);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The data's.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// A defect of ours.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// What is kept for a metric of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// How many values.
    pub count: u64,
    int: i128,
    /// With its running error (Neumaier), so that the order of rows hardly matters.
    float: f64,
    error: f64,
    least: Number,
    greatest: Number,
}

/// Whole numbers and everything that is counted in them, or floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// None.
    None,
    /// A whole number, a day, a microsecond, a decimal's last place.
    Int(i64),
    /// Any other.
    Float(f64),
}

impl Tally {
    /// Nothing yet.
    pub const EMPTY: Self =
        Self { count: 0, int: 0, float: 0.0, error: 0.0, least: Number::None, greatest: Number::None };

    /// Counts a value in.
    pub fn add(&mut self, number: Number) {
        match number {
            Number::None => return,
            Number::Int(value) => self.int += i128::from(value),
            Number::Float(value) => self.add_float(value),
        }
        self.count += 1;
        self.stretch(number);
    }

    /// What it comes to; `unit` is what whole numbers are counted in. `None` for a sum that is too large.
    pub fn value(&self, how: Aggregation, unit: f64) -> Option<Number> {
        // A column is of whole numbers or of floats.
        let float = self.float + self.error;
        Some(match how {
            Aggregation::Count => Number::Int(i64::try_from(self.count).unwrap_or(i64::MAX)),
            _ if self.count == 0 => Number::None,
            Aggregation::Min(_) => self.least,
            Aggregation::Max(_) => self.greatest,
            Aggregation::Sum(_) if matches!(self.least, Number::Float(_)) => Number::Float(float),
            Aggregation::Sum(_) => Number::Int(i64::try_from(self.int).ok()?),
            // One division: 6.60 / 3 is 2.2.
            Aggregation::Avg(_) if float == 0.0 => Number::Float(self.int as f64 / (unit * self.count as f64)),
            Aggregation::Avg(_) => Number::Float(float / self.count as f64),
        })
    }

    fn add_float(&mut self, value: f64) {
        let sum = self.float + value;
        self.error +=
            if self.float.abs() >= value.abs() { (self.float - sum) + value } else { (value - sum) + self.float };
        self.float = sum;
    }

    fn stretch(&mut self, number: Number) {
        if number.is_below(self.least) {
            self.least = number;
        }
        if self.greatest.is_below(number) || self.greatest == Number::None {
            self.greatest = number;
        }
    }

    /// Counts in what was counted elsewhere.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.int += other.int;
        self.add_float(other.float);
        self.error += other.error;
        for number in [other.least, other.greatest] {
            if number != Number::None {
                self.stretch(number);
            }
        }
    }
}

/// For another machine, little endian.
impl Tally {
    /// How many bytes [`Tally::to_bytes`] are.
    pub const BYTES: usize = 58;

    /// In this order: count, whole sum, float sum and its error, least, greatest.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.least, self.greatest].map(Number::to_bytes);
        let parts = [
            &self.count.to_le_bytes()[..],
            &self.int.to_le_bytes(),
            &self.float.to_le_bytes(),
            &self.error.to_le_bytes(),
            &numbers[0],
            &numbers[1],
        ];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// `None` for what [`Tally::to_bytes`] does not give.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (int, rest) = rest.split_first_chunk()?;
        let (float, rest) = rest.split_first_chunk()?;
        let (error, rest) = rest.split_first_chunk()?;
        let (least, rest) = rest.split_first_chunk()?;
        Some(Self {
            count: u64::from_le_bytes(*count),
            int: i128::from_le_bytes(*int),
            float: f64::from_le_bytes(*float),
            error: f64::from_le_bytes(*error),
            least: Number::from_bytes(*least)?,
            greatest: Number::from_bytes(rest.try_into().ok()?)?,
        })
    }
}

impl Number {
    fn to_bytes(self) -> [u8; 9] {
        let (kind, value) = match self {
            Self::None => (0, 0),
            Self::Int(value) => (1, value as u64),
            Self::Float(value) => (2, value.to_bits()),
        };
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        [kind, a, b, c, d, e, f, g, h]
    }

    fn from_bytes([kind, value @ ..]: [u8; 9]) -> Option<Self> {
        let value = u64::from_le_bytes(value);
        match kind {
            0 => Some(Self::None),
            1 => Some(Self::Int(value as i64)),
            2 => Some(Self::Float(f64::from_bits(value))),
            _ => None,
        }
    }

    fn is_below(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a < b,
            (Self::Float(a), Self::Float(b)) => a < b,
            (Self::None, _) => false,
            (_, Self::None) => true,
            _ => false,
        }
    }
}

/// A metric of all groups as a column. `unit` is what whole numbers of its field are counted in.
pub(crate) fn column_of<'t>(
    tallies: impl Iterator<Item = &'t Tally>,
    how: Aggregation,
    unit: f64,
    field: &Field,
) -> Result<ArrayRef, MetricsError> {
    let too_large = || Overflow(field.name().clone());
    let scale = match field.data_type() {
        DataType::Decimal128(_, scale) => i32::from(*scale),
        _ => 0,
    };
    let numbers = tallies.map(|tally| tally.value(how, unit).ok_or_else(too_large)).collect::<Result<Vec<_>, _>>()?;
    let ints = numbers.iter().map(|number| if let Number::Int(value) = number { Some(*value) } else { None });
    let floats = numbers.iter().map(|number| if let Number::Float(value) = number { Some(*value) } else { None });
    Ok(match field.data_type() {
        DataType::Float64 => {
            let mut builder = Float64Builder::new();
            builder.extend(floats);
            Arc::new(builder.finish())
        }
        DataType::Date32 => {
            let mut builder = Date32Builder::new();
            builder.extend(ints.map(|value| value.map(|value| value as i32)));
            Arc::new(builder.finish())
        }
        DataType::Timestamp(..) => {
            let mut builder = TimestampMicrosecondBuilder::new();
            builder.extend(ints);
            Arc::new(builder.finish().with_timezone("UTC"))
        }
        DataType::Decimal128(precision, _) => {
            let mut builder = Decimal128Builder::new();
            builder.extend(ints.map(|value| value.map(i128::from)));
            Arc::new(builder.finish().with_precision_and_scale(*precision, scale as i8)?)
        }
        _ => {
            let mut builder = Int64Builder::new();
            builder.extend(ints);
            Arc::new(builder.finish())
        }
    })
}
