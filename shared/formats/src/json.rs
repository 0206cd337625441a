//! JSON rows: one object a line, or objects in an array, or objects one after the other.
//!
//! [`Splitter`] (documents.rs) hands out blocks of whole documents; [`parse`] pulls them into columns by `jiter`, which gives the text
//! of a number before it becomes one, so that nothing is rounded unseen.
//!
//! Defined here: a member given twice is a bad row; a lone surrogate, a raw control character or bytes that are not
//! UTF-8 in a string make a bad row; a document that is not an object is a bad row. Nesting beyond 32 levels is kept as
//! JSON text.

use std::collections::HashSet;

use jiter::{Jiter, JiterError, JsonValue, Peek};
use memchr::memrchr;
use weir_contract::{Cleaner, Verdict};

use crate::buffer::Pool;
use crate::column::{Column, Members, Misfit, Mismatch, Rows};
use crate::documents::{Block, Framing, Splitter, walk};
use crate::flat::Flat;
use crate::quarantine::{Lines, Reject};
use crate::value::{self, kind_of_time};
use crate::{Columns, FileFormat, Kind};

const DEEPEST: usize = 32;

/// Why a document is not in the columns.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It is no row, whatever the columns.
    Bad(String),
    /// It may be one, for other columns.
    Contradiction,
}

impl From<JiterError> for Trouble {
    fn from(error: JiterError) -> Self {
        Self::Bad(format!("it is not JSON: {} at byte {}", error.error_type, error.index))
    }
}

impl From<Mismatch> for Trouble {
    fn from(Mismatch: Mismatch) -> Self {
        Self::Contradiction
    }
}

/// Parses a block into rows; `full` takes each full batch.
///
/// A document is first read straight into the columns. Only if that fails anywhere in a block is the block read
/// carefully, each document into columns of its own first, because a half-read row can't be taken back.
pub(crate) fn parse<E: From<Mismatch>>(
    block: &Block,
    columns: &Columns,
    rows: &mut Rows,
    rejects: &mut Vec<Reject>,
    careful: bool,
    mut full: impl FnMut(&mut Rows) -> Result<(), E>,
) -> Result<(), E> {
    let whole = if careful { None } else { std::str::from_utf8(&block.bytes).ok() };
    let mut flat = Flat::default();
    let mut lines = Lines::new(&block.bytes, block.first_line);
    walk(block, |document, at| {
        let text = whole.and_then(|whole| whole.get(at..at + document.len()));
        if let Some(read) = text.and_then(|text| flat.read(text, &mut rows.members)) {
            read?;
            return if rows.is_full() { full(rows) } else { Ok(()) };
        }
        if careful {
            let mut trial = Members::new(&columns.0, 1);
            match row(document, &mut trial) {
                Ok(()) => {}
                Err(Trouble::Contradiction) if check(document).is_ok() => return Err(E::from(Mismatch)),
                Err(trouble) => {
                    let reason = match (trouble, check(document)) {
                        (Trouble::Bad(reason), _) | (_, Err(reason)) => reason,
                        (Trouble::Contradiction, Ok(())) => "it does not fit".to_owned(),
                    };
                    rejects.push(Reject::new(lines.at(at), &reason, document));
                    return Ok(());
                }
            }
        }
        row(document, &mut rows.members).map_err(|_| E::from(Mismatch))?;
        if let Some(text) = text {
            flat.learn(text, &rows.members);
        }
        if rows.is_full() { full(rows) } else { Ok(()) }
    })
}

/// Cleans a block's rows by a contract; how many it drops.
pub(crate) fn clean(block: &Block, cleaner: &mut Cleaner<'_>, rejects: &mut Vec<Reject>) -> u64 {
    let mut dropped = 0;
    let mut lines = Lines::new(&block.bytes, block.first_line);
    let walked: Result<(), std::convert::Infallible> = walk(block, |document, at| {
        match cleaner.push_json(document) {
            Verdict::Clean => {}
            Verdict::Dropped => dropped += 1,
            Verdict::Bad(violation) => {
                rejects.push(Reject::broken(lines.at(at), violation, document));
            }
        }
        Ok(())
    });
    let Ok(()) = walked;
    dropped
}

