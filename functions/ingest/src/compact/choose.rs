//! Which partitions are worth being compacted.

use std::collections::BTreeMap;

use weir_command::Location;
use weir_contract::Contract;
use weir_delivery::Failure;
use weir_lake::{ObjectInfo, each_page};
use weir_ledger::layout::path_of;
use weir_telemetry::Visit;

use super::{Asked, LARGE_BYTES};
use crate::Ingest;
use crate::placing::Placed;

/// A partition that is worth it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) folder: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    small: u64,
    small_bytes: u64,
}

/// So many small files are worth it, if nobody asks for that day.
const LEAST_SMALL: u64 = 8;

/// Small files of one round, in bytes: half a minute's work (`make bench`: about 10 MB/s of small Parquet files a core).
const ROUND_BYTES: u64 = 256 << 20;

/// Partitions of one round.
const ROUND_FOLDERS: usize = 100;

/// More than this is not sure to be done within one invocation.
const MOST_BYTES: u64 = 4 << 30;

/// The layout's record holds what is moving and what is retired, and every writer reads it after a round; DynamoDB's items have 400 KB.
const MOST_RETIRED: usize = 1_000;

/// What is to be compacted.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) partitions: Vec<Candidate>,
    /// How many more there are, once retired files are deleted.
    pub(crate) put_off: usize,
    /// Those that are too large for one invocation.
    pub(crate) too_large: Vec<String>,
}

/// How many of the candidates are a round.
pub(crate) fn round_of(waiting: &[Candidate]) -> usize {
    let mut bytes = 0;
    let fits = waiting.iter().take(ROUND_FOLDERS).take_while(|candidate| {
        bytes += candidate.small_bytes;
        bytes <= ROUND_BYTES
    });
    fits.count().max(1).min(waiting.len())
}

/// Counts files by partition: `event_date=2024-05-01/x.parquet` and those below `generation=3/`, if that is the generation that is written.
fn count_in(
    found: &mut BTreeMap<String, Candidate>,
    dataset: &str,
    under: &Location,
    objects: &[ObjectInfo],
    placed: &Placed,
) {
    for object in objects {
        let Some(relative) = object.location.key().strip_prefix(under.key()) else { continue };
        let (generation, relative) = match relative.strip_prefix("generation=").and_then(|rest| rest.split_once('/')) {
            Some((generation, rest)) => (generation.parse().unwrap_or(u64::MAX), rest),
            None => (0, relative),
        };
        let Some((path, file)) = relative.rsplit_once('/') else { continue };
        if path.starts_with(['_', '.']) || !file.ends_with(".parquet") {
            continue;
        }
        let folder = format!("{dataset}/{path}/");
        if placed.folders.generation_of(&folder) != generation {
            continue;
        }
        let candidate = found.entry(folder.clone()).or_insert_with(|| Candidate {
            folder,
            files: 0,
            bytes: 0,
            small: 0,
            small_bytes: 0,
        });
        candidate.files += 1;
        candidate.bytes += object.size;
        if object.size < LARGE_BYTES {
            candidate.small += 1;
            candidate.small_bytes += object.size;
        }
    }
}

/// Whether a partition is of one of these days; or, without any, of a day before this.
fn is_of(folder: &str, dates: &[String], today: &str) -> bool {
    let first = folder.split('/').nth(1).and_then(|segment| segment.split_once('=')).map_or("", |(_, value)| value);
    match dates {
        [] => first < today,
        dates => dates.iter().any(|date| date == first),
    }
}

impl Ingest {
    /// The partitions that are asked for, and worth it, those with the most small files first.
    pub(crate) async fn choose(&self, asked: &Asked, visit: &Visit) -> Result<Chosen, Failure> {
        let layout = self.layouts.layout().await?;
        let placed = self.folders_of(&layout).await?;
        let room = MOST_RETIRED.saturating_sub(layout.retired.len() + layout.moving.len());
        let today = date_of(visit.now_ms());
        let (mut chosen, mut too_large) = (Vec::new(), Vec::new());
        for contract in self.asked_for(asked)? {
            let dataset = contract.name();
            let under = self.config.events.join(&format!("{dataset}/"));
            let mut found = BTreeMap::new();
            for prefix in prefixes(contract, &asked.dates, &placed) {
                let count = |objects: Vec<ObjectInfo>| count_in(&mut found, dataset, &under, &objects, &placed);
                each_page(&*self.lake, &self.config.events.join(&prefix), None, count).await?;
            }
            let least = if asked.dates.is_empty() { LEAST_SMALL } else { 2 };
            let worth = found.into_values().filter(|it| {
                is_of(&it.folder, &asked.dates, &today) && it.small >= least && !layout.moving.contains_key(&it.folder)
            });
            let (fit, do_not): (Vec<_>, Vec<_>) = worth.partition(|it| it.small_bytes <= MOST_BYTES);
            chosen.extend(fit);
            too_large.extend(do_not.into_iter().map(|it| it.folder));
        }
        chosen.sort_by_key(|candidate| std::cmp::Reverse(candidate.small));
        let put_off = chosen.len().saturating_sub(room);
        chosen.truncate(room);
        Ok(Chosen { partitions: chosen, put_off, too_large })
    }

