//! Messages as DMS and Debezium were seen to send them.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::panic)]

use weir_changes::{At, Change, Control, Message, Operation, Phase, Place, is_captures_own, read};

const SEQUENCE: At<'_> = At { sequence: "49654321098765432109876543210987654321098765432109876546", sub: 0 };

fn change(text: &str) -> Change {
    match read(text.as_bytes(), SEQUENCE).unwrap() {
        Some(Message::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

fn control(text: &str) -> Control {
    match read(text.as_bytes(), SEQUENCE).unwrap() {
        Some(Message::Control(control)) => control,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    read(text.as_bytes(), SEQUENCE).unwrap_err().to_string()
}

const LOAD: &str = r#"{"data":{"age":30,"attributes":"{\"foo\": \"bar\"}","id":42,"name":"John","sum":12345678901234567890.10},"metadata":{"timestamp":"2024-07-29T00:57:35.691762Z","record-type":"data","operation":"load","partition-key-type":"primary-key","partition-key-value":"public.foo.42","schema-name":"public","table-name":"foo"}}"#;

const UPDATE: &str = r#"{"before-image":{"id":46},"data":{"age":31,"id":45,"name":"Jane"},"metadata":{"commit-timestamp":"2024-07-29T00:59:07.678294Z","operation":"update","partition-key-type":"schema-table","prev-transaction-id":1140,"prev-transaction-record-id":1,"record-type":"data","schema-name":"public","stream-position":"00000002/7C0073F8.2.00000002/7C0073F8","table-name":"foo","timestamp":"2024-07-29T00:59:07.686557Z","transaction-id":200000000001141,"transaction-record-id":1}}"#;

#[test]
fn dms_rows_keep_their_digits() {
    let load = change(LOAD);
    assert_eq!((load.source.to_string().as_str(), load.operation), ("public.foo", Operation::Load));
    assert_eq!(load.row["sum"].get(), "12345678901234567890.10");
    assert_eq!(load.row["attributes"].get(), r#""{\"foo\": \"bar\"}""#);
    assert_eq!((load.place.phase, load.place.committed_us), (Phase::Load, None));
}

#[test]
fn dms_updates_say_the_key_before() {
    let update = change(UPDATE);
    assert_eq!((update.operation, update.before["id"].get()), (Operation::Update, "46"));
    assert_eq!(update.place.committed_us, Some(1_722_214_747_678_294));
    assert!(update.place > change(LOAD).place);
}

#[test]
fn dms_deletes_are_no_bad_rows() {
    let text = r#"{"data":{"age":null,"attributes":null,"id":45,"name":null},"metadata":{"operation":"delete","record-type":"data","schema-name":"public","table-name":"foo","timestamp":"2024-07-29T00:59:08Z"}}"#;
    let delete = change(text);
    assert_eq!((delete.operation, delete.row["id"].get(), delete.row["name"].get()), (Operation::Delete, "45", "null"));
}

#[test]
fn dms_controls_say_how_a_table_is() {
    let text = r#"{"control":{"table-def":{"columns":{"id":{"type":"INT32","nullable":false},"sum":{"type":"NUMERIC","nullable":true,"precision":20,"scale":2}},"primary-key":["id"]}},"metadata":{"operation":"create-table","partition-key-type":"task-id","partition-key-value":"x","record-type":"control","schema-name":"public","table-name":"foo","timestamp":"2024-07-29T00:57:35Z"}}"#;
    let made = control(text);
    let table = made.table.unwrap();
    assert_eq!((made.operation.as_str(), table.primary_key.as_slice()), ("create-table", &["id".to_owned()][..]));
    assert_eq!((table.columns["sum"].precision, table.columns["sum"].scale), (Some(20), Some(2)));
    let own = r#"{"metadata":{"timestamp":"2021-02-18T23:09:09.509179Z","record-type":"control","operation":"create-table","partition-key-type":"task-id","schema-name":"","table-name":"awsdms_apply_exceptions"}}"#;
    let own = control(own);
    assert!(own.table.is_none() && is_captures_own(&own.source) && !is_captures_own(&made.source));
}

const DEBEZIUM: &str = r#"{"before":null,"after":{"id":1004,"name":"Anne"},"source":{"version":"3.0","connector":"postgresql","name":"p","ts_ms":1722214747678,"ts_us":1722214747678294,"snapshot":"false","db":"shop","schema":"public","table":"customers","txId":571,"lsn":24023128,"xmin":null},"transaction":{"id":"571","total_order":2,"data_collection_order":1},"op":"c","ts_ms":1722214747700}"#;

#[test]
fn debezium_is_read_with_its_schema_and_without() {
    let plain = change(DEBEZIUM);
    let wrapped = change(&format!(r#"{{"schema":{{"type":"struct"}},"payload":{DEBEZIUM}}}"#));
    assert_eq!((plain.place.clone(), plain.source.clone()), (wrapped.place, wrapped.source));
    assert_eq!((plain.operation, plain.source.to_string().as_str()), (Operation::Insert, "public.customers"));
    assert_eq!((plain.place.committed_us, plain.place.record), (Some(1_722_214_747_678_294), 2));
    let delete =
        DEBEZIUM.replace(r#""before":null,"after":{"id":1004,"name":"Anne"}"#, r#""before":{"id":1004},"after":null"#);
    let delete = change(&delete.replace(r#""op":"c""#, r#""op":"d""#));
    assert_eq!((delete.operation, delete.row["id"].get(), delete.before.len()), (Operation::Delete, "1004", 0));
    assert_eq!(control(&DEBEZIUM.replace(r#""op":"c""#, r#""op":"t""#)).operation, "t");
}

#[test]
fn what_debezium_does_not_know_is_no_value() {
    let reason = refused(&DEBEZIUM.replace("\"Anne\"", "\"__debezium_unavailable_value\""));
    assert!(reason.contains("`name` of public.customers") && reason.contains("REPLICA IDENTITY FULL"), "{reason}");
}

#[test]
fn tombstones_say_nothing() {
    for text in ["", "null", r#"{"schema":null,"payload":null}"#] {
        assert!(read(text.as_bytes(), SEQUENCE).unwrap().is_none(), "{text}");
    }
}

#[test]
fn what_is_no_message_is_named() {
    assert!(refused("[1]").contains("no JSON object"));
    let private = [r#""secret""#.to_owned(), LOAD.replace(r#""data":{"#, r#""data":"secret","x":{"#)];
    assert!(private.iter().all(|text| !refused(text).contains("secret")), "values are nobody's to log");
    assert!(refused(r#"{"id":1}"#).contains("neither `metadata`"));
    assert!(refused(r#"{"data":{"id":1},"metadata":{"operation":"insert"}}"#).contains("table-name"));
    assert!(refused(&UPDATE.replace(r#""update""#, r#""upsert""#)).contains("`upsert` is no operation"));
    assert!(refused(&UPDATE.replace("2024-07-29T00:59:07.678294Z", "yesterday")).contains("commit-timestamp"));
    assert!(refused(&LOAD.replace(r#""data":{"#, r#""dat":{"#)).contains("`data` has no member"));
    assert!(
        refused(&DEBEZIUM.replace(r#""after":{"id":1004,"name":"Anne"}"#, r#""after":null"#))
            .contains("replica identity")
    );
}

#[test]
fn the_later_change_is_greater() {
    let at = |more: &str, sequence: &str| {
        let text = format!(r#"{{"data":{{"id":1}},"metadata":{{"operation":"update","table-name":"t"{more}}}}}"#);
        match read(text.as_bytes(), At { sequence, sub: 0 }).unwrap() {
            Some(Message::Change(change)) => change.place,
            other => panic!("{other:?}"),
        }
    };
    let stamped = |second: u32, position: &str, record: u32, sequence: &str| {
        let more = format!(
            r#","commit-timestamp":"2024-07-29T00:59:{second:02}Z","stream-position":"{position}","transaction-record-id":{record}"#
        );
        at(&more, sequence)
    };
    // As the stream has them they are the other way round: the database's word counts.
    let sorted = [
        stamped(1, "00000002/7C0073F8.2", 1, "900"),
        stamped(1, "00000002/7C0073F8.2", 2, "800"),
        stamped(1, "00000002/7C0074A0.2", 1, "700"),
        stamped(2, "00000002/7C0073F8.2", 1, "600"),
    ];
    assert!(sorted.windows(2).all(|two| two[0] < two[1]));
    // Without it, the stream's, as numbers.
    assert!(at("", "99") < at("", "100"));
    // And in an aggregate by their number in that.
    let sub = |sequence, sub| match read(LOAD.as_bytes(), At { sequence, sub }).unwrap() {
        Some(Message::Change(change)) => change.place,
        other => panic!("{other:?}"),
    };
    assert!(sub("7", 9) < sub("7", 10) && sub("7", 10) < sub("8", 0));
    let place = &sorted[0];
    assert_eq!(&serde_json::from_str::<Place>(&serde_json::to_string(place).unwrap()).unwrap(), place);
}

/// What would take all of the stack is no change, and is said so at once; a value is text, however deep.
#[test]
fn messages_as_deep_as_can_be_cost_nothing() {
    let begun = std::time::Instant::now();
    for open in ["[", "{\"data\":", "{\"payload\":{\"after\":", "{\"before\":["] {
        let said = refused(&open.repeat(100_000));
        assert!(said.len() < 2_000, "{} bytes", said.len());
    }
    let deep = LOAD.replace("\"age\":30", &format!("\"age\":{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
    assert!(!matches!(read(deep.as_bytes(), SEQUENCE), Ok(None)));
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}