/// Whether a document is a row for some columns.
fn check(document: &[u8]) -> Result<(), String> {
    match kind_of_row(document) {
        Ok(_) => Ok(()),
        Err(Trouble::Bad(reason)) => Err(reason),
        Err(Trouble::Contradiction) => Err("it is not an object".to_owned()),
    }
}

pub(crate) fn row(document: &[u8], members: &mut Members) -> Result<(), Trouble> {
    let mut json = Jiter::new(document);
    if json.peek()? != Peek::Object {
        return Err(Trouble::Bad("it is not an object".to_owned()));
    }
    object(&mut json, members, true)?;
    json.finish()?;
    Ok(())
}

fn object(json: &mut Jiter<'_>, members: &mut Members, known: bool) -> Result<(), Trouble> {
    let mut hint = 0;
    let mut key = if known { json.known_object()? } else { json.next_object()? };
    while let Some(name) = key {
        match members.enter(name, hint) {
            Ok((index, column)) => {
                hint = index + 1;
                member(json, column)?;
            }
            Err(Misfit::Duplicate) => return Err(Trouble::Bad(format!("member `{name}` is given twice"))),
            // A null says nothing about what a column holds, but that there is one.
            Err(Misfit::Unknown) => return Err(Trouble::Contradiction),
        }
        key = json.next_key()?;
    }
    members.end_row();
    Ok(())
}

fn member(json: &mut Jiter<'_>, column: &mut Column) -> Result<(), Trouble> {
    let peek = json.peek()?;
    if peek == Peek::Null {
        json.known_null()?;
        column.push_null();
        return Ok(());
    }
    match column {
        Column::Text(builder) => {
            if peek == Peek::String {
                builder.append_value(json.known_str()?);
            } else {
                builder.append_value(raw(json, peek)?);
            }
        }
        Column::Int(builder) if peek.is_num() => {
            builder.append_value(value::int(json.known_number_bytes(peek)?).ok_or(Mismatch)?);
        }
        Column::Float(builder) if peek.is_num() => {
            builder.append_value(value::float(json.known_number_bytes(peek)?).ok_or(Mismatch)?);
        }
        Column::Bool(builder) if peek == Peek::True || peek == Peek::False => {
            builder.append_value(json.known_bool(peek)?)
        }
        Column::Date(_) | Column::Stamp { .. } if peek == Peek::String => {
            column.push_time(json.known_str()?.as_bytes())?
        }
        Column::List { item, .. } if peek == Peek::Array => {
            let mut next = json.known_array()?;
            while next.is_some() {
                member(json, item)?;
                next = json.array_step()?;
            }
            column.end_list();
        }
        Column::Struct(members) if peek == Peek::Object => object(json, members, true)?,
        _ => return Err(Trouble::Contradiction),
    }
    Ok(())
}

/// A value as its JSON text.
fn raw<'j>(json: &mut Jiter<'j>, peek: Peek) -> Result<&'j str, Trouble> {
    let start = json.current_index();
    json.known_skip(peek)?;
    std::str::from_utf8(json.slice_to_current(start)).map_err(|_| Trouble::Bad("it is not UTF-8".to_owned()))
}

/// What the columns of a block hold; documents that are no rows say nothing.
pub(crate) fn infer(block: &Block) -> Columns {
    let mut found = Columns::default();
    let walked: Result<(), std::convert::Infallible> = walk(block, |document, _| {
        if let Ok(Kind::Struct(members)) = kind_of_row(document) {
            let of_row = Columns(members);
            if of_row != found {
                found = found.join(&of_row);
            }
        }
        Ok(())
    });
    let Ok(()) = walked;
    found
}

