//! What is staged of a table and not in it yet.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use weir_changes::{Entry, Source, TableDefinition};
use weir_delivery::Failure;
use weir_lake::ObjectInfo;

use crate::Cdc;
use crate::staged::{Line, Name, folder, read};

/// So many bytes of staged files go into one commit at most; they are some eight times that as JSON, and more in memory.
const MOST_BYTES: u64 = 8 << 20;

/// Files that are read at a time.
const AT_ONCE: usize = 8;

/// By shard: a sequence number, as a text that sorts.
pub type Positions = BTreeMap<String, String>;

/// What was staged.
#[derive(Debug, Default)]
pub struct Drained {
    /// Changes, those of a shard in its order.
    pub entries: Vec<Entry>,
    /// What was said last of how the table is.
    pub definition: Option<TableDefinition>,
    /// How far that comes, of the shards that it is of.
    pub upto: Positions,
    /// How many files it lay in.
    pub files: usize,
    /// When the oldest of them was written, in milliseconds since the epoch.
    pub oldest_ms: Option<u64>,
    /// Whether there is more.
    pub more: bool,
    /// Shards of which something should be there, and nothing is.
    pub gone: Vec<String>,
}

/// Files in the order in which they are taken, as many as one commit takes: the oldest first, those of a shard as its numbers go.
fn chosen(mut shards: Vec<Vec<(Name, ObjectInfo)>>, most_bytes: u64) -> (Vec<(Name, ObjectInfo)>, bool) {
    for files in &mut shards {
        // A batch that came again may have written an earlier file later.
        let mut latest = 0;
        for (_, object) in files {
            latest = latest.max(object.modified_ms);
            object.modified_ms = latest;
        }
    }
    let mut all: Vec<_> = shards.into_iter().flatten().collect();
    all.sort_by_key(|(_, object)| object.modified_ms);
    let mut bytes = 0;
    let enough = all.iter().position(|(_, object)| {
        let is_first = bytes == 0;
        bytes += object.size;
        bytes > most_bytes && !is_first
    });
    let rest = enough.map(|enough| all.split_off(enough));
    (all, rest.is_some())
}

impl Cdc {
    /// Reads what is staged of a table behind `covered`, up to what was noted: what is noted is there, and all before it of its shard,
    /// whatever a listing shows of what is being written just now.
    pub(crate) async fn drain(
        &self,
        source: &Source,
        covered: &Positions,
        noted: &Positions,
    ) -> Result<Drained, Failure> {
        let (mut shards, mut gone) = (Vec::new(), Vec::new());
        for (shard, upto) in noted {
            let from = covered.get(shard).map_or("", String::as_str);
            if from >= upto.as_str() {
                continue;
            }
            let files = self.files_of(source, shard, from, upto).await?;
            if files.is_empty() {
                gone.push(shard.clone());
            }
            shards.push(files);
        }
        let (files, more) = chosen(shards, MOST_BYTES);
        let mut reads: Vec<BoxFuture<'_, Result<Vec<Line>, Failure>>> = Vec::new();
        for (_, object) in &files {
            reads.push(Box::pin(async move {
                let bytes = self.lake.get(&object.location, Some(&object.etag), 0, object.size).await?;
                read(&bytes, &object.location)
            }));
        }
        let read: Vec<Vec<Line>> = futures::stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let mut drained = Drained {
            files: files.len(),
            oldest_ms: files.first().map(|(_, object)| object.modified_ms),
            more,
            upto: gone.iter().filter_map(|shard| Some((shard.clone(), noted.get(shard)?.clone()))).collect(),
            gone,
            ..Drained::default()
        };
        for line in read.into_iter().flatten() {
            match line {
                Line::Change(entry) => drained.entries.push(entry),
                Line::Definition(definition) => drained.definition = Some(definition),
            }
        }
        for (name, _) in files {
            let upto = drained.upto.entry(name.shard).or_default();
            if *upto < name.last {
                *upto = name.last;
            }
        }
        Ok(drained)
    }

    async fn files_of(
        &self,
        source: &Source,
        shard: &str,
        from: &str,
        upto: &str,
    ) -> Result<Vec<(Name, ObjectInfo)>, Failure> {
        let root = self.config.staged();
        let under = folder(&root, source, shard);
        // Behind all files that come as far as that: `.` is what comes after `-`.
        let mut after = (!from.is_empty()).then(|| format!("{}{from}.", under.key()));
        let mut files = Vec::new();
        loop {
            let page = self.lake.list(&under, after.as_deref()).await?;
            after = page.objects.last().map(|object| object.location.key().to_owned());
            for object in page.objects {
                let Some(name) = Name::read(&root, &object.location) else { continue };
                if name.last.as_str() > upto {
                    return Ok(files);
                }
                files.push((name, object));
            }
            if !page.more || files.iter().map(|(_, object)| object.size).sum::<u64>() > MOST_BYTES {
                return Ok(files);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_command::Location;
    use weir_lake::Attributes;

    use super::*;
    use crate::staged::padded;

    fn file(shard: &str, last: u64, modified_ms: u64, size: u64) -> (Name, ObjectInfo) {
        let source = Source { schema: "public".into(), table: "t".into() };
        let name = Name { source, shard: shard.into(), last: padded(&last.to_string()), first: padded("1") };
        let location = name.at(&Location::parse("s3://bucket/staged/").unwrap());
        (name, ObjectInfo { location, size, etag: String::new(), modified_ms, attributes: Attributes::default() })
    }

    fn told(files: &[(Name, ObjectInfo)]) -> Vec<String> {
        files.iter().map(|(name, _)| format!("{}{}", name.shard, name.last.trim_start_matches('0'))).collect()
    }

    #[test]
    fn shards_keep_their_order_and_the_oldest_goes_first() {
        // The first of `a` was written again, when its batch came again.
        let a = vec![file("a", 1, 50, 1), file("a", 2, 20, 1)];
        let b = vec![file("b", 7, 10, 1), file("b", 8, 60, 1)];
        let (files, more) = chosen(vec![a.clone(), b.clone()], 100);
        assert_eq!((told(&files), more), (["b7", "a1", "a2", "b8"].map(String::from).to_vec(), false));
        let (files, more) = chosen(vec![a, b], 2);
        assert_eq!((told(&files), more), (["b7", "a1"].map(String::from).to_vec(), true));
        let (files, more) = chosen(vec![vec![file("a", 1, 1, 500)]], 2);
        assert_eq!((files.len(), more), (1, false), "one is always taken");
    }
}
