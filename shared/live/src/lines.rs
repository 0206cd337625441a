//! What a window comes to, as rows of JSON: the first of all its rows, one for each group.

use serde_json::{Map, Value, json};
use weir_contract::{Aggregation, Number, Statistic, Type};
use weir_values as values;

use crate::kept::{Damaged, Kept};
use crate::plan::{Column, Input, Plan};
use crate::window::{Scalar, Window, merge_all, unit_of};

/// A window's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// Of all groups together.
    pub all: Map<String, Value>,
    /// A row a group, by their values; then the others, if there are any (`is_other`).
    pub groups: Vec<Map<String, Value>>,
}

impl Window {
    /// What it comes to.
    ///
    /// # Errors
    /// For a defect of ours.
    pub fn lines(&mut self, plan: &Plan) -> Result<Lines, Damaged> {
        let mut all = Kept::merged(plan)?;
        let mut groups: Vec<(&Vec<u8>, _)> = self.groups.iter_mut().collect();
        groups.sort_unstable_by_key(|(key, _)| *key);
        let mut lines = Vec::new();
        for (_, group) in groups {
            merge_all(&mut all, &group.kept)?;
            if plan.group_by.is_empty() {
                continue;
            }
            let mut line = values_of(plan, &mut group.kept)?;
            for (column, value) in plan.group_by.iter().zip(&group.values) {
                line.insert(column.name.clone(), value.to_json());
            }
            lines.push(line);
        }
        if let Some(others) = &mut self.others {
            merge_all(&mut all, others)?;
            let mut line = values_of(plan, others)?;
            line.insert("is_other".to_owned(), Value::Bool(true));
            lines.push(line);
        }
        Ok(Lines { all: values_of(plan, &mut all)?, groups: lines })
    }
}

impl Scalar {
    fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
        }
    }
}

fn values_of(plan: &Plan, kept: &mut [Kept]) -> Result<Map<String, Value>, Damaged> {
    let mut line = Map::new();
    for column in &plan.columns {
        let (Some(kept), Some(input)) = (kept.get_mut(column.input), plan.inputs.get(column.input)) else { continue };
        line.insert(column.name.to_string(), value_of(column, input, kept)?);
    }
    Ok(line)
}

fn value_of(column: &Column, input: &Input, kept: &mut Kept) -> Result<Value, Damaged> {
    Ok(match (&column.how, kept) {
        (Statistic::Plain(_), Kept::Rows(count)) => (*count).into(),
        (Statistic::Plain(how), Kept::Numbers(tally)) => {
            let kind = if let Input::Numbers { kind, .. } = input { *kind } else { Type::Float64 };
            // A mean is a plain number whatever it is of.
            let (kind, unit) = match how {
                Aggregation::Avg(_) => (Type::Float64, unit_of(kind)),
                _ => (kind, 1.0),
            };
            tally.value(*how, unit).map_or(Value::Null, |number| json_of(number, kind))
        }
        (Statistic::Percentile { at, .. }, Kept::Digest(digest)) => digest.quantile(at / 100.0)?.into(),
        (Statistic::Distinct(_), Kept::Distinct(distinct)) => (distinct.estimate().round() as u64).into(),
        (Statistic::Top { most, .. }, kept) => {
            let frequent = kept.frequent(*most).into_iter();
            frequent.map(|one| json!({"value": one.value, "count": one.count, "at_least": one.at_least})).collect()
        }
        _ => Value::Null,
    })
}

fn json_of(number: Number, kind: Type) -> Value {
    let text = |write: fn(&mut Vec<u8>, i64), value| {
        let mut out = Vec::new();
        write(&mut out, value);
        Value::from(String::from_utf8_lossy(&out).into_owned())
    };
    match (number, kind) {
        (Number::None, _) => Value::Null,
        (Number::Int(value), Type::Date) => text(|out, days| values::write_date(out, days as i32), value),
        (Number::Int(value), Type::Timestamp) => text(values::write_stamp, value),
        (Number::Int(value), Type::Decimal { .. }) => (value as f64 / unit_of(kind)).into(),
        (Number::Int(value), _) => value.into(),
        (Number::Float(value), _) => value.into(),
    }
}

/// A moment, in milliseconds since 1970, as rows have it.
pub fn instant(ms: u64) -> String {
    let mut out = Vec::new();
    values::write_stamp(&mut out, i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000));
    String::from_utf8_lossy(&out).into_owned()
}
