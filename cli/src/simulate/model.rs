//! A stream, its mapping and a function, as quantities that flow: what comes, waits, is taken in batches, and is done.
//!
//! Shards are alike, but for one that may get more. Records are whole, those of one step come at once; in a step, a lane may begin many batches.

use std::collections::VecDeque;

use crate::cost::Service;

/// What is simulated.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) shards: f64,
    /// Batches of a shard at a time.
    pub(crate) lanes: usize,
    /// Records of a batch at most.
    pub(crate) batch: f64,
    /// Seconds for which a batch is gathered.
    pub(crate) window: f64,
    /// Invocations at a time, of all shards.
    pub(crate) concurrency: f64,
    /// Records a second that a shard takes in.
    pub(crate) intake: f64,
    /// The share of the busiest shard.
    pub(crate) hottest: f64,
    pub(crate) service: Service,
}

/// What comes, in records a second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: f64,
    pub(crate) spike: f64,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Load {
    pub(crate) fn at(&self, second: f64) -> f64 {
        if (self.from..self.to).contains(&second) { self.spike } else { self.rate }
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment {
    pub(crate) second: f64,
    /// Records a second that come.
    pub(crate) rate: f64,
    /// Records that are not in the stream yet: it takes no more.
    pub(crate) outside: f64,
    /// Records in it that no batch has.
    pub(crate) waiting: f64,
    /// How long the oldest of all these has waited, in seconds.
    pub(crate) lag: f64,
    /// Records done so far.
    pub(crate) done: f64,
}

/// Records in the order in which they came.
#[derive(Default)]
struct Queue {
    /// When, and how many.
    records: VecDeque<(f64, f64)>,
    count: f64,
}

impl Queue {
    fn push(&mut self, at: f64, count: f64) {
        if count > 0.0 {
            self.records.push_back((at, count));
            self.count += count;
        }
    }

    /// Takes so many from the front, and gives them to somebody, with when they came.
    fn take(&mut self, mut most: f64, mut to: impl FnMut(f64, f64)) {
        while let Some((at, count)) = self.records.front_mut() {
            let taken = count.min(most);
            if taken <= 0.0 {
                break;
            }
            to(*at, taken);
            (*count, most, self.count) = (*count - taken, most - taken, self.count - taken);
            if *count <= 0.0 {
                self.records.pop_front();
            }
        }
    }

    fn oldest(&self) -> Option<f64> {
        self.records.front().map(|(at, _)| *at)
    }
}

/// What comes piece by piece, and counts when it is whole.
#[derive(Default)]
struct Whole(f64);

impl Whole {
    fn of(&mut self, more: f64) -> f64 {
        self.0 += more;
        let whole = self.0.floor();
        self.0 -= whole;
        whole
    }
}

/// One shard, or several that are alike.
struct Shard {
    alike: f64,
    share: f64,
    comes: Whole,
    room: Whole,
    outside: Queue,
    waiting: Queue,
    free_at: Vec<f64>,
    /// Records of batches under way, by when they are done.
    under_way: Vec<(f64, f64)>,
}

impl World {
    /// How many records a second it can do: of full batches, and no more than its shards take in.
    pub(crate) fn most(&self) -> f64 {
        let invocations = (self.shards * self.lanes as f64).min(self.concurrency);
        (invocations * self.batch / self.service.of(self.batch)).min(self.shards * self.intake)
    }

    fn shards(&self) -> Vec<Shard> {
        let shard = |alike: f64, share: f64| Shard {
            alike,
            share,
            comes: Whole::default(),
            room: Whole::default(),
            outside: Queue::default(),
            waiting: Queue::default(),
            free_at: vec![0.0; self.lanes],
            under_way: Vec::new(),
        };
        let even = 1.0 / self.shards;
        if self.shards <= 1.0 || self.hottest <= even {
            return vec![shard(self.shards, even)];
        }
        let others = self.shards - 1.0;
        vec![shard(1.0, self.hottest), shard(others, (1.0 - self.hottest) / others)]
    }

    /// What happens, step by step.
    pub(crate) fn run(&self, load: &Load, until: f64, step: f64) -> Vec<Moment> {
        let mut shards = self.shards();
        // Where those that have work may not all be at it, each batch waits for its turn.
        let mut slower = 1.0f64;
        let mut moments = Vec::new();
        let mut done = 0.0;
        for number in 0..(until / step).ceil() as u64 {
            let now = number as f64 * step;
            let (mut outside, mut waiting, mut lag, mut at_work) = (0.0, 0.0, 0.0f64, 0.0);
            for shard in &mut shards {
                let came = shard.comes.of(load.at(now) * shard.share * step);
                shard.outside.push(now, came);
                let room = shard.room.of(self.intake * step);
                let Shard { outside: before, waiting: queue, .. } = shard;
                before.take(room, |at, count| queue.push(at, count));
                self.work(shard, now, step, slower);
                shard.under_way.retain(|(end, count)| {
                    let is_done = *end <= now;
                    done += if is_done { count * shard.alike } else { 0.0 };
                    !is_done
                });
                let more = (shard.waiting.count / self.batch).ceil();
                at_work += (shard.under_way.len() as f64 + more).min(self.lanes as f64) * shard.alike;
                outside += shard.outside.count * shard.alike;
                waiting += shard.waiting.count * shard.alike;
                let oldest = shard.waiting.oldest().or(shard.outside.oldest());
                lag = lag.max(oldest.map_or(0.0, |at| now - at));
            }
            slower = (at_work / self.concurrency).max(1.0);
            moments.push(Moment { second: now, rate: load.at(now), outside, waiting, lag, done });
        }
        moments
    }

    fn work(&self, shard: &mut Shard, now: f64, step: f64, slower: f64) {
        for free_at in &mut shard.free_at {
            while *free_at < now + step {
                let waits_long = shard.waiting.oldest().is_some_and(|at| now - at >= self.window);
                if !waits_long && shard.waiting.count < self.batch {
                    break;
                }
                let records = shard.waiting.count.min(self.batch);
                shard.waiting.take(records, |_, _| ());
                *free_at = free_at.max(now) + self.service.of(records) * slower;
                shard.under_way.push((*free_at, records));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World {
            shards: 4.0,
            lanes: 2,
            batch: 100.0,
            window: 0.0,
            concurrency: 1000.0,
            intake: 1e9,
            hottest: 0.0,
            service: Service { cpu: 0.01, wait: 0.0, at_once: 1.0 },
        }
    }

    const STEP: f64 = 0.05;

    fn spike(rate: f64, spike: f64) -> Load {
        Load { rate, spike, from: 60.0, to: 120.0 }
    }

    #[test]
    fn what_it_can_do_does_not_wait() {
        // Eight lanes of a hundred records a second.
        assert!((world().most() - 800.0).abs() < 1e-9);
        let moments = world().run(&spike(400.0, 700.0), 300.0, STEP);
        assert!(
            moments.iter().all(|moment| moment.lag < 1.5),
            "{:?}",
            moments.iter().map(|m| m.lag).fold(0.0, f64::max)
        );
    }

    /// What is too much waits, and goes as fast as there is room: (1600 - 800) for a minute, and then 800 - 400 a second.
    #[test]
    fn a_spike_waits_as_long_as_arithmetic_says() {
        let moments = world().run(&spike(400.0, 1600.0), 400.0, STEP);
        let most = moments.iter().map(|moment| moment.waiting).fold(0.0, f64::max);
        assert!((most / 48_000.0 - 1.0).abs() < 0.03, "{most}");
        let last = moments.iter().rev().find(|moment| moment.lag > 2.0).unwrap().second;
        assert!((last - 240.0).abs() < 8.0, "{last}");
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_made() {
        for (shards, hottest, intake) in [(1.0, 0.0, 1e9), (4.0, 0.4, 1e9), (4.0, 0.0, 150.0), (3.0, 1.0, 150.5)] {
            let world = World { shards, hottest, intake, ..world() };
            let load = spike(100.0, 900.0);
            let moments = world.run(&load, 600.0, STEP);
            let last = moments.last().unwrap();
            let came: f64 = moments.iter().map(|moment| moment.rate * STEP).sum();
            let there = last.done + last.waiting + last.outside;
            // Batches under way are in neither.
            let under_way = world.shards * world.lanes as f64 * world.batch + world.shards;
            assert!(came >= there - 0.01 && came - there <= under_way, "{came} came, {there} are there: {last:?}");
            assert!(moments.windows(2).all(|two| two[0].done <= two[1].done));
        }
    }

    #[test]
    fn a_busy_shard_lags_though_there_is_room_for_all() {
        let hot = World { hottest: 0.7, ..world() };
        let (even, hot) = (world().run(&spike(500.0, 500.0), 300.0, STEP), hot.run(&spike(500.0, 500.0), 300.0, STEP));
        assert!(
            even.last().unwrap().lag < 1.5 && hot.last().unwrap().lag > 100.0,
            "{:?} {:?}",
            even.last(),
            hot.last()
        );
    }

    #[test]
    fn few_records_do_not_wait_for_more() {
        for (rate, spike, shards, hottest) in [
            (0.0, 5.0, 1.0, 0.0),
            (0.1, 0.1, 1.0, 0.0),
            (10.0, 10.0, 100.0, 0.0),
            (5.0, 5.0, 2.0, 1.0),
            (0.0, 0.0, 4.0, 0.0),
        ] {
            let world = World { shards, hottest, ..world() };
            let moments = world.run(&super::Load { rate, spike, from: 60.0, to: 120.0 }, 300.0, STEP);
            let most = moments.iter().map(|moment| moment.lag).fold(0.0, f64::max);
            assert!(most < 1.5, "{rate} {spike} {shards} {hottest}: {most}");
        }
    }

    #[test]
    fn shards_that_have_nothing_to_do_take_no_invocations() {
        let hot = World { shards: 1000.0, hottest: 1.0, concurrency: 8.0, ..world() };
        let moments = hot.run(&spike(150.0, 150.0), 300.0, STEP);
        assert!(moments.iter().all(|moment| moment.lag < 1.5), "{:?}", moments.last());
    }

    #[test]
    fn fewer_invocations_at_a_time_do_less() {
        let few = World { concurrency: 4.0, ..world() };
        assert!((few.most() - 400.0).abs() < 1e-9);
        let end = *few.run(&spike(600.0, 600.0), 300.0, STEP).last().unwrap();
        assert!((end.waiting / (200.0 * 300.0) - 1.0).abs() < 0.05, "{end:?}");
    }
}
