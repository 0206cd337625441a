//! Events as they come on the stream, of every kind.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;

/// 2024-05-01T10:00:00Z.
pub(crate) const BEGIN_MS: u64 = 1_714_557_600_000;
pub(crate) const WINDOW_MS: u64 = 60_000;

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) arrived_ms: u64,
    pub(crate) vendor: u64,
    pub(crate) seconds: u64,
    /// 0 is a trip with a broken rule, 1 a heartbeat, 2 no JSON, 3 a damaged gzip, more a trip.
    pub(crate) kind: u64,
}

impl Event {
    pub(crate) fn data(&self) -> Vec<u8> {
        let ended = weir_live::instant(self.arrived_ms - self.seconds % 7 * 100_000);
        let trip = json!({
            "id": format!("t{}", self.number), "vendorId": self.vendor, "passengerCount": self.number % 5, "pickupDate": ended,
            "dropoffDate": ended, "tripDuration": self.seconds, "gcDistance": self.seconds as f64 / 4.0,
            "dropoffLatitude": 40.7 + (self.number % 9) as f64 / 100.0 + 0.001, "dropoffLongitude": -73.99,
        });
        match self.kind {
            0 => json!({"id": "x", "vendorId": -1}).to_string().into_bytes(),
            1 => json!({"id": "x", "source": "heartbeat"}).to_string().into_bytes(),
            2 => b"{not json".to_vec(),
            3 => [&[0x1F, 0x8B, 8, 0][..], &[0xFF; 40]].concat(),
            _ => trip.to_string().into_bytes(),
        }
    }

    pub(crate) fn is_trip(&self) -> bool {
        self.kind > 3
    }

    pub(crate) fn window(&self) -> u64 {
        self.arrived_ms / WINDOW_MS * WINDOW_MS
    }
}

/// So many, evenly over so many windows.
pub(crate) fn events(dice: &mut StdRng, count: u64, windows: u64) -> Vec<Event> {
    let event = |number: u64, dice: &mut StdRng| Event {
        number,
        arrived_ms: BEGIN_MS + number * windows * WINDOW_MS / count,
        vendor: dice.random_range(1..4),
        seconds: dice.random_range(1..5000),
        kind: dice.random_range(0..20),
    };
    (0..count).map(|number| event(number, dice)).collect()
}
