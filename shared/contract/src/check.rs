//! From what is written in a file to a contract, or to all that is wrong with the file.

mod field;
mod live;
mod statistic;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use weir_settings::{did_you_mean, nearest};

use crate::error::Problems;
use crate::live::Statistic;
use crate::plan::{Derivation, Derived, DropRule, Field, Metric, Metrics};
use crate::spec::{DerivedSpec, MetricsSpec, Spec};
use crate::{Contract, ContractError, Type};

/// A row's members are told apart by a bit each.
const MOST_FIELDS: usize = 128;

impl Contract {
    /// Reads a contract. `file` is its name for messages.
    ///
    /// # Errors
    /// All that is wrong with it, each with line, key and remedy; only the first where it is not TOML at all.
    pub fn parse(file: &str, text: &str) -> Result<Self, ContractError> {
        let mut check = Check { problems: Problems::new(text), columns: HashMap::new() };
        let spec: Spec = match toml::from_str(text) {
            Ok(spec) => spec,
            Err(error) => {
                let at = error.span().unwrap_or_default();
                check.problems.add(at, "", with_hint(error.message()));
                check.problems.finish(file)?;
                // Not reached: there is a problem.
                return Err(ContractError { file: file.to_owned(), problems: Vec::new() });
            }
        };
        let contract = check.contract(spec);
        check.problems.finish(file)?;
        Ok(contract)
    }
}

/// "unknown field `requird`, expected one of `name`, …" with the one that was probably meant.
fn with_hint(message: &str) -> String {
    let message = message.trim();
    let mut quoted = message.split('`').skip(1).step_by(2);
    match quoted.next().filter(|_| message.starts_with("unknown field")) {
        Some(word) => format!("{message}{}", did_you_mean(word, quoted)),
        None => message.to_owned(),
    }
}

struct Check<'a> {
    problems: Problems<'a>,
    /// Names of columns, and where they are among them.
    columns: HashMap<String, (usize, Type)>,
}

