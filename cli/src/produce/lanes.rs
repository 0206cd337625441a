//! Rows into stream records, stream records into requests, in order.
//!
//! A request can take some of its records and refuse others, so two records of one partition key in one request, or in two
//! at a time, can change places. Therefore every partition key belongs to a lane, of each lane at most one record is under
//! way, and a record that is refused is tried again before anything behind it. Many lanes make full requests all the same.
//!
//! Pure: time comes in, requests come out.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_kpl::{Aggregate, Codec, SubRecord, compress};

use super::shards::ShardMap;

/// A row on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) data: Bytes,
    pub(crate) read_at: Instant,
}

impl Row {
    /// About what it takes here: its data, its key more than once, and what holds them.
    pub(crate) fn memory(&self) -> usize {
        self.data.len() + 3 * self.key.len() + 256
    }
}

/// How rows are packed, and what a request may hold.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Whether several rows share a stream record.
    pub(crate) aggregate: bool,
    /// How large an aggregate may become, before compression.
    pub(crate) aggregate_bytes: usize,
    /// What records are compressed with.
    pub(crate) compress: Option<Codec>,
    /// How long a row waits for company.
    pub(crate) linger: Duration,
    pub(crate) request_records: usize,
    pub(crate) request_bytes: usize,
    /// The most that waits here.
    pub(crate) buffer_bytes: usize,
}

/// A stream record, and the rows in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) lane: usize,
    pub(crate) partition_key: String,
    /// Set where the partition key alone would not lead to the shard.
    pub(crate) explicit_hash_key: Option<u128>,
    pub(crate) shard: usize,
    pub(crate) data: Bytes,
    pub(crate) rows: Vec<Row>,
    pub(crate) attempts: u32,
}

impl Packed {
    /// As Kinesis counts it.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

#[derive(Default)]
struct Lane {
    open: Aggregate,
    rows: Vec<Row>,
    opened_at: Option<Instant>,
    queue: VecDeque<Packed>,
    busy: bool,
    not_before: Option<Instant>,
}

/// All lanes.
pub(crate) struct Lanes {
    limits: Limits,
    shards: ShardMap,
    per_shard: usize,
    lanes: Vec<Lane>,
    /// Lanes with a record that could go, and lanes with rows that wait for company.
    ready: BTreeSet<(Instant, usize)>,
    filling: BTreeSet<(Instant, usize)>,
    buffered_bytes: usize,
}

impl Lanes {
    pub(crate) fn new(limits: Limits, shards: ShardMap) -> Self {
        // Aggregates: a shard takes 1 MB a second, which few lanes fill, and more of them would make smaller aggregates.
        // Single rows: enough lanes for a full request now and others behind it.
        let per_shard = if limits.aggregate { 4 } else { (2048 / shards.len().max(1)).max(4) };
        let lanes = std::iter::repeat_with(Lane::default).take(per_shard * shards.len()).collect();
        let (ready, filling) = (BTreeSet::new(), BTreeSet::new());
        Self { limits, shards, per_shard, lanes, ready, filling, buffered_bytes: 0 }
    }

    pub(crate) fn shards(&self) -> &ShardMap {
        &self.shards
    }

    /// Whether rows must wait outside.
    pub(crate) fn is_full(&self) -> bool {
        self.buffered_bytes >= self.limits.buffer_bytes
    }

    /// Whether nothing is here or under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.busy && lane.queue.is_empty() && lane.rows.is_empty())
    }

    pub(crate) fn push(&mut self, row: Row) {
        let (shard, hash) = self.shards.place(&row.key);
        // The hash's low bits: the high ones chose the shard.
        let place = shard * self.per_shard + (hash % self.per_shard as u128) as usize;
        let record = SubRecord { partition_key: row.key.clone(), explicit_hash_key: None, data: row.data.clone() };
        self.buffered_bytes += row.memory();
        let most = self.limits.aggregate_bytes;
        let closes = |lane: &Lane| !lane.rows.is_empty() && lane.open.bytes_with(&record) > most;
        if self.lanes.get(place).is_some_and(closes) {
            self.close(place);
        }
        let Some(lane) = self.lanes.get_mut(place) else { return };
        if lane.rows.is_empty() {
            lane.opened_at = Some(row.read_at);
            self.filling.insert((row.read_at, place));
        }
        lane.open.push(record);
        lane.rows.push(row);
        if !self.limits.aggregate {
            self.close(place);
        }
    }

