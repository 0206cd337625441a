//! Delimited text: cells, records, blocks of records.
//!
//! RFC 4180 with any one-byte delimiter. A quote opens only at the start of a cell and is literal elsewhere (`5" pipe`),
//! which is why neither a count of quotes nor a parallel guess finds the ends of records: [`Splitter`] walks them, at
//! the speed of `memchr`, and hands out whole records to be parsed in parallel.
//!
//! Why not the `csv` crate: it forgets whether an empty cell was quoted, which is the difference between null and an
//! empty text, and its automaton takes every byte one by one.

use std::collections::HashSet;
use std::io::{self, Read};
use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use crate::buffer::{Buffer, Pool};
use weir_contract::{Cell as Given, Cleaner, Contract, Verdict};

use crate::cells::{Cell, QUOTE, next_line, plain_record, record, text_of};
use crate::column::{Mismatch, Rows};
use crate::detect::Dialect;
use crate::quarantine::{Lines, Reject};
use crate::value::kind_of_cell;
use crate::{Columns, Kind};

/// A record longer than this has an unclosed quote in it, or is no record.
const LONGEST_RECORD_BYTES: usize = 8 << 20;

/// Records, as a block of text and the line it begins on.
pub(crate) struct Block {
    pub(crate) bytes: Buffer,
    pub(crate) first_line: u64,
    /// Lines the splitter could not make a record of.
    pub(crate) rejects: Vec<Reject>,
}

/// Cuts a stream into blocks of whole records.
pub(crate) struct Splitter<R> {
    source: R,
    delimiter: u8,
    block_bytes: usize,
    carried: Buffer,
    line: u64,
    ended: bool,
}

impl<R: Read> Splitter<R> {
    /// `line` is the first one's number in the file.
    pub(crate) fn new(source: R, delimiter: u8, block_bytes: usize, line: u64, pool: &Pool) -> Self {
        Self { source, delimiter, block_bytes, carried: pool.take(), line, ended: false }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Block>> {
        let mut rejects = Vec::new();
        loop {
            let want = self.block_bytes.saturating_sub(self.carried.len()).max(64 << 10);
            if !self.ended {
                self.ended = self.carried.fill(&mut self.source, want)?;
            }
            if self.carried.is_empty() && rejects.is_empty() {
                return Ok(None);
            }
            let (mut end, open) = self.last_boundary();
            if self.ended && !open {
                end = self.carried.len();
            }
            let stuck = self.ended || self.carried.len() - end > LONGEST_RECORD_BYTES;
            if end == 0 && open && stuck {
                // The record from here never closes its quote: its first line is put aside, and the rest tried again.
                let length = next_line(&self.carried, 0);
                let line: Vec<u8> = self.carried.split_to(length).to_vec();
                rejects.push(Reject::new(self.line, "a quote is opened and never closed", &line));
                self.line += 1;
                continue;
            }
            if end == 0 && !self.ended {
                continue;
            }
            let bytes = self.carried.split_to(end);
            let first_line = self.line;
            self.line += memchr_iter(b'\n', &bytes).count() as u64;
            return Ok(Some(Block { bytes, first_line, rejects }));
        }
    }

    /// Where the last whole record ends, and whether a quote is open behind it.
    fn last_boundary(&self) -> (usize, bool) {
        let bytes = &*self.carried;
        if memchr(QUOTE, bytes).is_none() {
            return (memrchr(b'\n', bytes).map_or(0, |at| at + 1), false);
        }
        let (mut boundary, mut at) = (0, 0);
        let opens = |at: usize| {
            at == 0 || bytes.get(at - 1).is_some_and(|before| *before == b'\n' || *before == self.delimiter)
        };
        while let Some(found) = bytes.get(at..).and_then(|rest| memchr2(QUOTE, b'\n', rest)) {
            at += found + 1;
            if bytes.get(at - 1) == Some(&b'\n') {
                boundary = at;
            } else if opens(at - 1) {
                loop {
                    let Some(closing) = bytes.get(at..).and_then(|rest| memchr(QUOTE, rest)) else {
                        return (boundary, true);
                    };
                    at += closing + 1;
                    match bytes.get(at) {
                        Some(&QUOTE) => at += 1,
                        // Whether this quote closes can't be known before the next byte has come.
                        None if !self.ended => return (boundary, true),
                        _ => break,
                    }
                }
            }
        }
        (boundary, false)
    }
}

/// Which cell goes to which column of the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    pub(crate) delimiter: u8,
    /// By the cell's place in the record.
    pub(crate) names: Vec<String>,
}

