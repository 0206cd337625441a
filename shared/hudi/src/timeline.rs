//! The timeline: what was done to a table, in order, and what somebody has begun. It is the files in `.hoodie/`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// When something was done: `yyyyMMddHHmmssSSS`, UTC. Unlike that of anything else done to the table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instant(String);

/// Digits of an instant; those that Hudi wrote before 0.10 have no milliseconds.
const DIGITS: [usize; 2] = [17, 14];

impl Instant {
    /// From digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Self(text.to_owned()))
    }

    /// Of a time in milliseconds since 1970.
    pub fn of(ms: i64) -> Option<Self> {
        let time = jiff::Timestamp::from_millisecond(ms).ok()?;
        Self::parse(&time.strftime("%Y%m%d%H%M%S%3f").to_string())
    }

    /// The time, in milliseconds since 1970; nothing if it is no time.
    pub fn ms(&self) -> Option<i64> {
        let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", self.0.get(..14)?).ok()?;
        let ms: i64 = self.0.get(14..).filter(|ms| !ms.is_empty()).map_or(Some(0), |ms| ms.parse().ok())?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond() + ms)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is done at an instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Base files are written.
    Commit,
    /// Base files are written that replace whole file groups: clustering, or an overwrite.
    Replace,
    /// Old slices are deleted.
    Clean,
    /// What was begun is taken back.
    Rollback,
    /// An instant that is to be kept.
    Savepoint,
    /// Anything else: of merge-on-read tables, or of a Hudi that is newer.
    Other(String),
}

impl Action {
    fn of(name: &str) -> Self {
        match name {
            "commit" => Self::Commit,
            "replacecommit" => Self::Replace,
            "clean" => Self::Clean,
            "rollback" => Self::Rollback,
            "savepoint" => Self::Savepoint,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Somebody will.
    Requested,
    /// Somebody is at it, or was.
    Inflight,
    /// It is done: readers see it.
    Completed,
}

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub instant: Instant,
    /// What.
    pub action: Action,
    /// How far.
    pub state: State,
}

/// A table's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timeline {
    entries: Vec<Entry>,
}

/// What a file in `.hoodie/` says; nothing if it is not of the timeline.
fn read(name: &str) -> Option<(Instant, Action, State)> {
    let (instant, rest) = name.split_once('.')?;
    let instant = Instant::parse(instant)?;
    Some(match rest.rsplit_once('.') {
        // A commit's alone does not say what it is of.
        None if rest == "inflight" => (instant, Action::Commit, State::Inflight),
        None => (instant, Action::of(rest), State::Completed),
        Some((action, "inflight")) => (instant, Action::of(action), State::Inflight),
        Some((action, "requested")) => (instant, Action::of(action), State::Requested),
        Some(_) => return None,
    })
}

impl Timeline {
    /// From the names of the files in `.hoodie/`.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut furthest: BTreeMap<(Instant, Action), State> = BTreeMap::new();
        for (instant, action, state) in names.into_iter().filter_map(read) {
            let known = furthest.entry((instant, action)).or_insert(state);
            *known = state.max(*known);
        }
        let entry = |((instant, action), state)| Entry { instant, action, state };
        Self { entries: furthest.into_iter().map(entry).collect() }
    }

    /// All, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What was begun and is not done: of somebody who is at it, or is gone.
    pub fn pending(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state != State::Completed)
    }

    /// The commits that readers see, in order.
    pub fn commits(&self) -> impl DoubleEndedIterator<Item = &Instant> {
        let seen = |entry: &&Entry| {
            entry.state == State::Completed && matches!(entry.action, Action::Commit | Action::Replace)
        };
        self.entries.iter().filter(seen).map(|entry| &entry.instant)
    }

    /// Instants that are to be kept.
    pub fn savepoints(&self) -> impl Iterator<Item = &Instant> {
        let kept = |entry: &&Entry| entry.state == State::Completed && entry.action == Action::Savepoint;
        self.entries.iter().filter(kept).map(|entry| &entry.instant)
    }

    /// Files that are older than this were committed, though nothing on the timeline says so any more: the first commit that is on it for
    /// another reason than to be kept (Hudi's `getFirstNonSavepointCommit`).
    pub fn begin(&self) -> Option<&Instant> {
        let kept: Vec<&Instant> = self.savepoints().collect();
        self.commits().find(|commit| !kept.contains(commit)).or_else(|| self.commits().next())
    }

    /// The instant of what is done next: now, or behind all that was, should the clock be slow. `known`: an instant that there was, too.
    pub fn next(&self, now_ms: i64, known: Option<&Instant>) -> Option<Instant> {
        let last = self.entries.last().map(|entry| &entry.instant).max(known);
        let behind = last.and_then(Instant::ms).map_or(now_ms, |last| now_ms.max(last + 1));
        Instant::of(behind).filter(|next| last.is_none_or(|last| next > last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn instant(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    #[test]
    fn files_are_read_as_hudi_names_them() {
        let timeline = Timeline::of([
            "20241121103000123.commit.requested",
            "20241121103000123.inflight",
            "20241121103000123.commit",
            "20241121103001000.clean.requested",
            "20241121103001000.clean.inflight",
            "20241121103002000.commit.requested",
            "20241121103002000.inflight",
            "20241121103003000.deltacommit.inflight",
            "hoodie.properties",
            ".temp",
            "20241121103002000",
        ]);
        let found: Vec<_> = timeline.entries().iter().map(|entry| (&entry.action, entry.state)).collect();
        let other = Action::Other("deltacommit".to_owned());
        let expected = [
            (&Action::Commit, State::Completed),
            (&Action::Clean, State::Inflight),
            (&Action::Commit, State::Inflight),
            (&other, State::Inflight),
        ];
        assert_eq!(found, expected);
        assert_eq!(timeline.commits().collect::<Vec<_>>(), [&instant("20241121103000123")]);
        assert_eq!(timeline.pending().count(), 3);
    }

    #[test]
    fn what_comes_next_is_behind_all_that_was() {
        let ms = instant("20241121103000123").ms().unwrap();
        assert_eq!(ms, 1_732_185_000_123);
        let timeline = Timeline::of(["20241121103000123.commit", "20241121103000999.inflight"]);
        assert_eq!(timeline.next(ms, None).unwrap(), instant("20241121103001000"), "the clock is slow");
        let known = instant("20241121103001007");
        assert_eq!(timeline.next(ms, Some(&known)).unwrap(), instant("20241121103001008"), "that was taken back");
        assert_eq!(timeline.next(ms + 86_400_000, None).unwrap(), instant("20241122103000123"));
        assert_eq!(Timeline::default().next(0, None).unwrap(), instant("19700101000000000"));
        assert_eq!(Timeline::of(["99991231235959999.commit"]).next(ms, None), None, "there is none");
        // As Hudi wrote them once.
        assert!(Timeline::of(["20241121103000.commit"]).next(0, None).unwrap() > instant("20241121103000"));
    }

    proptest! {
        #[test]
        fn instants_sort_as_their_times(one in 0i64..4_000_000_000_000, other in 0i64..4_000_000_000_000) {
            let (first, second) = (Instant::of(one).unwrap(), Instant::of(other).unwrap());
            prop_assert_eq!(first.ms(), Some(one));
            prop_assert_eq!(first.cmp(&second), one.cmp(&other));
        }
    }
}
