//! A proof that references hold.
//!
//! A resource with a condition is not always there. Whoever refers to it must be there only when it is: by a condition of its own,
//! or within an `Fn::If`. Conditions compare parameters with literals, so of each parameter only those literals matter, and any
//! other value. All of what a reference's conditions ask is tried.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::read::Template;
use crate::stack::function;

/// Any value that no condition names.
const OTHER: &str = "\u{0}";

/// Which parameters have which values.
type World<'a> = BTreeMap<&'a str, &'a str>;

/// What holds where a reference stands: conditions, each true or not.
type Within<'a> = Vec<(&'a str, bool)>;

/// References to resources that need not be there, or that there never are: who, to what, and when.
pub fn dangling(template: &Template) -> Vec<String> {
    // What is not understood can't be proven.
    let mut found: Vec<String> =
        template.section("Conditions").filter_map(|(name, condition)| unclear(template, name, condition)).collect();
    for section in ["Resources", "Outputs"] {
        for (name, thing) in template.section(section) {
            let mut within: Within<'_> = Vec::new();
            if let Some(condition) = thing["Condition"].as_str() {
                within.push((condition, true));
            }
            let mut walk = Walk { template, name, found: &mut found };
            walk.through(&thing["Properties"], &mut within);
            walk.through(&thing["Value"], &mut within);
            for other in thing["DependsOn"].as_array().into_iter().flatten().chain([&thing["DependsOn"]]) {
                walk.refers(other.as_str(), &within);
            }
        }
    }
    found
}

struct Walk<'a, 'b> {
    template: &'a Template,
    name: &'a str,
    found: &'b mut Vec<String>,
}

impl<'a> Walk<'a, '_> {
    fn through(&mut self, value: &'a Value, within: &mut Within<'a>) {
        match (function(value), value) {
            (Some(("Fn::If", of)), _) => {
                for (place, holds) in [(1, true), (2, false)] {
                    within.push((of[0].as_str().unwrap_or_default(), holds));
                    self.through(&of[place], within);
                    within.pop();
                }
            }
            (Some(("Ref", of)), _) => self.refers(of.as_str(), within),
            (Some(("Fn::GetAtt", of)), _) => self.refers(of[0].as_str(), within),
            (Some(("Fn::Sub", of)), _) => {
                let own = of[1].as_object();
                own.into_iter().flatten().for_each(|(_, value)| self.through(value, within));
                let text = of.as_str().or_else(|| of[0].as_str()).unwrap_or_default();
                let names = text.split("${").skip(1).filter_map(|rest| rest.split('}').next());
                for name in names.filter(|name| !name.starts_with('!')) {
                    if own.is_none_or(|own| !own.contains_key(name)) {
                        self.refers(name.split('.').next(), within);
                    }
                }
            }
            (Some((_, of)), _) => self.through(of, within),
            (None, Value::Array(all)) => all.iter().for_each(|one| self.through(one, within)),
            (None, Value::Object(members)) => members.values().for_each(|one| self.through(one, within)),
            _ => {}
        }
    }

    fn refers(&mut self, name: Option<&str>, within: &Within<'a>) {
        let Some(name) = name.filter(|name| !name.starts_with("AWS::")) else { return };
        let template = self.template;
        if !template.root["Parameters"][name].is_null() {
            return;
        }
        let resource = template.resource(name);
        if resource.is_null() {
            self.found.push(format!("{} refers to {name}, which there is not", self.name));
            return;
        }
        if let Some((unknown, _)) = within.iter().find(|(name, _)| template.root["Conditions"][*name].is_null()) {
            self.found.push(format!("{} asks for the condition {unknown}, which there is not", self.name));
            return;
        }
        let Some(condition) = resource["Condition"].as_str() else { return };
        let asked = within.iter().map(|(name, _)| *name).chain([condition]);
        let fails = worlds(template, asked).into_iter().find(|world| {
            within.iter().all(|(name, is)| holds(template, name, world) == *is) && !holds(template, condition, world)
        });
        if let Some(world) = fails {
            self.found.push(format!("{} refers to {name}, which is not there for {world:?}", self.name));
        }
    }
}

/// All values that matter of the parameters that conditions ask for.
fn worlds<'a>(template: &'a Template, conditions: impl Iterator<Item = &'a str>) -> Vec<World<'a>> {
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    conditions.for_each(|name| collect(template, &template.root["Conditions"][name], &mut values));
    let mut worlds = vec![World::new()];
    for (parameter, values) in values {
        let with = |value: &'a str| {
            let mut more = worlds.clone();
            for world in &mut more {
                world.insert(parameter, value);
            }
            more
        };
        worlds = values.into_iter().chain([OTHER]).flat_map(with).collect();
    }
    worlds
}

