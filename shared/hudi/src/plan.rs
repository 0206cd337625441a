//! Which changes win, and which file group each of them goes to, purely.

use std::collections::{BTreeMap, HashMap};

/// A change, as far as planning goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The partition that the row is to be in.
    pub(crate) partition: String,
    /// Whether the row is to go.
    pub(crate) is_delete: bool,
    /// Its bucket, in a table that has them.
    pub(crate) bucket: Option<u32>,
}

/// A slice that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) partition: String,
    pub(crate) bytes: u64,
    pub(crate) rows: Option<u64>,
    pub(crate) bucket: Option<u32>,
}

/// A row that is there of a change's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) change: usize,
    pub(crate) slice: usize,
    pub(crate) row: usize,
    /// Whether the change is later than the row.
    pub(crate) is_newer: bool,
}

/// Where a group's new slice goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// In the place of this one.
    Slice(usize),
    /// A new file group.
    New { partition: String, bucket: Option<u32> },
}

/// What is done to a file group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) target: Target,
    /// Rows of the old slice by their number: the change that takes their place, or nothing.
    pub(crate) replace: BTreeMap<usize, Option<usize>>,
    /// Changes that come behind.
    pub(crate) append: Vec<usize>,
}

/// What became of the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that took the place of an older version.
    pub updated: u64,
    /// Rows that are gone.
    pub deleted: u64,
    /// Of those that were updated: rows that are in another partition now.
    pub moved: u64,
    /// Changes that lost against the version that is there: it is as late or later.
    pub late: u64,
    /// Deletes of rows that are not there.
    pub absent: u64,
}

/// How large files become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) target_bytes: u64,
    /// Bytes of a row, where no file says it.
    pub(crate) row_bytes: u64,
}

/// A slice takes more rows up to this part of the target.
const SMALL: (u64, u64) = (3, 4);

