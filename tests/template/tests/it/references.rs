//! Whatever the parameters: what a resource refers to is there.

use weir_template::dangling;

use crate::worlds::template;

#[test]
fn no_parameters_leave_a_reference_to_nothing() {
    let found = dangling(&template());
    assert!(found.is_empty(), "{}", found.join("\n"));
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
