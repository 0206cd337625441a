//! What a template comes to for given parameters.
//!
//! Names and ARNs that CloudFormation would make are made up in the shapes that it makes; what a resource is called by its
//! properties, it is called.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::read::Template;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "123456789012";

/// A template with its parameters.
pub struct Stack<'a> {
    template: &'a Template,
    parameters: BTreeMap<&'a str, Value>,
}

impl<'a> Stack<'a> {
    /// With these parameters; the others have their defaults.
    ///
    /// # Errors
    /// If there is no such parameter, or one without a value.
    pub fn new(template: &'a Template, set: &[(&str, &str)]) -> Result<Self, String> {
        let mut parameters = BTreeMap::new();
        for (name, parameter) in template.section("Parameters") {
            let own = set.iter().find(|(own, _)| *own == name).map(|(_, value)| Value::from(*value));
            let value = own.unwrap_or_else(|| parameter["Default"].clone());
            if value.is_null() {
                return Err(format!("{name} has no default"));
            }
            parameters.insert(name, value);
        }
        let unknown = set.iter().find(|(name, _)| !parameters.contains_key(name));
        unknown.map_or(Ok(Self { template, parameters }), |(name, _)| Err(format!("there is no parameter {name}")))
    }

    /// Whether a condition holds.
    pub fn holds(&self, condition: &str) -> bool {
        self.is_true(&self.template.root["Conditions"][condition])
    }

    /// Whether there is a resource of that name.
    pub fn has(&self, resource: &str) -> bool {
        let condition = self.template.resource(resource)["Condition"].as_str();
        !self.template.resource(resource).is_null() && condition.is_none_or(|condition| self.holds(condition))
    }

    /// The resources that there are, of one type, as they come to be.
    pub fn resources(&self, kind: &str) -> Vec<(&'a str, Value)> {
        let there = self.template.of_type(kind).filter(|(name, _)| self.has(name));
        there.filter_map(|(name, resource)| Some((name, self.render(&resource["Properties"])?))).collect()
    }

    fn is_true(&self, condition: &Value) -> bool {
        let Some((name, of)) = function(condition) else { return false };
        let each = || of.as_array().into_iter().flatten();
        match name {
            "Condition" => of.as_str().is_some_and(|name| self.holds(name)),
            "Fn::And" => each().all(|one| self.is_true(one)),
            "Fn::Or" => each().any(|one| self.is_true(one)),
            "Fn::Not" => !each().any(|one| self.is_true(one)),
            "Fn::Equals" => {
                let sides: Vec<String> = each().map(|side| self.text(side)).collect();
                matches!(sides.as_slice(), [one, other] if one == other)
            }
            _ => false,
        }
    }

    /// A value without functions; nothing for `AWS::NoValue`.
    pub fn render(&self, value: &Value) -> Option<Value> {
        if let Some((name, of)) = function(value) {
            return self.call(name, of);
        }
        Some(match value {
            Value::Array(all) => Value::Array(all.iter().filter_map(|one| self.render(one)).collect()),
            Value::Object(members) => {
                let members = members.iter().filter_map(|(name, value)| Some((name.clone(), self.render(value)?)));
                Value::Object(members.collect())
            }
            other => other.clone(),
        })
    }

    fn call(&self, name: &str, of: &Value) -> Option<Value> {
        match name {
            "Ref" => self.reference(of.as_str()?),
            "Fn::GetAtt" => Some(self.attribute(of[0].as_str()?, of[1].as_str()?).into()),
            "Fn::If" => self.render(if self.holds(of[0].as_str()?) { &of[1] } else { &of[2] }),
            "Fn::Sub" => Some(self.substitute(of)?.into()),
            "Fn::Join" => {
                let all = self.render(&of[1])?;
                let all = all.as_array()?.iter().map(|one| self.text(one)).collect::<Vec<_>>();
                Some(all.join(of[0].as_str()?).into())
            }
            "Fn::Split" => {
                let text = self.text(&of[1]);
                Some(text.split(of[0].as_str()?).map(Value::from).collect::<Vec<_>>().into())
            }
            "Fn::Select" => {
                let place = self.text(&of[0]).parse::<usize>().ok()?;
                self.render(&of[1])?.as_array()?.get(place).cloned()
            }
            _ => None,
        }
    }

