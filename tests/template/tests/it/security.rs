//! docs/security.md says which test covers a threat: it must be there.

use std::collections::BTreeSet;

use crate::alarms::{ROOT, whole_sources};

#[test]
fn every_test_that_the_security_review_names_is_there() {
    let review = std::fs::read_to_string(format!("{ROOT}/docs/security.md")).unwrap();
    let threats = review.split("## Threats").nth(1).unwrap().split("\n## ").next().unwrap();
    let last_cells = threats.lines().filter_map(|line| line.trim_end_matches(" |").rsplit_once(" | "));
    let named: BTreeSet<&str> =
        last_cells.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2)).filter(|name| name.len() > 10).collect();
    assert!(named.len() > 20, "{named:?}");
    let code = whole_sources(&["shared", "functions", "tests", "cli"]);
    for name in named {
        let at = code.find(&format!("fn {name}()")).unwrap_or_else(|| {
            let by_proptest = code.find(&format!("fn {name}("));
            by_proptest.unwrap_or_else(|| panic!("there is no test {name}"))
        });
        // It is run: an attribute is just before it.
        let before = &code[at.saturating_sub(120)..at];
        assert!(before.contains("#[test]") || before.contains("#[tokio::test]"), "{name} is no test: {before}");
    }
}
