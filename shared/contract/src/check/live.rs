//! `[live]`, checked.

use std::collections::HashSet;
use std::sync::Arc;

use toml::Spanned;

use super::Check;
use crate::live::{Live, LiveColumn, RESERVED, Statistic};
use crate::spec::{LiveColumnSpec, LiveSpec};
use crate::{Aggregation, Type};

/// Where nothing else is said.
const MOST_GROUPS: usize = 20;

/// The most frequent values, at most so many.
const MOST_TOP: usize = 100;

impl Check<'_> {
    pub(super) fn live(&mut self, spec: &LiveSpec) -> Live {
        let event_time = spec.event_time.as_ref().and_then(|name| {
            let (place, kind) = self.column(name, "live.event_time")?;
            if kind != Type::Timestamp {
                self.problems.add(
                    name.span(),
                    "live.event_time",
                    format!("`{}` is a {kind}, not a timestamp", name.get_ref()),
                );
            }
            Some(place)
        });
        let mut group_by = Vec::new();
        for name in &spec.group_by {
            let Some((place, kind)) = self.column(name, "live.group_by") else { continue };
            if matches!(kind, Type::Float64 | Type::Timestamp | Type::Decimal { .. }) {
                let reason = format!("`{}` is a {kind}, of which there are too many", name.get_ref());
                self.problems.add(name.span(), "live.group_by", reason);
            }
            if RESERVED.contains(&name.get_ref().as_str()) {
                self.problems.add(
                    name.span(),
                    "live.group_by",
                    format!("`{}` says something else of a window", name.get_ref()),
                );
            }
            group_by.push(place);
        }
        let most_groups = spec.most_groups.as_ref().map_or(MOST_GROUPS, |most| *most.get_ref());
        let mut names: HashSet<&str> = spec.group_by.iter().map(|name| name.get_ref().as_str()).collect();
        let mut columns = Vec::new();
        for column in &spec.column {
            let name = &column.get_ref().name;
            self.name(name, "live.column.name");
            if RESERVED.contains(&name.get_ref().as_str()) || !names.insert(name.get_ref()) {
                self.problems.add(
                    name.span(),
                    "live.column.name",
                    format!("`{}` says something else of a window", name.get_ref()),
                );
            }
            columns.extend(self.live_column(column));
        }
        Live { event_time, late_after_s: spec.late_after_seconds, group_by, most_groups, columns }
    }

    fn live_column(&mut self, spec: &Spanned<LiveColumnSpec>) -> Option<LiveColumn> {
        let (at, spec) = (spec.span(), spec.get_ref());
        let name = spec.name.get_ref();
        let key = format!("live.{name}");
        let plain = [("sum", &spec.sum), ("avg", &spec.avg), ("min", &spec.min), ("max", &spec.max)];
        let plain: Vec<_> = plain.into_iter().filter_map(|(form, of)| Some((form, of.as_ref()?))).collect();
        let how = match (spec.count, plain.as_slice(), &spec.percentile, &spec.distinct, &spec.top) {
            (true, [], None, None, None) => Statistic::Plain(Aggregation::Count),
            (false, [(form, of)], None, None, None) => Statistic::Plain(self.aggregation(form, of, &key)?),
            (false, [], Some(percentile), None, None) => {
                // As a mean: of numbers alone.
                self.aggregation("avg", &percentile.of, &key)?;
                let (of, _) = self.column(&percentile.of, &key)?;
                let at = *percentile.at.get_ref();
                if !(0.0..=100.0).contains(&at) {
                    self.problems.add(percentile.at.span(), &key, format!("`at = {at}` must be 0 to 100"));
                }
                Statistic::Percentile { of, at }
            }
            (false, [], None, Some(of), None) => Statistic::Distinct(self.column(of, &key)?.0),
            (false, [], None, None, Some(top)) => {
                let of = self.columns_of(&top.of, &key);
                if !(1..=MOST_TOP).contains(top.most.get_ref()) {
                    let reason = format!("`most = {}` must be 1 to {MOST_TOP}", top.most.get_ref());
                    self.problems.add(top.most.span(), &key, reason);
                }
                if top.of.is_empty() {
                    self.problems.add(at.clone(), &key, "`top.of` names no column");
                }
                Statistic::Top { of, most: *top.most.get_ref() }
            }
            _ => {
                let forms = "say exactly one of `count = true`, `sum`, `avg`, `min`, `max`, `percentile = { of, at }`, `distinct`, `top = { of, most }`";
                self.problems.add(at, &key, forms);
                return None;
            }
        };
        if spec.watched && matches!(how, Statistic::Top { .. }) {
            self.problems.add(at, &key, "only a number can be `watched`");
        }
        Some(LiveColumn { name: Arc::from(name.as_str()), how, watched: spec.watched })
    }
}
