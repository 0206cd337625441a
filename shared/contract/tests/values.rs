//! What each column takes and refuses, cell by cell.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use weir_contract::{Audience, Contract, Rule, Verdict};

const NOW: i64 = 1_700_000_000_000_000;

/// A contract of one field `v`.
fn contract(field: &str) -> Contract {
    Contract::parse("test.toml", &format!("name = \"test\"\n[[field]]\nname = \"v\"\n{field}\n")).unwrap()
}

/// What `v` becomes, or the rule it breaks.
fn clean(contract: &Contract, document: &str) -> Result<Value, Rule> {
    let mut row = contract.row(Audience::Tables, NOW);
    match row.read_one_json(document.as_bytes()) {
        Verdict::Clean => {
            let mut out = Vec::new();
            row.write_json(&mut out);
            Ok(serde_json::from_slice::<Value>(&out).unwrap()["v"].clone())
        }
        Verdict::Bad(violation) => Err(violation.rule),
        Verdict::Dropped => panic!("nothing is dropped"),
    }
}

#[track_caller]
fn all(field: &str, cases: &[(&str, Result<&str, Rule>)]) {
    let contract = contract(field);
    for (value, expected) in cases {
        let found = clean(&contract, &format!("{{\"v\":{value}}}")).map(|value| value.to_string());
        assert_eq!(found.as_deref().map_err(|rule| *rule), *expected, "{field}: {value}");
    }
}

#[test]
fn whole_numbers() {
    const NO: Result<&str, Rule> = Err(Rule::Type);
    all(
        "type = \"int64\"",
        &[
            ("5", Ok("5")),
            ("\"5\"", Ok("5")),
            ("\" 5 \"", Ok("5")),
            ("\"+5\"", Ok("5")),
            ("\"-007\"", Ok("-7")),
            ("5.0", Ok("5")),
            ("5e2", Ok("500")),
            ("-0", Ok("0")),
            ("-0.0", Ok("0")),
            ("9223372036854775807", Ok("9223372036854775807")),
            ("-9223372036854775808", Ok("-9223372036854775808")),
            ("\"-9223372036854775808\"", Ok("-9223372036854775808")),
            ("9223372036854775808", NO),
            ("-9223372036854775809", NO),
            ("1e309", NO),
            ("5.5", NO),
            ("true", NO),
            ("\"five\"", NO),
            ("\"--5\"", NO),
            ("\"+-5\"", NO),
            ("\"0x10\"", NO),
            ("\"1,000\"", NO),
            ("[5]", NO),
            ("{}", NO),
            ("null", Ok("null")),
            ("\"\"", Ok("null")),
            ("\"  \"", Ok("null")),
        ],
    );
    all(
        "type = \"int32\"",
        &[("2147483647", Ok("2147483647")), ("2147483648", NO), ("-2147483648", Ok("-2147483648"))],
    );
}

#[test]
fn floats() {
    const NO: Result<&str, Rule> = Err(Rule::Type);
    all(
        "type = \"float64\"",
        &[
            ("1.5", Ok("1.5")),
            ("\"1.5\"", Ok("1.5")),
            ("\" +.5\"", Ok("0.5")),
            ("5", Ok("5.0")),
            ("-0", Ok("-0.0")),
            ("9007199254740993", Ok("9007199254740992.0")),
            ("1e308", Ok("1e+308")),
            ("1e309", NO),
            ("\"1e309\"", NO),
            ("\"NaN\"", NO),
            ("\"inf\"", NO),
            ("\"-Infinity\"", NO),
            ("\"1.2.3\"", NO),
            ("false", NO),
        ],
    );
    // Not JSON at all.
    for value in ["NaN", "Infinity", "+1", "01", "1.", ".5"] {
        all("type = \"float64\"", &[(value, Err(Rule::Json))]);
    }
}

#[test]
fn decimals_are_never_rounded() {
    const NO: Result<&str, Rule> = Err(Rule::Type);
    all(
        "type = \"decimal(5,2)\"",
        &[
            ("1.5", Ok("1.5")),
            ("\"001.50\"", Ok("1.5")),
            ("-0.01", Ok("-0.01")),
            ("999.99", Ok("999.99")),
            ("1000", NO),
            ("0.001", NO),
            ("1e2", Ok("100.0")),
            ("\"EUR 5\"", NO),
        ],
    );
}

#[test]
fn truth_values() {
    const NO: Result<&str, Rule> = Err(Rule::Type);
    for (values, truth) in [
        (["true", "1", "\"1\"", "\"TRUE\"", "\"Yes\"", "\"y\"", "\" on \"", "\"T\""], Ok("true")),
        (["false", "0", "\"0\"", "\"False\"", "\"NO\"", "\"n\"", "\"off\"", "\"f\""], Ok("false")),
        (["2", "-1", "1.5", "\"maybe\"", "\"ja\"", "[]", "{}", "\"10\""], NO),
    ] {
        all("type = \"bool\"", &values.map(|value| (value, truth)));
    }
}

