//! Whether a table is whole: every file read, every key made again, every commit's files looked for.

use std::collections::{BTreeSet, HashMap, HashSet};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use serde::Serialize;
use weir_delivery::Failure;

use crate::base::meta_index;
use crate::keys::{partition_paths, record_keys};
use crate::locate::hash;
use crate::names::{bucket_in, bucket_of};
use crate::table::Table;
use crate::view::Slice;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verdict {
    /// Files that readers see.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What readers would get wrong, or not at all.
    pub broken: Vec<String>,
    /// What is no harm, and will be gone with the next commit or the next cleaning.
    pub left_over: Vec<String>,
}

/// What may be wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Trouble {
    Key,
    Twice,
    Folder,
    File,
    Time,
    Bucket,
}

/// Of each kind of trouble in a file, so many rows are named.
const NAMED: usize = 3;

impl Table {
    /// Reads all of it, and says what is not as it should be.
    ///
    /// # Errors
    /// The lake's. A file that can't be read is a finding.
    pub async fn verify(&self) -> Result<Verdict, Failure> {
        let mut verdict = Verdict::default();
        let mut keys = HashSet::new();
        for slice in self.view.slices(None) {
            verdict.files += 1;
            verdict.bytes += slice.object.size;
            match self.rows_of(slice).await {
                Ok(all) => {
                    for rows in &all {
                        verdict.rows += rows.num_rows() as u64;
                        self.check_rows(slice, rows, &mut keys, &mut verdict.broken)?;
                    }
                }
                Err(failure) if failure.code == "HudiFile" => verdict.broken.push(failure.reason),
                Err(failure) => return Err(failure),
            }
        }
        self.check_commits(&mut verdict.broken).await?;
        let folders: BTreeSet<&str> = self.view.slices(None).iter().map(|slice| slice.partition.as_str()).collect();
        let unmarked = folders.into_iter().filter(|folder| !self.view.partitions.contains(*folder));
        let unmarked = unmarked.map(|folder| {
            format!(
                "the folder `{folder}` does not say that it is a partition: Hive would read all versions of its rows"
            )
        });
        verdict.broken.extend(unmarked);
        let begun = self.view.timeline.pending().map(|entry| format!("{} was begun and is not done", entry.instant));
        let orphans = self.view.orphans().map(|slice| format!("{} is of no commit", slice.object.location));
        verdict.left_over = begun.chain(orphans).collect();
        Ok(verdict)
    }

    fn check_rows(
        &self,
        slice: &Slice,
        rows: &RecordBatch,
        seen: &mut HashSet<u128>,
        broken: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let at = &slice.object.location;
        let meta = |name: &str| rows.column(meta_index(name)).as_string::<i32>().clone();
        let (keys, paths) = (meta("_hoodie_record_key"), meta("_hoodie_partition_path"));
        let (names, times) = (meta("_hoodie_file_name"), meta("_hoodie_commit_time"));
        let made = record_keys(rows, &self.settings.key);
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                broken.push(format!("{at}: {failure}"));
                return Ok(());
            }
        };
        let folders = partition_paths(rows, self.settings.partition.as_deref())?;
        let own_instant = slice.base.instant.to_string();
        let mut said = HashMap::<Trouble, usize>::new();
        let mut say = |kind: Trouble, text: String| {
            let count = said.entry(kind).or_default();
            *count += 1;
            if *count <= NAMED {
                broken.push(format!("{at}: {text}"));
            }
        };
        for (row, (key, folder)) in made.iter().zip(&folders).enumerate() {
            let kept = keys.value(row);
            if kept != key {
                say(Trouble::Key, format!("a row of the key `{key}` is kept under `{kept}`"));
            }
            if !seen.insert(hash(key)) {
                say(Trouble::Twice, format!("the key `{key}` is there more than once"));
            }
            if paths.value(row) != slice.partition || *folder != slice.partition {
                say(Trouble::Folder, format!("the row `{key}` belongs into `{folder}`"));
            }
            if names.value(row) != at.file_name() {
                say(Trouble::File, format!("the row `{key}` says that it is in {}", names.value(row)));
            }
            if times.value(row) > own_instant.as_str() {
                say(Trouble::Time, format!("the row `{key}` is of {}, later than its file", times.value(row)));
            }
            let bucket = self.settings.buckets.map(|buckets| bucket_of(key, buckets));
            if bucket.is_some() && bucket != bucket_in(&slice.base.file_id) {
                say(Trouble::Bucket, format!("the row `{key}` belongs into bucket {}", bucket.unwrap_or(0)));
            }
        }
        Ok(())
    }

    /// What the commits say that they wrote is there, as far as readers need it.
    async fn check_commits(&self, broken: &mut Vec<String>) -> Result<(), Failure> {
        let sizes: HashMap<&str, u64> =
            self.view.files.iter().map(|slice| (slice.object.location.key(), slice.object.size)).collect();
        // From the newest on: only a group's last file is needed.
        let mut groups = HashSet::new();
        for instant in self.view.timeline.commits().rev() {
            let commit = match self.commit_at(instant).await {
                Err(failure) if failure.code == "HudiCommit" => {
                    broken.push(failure.reason);
                    continue;
                }
                commit => commit?,
            };
            for stat in commit.partition_to_write_stats.into_values().flatten() {
                let group = (stat.partition_path.clone(), stat.file_id.clone());
                if self.view.replaced.contains_key(&group) || !groups.insert(group) {
                    continue;
                }
                let at = self.place.join(&stat.path);
                match sizes.get(at.key()) {
                    None => broken.push(format!("{at}, which {instant} wrote, is gone")),
                    Some(size) if *size != stat.file_size_in_bytes.unsigned_abs() => {
                        broken.push(format!("{at} has {size} bytes, and {instant} wrote {}", stat.file_size_in_bytes));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}