fn collect<'a>(template: &'a Template, condition: &'a Value, values: &mut BTreeMap<&'a str, BTreeSet<&'a str>>) {
    match function(condition) {
        Some(("Condition", name)) => {
            let name = name.as_str().unwrap_or_default();
            collect(template, &template.root["Conditions"][name], values);
        }
        Some(("Fn::Equals", sides)) => {
            if let Some((parameter, literal)) = compared(sides) {
                values.entry(parameter).or_default().insert(literal);
            }
        }
        Some((_, of)) => of.as_array().into_iter().flatten().for_each(|one| collect(template, one, values)),
        None => {}
    }
}

/// What of a condition is not understood.
fn unclear(template: &Template, name: &str, condition: &Value) -> Option<String> {
    let what = |what: &dyn std::fmt::Display| {
        Some(format!("the condition {name} has {what}, which this proof does not understand"))
    };
    match function(condition) {
        Some(("Condition", other)) => {
            let is_known = other.as_str().is_some_and(|other| !template.root["Conditions"][other].is_null());
            if is_known { None } else { what(other) }
        }
        Some(("Fn::And" | "Fn::Or" | "Fn::Not", of)) => {
            of.as_array()?.iter().find_map(|one| unclear(template, name, one))
        }
        Some(("Fn::Equals", sides)) => {
            let is_known =
                compared(sides).is_some_and(|(parameter, _)| !template.root["Parameters"][parameter].is_null());
            if is_known { None } else { what(sides) }
        }
        _ => what(condition),
    }
}

fn holds(template: &Template, name: &str, world: &World<'_>) -> bool {
    is_true(template, &template.root["Conditions"][name], world)
}

fn is_true(template: &Template, condition: &Value, world: &World<'_>) -> bool {
    let Some((name, of)) = function(condition) else { return false };
    let mut each = of.as_array().into_iter().flatten();
    match name {
        "Condition" => of.as_str().is_some_and(|name| holds(template, name, world)),
        "Fn::And" => each.all(|one| is_true(template, one, world)),
        "Fn::Or" => each.any(|one| is_true(template, one, world)),
        "Fn::Not" => !each.any(|one| is_true(template, one, world)),
        "Fn::Equals" => compared(of).is_some_and(|(parameter, literal)| world.get(parameter) == Some(&literal)),
        _ => false,
    }
}

/// A parameter, or all of a list's joined, and what it is compared with.
fn compared(sides: &Value) -> Option<(&str, &str)> {
    let parameter = match function(&sides[0])? {
        ("Ref", name) => name.as_str()?,
        ("Fn::Join", of) => function(&of[1]).filter(|(name, _)| *name == "Ref")?.1.as_str()?,
        _ => return None,
    };
    // A number and its text are the same to CloudFormation; only those that conditions have must differ here.
    let literal = match &sides[1] {
        Value::String(text) => text.as_str(),
        Value::Number(number) if number.as_i64() == Some(0) => "0",
        _ => return None,
    };
    Some((parameter, literal))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "
Parameters:
  Makes: { Type: String, Default: '' }
  Size: { Type: Number, Default: 0 }
Conditions:
  Has: !Not [!Equals [!Ref Makes, '']]
  HasBoth: !And [!Condition Has, !Not [!Equals [!Ref Size, 0]]]
Resources:
  Thing: { Type: A, Condition: Has }
  User: { Type: B, Condition: HasBoth, Properties: { Of: !GetAtt Thing.Arn } }
  Perhaps: { Type: B, Properties: { Of: !If [Has, !Sub 'x${Thing}', !Ref AWS::NoValue] } }
";

    #[test]
    fn what_is_there_only_with_what_it_refers_to_is_right() {
        assert_eq!(dangling(&Template::parse(TEMPLATE).unwrap()), Vec::<String>::new());
    }

    #[test]
    fn what_may_be_there_alone_is_found() {
        for (right, wrong, who) in [
            ("[!Ref Makes, '']", "['', !Ref Makes]", "the condition Has has"),
            ("[!Condition Has, ", "[!Condition Hass, ", "the condition HasBoth has"),
            ("Thing: { Type: A, Condition: Has }", "Thing: { Type: A, Condition: HasBoth }", "Perhaps refers to Thing"),
            ("Condition: HasBoth, ", "", "User refers to Thing"),
            ("!Sub 'x${Thing}', !Ref AWS::NoValue", "!Ref AWS::NoValue, !Sub 'x${Thing}'", "Perhaps refers to Thing"),
            ("!GetAtt Thing.Arn", "!GetAtt Think.Arn", "User refers to Think, which there is not"),
        ] {
            let found = dangling(&Template::parse(&TEMPLATE.replace(right, wrong)).unwrap());
            assert!(found.iter().any(|one| one.starts_with(who)), "{wrong}: {found:?}");
        }
    }
}
