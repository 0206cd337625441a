//! The mapping of a shard, as Lambda drives it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use weir_analytics::handler::Answer;

use crate::event::{Event, WINDOW_MS};
use crate::world::World;

/// A shard's mapping.
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) state: Value,
}

impl Shard {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), state: json!({}) }
    }

    pub(crate) fn event(&self, window_ms: u64, records: &[Event], is_final: bool, is_early: bool) -> Value {
        let record = |event: &Event| {
            let number = format!("49654321098765432109876543210987654321{:018}", event.number);
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0", "partitionKey": "k", "sequenceNumber": number, "data": STANDARD.encode(event.data()),
                    "approximateArrivalTimestamp": event.arrived_ms as f64 / 1000.0,
                },
                "eventID": format!("{}:{number}", self.name), "eventSource": "aws:kinesis", "eventVersion": "1.0",
                "eventName": "aws:kinesis:record", "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-telemetry",
            })
        };
        json!({
            "Records": records.iter().map(record).collect::<Vec<_>>(),
            "window": {"start": weir_live::instant(window_ms), "end": weir_live::instant(window_ms + WINDOW_MS)},
            "state": self.state, "shardId": self.name, "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/weir-telemetry",
            "isFinalInvokeForWindow": is_final, "isWindowTerminatedEarly": is_early,
        })
    }

    pub(crate) fn keep(&mut self, answer: &Answer, ended: bool) {
        assert!(answer.response.batch_item_failures.is_empty());
        self.state = if ended { json!({}) } else { json!(answer.state) };
    }

    /// One batch until it succeeds: cut anew when it fails, and sometimes given again though it did not.
    pub(crate) async fn deliver(
        &mut self,
        world: &World,
        window_ms: u64,
        records: &[Event],
        last: Option<bool>,
        dice: &mut StdRng,
    ) {
        let mut queue = vec![(records.to_vec(), last)];
        while let Some((records, last)) = queue.pop() {
            world.fate.set(if dice.random_bool(0.5) { dice.random_range(1..14) } else { 0 }, dice.random_bool(0.5));
            let event = self.event(window_ms, &records, last == Some(false), last == Some(true));
            let answered = world.invoke(&event).await;
            let is_repeated = dice.random_bool(0.2);
            match answered {
                Ok(answer) if !is_repeated => self.keep(&answer, last.is_some()),
                // Its answer was lost, or it failed: the state is what it was. Bisected, as the mapping says.
                _ if records.len() > 1 && dice.random_bool(0.5) => {
                    let (first, second) = records.split_at(dice.random_range(1..records.len()));
                    queue.push((second.to_vec(), last));
                    queue.push((first.to_vec(), None));
                }
                _ => queue.push((records, last)),
            }
        }
        world.fate.set(0, false);
        // Once more after all: "in rare cases, records might be processed more than once". After an early end the state knows nothing.
        if last != Some(false) && dice.random_bool(0.2) {
            let answer = world.invoke(&self.event(window_ms, records, false, false)).await.unwrap();
            self.keep(&answer, false);
        }
    }

    /// All of a shard's events, window by window, to its end.
    pub(crate) async fn drain(&mut self, world: &World, events: &[Event], dice: &mut StdRng) {
        let mut windows: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
        for event in events {
            windows.entry(event.window()).or_default().push(event.clone());
        }
        for (window_ms, events) in windows {
            let mut rest = events.as_slice();
            while !rest.is_empty() {
                let (some, after) = rest.split_at(dice.random_range(1..=rest.len()));
                rest = after;
                let last = dice.random_bool(0.1).then_some(true);
                self.deliver(world, window_ms, some, last, dice).await;
            }
            // The window's end comes with records or without.
            self.deliver(world, window_ms, &[], Some(false), dice).await;
        }
    }
}
