//! Commands that nobody sends by mistake.

use weir_command::{AllowList, Command, Location};

/// Refused in a moment, whatever it is made of.
#[test]
fn what_is_deep_wide_or_long_is_refused_at_once() {
    let begun = std::time::Instant::now();
    let members: Vec<String> = (0..50_000).map(|n| format!("\"m{n}\":{n}")).collect();
    for bytes in [
        "[".repeat(1_000_000),
        "{\"source\":".repeat(100_000),
        format!("{{\"source\":\"s3://in/{}\",\"dest\":\"s3://out/\",\"command\":\"copy\"}}", "a/".repeat(400_000)),
        format!("{{{}}}", members.join(",")),
    ] {
        let refused = Command::parse(bytes.as_bytes()).unwrap_err().to_string();
        assert!(refused.len() < 2_000, "what is said of it is short: {} bytes", refused.len());
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Nothing that a name can hold leads out of what is allowed.
#[test]
fn no_name_leads_out_of_what_is_allowed() {
    let list: AllowList = "s3://lake/in/".parse().unwrap();
    for path in [
        "s3://lake/in/../secret/",
        "s3://lake/in/./../../secret/x.csv",
        "s3://lake/in/..",
        "s3://lake/in%2f..%2fsecret/",
        "s3://lake/in\\..\\secret/",
        "s3://lake//in/x.csv",
        "s3://lake/inside/x.csv",
        "s3://lake/IN/x.csv",
        "s3://lake/",
        "s3://lake.in/x.csv",
        "s3://lake@in/x.csv",
        "s3a://lake/in/x.csv",
        "s3://LAKE/in/x.csv",
        "https://lake/in/x.csv",
        "s3://lake/in/\u{0}x",
        "s3://lake/in/{a,b}*.csv",
        "s3://lake/in/[a-z]?.csv",
    ] {
        // Refused as a place, or not below it; and what is below has no part that climbs, and nothing that Spark would expand.
        if let Ok(at) = Location::parse(path) {
            let climbs = at.key().split('/').any(|part| part == ".." || part == ".");
            let expands = at.key().contains(['*', '?', '{', '}', '[', ']']);
            assert!(!list.permits(&at) || !climbs && !expands, "{path} is {at}");
        }
    }
    assert!(list.permits(&Location::parse("s3://lake/in/x.csv").unwrap()));
}
