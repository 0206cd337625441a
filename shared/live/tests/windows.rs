//! Windows against a computation that keeps every row.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;
use weir_contract::{Audience, Cleaner, Contract, Verdict, contract};
use weir_live::{MOST_STATE_BYTES, Plan, Window};

/// 2024-05-01T10:00:00Z.
const START_MS: u64 = 1_714_557_600_000;

fn trips() -> (Contract, Plan) {
    let contract = contract("trips").unwrap();
    let plan = Plan::of(&contract).unwrap().unwrap();
    (contract, plan)
}

#[derive(Debug, Clone)]
struct Trip {
    id: u32,
    vendor: i64,
    passengers: Option<i64>,
    seconds: i64,
    metres: f64,
    ended_s: i64,
    cell: (f64, f64),
}

impl Trip {
    fn json(&self) -> String {
        let stamp = |seconds: i64| weir_live::instant(START_MS.saturating_add_signed(seconds * 1000));
        let passengers = self.passengers.map_or(String::new(), |count| format!(r#""passengerCount":{count},"#));
        format!(
            r#"{{"id":"t{}","vendorId":{},{passengers}"pickupDate":"{}","dropoffDate":"{}","tripDuration":{},"gcDistance":{},"dropoffLatitude":{},"dropoffLongitude":{}}}"#,
            self.id,
            self.vendor,
            stamp(self.ended_s - self.seconds),
            stamp(self.ended_s),
            self.seconds,
            self.metres,
            self.cell.0,
            self.cell.1
        )
    }
}

fn count_in(contract: &Contract, plan: &Plan, window: &mut Window, trips: &[Trip]) {
    let mut cleaner = Cleaner::new(contract, Audience::Dashboards, 0);
    for trip in trips {
        assert_eq!(cleaner.push_json(trip.json().as_bytes()), Verdict::Clean, "{}", trip.json());
    }
    window.add(plan, &cleaner.take().unwrap(), START_MS).unwrap();
}

fn a_trip() -> impl Strategy<Value = Trip> {
    let cell = (4070i32..4080, -7400i32..-7390)
        .prop_map(|(a, b)| (f64::from(a) / 100.0 + 0.001, f64::from(b) / 100.0 - 0.001));
    (0u32..500, 1i64..4, prop::option::of(0i64..7), 1i64..9000, 0i64..90_000, -900i64..60, cell).prop_map(
        |(id, vendor, passengers, seconds, metres, ended_s, cell)| Trip {
            id,
            vendor,
            passengers,
            seconds,
            metres: metres as f64 / 8.0,
            ended_s,
            cell,
        },
    )
}

/// What the statistics must come to, from all rows.
fn check(line: &serde_json::Map<String, Value>, trips: &[&Trip]) {
    let count = trips.len();
    assert_eq!(line["trips"], count);
    let given: Vec<i64> = trips.iter().filter_map(|trip| trip.passengers).collect();
    assert_eq!(line["passengers"].as_i64(), (!given.is_empty()).then(|| given.iter().sum()));
    let mut seconds: Vec<i64> = trips.iter().map(|trip| trip.seconds).collect();
    seconds.sort_unstable();
    assert_eq!(line["total_duration"], seconds.iter().sum::<i64>());
    assert_eq!(line["longest_duration"], seconds[count - 1]);
    let near = |value: &Value, exact: f64| (value.as_f64().unwrap() - exact).abs() <= 1e-9 * exact.abs().max(1.0);
    assert!(near(&line["avg_duration"], seconds.iter().sum::<i64>() as f64 / count as f64));
    assert!(near(&line["avg_distance"], trips.iter().map(|trip| trip.metres).sum::<f64>() / count as f64));
    // By rank: within 3 % of all and a row.
    for (name, at) in [("median_duration", 0.5), ("p95_duration", 0.95)] {
        let value = line[name].as_f64().unwrap();
        let slack = 0.03 * count as f64 + 1.0;
        let below = seconds.iter().filter(|one| (**one as f64) < value).count() as f64;
        let up_to = seconds.iter().filter(|one| (**one as f64) <= value).count() as f64;
        let rank = at * count as f64;
        assert!(below <= rank + slack && up_to >= rank - slack, "{name} {value}: {below}..{up_to} of {count}");
    }
    let different = trips.iter().map(|trip| trip.id).collect::<BTreeSet<_>>().len() as f64;
    assert!((line["different_trips"].as_f64().unwrap() - different).abs() <= 1.0 + different * 0.05);
    let mut cells: BTreeMap<String, u64> = BTreeMap::new();
    for trip in trips {
        *cells.entry(format!("{:.2},{:.2}", trip.cell.0, trip.cell.1)).or_default() += 1;
    }
    let mut cells: Vec<(u64, String)> = cells.into_iter().map(|(cell, count)| (count, cell)).collect();
    cells.sort_unstable_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
    let said: Vec<u64> =
        line["dropoff_cells"].as_array().unwrap().iter().map(|one| one["count"].as_u64().unwrap()).collect();
    assert_eq!(said, cells.iter().take(10).map(|(count, _)| *count).collect::<Vec<_>>());
    for one in line["dropoff_cells"].as_array().unwrap() {
        let (value, count) = (one["value"].as_str().unwrap(), one["count"].as_u64().unwrap());
        let cell = value
            .split_once(',')
            .map(|(a, b)| format!("{:.2},{:.2}", a.parse::<f64>().unwrap(), b.parse::<f64>().unwrap()));
        assert!(cells.iter().any(|(there, name)| *there == count && Some(name) == cell.as_ref()), "{one}");
        assert_eq!(one["at_least"], count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However rows are dealt to shards and batches, and carried on in between, the window is that of all rows.
    #[test]
    fn shards_and_batches_add_up(all in prop::collection::vec((a_trip(), 0usize..3), 1..400), batch in 1usize..90) {
        let (contract, plan) = trips();
        let mut whole = Window::default();
        for shard in 0..3 {
            let of_shard: Vec<Trip> = all.iter().filter(|(_, at)| *at == shard).map(|(trip, _)| trip.clone()).collect();
            let mut window = Window::default();
            for some in of_shard.chunks(batch) {
                count_in(&contract, &plan, &mut window, some);
                window = Window::from_text(&plan, &window.text(&plan).unwrap()).unwrap();
            }
            whole.merge(&plan, &window).unwrap();
        }
        let lines = whole.lines(&plan).unwrap();
        let all: Vec<&Trip> = all.iter().map(|(trip, _)| trip).collect();
        check(&lines.all, &all);
        prop_assert_eq!(whole.counts.events, all.len() as u64);
        prop_assert_eq!(whole.counts.late, all.iter().filter(|trip| trip.ended_s < -300).count() as u64);
        let vendors: BTreeSet<i64> = all.iter().map(|trip| trip.vendor).collect();
        prop_assert_eq!(lines.groups.len(), vendors.len());
        for (line, vendor) in lines.groups.iter().zip(vendors) {
            prop_assert_eq!(line["vendor_id"].as_i64(), Some(vendor));
            check(line, &all.iter().filter(|trip| trip.vendor == vendor).copied().collect::<Vec<_>>());
        }
    }

    /// Whatever comes as state, it is read or refused.
    #[test]
    fn bytes_that_are_no_window_are_refused(noise in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let (contract, plan) = trips();
        prop_assert!(Window::from_bytes(&plan, &noise).is_err());
        let mut window = Window::default();
        let trip = Trip { id: 1, vendor: 1, passengers: None, seconds: 60, metres: 5.0, ended_s: 0, cell: (40.75, -73.99) };
        count_in(&contract, &plan, &mut window, &[trip]);
        let mut bytes = window.bytes(&plan).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(mut window) = Window::from_bytes(&plan, &bytes) {
            let _ = window.lines(&plan);
        }
    }
}

#[test]
fn many_groups_and_values_stay_within_what_can_be_carried_on() {
    let (contract, plan) = trips();
    let mut window = Window::default();
    for round in 0..20i64 {
        let trip = |n: i64| Trip {
            id: (round * 10_000 + n) as u32,
            vendor: n % 40,
            passengers: Some(1),
            seconds: n * 7 % 5000,
            metres: n as f64,
            ended_s: 0,
            cell: ((n % 180 - 90) as f64, (n * 31 % 18_000) as f64 / 100.0),
        };
        count_in(&contract, &plan, &mut window, &(0..10_000).map(trip).collect::<Vec<_>>());
    }
    let bytes = window.bytes(&plan).unwrap().len();
    assert!(bytes < MOST_STATE_BYTES, "{bytes}");
    assert!(window.text(&plan).unwrap().len() < 1_000_000);
    let lines = window.lines(&plan).unwrap();
    assert_eq!(lines.groups.len(), 7, "six that are told apart, and the others");
    assert_eq!(lines.groups[6]["is_other"], true);
    let counted: u64 = lines.groups.iter().map(|line| line["trips"].as_u64().unwrap()).sum();
    assert_eq!((counted, lines.all["trips"].as_u64()), (200_000, Some(200_000)));
    let different = lines.all["different_trips"].as_f64().unwrap();
    assert!((different / 200_000.0 - 1.0).abs() < 0.1, "{different}");
}

/// Each shard told other vendors apart; of what none could, the others have all.
#[test]
fn shards_with_more_groups_than_there_is_room_for_add_up() {
    let (contract, plan) = trips();
    let trip = |n: u32| Trip {
        id: n,
        vendor: i64::from(n % 13 + 1),
        passengers: Some(1),
        seconds: i64::from(n % 900) + 1,
        metres: f64::from(n),
        ended_s: 0,
        cell: (40.75, -73.99),
    };
    let all: Vec<Trip> = (0..900).map(trip).collect();
    let mut whole = Window::default();
    for some in all.chunks(311) {
        let mut window = Window::default();
        count_in(&contract, &plan, &mut window, some);
        whole.merge(&plan, &window).unwrap();
    }
    let lines = whole.lines(&plan).unwrap();
    check(&lines.all, &all.iter().collect::<Vec<_>>());
    let counted: u64 = lines.groups.iter().map(|line| line["trips"].as_u64().unwrap()).sum();
    assert_eq!(counted, 900);
    let others = lines.groups.iter().find(|line| line.contains_key("is_other")).unwrap();
    assert!(others["trips"].as_u64().unwrap() > 300, "{others:?}");
}

#[test]
fn a_window_of_another_contract_is_refused() {
    let (contract, plan) = trips();
    let mut window = Window::default();
    count_in(&contract, &plan, &mut window, &[]);
    let text = window.text(&plan).unwrap();
    let changed = Contract::parse(
        "changed.toml",
        &std::fs::read_to_string("../../datasets/trips.toml").unwrap().replace("at = 95", "at = 99"),
    );
    let changed = Plan::of(&changed.unwrap()).unwrap().unwrap();
    assert!(Window::from_text(&changed, &text).is_ok(), "the same is kept for another percentile");
    let changed = Contract::parse(
        "changed.toml",
        &std::fs::read_to_string("../../datasets/trips.toml")
            .unwrap()
            .replace("distinct = \"id\"", "distinct = \"vendor_id\""),
    );
    let changed = Plan::of(&changed.unwrap()).unwrap().unwrap();
    assert!(Window::from_text(&changed, &text).err().unwrap().to_string().contains("another"));
}

#[test]
fn statistics_too_large_to_be_carried_on_are_refused() {
    let text = std::fs::read_to_string("../../datasets/trips.toml").unwrap();
    let large = Contract::parse("trips.toml", &text.replace("most_groups = 6", "most_groups = 5000")).unwrap();
    let said = Plan::of(&large).unwrap().err().unwrap().to_string();
    assert!(said.contains("most_groups") && said.contains("`trips`"), "{said}");
}
