//! What is staged of a table and not in it yet.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use weir_changes::{Entry, Source, TableDefinition};
use weir_delivery::Failure;
use weir_lake::ObjectInfo;
use weir_ledger::backlog::Backlog;

use crate::Cdc;
use crate::staged::{Line, Name, folder, read};

/// So many bytes of staged files go into one commit at most.
const MOST_BYTES: u64 = 8 << 20;

/// And so many of their lines' bytes, a file more or less: in memory they are several times that. Rows of nothing compress well.
const MOST_JSON: u64 = 64 << 20;

/// Down to this power of two of that, after failures.
const SMALLEST_PART: u32 = 5;

/// And so many files: each is a request.
const MOST_FILES: usize = 2_000;

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

/// How far each shard was ever noted: a table that went back is behind what was in it before.
fn noted(backlog: &Backlog) -> impl Iterator<Item = (&str, &str)> {
    let settled = backlog.covered.keys().filter(|shard| !backlog.staged.contains_key(*shard));
    backlog.staged.keys().chain(settled).filter_map(|shard| {
        let upto = backlog.staged.get(shard).into_iter().chain(backlog.covered.get(shard)).max()?;
        Some((shard.as_str(), upto.as_str()))
    })
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
    let enough = enough.or((all.len() > MOST_FILES).then_some(MOST_FILES)).map(|enough| enough.min(MOST_FILES));
    let rest = enough.map(|enough| all.split_off(enough));
    (all, rest.is_some())
}

impl Cdc {
    /// Reads what is staged of a table behind `covered`, up to what was noted, now or ever: what is noted is there, and all before it of its
    /// shard, whatever a listing shows of what is being written just now.
    pub(crate) async fn drain(
        &self,
        source: &Source,
        covered: &Positions,
        backlog: &Backlog,
    ) -> Result<Drained, Failure> {
        let mut drained = Drained::default();
        let mut shards = Vec::new();
        for (shard, upto) in noted(backlog) {
            let from = covered.get(shard).map_or("", String::as_str);
            if from >= upto {
                continue;
            }
            let files = self.files_of(source, shard, from, upto).await?;
            // What was noted first of it is not there any more: none of it, or what is there begins behind it.
            let first = backlog.oldest.get(shard).filter(|first| from < first.as_str());
            let begins = files.first().map(|(name, _)| &name.last);
            if begins.is_none_or(|begins| first.is_some_and(|first| begins > first)) {
                drained.gone.push(shard.to_owned());
            }
            if begins.is_none() {
                drained.upto.insert(shard.to_owned(), upto.to_owned());
            }
            shards.push(files);
        }
        // One of which commits die, perhaps for want of memory or time, gets smaller ones.
        let part = backlog.failures.saturating_sub(1).min(SMALLEST_PART);
        let (files, more) = chosen(shards, MOST_BYTES >> part);
        drained.more = more;
        drained.oldest_ms = files.first().map(|(_, object)| object.modified_ms);
        let mut reads: Vec<BoxFuture<'_, Result<_, Failure>>> = Vec::new();
        for (name, object) in files {
            reads.push(Box::pin(async move { Ok((name, self.lines_of(&object).await?)) }));
        }
        let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
        let mut json = 0;
        while let Some((name, (lines, size))) = reads.try_next().await? {
            if json > MOST_JSON >> part {
                drained.more = true;
                break;
            }
            json += size;
            drained.files += 1;
            for line in lines {
                match line {
                    Line::Change(entry) => drained.entries.push(entry),
                    Line::Definition(definition) => drained.definition = Some(definition),
                }
            }
            let upto = drained.upto.entry(name.shard).or_default();
            if *upto < name.last {
                *upto = name.last;
            }
        }
        Ok(drained)
    }

    /// What is said first of how a table is, of all that is staged: for one that nothing is known of yet.
    pub(crate) async fn first_definition(
        &self,
        source: &Source,
        covered: &Positions,
        backlog: &Backlog,
    ) -> Result<Option<TableDefinition>, Failure> {
        for (shard, upto) in noted(backlog) {
            let mut from = covered.get(shard).cloned().unwrap_or_default();
            while from.as_str() < upto {
                let files = self.files_of(source, shard, &from, upto).await?;
                let Some((last, _)) = files.last() else { break };
                from.clone_from(&last.last);
                for (_, object) in &files {
                    let (lines, _) = self.lines_of(object).await?;
                    let said = lines.into_iter().find_map(|line| match line {
                        Line::Definition(definition) => Some(definition),
                        Line::Change(_) => None,
                    });
                    if said.is_some() {
                        return Ok(said);
                    }
                }
            }
        }
        Ok(None)
    }

    async fn lines_of(&self, object: &ObjectInfo) -> Result<(Vec<Line>, u64), Failure> {
        let bytes = self.lake.get(&object.location, Some(&object.etag), 0, object.size).await?;
        read(&bytes, &object.location)
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
