//! A window's bounds, and its name.

use crate::lines::instant;

/// A window of a dataset: Lambda's `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Its first moment, in milliseconds since 1970.
    pub start_ms: u64,
    /// The first moment after it.
    pub end_ms: u64,
}

impl Span {
    /// How long it is.
    pub fn seconds(&self) -> u64 {
        self.end_ms.saturating_sub(self.start_ms) / 1000
    }

    /// `2024-05-01T10:00:00Z`
    pub fn start(&self) -> String {
        instant(self.start_ms)
    }

    /// The first moment after it, likewise.
    pub fn end(&self) -> String {
        instant(self.end_ms)
    }

    /// `20240501T100000Z-60s`: as names order, so do windows.
    pub fn name(&self) -> String {
        format!("{}-{}s", compact(self.start_ms), self.seconds())
    }

    /// The window of a [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        let (start, seconds) = name.strip_suffix('s')?.rsplit_once('-')?;
        let [date, time] = [start.get(..8)?, start.get(8..)?];
        let time = time.strip_prefix('T')?.strip_suffix('Z')?;
        let [year, month, day] = [date.get(0..4)?, date.get(4..6)?, date.get(6..8)?];
        let [hour, minute, second] = [time.get(0..2)?, time.get(2..4)?, time.get(4..6)?];
        let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
        let start_ms = u64::try_from(weir_values::stamp(text.as_bytes())?.0 / 1000).ok()?;
        Some(Self { start_ms, end_ms: start_ms.checked_add(seconds.parse::<u64>().ok()?.checked_mul(1000)?)? })
    }
}

/// What names of windows that begin at a moment begin with.
pub(crate) fn compact(ms: u64) -> String {
    instant(ms).chars().filter(|c| !matches!(c, '-' | ':')).collect()
}
