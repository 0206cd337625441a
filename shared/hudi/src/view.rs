//! What lies in a table's folder, and which of its files readers see, purely.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use weir_command::Location;
use weir_lake::ObjectInfo;

use crate::names::BaseFile;
use crate::timeline::{Instant, Timeline};

/// The file that says that a folder is a partition, and how deep.
pub const PARTITION_METADATA: &str = ".hoodie_partition_metadata";

/// A base file where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The folder, below the table; empty without partitions.
    pub partition: String,
    /// Its name.
    pub base: BaseFile,
    /// The object.
    pub object: ObjectInfo,
}

/// A table's folder.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What was done to it.
    pub timeline: Timeline,
    /// Every base file, those that nobody sees included.
    pub files: Vec<Slice>,
    /// Folders that say that they are partitions.
    pub partitions: BTreeSet<String>,
    /// What writers keep for the time of their commit: `.hoodie/.temp/`.
    pub temporary: Vec<Location>,
    /// Whether there is a metadata table.
    pub has_metadata_table: bool,
    /// Whether there is a history of its schema: of columns that were renamed or dropped.
    pub has_schema_history: bool,
    /// File groups that a replacing commit took away, by partition and group, and when. Read from the commits' own files.
    pub replaced: BTreeMap<(String, String), Instant>,
}

impl View {
    /// From all objects under the table.
    pub fn of(at: &Location, objects: Vec<ObjectInfo>) -> Self {
        let mut view = Self::default();
        let mut names = Vec::new();
        let root = at.as_prefix();
        for object in objects {
            let Some(path) = object.location.key().strip_prefix(root.key()) else { continue };
            if let Some(own) = path.strip_prefix(".hoodie/") {
                match own.split_once('/') {
                    None => names.push(own.to_owned()),
                    Some((".temp", _)) => view.temporary.push(object.location.clone()),
                    Some(("metadata", _)) => view.has_metadata_table = true,
                    Some((".schema", file)) => view.has_schema_history |= !file.is_empty(),
                    Some(_) => {}
                }
                continue;
            }
            let (partition, name) = path.rsplit_once('/').unwrap_or(("", path));
            if name == PARTITION_METADATA {
                view.partitions.insert(partition.to_owned());
            } else if let Some(base) = BaseFile::parse(name) {
                view.files.push(Slice { partition: partition.to_owned(), base, object });
            }
        }
        view.timeline = Timeline::of(names.iter().map(String::as_str));
        view
    }

    /// The slices that a reader sees: of each file group the last one that was committed, as of an instant or now.
    pub fn slices(&self, as_of: Option<&Instant>) -> Vec<&Slice> {
        let mut last: BTreeMap<(&str, &str), &Slice> = BTreeMap::new();
        for slice in self.committed().filter(|slice| as_of.is_none_or(|as_of| slice.base.instant <= *as_of)) {
            let known = last.entry((&slice.partition, &slice.base.file_id)).or_insert(slice);
            if known.base.instant < slice.base.instant {
                *known = slice;
            }
        }
        let is_replaced = |slice: &&Slice| {
            let at = self.replaced.get(&(slice.partition.clone(), slice.base.file_id.clone()));
            at.is_some_and(|at| as_of.is_none_or(|as_of| at <= as_of))
        };
        last.into_values().filter(|slice| !is_replaced(slice)).collect()
    }

    /// Files of commits that are done: what is on the timeline, and what is older than all that is still on it.
    fn committed(&self) -> impl Iterator<Item = &Slice> {
        let done: HashSet<&Instant> = self.timeline.commits().collect();
        let begun: HashSet<&Instant> = self.timeline.pending().map(|entry| &entry.instant).collect();
        let begin = self.timeline.begin();
        self.files.iter().filter(move |slice| {
            let instant = &slice.base.instant;
            done.contains(instant) || begin.is_some_and(|begin| instant < begin) && !begun.contains(instant)
        })
    }

    /// Slices that no reader sees who asks for the table as it was at this instant or later, but for those of savepoints.
    pub fn superseded(&self, by: &Instant) -> Vec<&Slice> {
        let kept: Vec<&Instant> = self.timeline.savepoints().collect();
        let mut groups: BTreeMap<(&str, &str), Vec<&Slice>> = BTreeMap::new();
        for slice in self.committed() {
            groups.entry((&slice.partition, &slice.base.file_id)).or_default().push(slice);
        }
        let mut found = Vec::new();
        for (group, mut slices) in groups {
            slices.sort_by(|one, other| one.base.instant.cmp(&other.base.instant));
            let gone = self.replaced.get(&(group.0.to_owned(), group.1.to_owned()));
            let ends = slices.iter().skip(1).map(|slice| Some(&slice.base.instant)).chain([gone]);
            let ended = slices.iter().zip(ends).filter_map(|(slice, end)| {
                let end = end.filter(|end| *end <= by)?;
                let is_kept = kept.iter().any(|at| slice.base.instant <= **at && **at < *end);
                (!is_kept).then_some(*slice)
            });
            found.extend(ended);
        }
        found
    }

