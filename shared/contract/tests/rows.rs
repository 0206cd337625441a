//! Whole rows: the two roads agree, cleaning twice changes nothing, neighbours are left alone.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_contract::{Audience, Cleaner, Contract, Measured, Refused, Rule, Verdict, contract, names};

const NOW: i64 = 1_700_000_000_000_000;

fn clean(contract: &Contract, audience: Audience, document: &Value) -> Result<Value, (Rule, String)> {
    let mut row = contract.row(audience, NOW);
    match row.read_one_json(document.to_string().as_bytes()) {
        Verdict::Clean => {
            let mut out = Vec::new();
            row.write_json(&mut out);
            Ok(serde_json::from_slice(&out).unwrap())
        }
        Verdict::Bad(violation) => Err((violation.rule, violation.field)),
        Verdict::Dropped => Err((Rule::Object, "dropped".to_owned())),
    }
}

fn page_log() -> Value {
    json!({"event_timestamp": "2024-03-01T12:34:56.789Z", "session_id": " s-1 ", "page_url": "https://shop.example/cart?q=1",
        "user_id": 4711, "TTI": "1200", "TTAR": 1500})
}

fn trip() -> Value {
    json!({"id": "id1", "vendorId": 2, "pickupDate": "2024-01-04 09:59:57", "dropoffDate": "01/04/2024 10:19:04", "passengerCount": "4",
        "pickupLongitude": -73.946426, "pickupLatitude": 40.839249, "dropoffLongitude": "-73.972625", "dropoffLatitude": 40.686489,
        "storeAndFwdFlag": "N", "gcDistance": 3439.27, "tripDuration": 1147, "googleDistance": 4471, "googleDuration": 1032, "source": "Meter"})
}

fn customer() -> Value {
    json!({"id": 7, "name": " Ann ", "gender": "f", "time_stamp": "2024-07-29 00:59:07"})
}

fn order() -> Value {
    json!({"transactionId": "b4a356f9", "customerId": 952, "productId": 14, "quantity": 5, "price": 453.0,
        "transactionTime": "1995-02-22T19:50:08.805746", "shippingAddress": "54016 Aguilar Terrace\nBellton, OH 37464", "paymentMethod": "Debit Card"})
}

#[test]
fn a_page_log_is_cleaned() {
    let clean = clean(&contract("page_logs").unwrap(), Audience::Tables, &page_log()).unwrap();
    assert_eq!(
        clean,
        json!({"event_timestamp": "2024-03-01T12:34:56.789Z", "session_id": "s-1", "page_url": "https://shop.example/cart",
            "user_id": "4711", "tti": 1200, "ttar": 1500, "tti_seconds": 1.2, "ttar_seconds": 1.5,
            "processing_timestamp": "2023-11-14T22:13:20Z", "event_date": "2024-03-01"})
    );
}

#[test]
fn coordinates_are_masked_for_dashboards_and_addresses_gone() {
    let trips = contract("trips").unwrap();
    assert_eq!(clean(&trips, Audience::Tables, &trip()).unwrap()["pickup_longitude"], -73.946426);
    assert_eq!(clean(&trips, Audience::Dashboards, &trip()).unwrap()["pickup_longitude"], -73.95);
    let orders = contract("orders").unwrap();
    assert!(clean(&orders, Audience::Tables, &order()).unwrap()["shipping_address"].as_str().unwrap().contains('\n'));
    assert_eq!(clean(&orders, Audience::Dashboards, &order()).unwrap().get("shipping_address"), None);
    let hashed = clean(&contract("page_logs").unwrap(), Audience::Dashboards, &page_log()).unwrap();
    assert!(hashed["user_id"].as_str().unwrap().starts_with("sha256:"), "{hashed}");
}

#[test]
fn a_violation_names_the_first_bad_column_and_never_shows_the_value_in_its_message() {
    let trips = contract("trips").unwrap();
    let mut bad = trip();
    bad["dropoffLatitude"] = json!(91.5);
    bad["vendorId"] = json!("Creative Mobile");
    assert_eq!(clean(&trips, Audience::Tables, &bad), Err((Rule::Type, "vendor_id".to_owned())));
    let mut row = trips.row(Audience::Tables, NOW);
    let Verdict::Bad(violation) = row.read_one_json(bad.to_string().as_bytes()) else { panic!("it is bad") };
    assert_eq!(violation.to_string(), "`vendor_id` breaks type: it must be a whole number of at most 32 bits");
    assert_eq!(violation.value.as_deref(), Some("Creative Mobile"));
    bad["vendorId"] = json!(1);
    let Verdict::Bad(violation) = row.read_one_json(bad.to_string().as_bytes()) else { panic!("it is bad") };
    assert_eq!(violation.to_string(), "`dropoff_latitude` breaks range: it must be at least -90 and at most 90");
}

