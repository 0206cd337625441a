//! The template as CloudFormation gets it: with what SAM makes of its functions and their events.

use std::process::Command;

use serde_json::Value;
use weir_template::{Template, dangling};

use crate::worlds::template;

/// By the SAM translator itself, as `sam deploy` has it.
fn translated() -> Template {
    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let asked = Command::new("python3").arg("tools/translated.py").current_dir(ROOT).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success(), "{said}\nIs .venv/bin in PATH, as `make test` has it?");
    Template { root: serde_json::from_slice(&asked.stdout).unwrap() }
}

#[test]
fn what_sam_makes_of_it_is_there_when_it_is_referred_to() {
    let (ours, translated) = (template(), translated());
    let found = dangling(&translated);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let made = |template: &Template| template.section("Resources").count();
    assert!(made(&translated) > made(&ours) + 20, "{} resources of {}", made(&translated), made(&ours));
    for (name, resource) in ours.section("Resources").filter(|(_, resource)| !resource["Condition"].is_null()) {
        assert_eq!(translated.resource(name)["Condition"], resource["Condition"], "{name}");
    }
}

/// Roles that we did not write: of schedules and of what calls functions.
#[test]
fn roles_that_sam_makes_may_call_their_function_alone() {
    let (ours, translated) = (template(), translated());
    let mut seen = 0;
    for (name, role) in translated.of_type("AWS::IAM::Role").filter(|(name, _)| ours.resource(name).is_null()) {
        seen += 1;
        for policy in role["Properties"]["Policies"].as_array().unwrap() {
            for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
                assert_eq!(statement["Action"], "lambda:InvokeFunction", "{name}: {statement}");
                assert!(statement["Resource"]["Fn::GetAtt"].is_array(), "{name}: {statement}");
            }
        }
        assert!(role["Properties"]["ManagedPolicyArns"].as_array().is_none_or(Vec::is_empty), "{name}: {role}");
    }
    assert!(seen >= 5, "{seen} roles");
    for (name, permission) in translated.of_type("AWS::Lambda::Permission") {
        let properties = &permission["Properties"];
        assert!(properties["SourceArn"].is_object(), "{name} lets anybody's events in: {properties}");
        assert!(properties["Principal"].as_str().is_some_and(|who| who.ends_with(".amazonaws.com")), "{name}");
    }
}

/// What is deployed is what is tested: the same functions, and nothing of them changed by SAM's globals.
#[test]
fn functions_are_arm_or_x86_on_amazon_linux_2023() {
    let translated = translated();
    let mut seen = 0;
    for (name, function) in translated.of_type("AWS::Lambda::Function") {
        seen += 1;
        let function = &function["Properties"];
        assert_eq!(function["Runtime"], "provided.al2023", "{name}");
        assert_eq!(function["Architectures"], serde_json::json!([{ "Ref": "Architecture" }]), "{name}");
        assert_eq!(function["Handler"], "bootstrap", "{name}");
        let variables: &Value = &function["Environment"]["Variables"];
        assert!(variables["STACK"]["Ref"] == "AWS::StackName", "{name}");
    }
    assert_eq!(seen, 10);
}