/// The first documents of a file.
pub(crate) struct Sample {
    block: Block,
}

impl Sample {
    pub(crate) fn new(text: &str, format: FileFormat, whole: bool) -> Self {
        let framing = if format == FileFormat::NdJson { Framing::Lines } else { Framing::Documents };
        let mut splitter = Splitter::new(text.as_bytes(), framing, text.len().max(1) + 1, &Pool::default());
        let mut bytes = match splitter.next() {
            Ok(Some(block)) => block.bytes.to_vec(),
            _ => Vec::new(),
        };
        if framing == Framing::Lines && !whole {
            bytes.truncate(memrchr(b'\n', &bytes).map_or(0, |at| at + 1));
        }
        Self { block: Block { bytes: bytes.into(), first_line: 1, framing } }
    }

    pub(crate) fn columns(&self) -> Columns {
        infer(&self.block)
    }

    /// Top-level members with a new value in nearly every document.
    pub(crate) fn hardly_repeating(&self) -> Vec<String> {
        let mut values: Vec<(String, HashSet<String>)> = Vec::new();
        let mut rows = 0;
        let walked: Result<(), std::convert::Infallible> = walk(&self.block, |document, _| {
            let Ok(JsonValue::Object(members)) = JsonValue::parse(document, false) else { return Ok(()) };
            rows += 1;
            for (name, value) in members.iter() {
                let value = format!("{value:?}");
                match values.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => {
                        known.insert(value);
                    }
                    None => values.push((name.to_string(), HashSet::from([value]))),
                }
            }
            Ok(())
        });
        let Ok(()) = walked;
        values.retain(|(_, values)| rows >= FEW_ROWS && values.len() * 10 > rows * 7);
        values.into_iter().map(|(name, _)| name).collect()
    }
}

/// Of fewer rows, nothing can be said about repetition.
const FEW_ROWS: usize = 100;

fn kind_of_row(document: &[u8]) -> Result<Kind, Trouble> {
    let mut json = Jiter::new(document);
    if json.peek()? != Peek::Object {
        return Err(Trouble::Bad("it is not an object".to_owned()));
    }
    let members = kinds_of_members(&mut json, 0)?;
    json.finish()?;
    Ok(Kind::Struct(members))
}

fn kinds_of_members(json: &mut Jiter<'_>, depth: usize) -> Result<Vec<(String, Kind)>, Trouble> {
    let mut members: Vec<(String, Kind)> = Vec::new();
    let mut key = json.known_object()?.map(str::to_owned);
    while let Some(name) = key {
        if members.iter().any(|(known, _)| *known == name) {
            return Err(Trouble::Bad(format!("member `{name}` is given twice")));
        }
        let kind = kind_of_value(json, depth + 1)?;
        members.push((name, kind));
        key = json.next_key()?.map(str::to_owned);
    }
    Ok(members)
}

fn kind_of_value(json: &mut Jiter<'_>, depth: usize) -> Result<Kind, Trouble> {
    let peek = json.peek()?;
    Ok(match peek {
        Peek::Null => {
            json.known_null()?;
            Kind::Null
        }
        Peek::True | Peek::False => {
            json.known_bool(peek)?;
            Kind::Bool
        }
        Peek::String => kind_of_time(json.known_str()?.as_bytes()),
        Peek::Array | Peek::Object if depth > DEEPEST => {
            raw(json, peek)?;
            Kind::Text
        }
        Peek::Array => {
            let mut item = Kind::Null;
            let mut next = json.known_array()?;
            while next.is_some() {
                item = item.join(&kind_of_value(json, depth + 1)?);
                next = json.array_step()?;
            }
            Kind::List(Box::new(item))
        }
        Peek::Object => Kind::Struct(kinds_of_members(json, depth)?),
        _ => value::kind_of_number(json.known_number_bytes(peek)?).unwrap_or(Kind::Text),
    })
}