    fn asked_for(&self, asked: &Asked) -> Result<Vec<&Contract>, Failure> {
        let mut known: Vec<&Contract> = self.config.topics.values().map(AsRef::as_ref).collect();
        known.sort_by_key(|contract| contract.name());
        known.dedup_by_key(|contract| contract.name());
        let Some(dataset) = &asked.dataset else { return Ok(known) };
        let names: Vec<&str> = known.iter().map(|contract| contract.name()).collect();
        let Some(place) = names.iter().position(|name| name == dataset) else {
            let reason = format!("nothing of `{dataset}` comes from Kafka; what does: {}", names.join(", "));
            return Err(Failure::user("NoSuchDataset", reason));
        };
        Ok(vec![known.swap_remove(place)])
    }
}

/// Where to look: everywhere, or by day, in the first generation and in those that the layout has.
fn prefixes(contract: &Contract, dates: &[String], placed: &Placed) -> Vec<String> {
    let dataset = contract.name();
    let Some(key) = contract.partition_by().first().copied().filter(|_| !dates.is_empty()) else {
        return vec![format!("{dataset}/")];
    };
    let of_day = |date: &String| {
        let folder = format!("{dataset}/{key}={date}/");
        let later = placed.folders.0.iter().filter(|(known, _)| known.starts_with(&folder));
        let later: Vec<String> = later.map(|(known, generation)| path_of(known, *generation)).collect();
        [folder].into_iter().chain(later)
    };
    let mut all: Vec<String> = dates.iter().flat_map(of_day).collect();
    all.sort();
    all.dedup();
    all
}

/// The day of a time, as UTC has it.
fn date_of(ms: u64) -> String {
    let mut text = Vec::new();
    weir_values::write_date(&mut text, weir_values::days_of(i64::try_from(ms.saturating_mul(1000)).unwrap_or(0)));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_lake::Attributes;
    use weir_ledger::layout::Folders;

    fn object(key: &str, size: u64) -> ObjectInfo {
        let location = Location::parse(&format!("s3://tables/events/page_logs/{key}")).unwrap();
        ObjectInfo { location, size, etag: "e".into(), modified_ms: 0, attributes: Attributes::default() }
    }

    #[test]
    fn files_belong_to_the_generation_that_is_written() {
        let under = Location::parse("s3://tables/events/page_logs/").unwrap();
        let day = |n: u32| format!("page_logs/event_date=2024-05-{n:02}/");
        let placed = Placed { generation: 4, folders: Folders([(day(1), 3)].into()) };
        let objects = [
            object("_quarantine/x.ndjson", 5),
            object("event_date=2024-05-01/old.parquet", 10),
            object("event_date=2024-05-02/a.parquet", 10),
            object("event_date=2024-05-02/b.parquet", LARGE_BYTES),
            object("generation=2/event_date=2024-05-01/junk.parquet", 10),
            object("generation=3/event_date=2024-05-01/a.parquet", 10),
            object("generation=3/event_date=2024-05-01/b.parquet", 20),
        ];
        let mut found = BTreeMap::new();
        count_in(&mut found, "page_logs", &under, &objects, &placed);
        let found: Vec<_> = found.into_values().map(|it| (it.folder, it.files, it.small, it.small_bytes)).collect();
        assert_eq!(found, [(day(1), 2, 2, 30), (day(2), 2, 1, 10)]);
    }

    #[test]
    fn a_day_that_is_not_over_waits_unless_it_is_asked_for() {
        let folder = "page_logs/event_date=2024-05-02/pickup_hour=7/";
        assert!(is_of(folder, &[], "2024-05-03") && !is_of(folder, &[], "2024-05-02"));
        assert!(is_of(folder, &["2024-05-02".into()], "2024-05-02"));
        assert!(!is_of(folder, &["2024-05-01".into()], "2024-05-02"));
        assert_eq!(date_of(1_714_557_600_000), "2024-05-01");
    }

    #[test]
    fn a_round_is_of_a_size() {
        let of = |small_bytes| Candidate { folder: String::new(), files: 9, bytes: 9, small: 9, small_bytes };
        assert_eq!(round_of(&[of(ROUND_BYTES / 2), of(ROUND_BYTES / 2), of(1)]), 2);
        assert_eq!(round_of(&[of(ROUND_BYTES * 2), of(1)]), 1, "one at least");
        assert_eq!(round_of(&vec![of(1); 500]), ROUND_FOLDERS);
        assert_eq!(round_of(&[]), 0);
    }
}