pub(crate) fn plan(wanted: &[Wanted], known: &[Known], found: &[Found], sizes: Sizes) -> (Vec<Group>, Counts) {
    let mut counts = Counts::default();
    let mut by_change: HashMap<usize, Vec<&Found>> = HashMap::new();
    for one in found {
        by_change.entry(one.change).or_default().push(one);
    }
    let mut replace: BTreeMap<usize, BTreeMap<usize, Option<usize>>> = BTreeMap::new();
    let mut inserts = Vec::new();
    for (change, want) in wanted.iter().enumerate() {
        let there = by_change.get(&change).map_or(&[][..], Vec::as_slice);
        if there.iter().any(|one| !one.is_newer) {
            counts.late += 1;
            continue;
        }
        match (there.is_empty(), want.is_delete) {
            (true, true) => counts.absent += 1,
            (true, false) => counts.inserted += 1,
            (false, true) => counts.deleted += 1,
            (false, false) => counts.updated += 1,
        }
        // A row that is there more than once, which no writer should have left so, is there once after this.
        let stays = there.iter().position(|one| {
            !want.is_delete && known.get(one.slice).is_some_and(|slice| slice.partition == want.partition)
        });
        for (n, one) in there.iter().enumerate() {
            let by = (Some(n) == stays).then_some(change);
            replace.entry(one.slice).or_default().insert(one.row, by);
        }
        if !want.is_delete && stays.is_none() {
            counts.moved += u64::from(!there.is_empty());
            inserts.push(change);
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (slice, replace) in replace {
        groups.insert(slice, Group { target: Target::Slice(slice), replace, append: Vec::new() });
    }
    let mut new = Vec::new();
    Packing { wanted, known, row_bytes: row_bytes(known, sizes), target: sizes.target_bytes }.pack(
        inserts,
        &mut groups,
        &mut new,
    );
    (groups.into_values().chain(new).collect(), counts)
}

fn row_bytes(known: &[Known], sizes: Sizes) -> u64 {
    let counted = known.iter().filter_map(|slice| Some((slice.bytes, slice.rows?)));
    let (bytes, rows) = counted.fold((0, 0), |(bytes, rows), (more, count)| (bytes + more, rows + count));
    // Few rows are mostly footer.
    if rows < 1_000 { sizes.row_bytes.max(1) } else { (bytes / rows).max(1) }
}

struct Packing<'a> {
    wanted: &'a [Wanted],
    known: &'a [Known],
    row_bytes: u64,
    target: u64,
}

impl Packing<'_> {
    /// Inserts go to the smallest slices of their partition, until they are no longer small, and then to new groups; with buckets,
    /// to their bucket's.
    fn pack(&self, inserts: Vec<usize>, groups: &mut BTreeMap<usize, Group>, new: &mut Vec<Group>) {
        let mut by_place: BTreeMap<(&str, Option<u32>), Vec<usize>> = BTreeMap::new();
        for change in inserts {
            if let Some(want) = self.wanted.get(change) {
                by_place.entry((&want.partition, want.bucket)).or_default().push(change);
            }
        }
        for ((partition, bucket), mut changes) in by_place {
            for slice in self.open(partition, bucket) {
                if changes.is_empty() {
                    break;
                }
                let bytes = self.known.get(slice).map_or(0, |slice| slice.bytes);
                let room = match bucket {
                    Some(_) => usize::MAX,
                    None => self.rows_in(self.target.saturating_sub(bytes)),
                };
                let rest = changes.split_off(room.min(changes.len()));
                let fresh = || Group { target: Target::Slice(slice), replace: BTreeMap::new(), append: Vec::new() };
                groups.entry(slice).or_insert_with(fresh).append.append(&mut changes);
                changes = rest;
            }
            let most = if bucket.is_some() { usize::MAX } else { self.rows_in(self.target) };
            for some in changes.chunks(most) {
                let target = Target::New { partition: partition.to_owned(), bucket };
                new.push(Group { target, replace: BTreeMap::new(), append: some.to_vec() });
            }
        }
    }

    /// Slices that take rows, the smallest first.
    fn open(&self, partition: &str, bucket: Option<u32>) -> Vec<usize> {
        let small = self.target / SMALL.1 * SMALL.0;
        let fits = |slice: &Known| match bucket {
            Some(_) => slice.bucket == bucket,
            None => slice.partition == partition && slice.bytes < small,
        };
        let mut open: Vec<(usize, u64)> =
            self.known.iter().enumerate().filter(|(_, slice)| fits(slice)).map(|(n, slice)| (n, slice.bytes)).collect();
        open.sort_by_key(|(n, bytes)| (*bytes, *n));
        open.into_iter().map(|(n, _)| n).collect()
    }

    fn rows_in(&self, bytes: u64) -> usize {
        usize::try_from(bytes / self.row_bytes).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { target_bytes: 1_000, row_bytes: 100 };

    fn put(partition: &str) -> Wanted {
        Wanted { partition: partition.to_owned(), is_delete: false, bucket: None }
    }

    fn delete() -> Wanted {
        Wanted { is_delete: true, ..put("") }
    }

    fn known(partition: &str, bytes: u64) -> Known {
        Known { partition: partition.to_owned(), bytes, rows: None, bucket: None }
    }

    fn found(change: usize, slice: usize, row: usize, is_newer: bool) -> Found {
        Found { change, slice, row, is_newer }
    }

    #[test]
    fn the_later_version_wins_and_rows_move() {
        let wanted = [put("a"), put("b"), delete(), put("a"), delete()];
        let there = [found(0, 0, 7, true), found(1, 0, 3, true), found(2, 0, 5, true), found(3, 0, 9, false)];
        let (groups, counts) = plan(&wanted, &[known("a", 900)], &there, SIZES);
        assert_eq!(counts, Counts { updated: 2, moved: 1, deleted: 1, late: 1, absent: 1, ..Counts::default() });
        let old =
            Group { target: Target::Slice(0), replace: [(7, Some(0)), (3, None), (5, None)].into(), append: vec![] };
        let new = Group {
            target: Target::New { partition: "b".into(), bucket: None },
            replace: BTreeMap::new(),
            append: vec![1],
        };
        assert_eq!(groups, [old, new]);
    }

    #[test]
    fn a_row_that_is_there_twice_is_there_once() {
        let there = [found(0, 0, 1, true), found(0, 1, 2, true)];
        let (groups, counts) = plan(&[put("b")], &[known("a", 9), known("b", 9)], &there, SIZES);
        assert_eq!((counts.updated, counts.moved, groups.len()), (1, 0, 2));
        assert_eq!((&groups[0].replace, &groups[1].replace), (&[(1, None)].into(), &[(2, Some(0))].into()));
        // If any of them is later, the change is late.
        let there = [found(0, 0, 1, true), found(0, 1, 2, false)];
        assert_eq!(plan(&[put("b")], &[known("a", 9), known("b", 9)], &there, SIZES).1.late, 1);
    }

    #[test]
    fn inserts_fill_small_files_first() {
        let wanted = vec![put("a"); 25];
        let slices = [known("a", 800), known("a", 600), known("a", 300), known("b", 0)];
        let (groups, _) = plan(&wanted, &slices, &[], SIZES);
        let sizes: Vec<_> = groups.iter().map(|group| (group.target.clone(), group.append.len())).collect();
        let new = Target::New { partition: "a".into(), bucket: None };
        assert_eq!(sizes, [(Target::Slice(1), 4), (Target::Slice(2), 7), (new.clone(), 10), (new, 4)]);
    }

    #[test]
    fn inserts_go_to_their_bucket() {
        let wanted = [1, 2, 1].map(|bucket| Wanted { bucket: Some(bucket), ..put("") });
        let slices = [Known { bucket: Some(1), ..known("", 5_000) }];
        let (groups, _) = plan(&wanted, &slices, &[], SIZES);
        let sizes: Vec<_> = groups.iter().map(|group| (group.target.clone(), group.append.clone())).collect();
        assert_eq!(
            sizes,
            [(Target::Slice(0), vec![0, 2]), (Target::New { partition: String::new(), bucket: Some(2) }, vec![1])]
        );
    }
}