impl Layout {
    /// The layout of a file whose first records are `sample`, and whether the first is a header.
    pub(crate) fn new(sample: &str, dialect: Dialect) -> Self {
        let mut cells = Vec::new();
        let mut scratch = String::new();
        let mut names = Vec::new();
        let mut widest = 0;
        let (mut at, mut first) = (0, true);
        while at < sample.len() && (first || !dialect.header) {
            let Some((end, _)) = record(sample.as_bytes(), at, dialect.delimiter, &mut cells) else { break };
            if first && dialect.header {
                names = cells.iter().map(|cell| text_of(sample, *cell, &mut scratch).trim().to_owned()).collect();
            }
            widest = widest.max(cells.len());
            first = false;
            at = end;
        }
        names.resize(names.len().max(if dialect.header { names.len() } else { widest }), String::new());
        Self { delimiter: dialect.delimiter, names: distinct(names) }
    }

    fn places(&self, columns: &Columns) -> Vec<Option<usize>> {
        self.names.iter().map(|name| columns.names().position(|column| column == name)).collect()
    }
}

/// Names no two of which are the same: an empty one becomes `column_N`, a repeated one `name_2`.
fn distinct(names: Vec<String>) -> Vec<String> {
    let mut known: Vec<String> = Vec::with_capacity(names.len());
    for (index, name) in names.into_iter().enumerate() {
        let base = if name.is_empty() { format!("column_{}", index + 1) } else { name };
        let mut name = base.clone();
        let mut count = 1;
        while known.contains(&name) {
            count += 1;
            name = format!("{base}_{count}");
        }
        known.push(name);
    }
    known
}

/// Walks a block's records, giving each one's cells and its place in the block, or putting it aside.
pub(crate) fn walk<E>(
    block: &Block,
    layout: &Layout,
    rejects: &mut Vec<Reject>,
    mut each: impl FnMut(&str, &[Cell], Range<usize>) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = &*block.bytes;
    let whole = std::str::from_utf8(bytes).ok();
    let quotes = memchr(QUOTE, bytes).is_some();
    let mut cells = Vec::with_capacity(layout.names.len());
    let mut lines = Lines::new(bytes, block.first_line);
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let mut put_aside =
            |end: usize, reason: &str| Reject::new(lines.at(start), reason, bytes.get(start..end).unwrap_or_default());
        let (end, wrong) = if quotes {
            record(bytes, start, layout.delimiter, &mut cells)
                .unwrap_or_else(|| (next_line(bytes, start), Some("a quote is opened and never closed")))
        } else {
            (plain_record(bytes, start, layout.delimiter, &mut cells), None)
        };
        at = end;
        if let Some(reason) = wrong {
            rejects.push(put_aside(at, reason));
            continue;
        }
        let blank = matches!(cells.as_slice(), [cell] if cell.start == cell.end && !cell.quoted);
        if blank && layout.names.len() != 1 {
            continue;
        }
        if cells.len() > layout.names.len() {
            let reason = format!("it has {} cells where there are {} columns", cells.len(), layout.names.len());
            rejects.push(put_aside(at, &reason));
            continue;
        }
        match whole {
            Some(text) => each(text, &cells, start..at)?,
            None => match bytes.get(start..at).map(std::str::from_utf8) {
                Some(Ok(text)) => {
                    for cell in &mut cells {
                        cell.start -= start;
                        cell.end -= start;
                    }
                    each(text, &cells, start..at)?;
                }
                _ => rejects.push(put_aside(at, "it is not UTF-8")),
            },
        }
    }
    Ok(())
}

/// Parses a block into rows; `full` takes each full batch.
pub(crate) fn parse<E: From<Mismatch>>(
    block: &Block,
    layout: &Layout,
    columns: &Columns,
    rows: &mut Rows,
    rejects: &mut Vec<Reject>,
    mut full: impl FnMut(&mut Rows) -> Result<(), E>,
) -> Result<(), E> {
    let places = layout.places(columns);
    let mut scratch = String::new();
    walk(block, layout, rejects, |text, cells, _| {
        for (cell, place) in cells.iter().zip(&places) {
            let column = place.and_then(|place| rows.members.enter_at(place)).ok_or(Mismatch)?;
            if cell.doubled {
                let whole = text_of(text, *cell, &mut scratch);
                column.push_cell(whole, 0..whole.len(), true)?;
            } else {
                column.push_cell(text, cell.start..cell.end, cell.quoted)?;
            }
        }
        rows.members.end_row();
        if rows.is_full() { full(rows) } else { Ok(()) }
    })
}

