//! Which shard a partition key belongs to.
//!
//! An aggregate goes to one shard, and the KCL drops records inside it that belong to another (amazon-kinesis-client,
//! AggregatorUtil): so only records of one shard may share an aggregate.

use weir_kpl::hash_key;

/// A shard's range of hash keys, ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) id: String,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

/// The open shards of a stream, by their ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardMap(Vec<Shard>);

impl ShardMap {
    pub(crate) fn new(mut shards: Vec<Shard>) -> Self {
        shards.sort_by_key(|shard| shard.first);
        Self(shards)
    }

    /// A delivery stream has none: one for all.
    pub(crate) fn single() -> Self {
        Self(vec![Shard { id: String::new(), first: 0, last: u128::MAX }])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The shard's place here, and where the key lies.
    pub(crate) fn place(&self, partition_key: &str) -> (usize, u128) {
        let hash = hash_key(partition_key);
        (self.0.partition_point(|shard| shard.last < hash).min(self.0.len().saturating_sub(1)), hash)
    }

    pub(crate) fn get(&self, place: usize) -> Option<&Shard> {
        self.0.get(place)
    }

    /// Whether a shard takes a partition key. One that is not open any more did not take it for good: sent twice is better
    /// than dropped.
    pub(crate) fn takes(&self, id: &str, partition_key: &str) -> bool {
        let hash = hash_key(partition_key);
        self.0.iter().find(|shard| shard.id == id).is_some_and(|shard| (shard.first..=shard.last).contains(&hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_shard_whose_range_holds_its_hash() {
        let half = u128::MAX / 2;
        let shard = |id: &str, first, last| Shard { id: id.into(), first, last };
        let map = ShardMap::new(vec![shard("b", half + 1, u128::MAX), shard("a", 0, half)]);
        // The MD5 of `a` begins with 0c, that of `b` with 92.
        assert_eq!(map.get(map.place("a").0).unwrap().id, "a");
        assert_eq!(map.get(map.place("b").0).unwrap().id, "b");
        assert!(map.takes("a", "a") && !map.takes("a", "b") && !map.takes("closed", "b"));
    }
}
