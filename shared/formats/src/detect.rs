//! What a file is: content first, name second.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use jiter::{Jiter, JiterErrorType, JsonErrorType, JsonValue};

use crate::compress::{Wrapping, unwrap};
use crate::csv::{self, Layout};
use crate::{Columns, ConvertError, Input, Kind, json, zipped};

/// How much of the content is looked at.
const HEAD_BYTES: usize = 256 << 10;

/// How delimited text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Between cells.
    pub delimiter: u8,
    /// Whether the first record names the columns.
    pub header: bool,
}

/// What a file's content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)] // the names are the documentation
pub enum FileFormat {
    Parquet,
    Orc,
    Avro,
    Csv(Dialect),
    /// One JSON object a line.
    NdJson,
    /// A JSON array, or objects spread over lines.
    Json,
    /// No bytes, or nothing but blanks.
    Empty,
    /// None of these.
    Unknown,
}

/// How sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// From the name, or for want of anything better.
    Guess,
    /// The content reads as such.
    Likely,
    /// The content says so itself.
    Certain,
}

/// What [`sniff`] found.
#[derive(Debug, Clone)]
pub struct Sniffed {
    /// The content's format.
    pub format: FileFormat,
    /// What it is wrapped in.
    pub wrapping: Wrapping,
    /// How sure.
    pub confidence: Confidence,
    /// What was seen, in words.
    pub saw: String,
    /// The columns as far as the first rows of a text show them.
    pub columns: Columns,
    /// Columns whose values hardly repeat in the first rows of a text.
    pub(crate) unique: Vec<String>,
    /// Of delimited text: which cell is which column, and the bytes of the header. Not the text itself: a job may have
    /// tens of thousands of inputs, and all are looked at before the first is read.
    pub(crate) layout: Option<(Arc<Layout>, u64)>,
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Parquet => "parquet",
            Self::Orc => "orc",
            Self::Avro => "avro",
            Self::Csv(Dialect { delimiter: b'\t', .. }) => "tsv",
            Self::Csv(_) => "csv",
            Self::NdJson => "ndjson",
            Self::Json => "json",
            Self::Empty => "empty",
            Self::Unknown => "unknown",
        };
        f.write_str(name)
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guess => "guess",
            Self::Likely => "likely",
            Self::Certain => "certain",
        })
    }
}

/// Looks at a file.
///
/// # Errors
/// `Io` if it can't be read, `Data` if its wrapping is broken. A content that is none of the known formats is no error
/// but [`FileFormat::Unknown`].
pub fn sniff(input: &Arc<dyn Input>) -> Result<Sniffed, ConvertError> {
    let size = usize::try_from(input.size()).unwrap_or(usize::MAX);
    if size == 0 {
        return Ok(found(FileFormat::Empty, Confidence::Certain, "no bytes at all"));
    }
    let raw = input.read_at(0, size.min(HEAD_BYTES))?;
    let wrapping = Wrapping::of(&raw);
    let doing = || format!("look into the {wrapping}");
    let (content, name, whole) = match wrapping {
        Wrapping::None => (raw.to_vec(), input.name().to_owned(), size <= HEAD_BYTES),
        Wrapping::Zip => {
            let (name, content) =
                zipped::open(input).map_err(|error| ConvertError::reading(input.name(), &doing(), error))?;
            let (content, whole) =
                head_of(content).map_err(|error| ConvertError::reading(input.name(), &doing(), error))?;
            (content, name, whole)
        }
        _ => {
            let content = unwrap(wrapping, input.open()?).and_then(head_of);
            let (content, whole) = content.map_err(|error| ConvertError::reading(input.name(), &doing(), error))?;
            (content, input.name().to_owned(), whole)
        }
    };
    let mut sniffed = look(&content, &name, whole);
    if sniffed.format == FileFormat::Parquet && wrapping == Wrapping::None && !ends_as_parquet(input)? {
        let reason = "it begins as Parquet but does not end as Parquet does; the file is truncated";
        return Err(ConvertError::data(input.name(), reason));
    }
    sniffed.wrapping = wrapping;
    if wrapping != Wrapping::None {
        sniffed.saw = format!("{wrapping}, and in it {}", sniffed.saw);
    }
    if let Some(named) = named(&name)
        && named != sniffed.format.to_string()
        && !(named == "json" && sniffed.format == FileFormat::NdJson)
    {
        sniffed.saw = format!("{} (though its name says {named})", sniffed.saw);
    }
    Ok(sniffed)
}

fn head_of(content: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, bool)> {
    let mut head = Vec::new();
    content.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    let whole = head.len() < HEAD_BYTES;
    Ok((head, whole))
}

