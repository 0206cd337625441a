//! YAML with CloudFormation's short forms, as JSON with the long ones.

use serde_json::{Map, Value, json};
use serde_norway::Value as Yaml;

/// A template, every function in its long form.
pub struct Template {
    /// All of it.
    pub root: Value,
}

impl Template {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with the YAML.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut yaml: Yaml = serde_norway::from_str(text).map_err(|error| error.to_string())?;
        yaml.apply_merge().map_err(|error| error.to_string())?;
        Ok(Self { root: json_of(yaml)? })
    }

    /// A section's members, such as those of `Resources`.
    pub fn section(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let members = self.root.get(name).and_then(Value::as_object);
        members.into_iter().flatten().map(|(name, value)| (name.as_str(), value))
    }

    /// Resources of a type, by their logical names.
    pub fn of_type(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        self.section("Resources").filter(move |(_, resource)| resource["Type"] == kind)
    }

    /// A resource; null if there is none.
    pub fn resource(&self, name: &str) -> &Value {
        &self.root["Resources"][name]
    }
}

fn json_of(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(float)) => float.into(),
            (None, None) => return Err(format!("{number} is no number")),
        },
        Yaml::String(text) => text.into(),
        Yaml::Sequence(all) => Value::Array(all.into_iter().map(json_of).collect::<Result<_, _>>()?),
        Yaml::Mapping(members) => {
            let mut map = Map::new();
            for (name, value) in members {
                let name = match name {
                    Yaml::String(name) => name,
                    other => return Err(format!("a member is called {other:?}")),
                };
                map.insert(name, json_of(value)?);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => {
            let tag = tagged.tag.to_string();
            let value = json_of(tagged.value)?;
            match (tag.as_str(), &value) {
                ("!Ref", _) => json!({ "Ref": value }),
                ("!Condition", _) => json!({ "Condition": value }),
                ("!GetAtt", Value::String(path)) => {
                    let (name, attribute) = path.split_once('.').ok_or_else(|| format!("!GetAtt {path}"))?;
                    json!({ "Fn::GetAtt": [name, attribute] })
                }
                (tag, _) => json!({ format!("Fn::{}", tag.trim_start_matches('!')): value }),
            }
        }
    })
}
