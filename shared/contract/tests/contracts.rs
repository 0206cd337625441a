//! Contract files that are right, and what is said of those that are not.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used)]

use weir_contract::{Contract, contract, names};

#[test]
fn every_dataset_that_ships_is_right() {
    let mut found: Vec<&str> = names().collect();
    found.sort_unstable();
    assert_eq!(found, ["customers", "orders", "page_logs", "trips"]);
    for name in found {
        assert_eq!(contract(name).unwrap_or_else(|error| panic!("{error}")).name(), name);
    }
}

#[test]
fn an_unknown_dataset_is_named_with_the_nearest() {
    let error = contract("trip").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no dataset `trip`: there are `customers`, `orders`, `page_logs`, `trips`; did you mean `trips`?"
    );
}

#[test]
fn the_example_in_the_manual_is_right() {
    let manual = include_str!("../../../docs/contracts.md");
    let example = manual.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let contract = Contract::parse("docs/contracts.md", example).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(contract.partition_by(), ["event_date"]);
}

/// The problems of a file, each as `line: key: reason`.
fn problems(text: &str) -> String {
    Contract::parse("bad.toml", text).unwrap_err().to_string()
}

const HEAD: &str = "name = \"test\"\n[[field]]\nname = \"a\"\n";

#[test]
fn a_wrong_file_is_refused_with_line_key_and_remedy() {
    for (text, said) in [
        (
            "name = \"Test\"\n[[field]]\nname=\"a\"\ntype=\"bool\"",
            "bad.toml:1: `name`: `Test` must be 1 to 64 lowercase letters",
        ),
        ("name = \"test\"\nfield = []", "`field`: a contract has 1 to 128 fields, this one 0"),
        ("name = \n", "bad.toml:1: "),
        ("name = \"test\"\n[[feild]]\n", "did you mean `field`?"),
        (&format!("{HEAD}type = \"int31\""), "bad.toml:4: `field.a.type`: `int31` is no type; there are `bool`"),
        (&format!("{HEAD}type = \"int31\""), "did you mean `int32`?"),
        (&format!("{HEAD}type = \"int32\"\nrequird = true"), "bad.toml:5: unknown field `requird`"),
        (&format!("{HEAD}type = \"int32\"\nrequird = true"), "did you mean `required`?"),
        (&format!("{HEAD}type = \"int32\"\ntrim = true"), "bad.toml:5: `field.a.trim`: is for text"),
        (&format!("{HEAD}type = \"int32\"\nmin = \"x\""), "bad.toml:5: `field.a.min`: `x` is no int32"),
        (&format!("{HEAD}type = \"int32\"\nmin = 5\nmax = 4"), "bad.toml:6: `field.a.max`: is less than `min`"),
        (&format!("{HEAD}type = \"decimal(19,2)\""), "`decimal(19,2)` is no type"),
        (
            &format!("{HEAD}type = \"timestamp\"\nformats = [\"iso\", \"%H:%M\"]"),
            "bad.toml:5: `field.a.formats`: `%H:%M` is no format",
        ),
        (&format!("{HEAD}type = \"timestamp\"\nformats = [\"epoch_s\", \"epoch_ms\"]"), "keep one `epoch_…`"),
        (
            &format!("{HEAD}type = \"timestamp\"\nzone = \"New York\""),
            "`field.a.zone`: `New York` is no time zone; write one of the IANA names",
        ),
        (&format!("{HEAD}type = \"int32\"\nsensitive = {{ hash = true }}"), "`hash` makes text"),
        (&format!("{HEAD}type = \"string\"\nsensitive = {{ hash = true, drop = true }}"), "exactly one of"),
        (&format!("{HEAD}type = \"string\"\n[[field]]\nname = \"a\"\ntype = \"bool\""), "there are two columns `a`"),
        (
            &format!("{HEAD}type = \"string\"\n[[field]]\nname = \"b\"\ntype = \"bool\"\naliases = [\"a\"]"),
            "bad.toml:8: `aliases`: `a` names two fields",
        ),
        (
            &format!("{HEAD}type = \"timestamp\"\n[[derived]]\nname = \"d\"\ndate_of = \"b\""),
            "there is no column `b`; did you mean `a`?",
        ),
        (
            &format!("{HEAD}type = \"string\"\n[[derived]]\nname = \"d\"\ndate_of = \"a\""),
            "`a` must be a field that is a timestamp",
        ),
        (
            &format!("{HEAD}type = \"int32\"\n[[derived]]\nname = \"d\"\nquotient = {{ of = \"a\", by = 0 }}"),
            "nothing can be divided by that",
        ),
        (&format!("{HEAD}type = \"int32\"\n[[derived]]\nname = \"d\""), "bad.toml:5: `derived.d`: say exactly one of"),
        (
            &format!("{HEAD}type = \"int32\"\n[metrics]\n[[metrics.column]]\nname = \"m\""),
            "`metrics.m`: say exactly one of",
        ),
        (
            &format!("{HEAD}type = \"string\"\n[metrics]\n[[metrics.column]]\nname = \"m\"\nsum = \"a\""),
            "`sum` of `a`, a string, is none",
        ),
        (&format!("partition_by = [\"a\"]\n{HEAD}type = \"string\""), "bad.toml:1: `partition_by`: `a` may be missing"),
        (&format!("partition_by = [\"a\"]\n{HEAD}type = \"timestamp\"\nrequired = true"), "derive a date or an hour"),
        (&format!("key = [\"x\"]\n{HEAD}type = \"string\""), "bad.toml:1: `key`: there is no column `x`"),
    ] {
        let found = problems(text);
        assert!(found.contains(said), "{text}\n---\n{found}\n--- should say\n{said}");
    }
}