fn ends_as_parquet(input: &Arc<dyn Input>) -> Result<bool, ConvertError> {
    const SMALLEST: u64 = 12;
    if input.size() < SMALLEST {
        return Ok(false);
    }
    Ok(input.read_at(input.size() - 4, 4)?.as_ref() == b"PAR1")
}

/// What a name says.
fn named(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let wrappings = [".gz", ".gzip", ".zst", ".bz2", ".xz", ".snappy", ".sz", ".lz4", ".zip"];
    let bare = wrappings.iter().find_map(|wrapping| name.strip_suffix(wrapping)).unwrap_or(&name);
    let (_, extension) = bare.rsplit_once('.')?;
    ["parquet", "orc", "avro", "csv", "tsv", "ndjson", "json"]
        .into_iter()
        .find(|known| *known == extension)
        .or((extension == "jsonl").then_some("ndjson"))
}

fn found(format: FileFormat, confidence: Confidence, saw: impl Into<String>) -> Sniffed {
    let (columns, unique, layout) = (Columns::default(), Vec::new(), None);
    Sniffed { format, wrapping: Wrapping::None, confidence, saw: saw.into(), columns, unique, layout }
}

fn look(content: &[u8], name: &str, whole: bool) -> Sniffed {
    use Confidence::{Certain, Guess, Likely};
    match content {
        [b'P', b'A', b'R', b'1', ..] => return found(FileFormat::Parquet, Certain, "the magic bytes of Parquet"),
        [b'O', b'R', b'C', ..] => return found(FileFormat::Orc, Certain, "the magic bytes of ORC"),
        [b'O', b'b', b'j', 1, ..] => return found(FileFormat::Avro, Certain, "the magic bytes of Avro"),
        _ => {}
    }
    let Some((text, encoding)) = as_text(content, whole) else {
        let begins: Vec<String> = content.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        return found(FileFormat::Unknown, Likely, format!("binary content that begins with {}", begins.join(" ")));
    };
    let Some(first) = text.trim_ascii_start().chars().next() else {
        return found(FileFormat::Empty, Likely, "nothing but blanks");
    };
    let mut sniffed = match first {
        '{' | '[' => look_at_json(&text, whole),
        _ => None,
    }
    .or_else(|| look_at_csv(&text, name, whole))
    .unwrap_or_else(|| found(FileFormat::Unknown, Guess, "text that is neither JSON nor a table"));
    if encoding != "UTF-8" {
        sniffed.saw = format!("{} in {encoding}", sniffed.saw);
    }
    if matches!(sniffed.format, FileFormat::NdJson | FileFormat::Json) {
        let sample = json::Sample::new(&text, sniffed.format, whole);
        sniffed.columns = sample.columns();
        sniffed.unique = sample.hardly_repeating();
    }
    sniffed
}

/// Bytes as text, and in which encoding. A character cut off at the end of a head is left out.
fn as_text(content: &[u8], whole: bool) -> Option<(String, &'static str)> {
    let encoding = encoding_of(content);
    if encoding == encoding_rs::UTF_8 {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        if content.contains(&0) {
            return None;
        }
        // Bytes that are no UTF-8 make bad rows, not a binary file.
        let mut text = String::from_utf8_lossy(content).into_owned();
        if !whole && text.ends_with('\u{fffd}') {
            text.pop();
        }
        return Some((text, "UTF-8"));
    }
    let (text, _) = encoding.decode_with_bom_removal(content);
    Some((text.into_owned(), encoding.name()))
}

/// By a byte order mark, or by the zeros that Latin text has in UTF-16.
pub(crate) fn encoding_of(content: &[u8]) -> &'static encoding_rs::Encoding {
    match (encoding_rs::Encoding::for_bom(content), content) {
        (Some((encoding, _)), _) => encoding,
        (None, [a, 0, b, 0, ..]) if *a != 0 && *b != 0 => encoding_rs::UTF_16LE,
        (None, [0, a, 0, b, ..]) if *a != 0 && *b != 0 => encoding_rs::UTF_16BE,
        _ => encoding_rs::UTF_8,
    }
}

fn look_at_json(text: &str, whole: bool) -> Option<Sniffed> {
    use Confidence::{Certain, Likely};
    const LINES: usize = 100;
    let text = text.trim_ascii_start();
    if let Some(inside) = text.strip_prefix('[') {
        let begins_as_rows = inside.trim_ascii_start().starts_with(['{', ']']);
        return begins_as_rows.then(|| found(FileFormat::Json, Certain, "a JSON array of objects"));
    }
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim_ascii().is_empty()).take(LINES).collect();
    if !whole && lines.len() > 1 && lines.len() < LINES {
        lines.pop();
    }
    let objects = lines.iter().filter(|line| is_object(line)).count();
    if lines.first().is_some_and(|line| is_object(line)) || objects * 2 > lines.len() {
        let confidence = if objects == lines.len() { Certain } else { Likely };
        return Some(found(FileFormat::NdJson, confidence, "one JSON object a line"));
    }
    match JsonValue::parse(text.as_bytes(), false) {
        Ok(_) => return Some(found(FileFormat::Json, Certain, "a JSON object over several lines")),
        Err(_) if whole && lines.len() == 1 && !begins_with_object(text) => return None,
        Err(_) => {}
    }
    begins_with_object(text).then(|| found(FileFormat::Json, Likely, "JSON objects over several lines")).or_else(|| {
        (!whole && lines.len() == 1)
            .then(|| found(FileFormat::NdJson, Likely, "a JSON object longer than was looked at"))
    })
}

