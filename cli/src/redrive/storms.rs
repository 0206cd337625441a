//! Letters while whoever takes them refuses some, objects change, and the lake's answers are lost: none is lost, and none that was
//! taken goes twice but for those whose taking away was not known.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, MemoryLake, list_all};

use super::drive::{Carrier, Drive, Report};
use super::letters::{Known, Letter, To};
use super::which::Which;

/// Takes letters, but not each time.
struct Moody {
    came: BTreeMap<String, usize>,
    asked: usize,
    refuses: Vec<bool>,
    /// What somebody else does before a request: the object they put anew.
    meanwhile: Option<(usize, Location)>,
    lake: std::sync::Arc<MemoryLake>,
}

impl Carrier for Moody {
    async fn carry(&mut self, letters: &[&Letter]) -> Vec<Result<(), Failure>> {
        assert!(letters.iter().all(|letter| letter.to.is_somewhere() && letter.to.place() == letters[0].to.place()));
        let mut answers = Vec::new();
        for letter in letters {
            self.asked += 1;
            if let Some((n, at)) = &self.meanwhile
                && self.asked == *n
            {
                let text = poison("weir-commands", "put aside again");
                self.lake.put(at, text.into(), "application/json").await.unwrap();
            }
            if self.refuses.get(self.asked % self.refuses.len().max(1)).copied().unwrap_or_default() {
                answers.push(Err(Failure::passing("Throttled", "too much")));
                continue;
            }
            let raw = String::from_utf8(letter.raw.clone().unwrap()).unwrap();
            *self.came.entry(raw).or_default() += 1;
            answers.push(Ok(()));
        }
        answers
    }
}

fn known() -> Known {
    let streams = ["weir-commands".to_owned(), "weir-changes".to_owned()].into();
    Known { stack: "weir".to_owned(), streams, ..Known::default() }
}

fn poison(stream: &str, raw: &str) -> String {
    let origin = json!({"stream": stream, "shard": "s", "sequence_number": "1", "index": 0});
    json!({"reason": "r", "origin": origin, "arrived_ms": 1, "raw_base64": STANDARD.encode(raw)}).to_string()
}