    /// Files of instants that nobody committed, and that are no longer on the timeline as begun: of a writer that went on after its
    /// instant was taken back. They are hidden as long as something older than they are is on the timeline.
    pub fn orphans(&self) -> impl Iterator<Item = &Slice> {
        let known: HashSet<&Instant> = self.timeline.entries().iter().map(|entry| &entry.instant).collect();
        let begin = self.timeline.begin();
        self.files.iter().filter(move |slice| {
            begin.is_some_and(|begin| slice.base.instant > *begin) && !known.contains(&slice.base.instant)
        })
    }
}

#[cfg(test)]
mod tests {
    use weir_lake::Attributes;

    use super::*;

    fn view(keys: &[&str]) -> View {
        let at = Location::parse("s3://tables/t/").unwrap();
        let object = |key: &&str| ObjectInfo {
            location: at.join(key),
            size: 1,
            etag: String::new(),
            modified_ms: 0,
            attributes: Attributes::default(),
        };
        View::of(&at, keys.iter().map(object).collect())
    }

    fn seen(view: &View, as_of: Option<&str>) -> Vec<String> {
        let as_of = as_of.map(|text| Instant::parse(text).unwrap());
        view.slices(as_of.as_ref()).iter().map(|slice| slice.object.location.file_name().to_owned()).collect()
    }

    const TABLE: [&str; 14] = [
        ".hoodie/.temp/20240101000000009/MARKERS0",
        ".hoodie/20240101000000001.commit",
        ".hoodie/20240101000000003.commit",
        ".hoodie/20240101000000009.commit.requested",
        ".hoodie/20240101000000009.inflight",
        ".hoodie/hoodie.properties",
        "dt=1/.hoodie_partition_metadata",
        "dt=1/a-0_0-0-0_20240101000000000.parquet",
        "dt=1/a-0_0-0-0_20240101000000001.parquet",
        "dt=1/a-0_0-0-0_20240101000000003.parquet",
        "dt=1/a-0_0-0-0_20240101000000009.parquet",
        "dt=1/b-0_0-0-0_20240101000000000.parquet",
        "dt=1/c-0_0-0-0_20240101000000002.parquet",
        "dt=2/a-0_0-0-0_20240101000000003.parquet",
    ];

    #[test]
    fn readers_see_what_was_committed_last() {
        let view = view(&TABLE);
        let a = |n: u32| format!("a-0_0-0-0_2024010100000000{n}.parquet");
        let old = "b-0_0-0-0_20240101000000000.parquet".to_owned();
        assert_eq!(seen(&view, None), [a(3), old.clone(), a(3)]);
        assert_eq!(seen(&view, Some("20240101000000002")), [a(1), old.clone()]);
        assert_eq!(seen(&view, Some("20240101000000000")), [a(0), old]);
        assert_eq!((view.partitions.len(), view.temporary.len(), view.has_metadata_table), (1, 1, false));
        let orphans: Vec<_> = view.orphans().map(|slice| slice.base.file_id.as_str()).collect();
        assert_eq!(orphans, ["c-0"]);
    }

    #[test]
    fn what_a_replacing_commit_took_away_is_not_seen() {
        let mut view = view(&TABLE);
        view.replaced.insert(("dt=1".into(), "a-0".into()), Instant::parse("20240101000000004").unwrap());
        assert_eq!(seen(&view, None).len(), 2);
        assert_eq!(seen(&view, Some("20240101000000003")).len(), 3);
        let by = Instant::parse("20240101000000004").unwrap();
        assert_eq!(view.superseded(&by).len(), 3);
    }

    #[test]
    fn what_was_begun_is_not_seen_even_before_the_timelines_begin() {
        let early = [".hoodie/20230101000000000.inflight", "dt=1/x-0_0-0-0_20230101000000000.parquet"];
        let all: Vec<&str> = TABLE.into_iter().chain(early).collect();
        assert_eq!(seen(&view(&all), None), seen(&view(&TABLE), None));
    }

    #[test]
    fn a_kept_commit_is_not_the_timelines_begin() {
        // What came after it is no longer on the timeline, and is there all the same.
        let all: Vec<&str> = TABLE.into_iter().filter(|key| !key.contains("01.commit")).collect();
        let kept = [".hoodie/20231231000000000.commit", ".hoodie/20231231000000000.savepoint"];
        let all: Vec<&str> = all.into_iter().chain(kept).collect();
        let view = view(&all);
        assert!(seen(&view, None).contains(&"b-0_0-0-0_20240101000000000.parquet".to_owned()));
        assert_eq!(view.orphans().count(), 0);
    }

    #[test]
    fn what_nobody_can_ask_for_is_superseded() {
        let by = |text: &str| Instant::parse(text).unwrap();
        let instants = |view: &View, text: &str| -> Vec<String> {
            view.superseded(&by(text)).iter().map(|slice| slice.base.instant.to_string()[16..].to_owned()).collect()
        };
        assert_eq!(instants(&view(&TABLE), "20240101000000002"), ["0"]);
        assert_eq!(instants(&view(&TABLE), "20240101000000003"), ["0", "1"]);
        let saved: Vec<&str> = TABLE.iter().copied().chain([".hoodie/20240101000000001.savepoint"]).collect();
        assert_eq!(instants(&view(&saved), "20240101000000003"), ["0"]);
    }
}