#[test]
fn text() {
    all(
        "type = \"string\"",
        &[
            ("\" a \"", Ok("\" a \"")),
            ("\"\"", Ok("\"\"")),
            ("5.10", Ok("\"5.10\"")),
            ("true", Ok("\"true\"")),
            ("{\"a\":[1, 2]}", Ok("\"{\\\"a\\\":[1, 2]}\"")),
            ("\"\\u00e9\\ud83d\\ude95\"", Ok("\"é🚕\"")),
            ("\"\\\"\\\\\\n\\u0001\"", Ok("\"\\\"\\\\\\n\\u0001\"")),
            ("\"\\ud83d\"", Err(Rule::Json)),
            ("\"\\ude95\\ud83d\"", Err(Rule::Json)),
        ],
    );
    all("type = \"string\"\ntrim = true\nlowercase = true", &[("\"\\u00a0 ÄB \"", Ok("\"äb\""))]);
    all(
        "type = \"string\"\nrequired = true\ntrim = true",
        &[("\" \"", Err(Rule::Required)), ("null", Err(Rule::Required))],
    );
    all("type = \"string\"\nmax_length = 2", &[("\"éé\"", Ok("\"éé\"")), ("\"ééé\"", Err(Rule::MaxLength))]);
    all(
        "type = \"string\"\none_of = [\"a\", \"b\"]",
        &[("\"b\"", Ok("\"b\"")), ("\"c\"", Err(Rule::OneOf)), ("null", Ok("null"))],
    );
    all(
        "type = \"string\"\nurl = \"without-query\"\ntrim = true",
        &[
            ("\" https://a.b/c?d=e#f \"", Ok("\"https://a.b/c\"")),
            ("\"/c#f?g\"", Ok("\"/c\"")),
            ("\"a b\"", Err(Rule::Url)),
            ("\"a\\nb\"", Err(Rule::Url)),
        ],
    );
}

#[test]
fn moments() {
    const NO: Result<&str, Rule> = Err(Rule::Type);
    all(
        "type = \"timestamp\"",
        &[
            ("\"2024-02-29T12:34:56Z\"", Ok("\"2024-02-29T12:34:56Z\"")),
            ("\"2024-02-29 12:34\"", Ok("\"2024-02-29T12:34:00Z\"")),
            ("\" 2024-02-29T12:34:56.100 \"", Ok("\"2024-02-29T12:34:56.1Z\"")),
            ("\"2024-02-29T12:34:56.123456999+02:00\"", Ok("\"2024-02-29T10:34:56.123456Z\"")),
            ("\"2024-02-29\"", Ok("\"2024-02-29T00:00:00Z\"")),
            ("\"0001-01-01T00:00:00Z\"", Ok("\"0001-01-01T00:00:00Z\"")),
            ("\"9999-12-31T23:59:59.999999Z\"", Ok("\"9999-12-31T23:59:59.999999Z\"")),
            ("\"0001-01-01T00:00:00+01:00\"", NO),
            ("\"9999-12-31T23:59:59-01:00\"", NO),
            ("\"0000-01-01T00:00:00Z\"", NO),
            ("\"10000-01-01T00:00:00Z\"", NO),
            ("\"2023-02-29T00:00:00Z\"", NO),
            ("\"1900-02-29\"", NO),
            ("\"2000-02-29\"", Ok("\"2000-02-29T00:00:00Z\"")),
            ("\"2024-12-31T23:59:60Z\"", NO),
            ("\"2024-02-30\"", NO),
            ("1709210096", NO),
            ("\"yesterday\"", NO),
        ],
    );
}

#[test]
fn epochs() {
    all(
        "type = \"timestamp\"\nformats = [\"iso\", \"epoch_s\"]",
        &[
            ("1545084650.987", Ok("\"2018-12-17T22:10:50.987Z\"")),
            ("1545084650.9876543", Ok("\"2018-12-17T22:10:50.987654Z\"")),
            ("\"1545084650\"", Ok("\"2018-12-17T22:10:50Z\"")),
            ("-1", Ok("\"1969-12-31T23:59:59Z\"")),
            ("1.545084650987e9", Ok("\"2018-12-17T22:10:50.987Z\"")),
            ("1545084650987", Err(Rule::Type)),
            ("1e309", Err(Rule::Type)),
            ("\"2018-12-17\"", Ok("\"2018-12-17T00:00:00Z\"")),
        ],
    );
    all("type = \"timestamp\"\nformats = [\"epoch_ms\"]", &[("1545084650987", Ok("\"2018-12-17T22:10:50.987Z\""))]);
    all(
        "type = \"timestamp\"\nformats = [\"epoch_us\"]",
        &[("1545084650987654", Ok("\"2018-12-17T22:10:50.987654Z\""))],
    );
    all("type = \"date\"\nformats = [\"epoch_s\"]", &[("1545084650", Ok("\"2018-12-17\""))]);
}

