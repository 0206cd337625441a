//! `[live]`, checked.

use std::collections::HashSet;
use std::sync::Arc;

use toml::Spanned;

use super::Check;
use crate::Type;
use crate::live::{Live, LiveColumn, RESERVED, Statistic};
use crate::spec::{LiveSpec, MetricSpec};

/// Where nothing else is said.
const MOST_GROUPS: usize = 20;

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

    fn live_column(&mut self, spec: &Spanned<MetricSpec>) -> Option<LiveColumn> {
        let MetricSpec { name, watched, .. } = spec.get_ref();
        let key = format!("live.{}", name.get_ref());
        let how = self.statistic(spec, &key)?;
        if *watched && matches!(how, Statistic::Top { .. }) {
            self.problems.add(spec.span(), key, "only a number can be `watched`");
        }
        Some(LiveColumn { name: Arc::from(name.get_ref().as_str()), how, watched: *watched })
    }
}