impl Check<'_> {
    fn contract(&mut self, spec: Spec) -> Contract {
        self.name(&spec.name, "name");
        let mut lookup = HashMap::new();
        let mut fields = Vec::new();
        if spec.field.is_empty() || spec.field.len() > MOST_FIELDS {
            self.problems.add(
                0..0,
                "field",
                format!("a contract has 1 to {MOST_FIELDS} fields, this one {}", spec.field.len()),
            );
        }
        for (index, field) in spec.field.iter().enumerate() {
            fields.push(self.field(index, field.get_ref()));
            let names = std::iter::once(&field.get_ref().name).chain(&field.get_ref().aliases);
            for name in names {
                if lookup.insert(name.get_ref().clone(), index).is_some_and(|earlier| earlier != index) {
                    self.problems.add(name.span(), "aliases", format!("`{}` names two fields", name.get_ref()));
                }
            }
        }
        let mut derived = Vec::new();
        for one in &spec.derived {
            derived.extend(self.derived(fields.len() + derived.len(), one.get_ref(), one.span(), &fields));
        }
        // A row that was cleaned before says when; nothing else of what is derived is taken from it.
        for (index, one) in derived.iter().enumerate().filter(|(_, one)| one.how == Derivation::Now) {
            lookup.insert(one.name.to_string(), fields.len() + index);
        }
        let required = |place: usize| match derived.get(place.wrapping_sub(fields.len())).map(|one: &Derived| one.how) {
            None => fields.get(place).is_some_and(|field| field.required),
            Some(Derivation::Now) => true,
            Some(Derivation::DateOf(of) | Derivation::HourOf(of) | Derivation::Quotient { of, .. }) => {
                fields.get(of).is_some_and(|field| field.required)
            }
        };
        let mut partition_by = Vec::new();
        for name in &spec.partition_by {
            let Some((place, kind)) = self.column(name, "partition_by") else { continue };
            if !required(place) {
                self.problems.add(
                    name.span(),
                    "partition_by",
                    format!(
                        "`{}` may be missing from a row, and a row without it has no place; make it, or what it is derived from, `required`",
                        name.get_ref()
                    ),
                );
            }
            if matches!(kind, Type::Float64 | Type::Timestamp | Type::Decimal { .. }) {
                self.problems.add(
                    name.span(),
                    "partition_by",
                    format!(
                        "`{}` is a {kind}, of which there are too many; derive a date or an hour from it",
                        name.get_ref()
                    ),
                );
            }
            partition_by.push(place);
        }
        let key = self.columns_of(&spec.key, "key");
        let order_by = self.columns_of(&spec.order_by, "order_by");
        let drops = spec.drop.iter().filter_map(|drop| {
            let drop = drop.get_ref();
            let (field, _) = self.column(&drop.field, "drop.field").filter(|(place, _)| *place < fields.len())?;
            let equals =
                drop.equals.iter().filter_map(|value| self.bound(value, "drop.equals", fields.get(field)?)).collect();
            Some(DropRule { field, equals })
        });
        let drops = drops.collect();
        let metrics = spec.metrics.as_ref().map(|metrics| self.metrics(metrics));
        let live = spec.live.as_ref().map(|live| self.live(live));
        Contract {
            name: spec.name.into_inner(),
            description: spec.description,
            fields,
            derived,
            drops,
            partition_by,
            key,
            order_by,
            metrics,
            live,
            lookup,
        }
    }

    /// Lowercase, because Hive and Glue know no other.
    fn name(&mut self, name: &Spanned<String>, key: &str) {
        let text = name.get_ref();
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !((1..=64).contains(&text.len())
            && text.chars().all(legal)
            && text.starts_with(|c: char| c.is_ascii_lowercase()))
        {
            let reason = format!(
                "`{text}` must be 1 to 64 lowercase letters, digits and `_`, beginning with a letter (Glue and Parquet readers fold case); other spellings are `aliases`"
            );
            self.problems.add(name.span(), key, reason);
        }
    }

    fn new_column(&mut self, name: &Spanned<String>, place: usize, kind: Type) {
        self.name(name, "name");
        if self.columns.insert(name.get_ref().clone(), (place, kind)).is_some() {
            self.problems.add(name.span(), "name", format!("there are two columns `{}`", name.get_ref()));
        }
    }

    fn column(&mut self, name: &Spanned<String>, key: &str) -> Option<(usize, Type)> {
        let found = self.columns.get(name.get_ref()).copied();
        if found.is_none() {
            let hint = nearest(name.get_ref(), self.columns.keys().map(String::as_str));
            let hint =
                hint.map_or("name one of the contract's columns".to_owned(), |near| format!("did you mean `{near}`?"));
            self.problems.add(name.span(), key, format!("there is no column `{}`; {hint}", name.get_ref()));
        }
        found
    }

    fn columns_of(&mut self, names: &[Spanned<String>], key: &str) -> Vec<usize> {
        names.iter().filter_map(|name| self.column(name, key).map(|(place, _)| place)).collect()
    }

    fn derived(&mut self, place: usize, spec: &DerivedSpec, at: Range<usize>, fields: &[Field]) -> Option<Derived> {
        let name = spec.name.get_ref();
        let mut source = |of: &Spanned<String>, form: &str, right: fn(Type) -> bool, what: &str| {
            let key = format!("derived.{name}.{form}");
            let (place, kind) = self.column(of, &key)?;
            if place >= fields.len() || !right(kind) {
                self.problems.add(of.span(), key, format!("`{}` must be a field that is {what}", of.get_ref()));
                return None;
            }
            Some(place)
        };
        let timed = |kind| matches!(kind, Type::Timestamp);
        let number = |kind| matches!(kind, Type::Int32 | Type::Int64 | Type::Float64);
        let how = match (&spec.date_of, &spec.hour_of, &spec.quotient, spec.now) {
            (Some(of), None, None, false) => Derivation::DateOf(source(of, "date_of", timed, "a timestamp")?),
            (None, Some(of), None, false) => Derivation::HourOf(source(of, "hour_of", timed, "a timestamp")?),
            (None, None, Some(quotient), false) => {
                let of = source(&quotient.of, "quotient", number, "a whole number or a float")?;
                let by = *quotient.by.get_ref();
                if by == 0.0 || !by.is_finite() {
                    self.problems.add(
                        quotient.by.span(),
                        format!("derived.{name}.quotient"),
                        "nothing can be divided by that",
                    );
                }
                Derivation::Quotient { of, by }
            }
            (None, None, None, true) => Derivation::Now,
            _ => {
                self.problems.add(
                    at,
                    format!("derived.{name}"),
                    "say exactly one of `date_of`, `hour_of`, `quotient = { of, by }`, `now = true`",
                );
                return None;
            }
        };
        self.new_column(&spec.name, place, how.kind());
        let kept = (how == Derivation::Now).then(|| Box::new(Field::plain(name, how.kind())));
        Some(Derived { name: Arc::from(name.as_str()), how, kept })
    }

    fn metrics(&mut self, spec: &MetricsSpec) -> Metrics {
        let group_by = self.columns_of(&spec.group_by, "metrics.group_by");
        let mut columns = Vec::new();
        for metric in &spec.column {
            let name = &metric.get_ref().name;
            self.name(name, "metrics.column.name");
            let key = format!("metrics.{}", name.get_ref());
            match self.statistic(metric, &key) {
                Some(Statistic::Plain(how)) if !metric.get_ref().watched => {
                    columns.push(Metric { name: Arc::from(name.get_ref().as_str()), how });
                }
                Some(_) => {
                    let reason = "`percentile`, `distinct`, `top` and `watched` are for [live]; `aggregate` is exact";
                    self.problems.add(metric.span(), key, reason);
                }
                None => {}
            }
        }
        Metrics { group_by, columns }
    }
}
