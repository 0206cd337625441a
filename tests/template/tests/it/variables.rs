//! Functions read what the template sets, and the template sets what they read: their own code reads what is rendered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_template::Template;

use crate::worlds::{stacks, template};

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a binary's configuration, as its main does.
fn read(binary: &str, get: Get<'_>) -> Result<(), String> {
    match binary {
        "realtime" => weir_realtime::config::Config::read(get).map(drop),
        "orchestrator" => weir_orchestrator::config::Config::read(get).map(drop),
        "transform" => weir_transform::config::Config::read(get).map(drop),
        "ingest" => weir_ingest::config::Config::read(get).map(drop),
        "cdc" => weir_cdc::config::Config::read(get).map(drop),
        "analytics" => weir_analytics::config::Config::read(get).map(drop),
        other => Err(format!("which crate's configuration does {other} read? Say so in this test")),
    }
}

/// What Lambda itself sets.
fn is_lambdas(name: &str) -> bool {
    name.starts_with("AWS_")
}

fn binary_of(template: &Template, function: &str) -> String {
    let binary = &template.resource(function)["Metadata"]["BuildProperties"]["Binary"];
    binary.as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_is_set_is_read_and_what_is_read_is_set() {
    let template = template();
    let (mut set, mut asked): (BTreeMap<String, BTreeSet<String>>, BTreeMap<String, BTreeSet<String>>) =
        Default::default();
    for (world, stack) in stacks(&template) {
        for (name, function) in stack.resources("AWS::Serverless::Function") {
            let variables = function["Environment"]["Variables"].as_object().unwrap();
            let names = RefCell::new(BTreeSet::new());
            let get = |name: &str| {
                if name == "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" {
                    return Some(function["MemorySize"].to_string());
                }
                if !is_lambdas(name) {
                    names.borrow_mut().insert(name.to_owned());
                }
                match variables.get(name)? {
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                }
            };
            let binary = binary_of(&template, name);
            read(&binary, &get).unwrap_or_else(|problems| panic!("{name} of {world} does not start: {problems}"));
            let names = names.into_inner();
            let unread: Vec<_> = variables.keys().filter(|name| !names.contains(*name)).collect();
            assert!(unread.is_empty(), "{name} of {world} is given what it does not read: {unread:?}");
            // What one role of a binary need not be given, another is.
            set.entry(binary.clone()).or_default().extend(variables.keys().cloned());
            asked.entry(binary).or_default().extend(names);
        }
    }
    assert_eq!(set.len(), 6, "{set:?}");
    for (binary, set) in set {
        let unset: Vec<_> = asked[&binary].difference(&set).collect();
        assert!(unset.is_empty(), "{binary} reads what no stack gives it: {unset:?}");
    }
}

/// A variable that is taken away stops a function from starting, with its name: no default hides it.
#[test]
fn what_is_missing_is_named() {
    let template = template();
    let stacks = stacks(&template);
    let (_, plain) = &stacks[0];
    let mut tried = 0;
    for (name, function) in plain.resources("AWS::Serverless::Function") {
        let variables = function["Environment"]["Variables"].as_object().unwrap();
        for missing in variables.keys() {
            tried += 1;
            let get = |name: &str| {
                let value = variables.get(name).filter(|_| name != missing)?;
                Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            let problems = read(&binary_of(&template, name), &get).unwrap_err();
            assert!(problems.contains(missing.as_str()), "{name} without {missing}: {problems}");
        }
    }
    assert!(tried > 30, "{tried}");
}