#[test]
fn heartbeats_are_dropped_whatever_else_they_lack() {
    let trips = contract("trips").unwrap();
    let mut row = trips.row(Audience::Tables, NOW);
    assert_eq!(row.read_one_json(br#"{"source":" Heartbeat","vendorId":"?"}"#), Verdict::Dropped);
}

#[test]
fn one_member_under_two_names_is_a_duplicate() {
    let trips = contract("trips").unwrap();
    let mut twice = trip();
    twice["vendor_id"] = json!(1);
    assert_eq!(clean(&trips, Audience::Tables, &twice), Err((Rule::Duplicate, "vendor_id".to_owned())));
}

#[test]
fn several_documents_in_one_text_are_read_one_after_the_other() {
    let logs = contract("page_logs").unwrap();
    let text = format!("{}{}\n junk", page_log(), page_log());
    let mut row = logs.row(Audience::Tables, NOW);
    let mut at = 0;
    for _ in 0..2 {
        let read = row.read_json(&text.as_bytes()[at..]);
        assert_eq!(read.verdict, Verdict::Clean);
        at += read.end.unwrap();
    }
    let read = row.read_json(&text.as_bytes()[at..]);
    assert!(matches!(read.verdict, Verdict::Bad(_)) && read.end.is_none());
}

#[test]
fn partitions_are_the_columns_the_contract_names() {
    let trips = contract("trips").unwrap();
    let mut row = trips.row(Audience::Tables, NOW);
    assert_eq!(row.read_one_json(trip().to_string().as_bytes()), Verdict::Clean);
    let partition: Vec<_> = row.partition().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(partition, ["event_date=2024-01-04", "pickup_hour=9"]);
}

fn strings(rows: &[Vec<Option<String>>], names: &[&str]) -> RecordBatch {
    let columns = names.iter().enumerate().map(|(at, name)| {
        let array: ArrayRef = Arc::new(rows.iter().map(|row| row[at].clone()).collect::<StringArray>());
        (*name, array)
    });
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn through_batch(contract: &Contract, batch: &RecordBatch) -> (RecordBatch, Vec<Refused>) {
    let mut cleaner = Cleaner::new(contract, Audience::Tables, NOW);
    let mut refused = Vec::new();
    cleaner.push_batch(batch, |row| refused.push(row)).unwrap();
    (cleaner.take().unwrap(), refused)
}

#[test]
fn bad_rows_never_disturb_their_neighbours() {
    let logs = contract("page_logs").unwrap();
    let mut cleaner = Cleaner::new(&logs, Audience::Tables, NOW);
    let good = page_log().to_string();
    let mut bad = 0;
    for row in 0..1000 {
        let document = match row % 10 {
            3 => "{\"TTI\":".to_owned(),
            7 => good.replace("1500", "-1"),
            _ => good.replace("1200", &row.to_string()),
        };
        bad += usize::from(cleaner.push_json(document.as_bytes()) != Verdict::Clean);
    }
    let batch = cleaner.take().unwrap();
    assert_eq!((bad, batch.num_rows()), (200, 800));
    let expected: i64 = (0..1000).filter(|row| row % 10 != 3 && row % 10 != 7).sum();
    assert_eq!(batch["tti"].as_primitive::<Int64Type>().values().iter().sum::<i64>(), expected);
    assert_eq!(batch.schema(), logs.schema());
}

#[test]
fn clean_rows_cleaned_again_are_the_same_by_either_road() {
    for (name, raw) in [("page_logs", page_log()), ("trips", trip()), ("orders", order()), ("customers", customer())] {
        let contract = contract(name).unwrap();
        for audience in [Audience::Tables, Audience::Dashboards] {
            let once = clean(&contract, audience, &raw).unwrap();
            // Much later: what says when it was cleaned keeps it.
            let mut later = contract.row(audience, NOW + 1_000_000_000);
            assert_eq!(later.read_one_json(once.to_string().as_bytes()), Verdict::Clean, "{name}: {once}");
            let mut out = Vec::new();
            later.write_json(&mut out);
            assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), once, "{name} {audience:?}");
        }
        let mut cleaner = Cleaner::new(&contract, Audience::Tables, NOW);
        assert_eq!(cleaner.push_json(raw.to_string().as_bytes()), Verdict::Clean);
        let once = cleaner.take().unwrap();
        let mut again = Cleaner::new(&contract, Audience::Tables, NOW + 1_000_000_000);
        again.push_batch(&once, |refused| panic!("{refused:?}")).unwrap();
        assert_eq!(again.take().unwrap(), once, "{name}");
    }
    assert_eq!(names().count(), 4, "a dataset is missing here");
}

#[test]
fn metrics_of_parts_add_up() {
    let orders = contract("orders").unwrap();
    let batch = |prices: &[(&str, i64)]| {
        let mut cleaner = Cleaner::new(&orders, Audience::Tables, NOW);
        for (price, product) in prices {
            let mut one = order();
            (one["price"], one["productId"]) = (json!(price), json!(product));
            assert_eq!(cleaner.push_json(one.to_string().as_bytes()), Verdict::Clean);
        }
        cleaner.take().unwrap()
    };
    let (one, two) = (batch(&[("1.10", 7), ("2.20", 7), ("5", 1)]), batch(&[("3.30", 7), ("0.01", 3)]));
    let mut whole = Measured::new();
    whole.add(&orders, &one).unwrap();
    whole.add(&orders, &two).unwrap();
    let (mut a, mut b) = (Measured::new(), Measured::new());
    b.add(&orders, &two).unwrap();
    a.add(&orders, &one).unwrap();
    b.merge(a).unwrap();
    let (whole, merged) = (whole.finish(&orders).unwrap(), b.finish(&orders).unwrap());
    assert_eq!(whole, merged);
    assert_eq!(whole.schema(), orders.metrics_schema());
    let shown = |name: &str| {
        let column = &whole[name];
        (0..whole.num_rows())
            .map(|row| arrow_cast::display::array_value_to_string(column, row).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown("product_id"), ["1", "3", "7"]);
    assert_eq!(shown("orders"), ["1", "1", "3"]);
    assert_eq!(shown("avg_price"), ["5.0", "0.01", "2.2"]);
    assert_eq!(shown("lowest_price"), ["5.00", "0.01", "1.10"]);
    assert_eq!(shown("highest_price"), ["5.00", "0.01", "3.30"]);
}

fn cell() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "-?[0-9]{1,12}(\\.[0-9]{1,7})?([eE]-?[0-9]{1,2})?".prop_map(Some),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?(Z|[+-]0[0-9]:30)?)?"
            .prop_map(Some),
        "\\PC{0,12}".prop_map(Some),
        prop::sample::select(vec!["true", "no", "N", "heartbeat", "https://a/b?c", "", " "])
            .prop_map(|word| Some(word.to_owned())),
    ]
}