/// Cleans a block's rows by a contract; how many it drops.
pub(crate) fn clean(
    block: &Block,
    layout: &Layout,
    contract: &Contract,
    cleaner: &mut Cleaner<'_>,
    rejects: &mut Vec<Reject>,
) -> u64 {
    let places: Vec<Option<usize>> = layout.names.iter().map(|name| contract.place_of(name)).collect();
    let mut unescaped: Vec<String> = vec![String::new(); layout.names.len()];
    let (mut dropped, mut broken) = (0, Vec::new());
    let mut lines = Lines::new(&block.bytes, block.first_line);
    rejects.extend(block.rejects.iter().cloned());
    let walked: Result<(), std::convert::Infallible> = walk(block, layout, rejects, |text, cells, at| {
        for (cell, scratch) in cells.iter().zip(&mut unescaped).filter(|(cell, _)| cell.doubled) {
            text_of(text, *cell, scratch);
        }
        let given = cells.iter().zip(&places).zip(&unescaped).filter_map(|((cell, place), unescaped)| {
            let place = (*place)?;
            let raw = if cell.doubled { unescaped } else { text.get(cell.start..cell.end).unwrap_or_default() };
            // Nothing is null, and two quotes with nothing between them are an empty text.
            Some((place, if raw.is_empty() && !cell.quoted { Given::Null } else { Given::Text(raw) }))
        });
        match cleaner.push_cells(given) {
            Verdict::Clean => {}
            Verdict::Dropped => dropped += 1,
            Verdict::Bad(violation) => {
                broken.push(Reject::broken(lines.at(at.start), violation, block.bytes.get(at).unwrap_or_default()));
            }
        }
        Ok(())
    });
    let Ok(()) = walked;
    rejects.append(&mut broken);
    dropped
}

/// What the columns of a block hold.
pub(crate) fn infer(block: &Block, layout: &Layout) -> Columns {
    let mut kinds = vec![Kind::Null; layout.names.len()];
    let mut scratch = String::new();
    let walked: Result<(), std::convert::Infallible> = walk(block, layout, &mut Vec::new(), |text, cells, _| {
        for (cell, kind) in cells.iter().zip(&mut kinds) {
            if *kind != Kind::Text {
                let found = kind_of_cell(text_of(text, *cell, &mut scratch).as_bytes());
                if found != *kind {
                    *kind = kind.join(&found);
                }
            }
        }
        Ok(())
    });
    let Ok(()) = walked;
    Columns(layout.names.iter().cloned().zip(kinds).collect())
}

/// The number of cells of the first records. The last record of a head that is not the whole file may be cut off.
pub(crate) fn widths(text: &str, delimiter: u8, whole: bool) -> Vec<usize> {
    const RECORDS: usize = 200;
    let mut cells = Vec::new();
    let mut widths = Vec::new();
    let mut at = 0;
    while at < text.len() && widths.len() < RECORDS {
        let Some((end, _)) = record(text.as_bytes(), at, delimiter, &mut cells) else { break };
        if end == text.len() && !whole && !widths.is_empty() {
            break;
        }
        if !matches!(cells.as_slice(), [cell] if cell.start == cell.end) {
            widths.push(cells.len());
        }
        at = end;
    }
    widths
}

/// The cells of the first record.
pub(crate) fn first_record(text: &str, delimiter: u8) -> Vec<String> {
    let mut cells = Vec::new();
    let mut scratch = String::new();
    match record(text.as_bytes(), 0, delimiter, &mut cells) {
        Some(_) => cells.iter().map(|cell| text_of(text, *cell, &mut scratch).to_owned()).collect(),
        None => Vec::new(),
    }
}

/// The first records of a file.
pub(crate) struct Sample {
    block: Block,
    layout: Layout,
}

impl Sample {
    /// The last record of a head that is not the whole file may be cut off, and is left out.
    pub(crate) fn new(text: &str, dialect: Dialect, whole: bool) -> Self {
        let body = if dialect.header { header_bytes(text, dialect.delimiter) } else { 0 };
        let mut bytes = text.as_bytes().get(body..).unwrap_or_default().to_vec();
        if !whole {
            bytes.truncate(memrchr(b'\n', &bytes).map_or(0, |at| at + 1));
        }
        Self {
            block: Block { bytes: bytes.into(), first_line: 1, rejects: Vec::new() },
            layout: Layout::new(text, dialect),
        }
    }

    pub(crate) fn columns(&self) -> Columns {
        infer(&self.block, &self.layout)
    }

    /// Columns with a new value in nearly every row.
    pub(crate) fn hardly_repeating(&self) -> Vec<String> {
        let mut values: Vec<HashSet<String>> = vec![HashSet::new(); self.layout.names.len()];
        let mut rows = 0;
        let walked: Result<(), std::convert::Infallible> =
            walk(&self.block, &self.layout, &mut Vec::new(), |text, cells, _| {
                rows += 1;
                for (cell, values) in cells.iter().zip(&mut values) {
                    values.insert(text.get(cell.start..cell.end).unwrap_or_default().to_owned());
                }
                Ok(())
            });
        let Ok(()) = walked;
        let unique = |values: &HashSet<String>| rows >= FEW_ROWS && values.len() * 10 > rows * 7;
        self.layout
            .names
            .iter()
            .zip(&values)
            .filter(|(_, values)| unique(values))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// Of fewer rows, nothing can be said about repetition.
const FEW_ROWS: usize = 100;

/// The length of the first record.
pub(crate) fn header_bytes(text: &str, delimiter: u8) -> usize {
    record(text.as_bytes(), 0, delimiter, &mut Vec::new()).map_or(text.len(), |(end, _)| end)
}