#[test]
fn patterns() {
    all(
        "type = \"timestamp\"\nformats = [\"%m/%d/%Y %H:%M\", \"%d %b %Y\", \"%Y-%m-%dT%H:%M:%S%z\"]",
        &[
            ("\"02/29/2024 23:05\"", Ok("\"2024-02-29T23:05:00Z\"")),
            ("\"29 Feb 2024\"", Ok("\"2024-02-29T00:00:00Z\"")),
            ("\"2024-02-29T23:05:00+0530\"", Ok("\"2024-02-29T17:35:00Z\"")),
            ("\"02/30/2024 23:05\"", Err(Rule::Type)),
            ("\"2024-02-29\"", Err(Rule::Type)),
        ],
    );
}

#[test]
fn zones_with_daylight_saving() {
    let zone = "type = \"timestamp\"\nzone = \"America/New_York\"";
    all(
        zone,
        &[
            ("\"2024-01-15 12:00:00\"", Ok("\"2024-01-15T17:00:00Z\"")),
            ("\"2024-07-15 12:00:00\"", Ok("\"2024-07-15T16:00:00Z\"")),
            // Skipped in the night of 10 March: moved forward by the gap.
            ("\"2024-03-10 02:30:00\"", Ok("\"2024-03-10T07:30:00Z\"")),
            // Comes twice in the night of 3 November: the first.
            ("\"2024-11-03 01:30:00\"", Ok("\"2024-11-03T05:30:00Z\"")),
            // Says its own zone.
            ("\"2024-07-15T12:00:00Z\"", Ok("\"2024-07-15T12:00:00Z\"")),
        ],
    );
    let day = "type = \"date\"\nzone = \"America/New_York\"";
    all(day, &[("\"2024-01-15\"", Ok("\"2024-01-15\"")), ("\"2024-01-15T03:00:00Z\"", Ok("\"2024-01-14\""))]);
}

#[test]
fn ranges_hold_their_ends() {
    all(
        "type = \"float64\"\nmin = -90\nmax = 90",
        &[("-90", Ok("-90.0")), ("90.0", Ok("90.0")), ("90.0001", Err(Rule::Range)), ("-91", Err(Rule::Range))],
    );
    all(
        "type = \"timestamp\"\nmin = \"2009-01-01\"",
        &[("\"2009-01-01T00:00:00Z\"", Ok("\"2009-01-01T00:00:00Z\"")), ("\"2008-12-31T23:59:59Z\"", Err(Rule::Range))],
    );
    all("type = \"decimal(6,2)\"\nmax = 10.5", &[("10.50", Ok("10.5")), ("10.51", Err(Rule::Range))]);
}

#[test]
fn documents_that_are_no_rows() {
    let contract = contract("type = \"int64\"");
    for (document, rule) in [
        ("", Rule::Json),
        ("{", Rule::Json),
        ("{\"v\":5", Rule::Json),
        ("{\"v\":5}}", Rule::Json),
        ("{\"v\":5}{\"v\":6}", Rule::Json),
        ("[1]", Rule::Object),
        ("7", Rule::Object),
        ("null", Rule::Object),
        ("{\"v\":1,\"v\":2}", Rule::Duplicate),
        ("{\"v\":1,\"v\":1}", Rule::Duplicate),
    ] {
        assert_eq!(clean(&contract, document), Err(rule), "{document}");
    }
    assert_eq!(clean(&contract, "{\"v\":1,\"v\":null}"), Ok(1.into()), "nothing is not given twice");
    assert_eq!(clean(&contract, " {\"x\":1,\"x\":{},\"v\":1} \n"), Ok(1.into()), "strangers are left alone");
    assert_eq!(clean(&contract, &format!("{{\"x\":{}{},\"v\":1}}", "[".repeat(150), "]".repeat(150))), Ok(1.into()));
    assert_eq!(
        clean(&contract, &format!("{{\"x\":{}{},\"v\":1}}", "[".repeat(100_000), "]".repeat(100_000))),
        Err(Rule::Json)
    );
    assert_eq!(clean(&contract, &format!("{{\"x\":{}", "[".repeat(1_000_000))), Err(Rule::Json));
}

#[test]
fn what_is_not_utf_8_is_no_row() {
    let contract = contract("type = \"string\"");
    let mut row = contract.row(Audience::Tables, NOW);
    let verdict = row.read_one_json(b"{\"v\":\"\xff\"}");
    assert!(matches!(verdict, Verdict::Bad(violation) if violation.rule == Rule::Json));
}