fn is_object(line: &str) -> bool {
    matches!(JsonValue::parse(line.trim_ascii().as_bytes(), false), Ok(JsonValue::Object(_)))
}

/// Whether a whole object stands at the front, or one that only the end of the head cuts off.
fn begins_with_object(text: &str) -> bool {
    let mut json = Jiter::new(text.as_bytes());
    match json.next_skip() {
        Ok(()) => true,
        Err(error) => matches!(
            error.error_type,
            JiterErrorType::JsonError(
                JsonErrorType::EofWhileParsingObject
                    | JsonErrorType::EofWhileParsingList
                    | JsonErrorType::EofWhileParsingString
            )
        ),
    }
}

const DELIMITERS: [(u8, &str); 4] = [(b',', "commas"), (b'\t', "tabs"), (b';', "semicolons"), (b'|', "bars")];

fn look_at_csv(text: &str, name: &str, whole: bool) -> Option<Sniffed> {
    let mut best: Option<(f64, usize, u8, &str)> = None;
    for (delimiter, word) in DELIMITERS {
        let widths = csv::widths(text, delimiter, whole);
        let Some((width, share)) = most_common(&widths) else { continue };
        let better = best.is_none_or(|(most, columns, ..)| (share, width) > (most, columns));
        if width > 1 && share >= 0.5 && better {
            best = Some((share, width, delimiter, word));
        }
    }
    let said = matches!(named(name), Some("csv" | "tsv"));
    let (confidence, delimiter, saw) = match best {
        Some((share, width, delimiter, word)) => {
            let records = csv::widths(text, delimiter, whole).len();
            // Prose has commas too: one line of it is not a table.
            if records < 2 && !said && !whole {
                return None;
            }
            let confidence = if share > 0.9 && records > 1 { Confidence::Likely } else { Confidence::Guess };
            (confidence, delimiter, format!("{width} columns between {word}"))
        }
        None if said => (Confidence::Guess, b',', "one column, by its name".to_owned()),
        None => return None,
    };
    let header = has_header(text, delimiter, whole);
    let dialect = Dialect { delimiter, header };
    let saw = format!("{saw}, {} a header", if header { "with" } else { "without" });
    let mut sniffed = found(FileFormat::Csv(dialect), confidence, saw);
    let sample = csv::Sample::new(text, dialect, whole);
    sniffed.columns = sample.columns();
    sniffed.unique = sample.hardly_repeating();
    let header_bytes = if header { csv::header_bytes(text, delimiter) as u64 } else { 0 };
    sniffed.layout = Some((Arc::new(Layout::new(text, dialect)), header_bytes));
    Some(sniffed)
}

/// The most common number, and its share.
fn most_common(widths: &[usize]) -> Option<(usize, f64)> {
    let count = |width: usize| widths.iter().filter(|other| **other == width).count();
    let width = widths.iter().copied().max_by_key(|width| (count(*width), *width))?;
    Some((width, count(width) as f64 / widths.len() as f64))
}

/// The first record names the columns if each of its cells could be a name and the rows below are different: some
/// column below holds something other than text, or the names look like names.
fn has_header(text: &str, delimiter: u8, whole: bool) -> bool {
    let first = csv::first_record(text, delimiter);
    let could_be_names = !first.is_empty()
        && first
            .iter()
            .all(|cell| !cell.trim().is_empty() && crate::value::kind_of_cell(cell.as_bytes()) == Kind::Text)
        && first.iter().enumerate().all(|(index, cell)| first.iter().take(index).all(|earlier| earlier != cell));
    if !could_be_names {
        return false;
    }
    let below = csv::Sample::new(text, Dialect { delimiter, header: true }, whole).columns();
    let all_text_below = below.0.iter().all(|(_, kind)| matches!(kind, Kind::Text | Kind::Null));
    !all_text_below || first.iter().all(|cell| looks_like_a_name(cell))
}

fn looks_like_a_name(cell: &str) -> bool {
    let cell = cell.trim();
    cell.len() <= 64
        && cell.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && cell.chars().all(|c| c.is_alphanumeric() || "_- .()/%#".contains(c))
}
