//! Whatever the parameters: what a resource refers to is there.

use weir_template::dangling;

use crate::worlds::template;

#[test]
fn no_parameters_leave_a_reference_to_nothing() {
    let found = dangling(&template());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The evaluator of these tests knows no others: of what it does not know it would make nothing.
#[test]
fn every_function_of_the_template_is_one_that_these_tests_evaluate() {
    const KNOWN: [&str; 11] = [
        "Fn::And",
        "Fn::Equals",
        "Fn::GetAtt",
        "Fn::If",
        "Fn::Join",
        "Fn::Not",
        "Fn::Or",
        "Fn::Select",
        "Fn::Split",
        "Fn::Sub",
        "Fn::Transform",
    ];
    let text = template().root.to_string();
    for name in text.split("\"Fn::").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(KNOWN.contains(&format!("Fn::{name}").as_str()), "Fn::{name}");
    }
}

/// A parameter that nothing asks for, a condition that nothing depends on: somebody sets it, and nothing comes of it.
#[test]
fn every_parameter_and_condition_is_used() {
    let template = template();
    let text = template.root.to_string();
    for (name, _) in template.section("Parameters") {
        let uses = [format!(r#""Ref":"{name}""#), format!("${{{name}}}")];
        assert!(uses.iter().any(|one| text.contains(one)), "nothing asks for the parameter {name}");
    }
    for (name, _) in template.section("Conditions") {
        let uses = [format!(r#""Condition":"{name}""#), format!(r#""Fn::If":["{name}""#)];
        assert!(uses.iter().any(|one| text.contains(one)), "nothing depends on the condition {name}");
    }
}