    /// Makes a stream record of a lane's rows.
    fn close(&mut self, place: usize) {
        let shard = place / self.per_shard;
        let Some(lane) = self.lanes.get_mut(place) else { return };
        let (rows, aggregate) = (std::mem::take(&mut lane.rows), std::mem::take(&mut lane.open));
        if let Some(opened_at) = lane.opened_at.take() {
            self.filling.remove(&(opened_at, place));
        }
        let Some(first) = rows.first() else { return };
        // One row alone is a plain record, as the KPL sends it.
        let (plain, partition_key) = match rows.len() {
            1 => (first.data.clone(), first.key.clone()),
            _ => (Bytes::from(aggregate.finish()), first.key.clone()),
        };
        // What can't be compressed goes as it is: consumers tell the two apart.
        let compressed = self.limits.compress.and_then(|codec| compress(codec, &plain).ok());
        let data = compressed.map_or(plain, Bytes::from);
        // Of several rows, the shard and not one row's key says where they go.
        let explicit_hash_key = if rows.len() > 1 && self.shards.len() > 1 {
            self.shards.get(shard).map(|shard| shard.first)
        } else {
            None
        };
        let since = first.read_at;
        let was_empty = lane.queue.is_empty();
        lane.queue.push_back(Packed { lane: place, partition_key, explicit_hash_key, shard, data, rows, attempts: 0 });
        if was_empty && !lane.busy {
            self.ready.insert((lane.not_before.unwrap_or(since), place));
        }
    }

    /// Closes what has waited long enough, or all of it at the end.
    pub(crate) fn close_due(&mut self, now: Instant, all: bool) {
        while let Some((since, place)) = self.filling.first().copied() {
            if !all && now.saturating_duration_since(since) < self.limits.linger {
                break;
            }
            self.close(place);
        }
    }