proptest! {
    /// The same text, as members of JSON documents and as columns: the same rows, the same verdicts.
    #[test]
    fn both_roads_agree(dataset in 0..3usize, rows in prop::collection::vec(prop::collection::vec(cell(), 16), 1..12)) {
        let contract = contract(["trips", "page_logs", "orders"][dataset]).unwrap();
        let samples = [trip(), page_log(), order()];
        let sample = samples[dataset].as_object().unwrap();
        let columns: Vec<&str> = sample.keys().map(String::as_str).collect();
        // Half of the cells are right, or no row would ever be.
        let rows: Vec<Vec<Option<String>>> = rows.iter().enumerate().map(|(number, row)| {
            columns.iter().zip(row).enumerate().map(|(at, (name, cell))| {
                let right = sample[*name].as_str().map_or_else(|| sample[*name].to_string(), str::to_owned);
                if (at + number) % 12 != 0 { Some(right) } else { cell.clone() }
            }).collect()
        }).collect();
        let (batch, refused) = through_batch(&contract, &strings(&rows, &columns));
        let mut cleaner = Cleaner::new(&contract, Audience::Tables, NOW);
        let mut bad = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let document: serde_json::Map<_, _> = columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), json!(cell))).collect();
            match cleaner.push_json(Value::Object(document).to_string().as_bytes()) {
                Verdict::Clean => {}
                Verdict::Dropped => bad.push(Refused { row: number, violation: None }),
                Verdict::Bad(violation) => bad.push(Refused { row: number, violation: Some(violation) }),
            }
        }
        prop_assert_eq!(&bad, &refused);
        prop_assert_eq!(cleaner.take().unwrap(), batch.clone());
        // And once more over what is clean.
        let (again, refused) = through_batch(&contract, &batch);
        prop_assert_eq!(refused, vec![]);
        prop_assert_eq!(again, batch);
    }

    /// A row is read the same after rows like it, when it is only compared with them, as by itself, when it is parsed.
    #[test]
    fn what_came_before_changes_nothing(
        dataset in 0..3usize,
        edits in prop::collection::vec((0..400usize, prop::sample::select(b"0123456789.-+eE\"\\{}[],: \t\x0c\x00\xffntrx".to_vec())), 0..4),
        left_out in prop::collection::vec(0..20usize, 0..3),
    ) {
        let contract = contract(["trips", "page_logs", "orders"][dataset]).unwrap();
        let sample = [trip(), page_log(), order()][dataset].clone();
        let (mut after, mut alone) = (contract.row(Audience::Tables, NOW), contract.row(Audience::Tables, NOW));
        prop_assert_eq!(after.read_json(sample.to_string().as_bytes()).verdict, Verdict::Clean);
        let mut members = sample.as_object().unwrap().clone();
        for place in left_out {
            if let Some(name) = members.keys().nth(place).cloned() {
                members.remove(&name);
            }
        }
        let mut text = Value::Object(members).to_string().into_bytes();
        for (at, byte) in edits {
            let length = text.len();
            text[at % length] = byte;
        }
        let (read, expected) = (after.read_json(&text), alone.read_json(&text));
        prop_assert_eq!(&read, &expected, "{}", String::from_utf8_lossy(&text));
        let digits = Value::Object(sample.as_object().unwrap().clone()).to_string().replacen(":", &format!(":{},\"x\":", "1".repeat(4301)), 1);
        prop_assert_eq!(after.read_json(digits.as_bytes()), alone.read_json(digits.as_bytes()));
        if read.verdict == Verdict::Clean {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            after.write_json(&mut ours);
            alone.write_json(&mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0..300usize) {
        let contract = contract("trips").unwrap();
        let mut row = contract.row(Audience::Dashboards, NOW);
        row.read_json(&bytes);
        let mut document = trip().to_string().into_bytes();
        document.truncate(cut);
        document.extend(bytes);
        let read = row.read_json(&document);
        if let Some(end) = read.end {
            prop_assert!(end <= document.len());
        }
        if read.verdict == Verdict::Clean {
            let mut out = Vec::new();
            row.write_json(&mut out);
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
        }
    }
}

/// Real trips, when they are there: `../shared/data/taxis.csv`, by a contract of their own.
#[test]
fn real_taxi_trips_are_cleaned_by_a_contract_of_their_own() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/taxis.csv");
    let Ok(text) = std::fs::read_to_string(root) else {
        return println!("no {root}: nothing to check here");
    };
    let taxis =
        Contract::parse("taxis.toml", include_str!("fixtures/taxis.toml")).unwrap_or_else(|error| panic!("{error}"));
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    // No cell of this file is quoted but those that hold a comma.
    let rows: Vec<Vec<Option<String>>> = lines
        .map(|line| {
            let mut cells = vec![String::new()];
            let mut quoted = false;
            for c in line.chars() {
                match c {
                    '"' => quoted = !quoted,
                    ',' if !quoted => cells.push(String::new()),
                    c => cells.last_mut().unwrap().push(c),
                }
            }
            cells.into_iter().map(|cell| Some(cell).filter(|cell| !cell.is_empty())).collect()
        })
        .collect();
    let (batch, refused) = through_batch(&taxis, &strings(&rows, &columns));
    assert_eq!((batch.num_rows(), refused.len()), (rows.len(), 0));
    let mut measured = Measured::new();
    measured.add(&taxis, &batch).unwrap();
    let metrics = measured.finish(&taxis).unwrap();
    let total = metrics["total"].as_primitive::<arrow_array::types::Decimal128Type>();
    let column = columns.iter().position(|name| *name == "total").unwrap();
    let cents: i128 =
        rows.iter().map(|row| (row[column].as_ref().unwrap().parse::<f64>().unwrap() * 100.0).round() as i128).sum();
    assert_eq!(total.values().iter().sum::<i128>(), cents);
}

/// What would take all of the stack, or minutes, is a row like another that is bad.
#[test]
fn rows_as_deep_or_as_wide_as_can_be_are_refused_at_once() {
    let trips = contract("trips").unwrap();
    let begun = std::time::Instant::now();
    for (open, close) in [("[", "]"), ("{\"id\":", "}"), ("{\"more\":", "}"), ("{\"id\":[", "]}")] {
        let depth = 500_000 / open.len();
        for document in [open.repeat(depth), open.repeat(depth) + "1" + &close.repeat(depth)] {
            let mut cleaner = Cleaner::new(&trips, Audience::Tables, 0);
            let verdict = cleaner.push_json(document.as_bytes());
            assert!(matches!(verdict, Verdict::Bad(_)), "{open}: {verdict:?}");
        }
    }
    let members: Vec<String> = (0..40_000).map(|n| format!("\"m{n}\":{n}")).collect();
    let mut cleaner = Cleaner::new(&trips, Audience::Tables, 0);
    let verdict = cleaner.push_json(format!("{{{}}}", members.join(",")).as_bytes());
    assert!(matches!(verdict, Verdict::Bad(_)), "{verdict:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
}
