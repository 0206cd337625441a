//! What is made of a column's values, checked: `[[metrics.column]]` and `[[live.column]]` say it alike.

use toml::Spanned;

use super::Check;
use crate::live::Statistic;
use crate::spec::MetricSpec;
use crate::{Aggregation, Type};

/// The most frequent values, at most so many.
const MOST_TOP: usize = 100;

impl Check<'_> {
    /// The one form that is given.
    pub(super) fn statistic(&mut self, spec: &Spanned<MetricSpec>, key: &str) -> Option<Statistic> {
        let (at, spec) = (spec.span(), spec.get_ref());
        let plain = [("sum", &spec.sum), ("avg", &spec.avg), ("min", &spec.min), ("max", &spec.max)];
        let plain: Vec<_> = plain.into_iter().filter_map(|(form, of)| Some((form, of.as_ref()?))).collect();
        Some(match (spec.count, plain.as_slice(), &spec.percentile, &spec.distinct, &spec.top) {
            (true, [], None, None, None) => Statistic::Plain(Aggregation::Count),
            (false, [(form, of)], None, None, None) => {
                let place = self.measured(form, of, key)?;
                Statistic::Plain(match *form {
                    "sum" => Aggregation::Sum(place),
                    "avg" => Aggregation::Avg(place),
                    "min" => Aggregation::Min(place),
                    _ => Aggregation::Max(place),
                })
            }
            (false, [], Some(percentile), None, None) => {
                let of = self.measured("percentile", &percentile.of, key)?;
                let at = *percentile.at.get_ref();
                if !(0.0..=100.0).contains(&at) {
                    self.problems.add(percentile.at.span(), key, format!("`at = {at}` must be 0 to 100"));
                }
                Statistic::Percentile { of, at }
            }
            (false, [], None, Some(of), None) => Statistic::Distinct(self.column(of, key)?.0),
            (false, [], None, None, Some(top)) => {
                let of = self.columns_of(&top.of, key);
                if !(1..=MOST_TOP).contains(top.most.get_ref()) {
                    let reason = format!("`most = {}` must be 1 to {MOST_TOP}", top.most.get_ref());
                    self.problems.add(top.most.span(), key, reason);
                }
                if top.of.is_empty() {
                    self.problems.add(at, key, "`top.of` names no column");
                }
                Statistic::Top { of, most: *top.most.get_ref() }
            }
            _ => {
                let forms = "say exactly one of `count = true`, `sum`, `avg`, `min`, `max`; in [live] also `percentile = { of, at }`, `distinct`, `top = { of, most }`";
                self.problems.add(at, key, forms);
                return None;
            }
        })
    }

    /// A column that has what the form needs: numbers, or an order.
    fn measured(&mut self, form: &str, of: &Spanned<String>, key: &str) -> Option<usize> {
        let (place, kind) = self.column(of, key)?;
        let numeric = matches!(kind, Type::Int32 | Type::Int64 | Type::Float64 | Type::Decimal { .. });
        let ordered = numeric || matches!(kind, Type::Date | Type::Timestamp);
        let right = if matches!(form, "min" | "max") { ordered } else { numeric };
        if !right {
            self.problems.add(of.span(), key, format!("`{form}` of `{}`, a {kind}, is none", of.get_ref()));
            return None;
        }
        Some(place)
    }
}