    fn substitute(&self, of: &Value) -> Option<String> {
        let text = of.as_str().or_else(|| of[0].as_str())?;
        let mut own = Map::new();
        for (name, value) in of[1].as_object().into_iter().flatten() {
            own.insert(name.clone(), self.render(value)?);
        }
        let mut said = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}')?;
            said += before;
            rest = after;
            said += &match (name.strip_prefix('!'), own.get(name), name.split_once('.')) {
                // What is meant as it stands.
                (Some(literal), ..) => format!("${{{literal}}}"),
                (None, Some(value), _) => self.text(value),
                (None, None, Some((resource, attribute))) => self.attribute(resource, attribute),
                (None, None, None) => self.text(&self.reference(name)?),
            };
        }
        Some(said + rest)
    }

    /// A value as text, as CloudFormation compares and joins.
    fn text(&self, value: &Value) -> String {
        match self.render(value) {
            Some(Value::String(text)) => text,
            Some(Value::Array(all)) => all.iter().map(|one| self.text(one)).collect::<Vec<_>>().join(","),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn reference(&self, name: &str) -> Option<Value> {
        let pseudo = match name {
            "AWS::NoValue" => return None,
            "AWS::StackName" => Some("weir"),
            "AWS::Region" => Some(REGION),
            "AWS::AccountId" => Some(ACCOUNT),
            "AWS::Partition" => Some("aws"),
            "AWS::URLSuffix" => Some("amazonaws.com"),
            _ => None,
        };
        if let Some(value) = pseudo {
            return Some(value.into());
        }
        if let Some(value) = self.parameters.get(name) {
            let is_list = self.template.root["Parameters"][name]["Type"] == "CommaDelimitedList";
            let text = value.as_str().filter(|_| is_list);
            return Some(
                text.map_or_else(|| value.clone(), |text| text.split(',').map(Value::from).collect::<Vec<_>>().into()),
            );
        }
        let kind = self.template.resource(name)["Type"].as_str()?;
        Some(match kind {
            "AWS::SNS::Topic" | "AWS::SecretsManager::Secret" => self.arn(name).into(),
            _ => self.physical(name).into(),
        })
    }

    /// What it is called: by a property, or by CloudFormation.
    fn physical(&self, name: &str) -> String {
        let properties = &self.template.resource(name)["Properties"];
        let named = ["FunctionName", "TableName", "BucketName", "Name", "LogGroupName", "DeliveryStreamName"];
        let named = named.iter().find(|named| properties.get(**named).is_some());
        let within = || Some(&properties["DatabaseInput"]["Name"]).filter(|name| !name.is_null());
        let table = || Some(&properties["TableInput"]["Name"]).filter(|name| !name.is_null());
        match named.map(|named| &properties[*named]).or_else(within).or_else(table) {
            Some(value) => self.text(value),
            None => format!("weir-{}-1a2b3c", name.to_ascii_lowercase()),
        }
    }

    fn arn(&self, name: &str) -> String {
        let kind = self.template.resource(name)["Type"].as_str().unwrap_or_default();
        let service = kind.split("::").nth(1).unwrap_or_default().to_ascii_lowercase();
        let physical = self.physical(name);
        match service.as_str() {
            "serverless" => format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{physical}"),
            "s3" => format!("arn:aws:s3:::{physical}"),
            "iam" => format!("arn:aws:iam::{ACCOUNT}:role/{physical}"),
            "redshiftserverless" => format!("arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:workgroup/{physical}"),
            "msk" => format!("arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{physical}/1a2b-3"),
            _ => format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{physical}"),
        }
    }

    fn attribute(&self, name: &str, attribute: &str) -> String {
        if attribute == "Arn" || attribute.ends_with(".WorkgroupArn") {
            return self.arn(name);
        }
        format!("{}.{}.example.com", attribute.to_ascii_lowercase(), self.physical(name))
    }
}

/// A function call: an object with one member of such a name.
pub(crate) fn function(value: &Value) -> Option<(&str, &Value)> {
    let (name, of) = value.as_object().filter(|members| members.len() == 1)?.iter().next()?;
    (name == "Ref" || name == "Condition" && of.is_string() || name.starts_with("Fn::")).then_some((name, of))
}
