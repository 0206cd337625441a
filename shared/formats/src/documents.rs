//! JSON text as documents: cut into blocks of whole ones, and each one found in its block.

use std::io::{self, Read};

use memchr::{memchr, memchr_iter, memrchr};

use crate::buffer::{Buffer, Pool};

/// A document longer than this is not a row.
const LONGEST_DOCUMENT_BYTES: usize = 64 << 20;

/// How documents follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One a line.
    Lines,
    /// In one array, or one after the other with or without line breaks inside.
    Documents,
}

/// Whole documents.
pub(crate) struct Block {
    pub(crate) bytes: Buffer,
    pub(crate) first_line: u64,
    pub(crate) framing: Framing,
}

/// Cuts a stream into blocks of whole documents.
pub(crate) struct Splitter<R> {
    source: R,
    framing: Framing,
    block_bytes: usize,
    carried: Buffer,
    line: u64,
    ended: bool,
    in_array: bool,
    begun: bool,
}

impl<R: Read> Splitter<R> {
    pub(crate) fn new(source: R, framing: Framing, block_bytes: usize, pool: &Pool) -> Self {
        Self {
            source,
            framing,
            block_bytes,
            carried: pool.take(),
            line: 1,
            ended: false,
            in_array: false,
            begun: false,
        }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Block>> {
        loop {
            let want = self.block_bytes.saturating_sub(self.carried.len()).max(64 << 10);
            if !self.ended {
                self.ended = self.carried.fill(&mut self.source, want)?;
            }
            if !self.begun {
                self.begin();
            }
            let end = match self.framing {
                Framing::Lines if self.ended => self.carried.len(),
                Framing::Lines => memrchr(b'\n', &self.carried).map_or(0, |at| at + 1),
                Framing::Documents => last_document_end(&self.carried),
            };
            if end == 0 && !self.ended {
                if self.carried.len() > LONGEST_DOCUMENT_BYTES {
                    let what = format!("a JSON document is longer than {LONGEST_DOCUMENT_BYTES} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                continue;
            }
            if end == 0 {
                return self.last_words();
            }
            let bytes = self.carried.split_to(end);
            let first_line = self.line;
            self.line += memchr_iter(b'\n', &bytes).count() as u64;
            return Ok(Some(Block { bytes, first_line, framing: self.framing }));
        }
    }

    /// An array's opening bracket is not part of a document.
    fn begin(&mut self) {
        self.begun = true;
        let blank = self.carried.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if self.framing == Framing::Documents && self.carried.get(blank) == Some(&b'[') {
            self.in_array = true;
            self.line += memchr_iter(b'\n', self.carried.get(..blank).unwrap_or_default()).count() as u64;
            self.carried.split_to(blank + 1);
        }
    }

    /// What is left at the end must be the array's closing bracket, or nothing.
    fn last_words(&mut self) -> io::Result<Option<Block>> {
        let rest = self.carried.trim_ascii();
        let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii();
        match (self.in_array, rest) {
            (true, b"]") | (false, b"") => Ok(None),
            (true, b"") => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the array is not closed")),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last document is not closed")),
        }
    }
}

/// Where the last whole document ends: walks strings and brackets.
fn last_document_end(bytes: &[u8]) -> usize {
    let (mut at, mut depth, mut end) = (0usize, 0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let Some(after) = string_end(bytes, at) else { return end };
                at = after;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return end,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    end = at;
                }
            }
            _ => {}
        }
    }
    end
}

/// After the closing quote of a string whose first character is at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let quote = at + memchr(b'"', bytes.get(at..)?)?;
        let slashes = bytes.get(at..quote)?.iter().rev().take_while(|byte| **byte == b'\\').count();
        at = quote + 1;
        if slashes % 2 == 0 {
            return Some(at);
        }
    }
}

/// Gives each document of a block and where it begins.
pub(crate) fn walk<E>(block: &Block, mut each: impl FnMut(&[u8], usize) -> Result<(), E>) -> Result<(), E> {
    let mut at = 0;
    while at < block.bytes.len() {
        let rest = block.bytes.get(at..).unwrap_or_default();
        let length = match block.framing {
            Framing::Lines => memchr(b'\n', rest).map_or(rest.len(), |length| length + 1),
            Framing::Documents => first_document_end(rest),
        };
        let document = rest.get(..length).unwrap_or_default().trim_ascii();
        let document = match block.framing {
            Framing::Lines => document,
            Framing::Documents => document.strip_prefix(b",").unwrap_or(document).trim_ascii(),
        };
        if !document.is_empty() {
            each(document, at + (document.as_ptr() as usize - rest.as_ptr() as usize))?;
        }
        at += length.max(1);
    }
    Ok(())
}

fn first_document_end(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (0usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at).unwrap_or(bytes.len()),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}