    /// When something will be due that isn't yet.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let filling = self.filling.first().map(|(since, _)| *since + self.limits.linger);
        let ready = self.ready.first().map(|(at, _)| *at + self.limits.linger);
        filling.into_iter().chain(ready).min()
    }

    /// The next request: full, or as full as it gets when something has waited long enough or nothing more will come.
    pub(crate) fn next_request(&mut self, now: Instant, all: bool) -> Option<Vec<Packed>> {
        let (mut places, mut bytes) = (Vec::new(), 0);
        let mut full = false;
        for (at, place) in &self.ready {
            if *at > now {
                break;
            }
            let Some(next) = self.lanes.get(*place).and_then(|lane| lane.queue.front()) else { continue };
            if places.len() == self.limits.request_records || bytes + next.bytes() > self.limits.request_bytes {
                full = true;
                break;
            }
            bytes += next.bytes();
            places.push((*at, *place));
        }
        full |= places.len() == self.limits.request_records;
        let waited = places.first().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.limits.linger);
        if places.is_empty() || !(full || waited || all) {
            return None;
        }
        let mut request = Vec::with_capacity(places.len());
        for (at, place) in places {
            self.ready.remove(&(at, place));
            let Some(lane) = self.lanes.get_mut(place) else { continue };
            if let Some(packed) = lane.queue.pop_front() {
                lane.busy = true;
                request.push(packed);
            }
        }
        Some(request)
    }

    /// A record was taken, or is given up: its lane goes on.
    pub(crate) fn settled(&mut self, packed: &Packed) {
        self.buffered_bytes = self.buffered_bytes.saturating_sub(packed.rows.iter().map(Row::memory).sum());
        let Some(lane) = self.lanes.get_mut(packed.lane) else { return };
        lane.busy = false;
        lane.not_before = None;
        if let Some(next) = lane.queue.front() {
            let since = next.rows.first().map_or_else(Instant::now, |row| row.read_at);
            self.ready.insert((since, packed.lane));
        }
    }

    /// A record was refused: it goes first when its lane may go again.
    pub(crate) fn refused(&mut self, packed: Packed, not_before: Instant) {
        let place = packed.lane;
        let Some(lane) = self.lanes.get_mut(place) else { return };
        lane.busy = false;
        lane.not_before = Some(not_before);
        lane.queue.push_front(packed);
        self.ready.insert((not_before, place));
    }

    /// Everything that has not been sent.
    pub(crate) fn give_up(&mut self) -> Vec<Row> {
        self.close_due(Instant::now(), true);
        self.lanes.iter_mut().flat_map(|lane| lane.queue.drain(..)).flat_map(|packed| packed.rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::shards::Shard;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn limits(aggregate: bool) -> Limits {
        Limits {
            aggregate,
            aggregate_bytes: 200,
            compress: None,
            linger: Duration::from_millis(100),
            request_records: 5,
            request_bytes: 600,
            buffer_bytes: 1 << 20,
        }
    }

    fn two_shards() -> ShardMap {
        let half = u128::MAX / 2;
        let shard = |id: &str, first, last| Shard { id: id.into(), first, last };
        ShardMap::new(vec![shard("a", 0, half), shard("b", half + 1, u128::MAX)])
    }

    fn row(key: u8, number: usize, at: Instant) -> Row {
        Row { key: format!("key-{key}"), data: Bytes::from(format!("{number:06}")), read_at: at }
    }

    #[test]
    fn rows_wait_for_company_and_no_longer() {
        let now = Instant::now();
        let mut lanes = Lanes::new(limits(true), ShardMap::single());
        lanes.push(row(1, 1, now));
        lanes.push(row(1, 2, now));
        lanes.close_due(now, false);
        assert_eq!(lanes.next_request(now, false), None);
        let later = now + Duration::from_millis(100);
        assert_eq!(lanes.next_due(), Some(later));
        lanes.close_due(later, false);
        let request = lanes.next_request(later, false).unwrap();
        assert_eq!((request.len(), request[0].rows.len()), (1, 2));
        assert!(weir_kpl::open(&request[0].data).is_some());
        assert!(!lanes.is_empty(), "it is under way");
        lanes.settled(&request[0]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn an_aggregate_of_two_shards_would_be_dropped_by_the_kcl() {
        let now = Instant::now();
        let mut lanes = Lanes::new(limits(true), two_shards());
        for number in 0..200 {
            lanes.push(row((number % 50) as u8, number, now));
        }
        lanes.close_due(now, true);
        let mut rows = 0;
        while let Some(request) = lanes.next_request(now, true) {
            for packed in request {
                let shard = two_shards().get(packed.shard).unwrap().clone();
                assert!(packed.rows.iter().all(|row| two_shards().takes(&shard.id, &row.key)));
                assert!(packed.explicit_hash_key.is_none_or(|hash| hash == shard.first));
                rows += packed.rows.len();
                lanes.settled(&packed);
            }
        }
        assert_eq!(rows, 200);
    }

    proptest! {
        /// Whatever is refused, however requests overlap: every row arrives once, and those of a key in order.
        #[test]
        fn order_per_key_survives_refusals(
            aggregate in any::<bool>(),
            keys in prop::collection::vec(0..12u8, 1..300),
            dice in prop::collection::vec(0..100u8, 1..400),
        ) {
            let mut now = Instant::now();
            let mut lanes = Lanes::new(limits(aggregate), two_shards());
            let mut rows = keys.iter().enumerate().map(|(number, key)| row(*key, number, now)).collect::<VecDeque<_>>();
            let mut flying: Vec<Vec<Packed>> = Vec::new();
            let mut arrived: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            let mut dice = dice.into_iter().cycle();
            let mut steps = 0;
            while !(rows.is_empty() && flying.is_empty() && lanes.is_empty()) {
                steps += 1;
                prop_assert!(steps < 100_000, "it stands still");
                now += Duration::from_millis(10);
                for _ in 0..1 + dice.next().unwrap_or(1) % 20 {
                    if let Some(row) = rows.pop_front() {
                        lanes.push(row);
                    }
                }
                lanes.close_due(now, rows.is_empty());
                if let Some(request) = lanes.next_request(now, rows.is_empty()) {
                    prop_assert!(request.len() <= 5);
                    prop_assert!(request.len() == 1 || request.iter().map(Packed::bytes).sum::<usize>() <= 600);
                    flying.push(request);
                }
                if !flying.is_empty() && (steps % 3 == 0 || dice.next().unwrap_or(0) > 30) {
                    let which = usize::from(dice.next().unwrap_or(0)) % flying.len();
                    for mut packed in flying.swap_remove(which) {
                        // Every other one at least gets through, or it would never end.
                        if packed.attempts < 3 && dice.next().unwrap_or(0) < 40 {
                            packed.attempts += 1;
                            lanes.refused(packed, now + Duration::from_millis(50));
                            continue;
                        }
                        lanes.settled(&packed);
                        for row in packed.rows {
                            arrived.entry(row.key).or_default().push(row.data);
                        }
                    }
                }
            }
            let mut expected: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
            for (number, key) in keys.iter().enumerate() {
                let row = row(*key, number, now);
                expected.entry(row.key).or_default().push(row.data);
            }
            prop_assert_eq!(arrived, expected);
        }
    }
}