#[test]
fn every_problem_is_said_at_once() {
    let found = problems(&format!("key = [\"x\"]\n{HEAD}type = \"int31\"\nmin = 1\nzone = \"Nowhere\""));
    let lines: Vec<&str> = found.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert!(lines.starts_with(&["bad.toml:1", "bad.toml:5"]) && lines.len() >= 3, "{found}");
}

#[test]
fn a_contract_is_a_table() {
    let contract = contract("page_logs").unwrap();
    let ddl = contract.ddl("s3://lake/page_logs/");
    let expected = "CREATE EXTERNAL TABLE IF NOT EXISTS `page_logs` (
  `event_timestamp` timestamp,
  `session_id` string,
  `page_url` string,
  `user_id` string,
  `tti` bigint,
  `ttar` bigint,
  `tti_seconds` double,
  `ttar_seconds` double,
  `processing_timestamp` timestamp
)
PARTITIONED BY (`event_date` date)
STORED AS PARQUET
LOCATION 's3://lake/page_logs/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.event_date.type' = 'date',
  'projection.event_date.format' = 'yyyy-MM-dd',
  'projection.event_date.range' = '2009-01-01,NOW',
  'storage.location.template' = 's3://lake/page_logs/event_date=${event_date}/'
)
";
    assert_eq!(ddl, expected);
    let orders = weir_contract::contract("orders").unwrap().cloudformation();
    assert!(orders.contains("  - { Name: price, Type: \"decimal(12,2)\" }\n"), "{orders}");
    assert!(orders.ends_with("PartitionKeys:\n  - { Name: event_date, Type: date }\n"), "{orders}");
    let by_run = contract.ddl_by_run("s3://tables/page_logs/rows/");
    assert!(
        by_run.ends_with(
            "PARTITIONED BY (`job` string, `event_date` date)\nSTORED AS PARQUET\nLOCATION 's3://tables/page_logs/rows/'\n-- and after runs: MSCK REPAIR TABLE `page_logs`\n"
        ),
        "{by_run}"
    );
}

#[test]
fn wrong_live_statistics_are_refused_each_with_the_remedy() {
    let live = |text: &str| problems(&format!("{HEAD}type = \"string\"\n{text}"));
    for (text, words) in [
        ("[live]\nevent_time = \"a\"\ncolumn = []", "not a timestamp"),
        ("[live]\ngroup_by = [\"b\"]\ncolumn = []", "did you mean `a`"),
        ("[live]\n[[live.column]]\nname = \"n\"", "exactly one of"),
        ("[live]\n[[live.column]]\nname = \"n\"\ncount = true\ndistinct = \"a\"", "exactly one of"),
        ("[live]\n[[live.column]]\nname = \"events\"\ncount = true", "says something else"),
        (
            "[live]\n[[live.column]]\nname = \"n\"\npercentile = { of = \"a\", at = 50 }",
            "`percentile` of `a`, a string, is none",
        ),
        ("[live]\n[[live.column]]\nname = \"n\"\ntop = { of = [\"a\"], most = 0 }", "1 to 100"),
        ("[live]\n[[live.column]]\nname = \"n\"\ntop = { of = [], most = 1 }", "names no column"),
        ("[live]\n[[live.column]]\nname = \"n\"\ntop = { of = [\"a\"], most = 1 }\nwatched = true", "only a number"),
        ("[metrics]\n[[metrics.column]]\nname = \"n\"\ndistinct = \"a\"", "for [live]"),
        ("[metrics]\n[[metrics.column]]\nname = \"n\"\ncount = true\nwatched = true", "for [live]"),
    ] {
        let said = live(text);
        assert!(said.contains(words), "{text}: {said}");
    }
}
