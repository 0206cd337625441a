//! Blocks of text that go round: read, parsed, and read into again.
//!
//! A fresh block of some megabytes costs the kernel more, page by page, than its text costs to be parsed.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks that wait to be used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// Bytes that go back to their pool when they are dropped.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// What is behind `filled` is left over from before.
    bytes: Vec<u8>,
    filled: usize,
    pool: Pool,
}

const LARGEST_KEPT_BYTES: usize = 32 << 20;

impl Pool {
    pub(crate) fn take(&self) -> Buffer {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        Buffer { bytes, filled: 0, pool: self.clone() }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { filled: bytes.len(), bytes, pool: Pool::default() }
    }
}

impl Buffer {
    /// Reads up to `want` more bytes; returns whether the source is at its end.
    pub(crate) fn fill(&mut self, source: &mut impl Read, want: usize) -> io::Result<bool> {
        let until = self.filled + want;
        if self.bytes.len() < until {
            self.bytes.resize(until, 0);
        }
        while let Some(free) = self.bytes.get_mut(self.filled..until).filter(|free| !free.is_empty()) {
            match source.read(free) {
                Ok(0) => return Ok(true),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Cuts off the first bytes; what is behind them stays here.
    pub(crate) fn split_to(&mut self, end: usize) -> Self {
        let mut rest = self.pool.take();
        let behind = self.get(end..).unwrap_or_default();
        if rest.bytes.len() < behind.len() {
            rest.bytes.resize(behind.len(), 0);
        }
        if let Some(place) = rest.bytes.get_mut(..behind.len()) {
            place.copy_from_slice(behind);
        }
        rest.filled = behind.len();
        let mut front = std::mem::replace(self, rest);
        front.filled = front.filled.min(end);
        front
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // One that a huge record made large is not kept.
        if (1..=LARGEST_KEPT_BYTES).contains(&bytes.capacity()) {
            self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_never_shows() {
        let pool = Pool::default();
        let mut first = pool.take();
        assert!(first.fill(&mut &b"a long text"[..], 64).unwrap());
        drop(first);
        let mut second = pool.take();
        assert!(!second.fill(&mut &b"shorter"[..], 5).unwrap());
        assert_eq!(&*second, b"short");
        let front = second.split_to(2);
        assert_eq!((&*front, &*second), (&b"sh"[..], &b"ort"[..]));
    }
}