fn lines(raws: &[String]) -> String {
    let line = |raw: &String| {
        json!({"kept": "here", "reason": "r", "delivery_stream": "weir-trips", "arrived_ms": 1, "raw_base64": STANDARD.encode(raw)}).to_string()
    };
    raws.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn batch(raws: &[String]) -> String {
    let record = |raw: &String| {
        json!({"kinesis": {"partitionKey": "k", "sequenceNumber": "1", "data": STANDARD.encode(raw), "approximateArrivalTimestamp": 1.0},
            "eventID": "s:1", "eventSourceARN": "arn:aws:kinesis:us-east-1:1:stream/weir-changes"})
    };
    let payload = json!({"Records": raws.iter().map(record).collect::<Vec<_>>()}).to_string();
    let context = json!({"functionArn": "arn:aws:lambda:us-east-1:1:function:weir-cdc", "condition": "c"});
    json!({"requestContext": context, "payload": payload}).to_string()
}

/// What is still there, by its bytes.
async fn left(lake: &MemoryLake) -> BTreeMap<String, usize> {
    let mut left = BTreeMap::new();
    for object in list_all(lake, &Location::parse("s3://letters/").unwrap()).await.unwrap() {
        let bytes = lake.get(&object.location, None, 0, object.size).await.unwrap();
        for letter in super::letters::open(&object.location, &bytes, &known()).unwrap().letters {
            *left.entry(String::from_utf8(letter.raw.unwrap()).unwrap()).or_default() += 1;
        }
    }
    left
}

/// Once over all objects.
async fn drive(lake: &std::sync::Arc<MemoryLake>, moody: Moody, limit: usize) -> (Report, Moody) {
    let (known, which, stop) = (known(), Which::default(), AtomicBool::new(false));
    let mut drive = Drive {
        lake: lake.as_ref(),
        known: &known,
        which: &which,
        carrier: moody,
        rate: None,
        limit,
        stop: &stop,
        begun: Instant::now(),
        report: Report::default(),
    };
    for object in list_all(lake.as_ref(), &Location::parse("s3://letters/").unwrap()).await.unwrap() {
        drive.object(&object.location).await.unwrap();
    }
    (drive.report, drive.carrier)
}

fn at(key: &str) -> Location {
    Location::parse(&format!("s3://letters/{key}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Of each letter either it came, or it is still there; and a second run sends what was left, and nothing else.
    #[test]
    fn what_came_and_what_is_left_is_all(
        counts in (0usize..9, 0usize..9, 0usize..4),
        refuses in prop::collection::vec(any::<bool>(), 0..7),
        limit in prop_oneof![Just(usize::MAX), 1usize..12],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let lake = std::sync::Arc::new(MemoryLake::default());
            lake.make_bucket("letters");
            let named = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}-{n}")).collect::<Vec<_>>();
            let (of_lines, of_batch, single) = (named("line", counts.0), named("record", counts.1), named("single", counts.2));
            if counts.0 > 0 {
                lake.put(&at("poison/firehose/weir-trips/d/x.ndjson"), lines(&of_lines).into(), "t").await.unwrap();
            }
            if counts.1 > 0 {
                lake.put(&at("aws/lambda/m/s/x"), batch(&of_batch).into(), "t").await.unwrap();
            }
            for raw in &single {
                let text = poison("weir-commands", raw);
                lake.put(&at(&format!("poison/weir-commands/s/{raw}.json")), text.into(), "t").await.unwrap();
            }
            let moody = |refuses| Moody { came: BTreeMap::new(), asked: 0, refuses, meanwhile: None, lake: lake.clone() };
            let (report, first) = drive(&lake, moody(refuses), limit).await;
            let after = left(&lake).await;
            for raw in of_lines.iter().chain(&of_batch).chain(&single) {
                let (came, is_left) = (first.came.get(raw).copied().unwrap_or(0), after.get(raw).copied().unwrap_or(0));
                prop_assert_eq!(came + is_left, 1, "{} came {} times, and lies there {} times", raw, came, is_left);
            }
            prop_assert_eq!(report.sent, first.came.len());
            prop_assert!(report.sent <= limit);
            let (_, second) = drive(&lake, moody(Vec::new()), usize::MAX).await;
            prop_assert_eq!(second.came, after);
            prop_assert!(list_all(lake.as_ref(), &at("")).await.unwrap().is_empty());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_letter_that_is_put_aside_again_meanwhile_stays() {
    let lake = std::sync::Arc::new(MemoryLake::default());
    lake.make_bucket("letters");
    let place = at("poison/weir-commands/s/1.json");
    lake.put(&place, poison("weir-commands", "first").into(), "t").await.unwrap();
    let moody = Moody {
        came: BTreeMap::new(),
        asked: 0,
        refuses: Vec::new(),
        meanwhile: Some((1, place.clone())),
        lake: lake.clone(),
    };
    let (report, moody) = drive(&lake, moody, usize::MAX).await;
    assert_eq!(moody.came, BTreeMap::from([("first".to_owned(), 1)]));
    assert_eq!(left(&lake).await, BTreeMap::from([("put aside again".to_owned(), 1)]));
    assert!(report.why[0].contains("put aside again while"), "{report:?}");
}

/// Whoever may write dead letters may write any name into them.
#[tokio::test]
async fn what_a_letter_names_must_be_the_stacks() {
    let lake = std::sync::Arc::new(MemoryLake::default());
    lake.make_bucket("letters");
    lake.put(&at("poison/payments/s/1.json"), poison("payments", "x").into(), "t").await.unwrap();
    let forged = r#"{"requestContext":{"functionArn":"arn:aws:lambda:us-east-1:1:function:payments-refund"},"requestPayload":{"all":true}}"#;
    lake.put(&at("aws/lambda/async/payments-refund/x"), forged.into(), "t").await.unwrap();
    let moody = Moody { came: BTreeMap::new(), asked: 0, refuses: Vec::new(), meanwhile: None, lake: lake.clone() };
    let (report, moody) = drive(&lake, moody, usize::MAX).await;
    assert_eq!((moody.asked, report.sent, report.kept), (0, 0, 2));
    let bytes = poison("payments", "x").into_bytes();
    let letters = super::letters::open(&at("poison/payments/s/1.json"), &bytes, &known()).unwrap().letters;
    assert!(matches!(&letters[0].to, To::Nowhere(why) if why.contains("`payments`")), "{letters:?}");
}
