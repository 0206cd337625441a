//! One record of the command stream.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_settings::did_you_mean;

use crate::Location;
use crate::location::quoted;
use crate::members::Members;

/// A job that someone asked for, checked as far as it can be without looking at S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The caller's idempotency key, if they gave one. Otherwise the record's place in the stream identifies the job.
    pub job_id: Option<JobId>,
    /// What to read: an object, or everything under a prefix.
    pub source: Location,
    /// Where to write.
    pub dest: Location,
    /// What to do.
    pub action: Action,
    /// Who shall do it.
    pub mode: Mode,
    /// When, if it is deferred.
    pub when: When,
    /// The dataset this belongs to: for `clean` and `aggregate` its contract, otherwise a label that the job's record keeps.
    pub dataset: Option<String>,
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The bytes, unchanged, server side.
    Copy,
    /// Any readable input as one format and one schema.
    Convert {
        /// The format to write.
        format: Format,
        /// The compression inside it or around it.
        compression: Compression,
    },
    /// Rows by the dataset's contract: partitioned Parquet, and bad rows in a quarantine beside it.
    Clean,
    /// The contract's metrics over the clean rows, by group.
    Aggregate,
}

/// A format that `convert` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Apache Parquet: the default, because it is what a lake is queried in.
    Parquet,
    /// One JSON object a line.
    NdJson,
    /// RFC 4180, comma, with a header.
    Csv,
    /// Avro object container file.
    Avro,
}

/// How output is compressed: inside the format where it has codecs of its own (Parquet, Avro), else the whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs)] // the names are the documentation
pub enum Compression {
    None,
    Snappy,
    Gzip,
    Zstd,
    Lz4,
    Brotli,
    Bzip2,
    Xz,
    Deflate,
}

/// Who does the job: `auto` lets its size decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Lambda up to `REALTIME_MAX_BYTES`, batch above.
    #[default]
    Auto,
    /// Lambda, whatever the size; what does not finish there fails.
    Realtime,
    /// The batch side.
    Batch,
}

/// When a deferred job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// In the off-peak window. Jobs that Lambda does are never held back for it unless the record says so.
    #[default]
    OffPeak,
    /// At the next sweep.
    Now,
}

/// The identity of a job: 1 to 128 of `A-Z a-z 0-9 . _ : -`, because it becomes part of keys and paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

/// Everything that is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// The job's id, where the record is well enough to have one: a FAILED job can then be looked up by it.
    pub job_id: Option<JobId>,
    /// One sentence a problem, never empty.
    pub problems: Vec<String>,
}

impl std::error::Error for CommandError {}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("; "))
    }
}

const MEMBERS: [&str; 9] = ["source", "dest", "command", "job_id", "format", "compression", "mode", "when", "dataset"];
const ACTIONS: [&str; 4] = ["copy", "convert", "clean", "aggregate"];
const MAX_ID_CHARS: usize = 128;

impl Command {
    /// Reads one record's bytes.
    ///
    /// # Errors
    /// Every problem at once, each naming the member, the value and what would be right.
    pub fn parse(bytes: &[u8]) -> Result<Self, CommandError> {
        let mut reader = Reader::new(bytes)?;
        reader.refuse_strangers();
        let job_id = reader.job_id.clone();
        let source = reader.location("source");
        let dest = reader.location("dest");
        let action = reader.action();
        let mode = reader.choice("mode", &["auto", "realtime", "batch"]).unwrap_or_default();
        let said_when: Option<When> = reader.choice("when", &["now", "off-peak"]);
        let dataset = reader.dataset();
        if let (Some(Action::Clean | Action::Aggregate), None) = (&action, &dataset) {
            reader.problem("member `dataset` is missing: it names the contract to clean by".to_owned());
        }
        if let (Some(source), Some(dest)) = (&source, &dest)
            && (source == dest || source.as_prefix() == dest.as_prefix())
        {
            reader.problem(format!("`source` and `dest` are the same place, {source}"));
        } else if let (Some(source), Some(dest)) = (&source, &dest)
            && source.is_prefix()
            && source.covers(dest)
        {
            reader.problem(format!("`dest` {dest} lies inside `source` {source}: the job would read what it writes"));
        }
        if mode == Mode::Realtime && said_when == Some(When::OffPeak) {
            reader.problem(
                "`mode`: `realtime` runs at once, so `when`: `off-peak` contradicts it; leave one out".to_owned(),
            );
        }
        match (source, dest, action) {
            (Some(source), Some(dest), Some(action)) if reader.problems.is_empty() => {
                // Asking for off-peak is asking for batch; a plain record is not.
                let mode = if said_when == Some(When::OffPeak) { Mode::Batch } else { mode };
                Ok(Self { job_id, source, dest, action, mode, when: said_when.unwrap_or_default(), dataset })
            }
            _ => Err(CommandError { job_id, problems: reader.problems }),
        }
    }

    /// The record that [`Command::parse`] reads back as this command, members in a fixed order: what is stored, hashed
    /// for idempotency, and handed on.
    pub fn to_json(&self) -> String {
        let mut members = serde_json::Map::new();
        let mut put = |name: &str, value: Value| {
            members.insert(name.to_owned(), value);
        };
        if let Some(id) = &self.job_id {
            put("job_id", id.as_str().into());
        }
        put("source", self.source.to_string().into());
        put("dest", self.dest.to_string().into());
        match self.action {
            Action::Copy | Action::Clean | Action::Aggregate => put("command", self.verb().into()),
            Action::Convert { format, compression } => {
                put("command", "convert".into());
                put("format", serde_json::json!(format));
                put("compression", serde_json::json!(compression));
            }
        }
        match (self.mode, self.when) {
            (Mode::Batch, when) => {
                put("mode", "batch".into());
                put("when", serde_json::json!(when));
            }
            (mode, When::Now) => {
                put("mode", serde_json::json!(mode));
                put("when", "now".into());
            }
            (mode, When::OffPeak) => put("mode", serde_json::json!(mode)),
        }
        if let Some(dataset) = &self.dataset {
            put("dataset", dataset.as_str().into());
        }
        Value::Object(members).to_string()
    }

    /// The verb, as the record spells it.
    pub fn verb(&self) -> &'static str {
        match self.action {
            Action::Copy => "copy",
            Action::Convert { .. } => "convert",
            Action::Clean => "clean",
            Action::Aggregate => "aggregate",
        }
    }
}

impl Format {
    /// What this format can be compressed with, its default first.
    pub fn compressions(self) -> &'static [Compression] {
        use Compression::{Brotli, Bzip2, Deflate, Gzip, Lz4, None, Snappy, Xz, Zstd};
        match self {
            Self::Parquet => &[Snappy, Zstd, Gzip, Lz4, Brotli, None],
            Self::Avro => &[Snappy, Deflate, Zstd, None],
            Self::NdJson | Self::Csv => &[None, Gzip, Zstd, Bzip2, Xz, Lz4],
        }
    }
}

impl JobId {
    /// Checks an id.
    ///
    /// # Errors
    /// A sentence that says which characters are allowed.
    pub fn new(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if (1..=MAX_ID_CHARS).contains(&text.len()) && text.chars().all(legal) && !text.chars().all(|c| c == '.') {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{} is not a job id: 1 to {MAX_ID_CHARS} letters, digits, `.`, `_`, `:` or `-`", quoted(text)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects problems while it reads members.
struct Reader {
    members: Vec<(String, Value)>,
    job_id: Option<JobId>,
    problems: Vec<String>,
}

impl Reader {
    fn new(bytes: &[u8]) -> Result<Self, CommandError> {
        let whole = |problem: String| CommandError { job_id: None, problems: vec![problem] };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(whole("the record is empty".to_owned()));
        }
        let members = serde_json::from_slice::<Members>(bytes).map_err(|error| whole(not_an_object(bytes, &error)))?.0;
        let mut reader = Self { members, job_id: None, problems: Vec::new() };
        reader.job_id = reader.string("job_id").and_then(|text| match JobId::new(&text) {
            Ok(id) => Some(id),
            Err(problem) => {
                reader.problem(format!("`job_id`: {problem}"));
                None
            }
        });
        Ok(reader)
    }

    fn problem(&mut self, problem: String) {
        // A record can be a megabyte of unknown members; the reason must fit a notice.
        const MOST: usize = 8;
        match self.problems.len() {
            0..MOST => self.problems.push(problem),
            MOST => self.problems.push("and more".to_owned()),
            _ => {}
        }
    }

    fn refuse_strangers(&mut self) {
        let names: Vec<String> = self.members.iter().map(|(name, _)| name.clone()).collect();
        for (index, name) in names.iter().enumerate() {
            if names.iter().take(index).any(|earlier| earlier == name) {
                self.problem(format!("member {} is given twice", quoted(name)));
            } else if !MEMBERS.contains(&name.as_str()) {
                let hint = did_you_mean(name, MEMBERS);
                self.problem(format!("unknown member {}{hint}", quoted(name)));
            }
        }
    }

    fn string(&mut self, name: &str) -> Option<String> {
        let value = self.members.iter().find(|(member, _)| member == name).map(|(_, value)| value)?;
        match value {
            Value::String(text) => Some(text.clone()),
            other => {
                let what = kind_of(other);
                self.problem(format!("`{name}` must be a string, but is {what}"));
                None
            }
        }
    }

    fn required(&mut self, name: &str) -> Option<String> {
        if self.members.iter().all(|(member, _)| member != name) {
            self.problem(format!("member `{name}` is missing"));
        }
        self.string(name)
    }

    fn location(&mut self, name: &str) -> Option<Location> {
        let text = self.required(name)?;
        Location::parse(&text).map_err(|error| self.problem(format!("`{name}`: {error}"))).ok()
    }

    fn action(&mut self) -> Option<Action> {
        let verb = self.required("command")?;
        let format: Option<Format> = self.choice("format", &["parquet", "ndjson", "csv", "avro"]);
        let compression: Option<Compression> =
            self.choice("compression", &["none", "snappy", "gzip", "zstd", "lz4", "brotli", "bzip2", "xz", "deflate"]);
        if ["copy", "clean", "aggregate"].contains(&verb.as_str()) && (format.is_some() || compression.is_some()) {
            let does = if verb == "copy" { "leaves the bytes unchanged" } else { "writes Parquet" };
            self.problem(format!("`format` and `compression` belong to `convert`; `{verb}` {does}"));
        }
        match verb.as_str() {
            "copy" => Some(Action::Copy),
            "clean" => Some(Action::Clean),
            "aggregate" => Some(Action::Aggregate),
            "convert" => {
                let format = format.unwrap_or(Format::Parquet);
                let offered = format.compressions();
                let compression = compression.or(offered.first().copied()).unwrap_or(Compression::None);
                if !offered.contains(&compression) {
                    let offered: Vec<String> = offered.iter().map(|c| format!("`{c}`")).collect();
                    self.problem(format!("`compression`: {format} takes {}, not `{compression}`", offered.join(", ")));
                }
                Some(Action::Convert { format, compression })
            }
            other => {
                let hint = did_you_mean(other, ACTIONS);
                let known = ACTIONS.map(|action| format!("`{action}`")).join(", ");
                self.problem(format!("unknown command {}: there are {known}{hint}", quoted(other)));
                None
            }
        }
    }

    fn choice<T: serde::de::DeserializeOwned>(&mut self, name: &str, offered: &[&str]) -> Option<T> {
        let text = self.string(name)?;
        match serde_json::from_value(Value::String(text.clone())) {
            Ok(choice) => Some(choice),
            Err(_) => {
                let offered: Vec<String> = offered.iter().map(|choice| format!("`{choice}`")).collect();
                self.problem(format!("`{name}` is {}, but must be one of {}", quoted(&text), offered.join(", ")));
                None
            }
        }
    }

    fn dataset(&mut self) -> Option<String> {
        let text = self.string("dataset")?;
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (1..=64).contains(&text.len()) && text.chars().all(legal) {
            return Some(text);
        }
        self.problem(format!("`dataset` is {}, but must be 1 to 64 lowercase letters, digits or `_`", quoted(&text)));
        None
    }
}

/// Why bytes are not a JSON object, without showing any of them: reasons are logged, and what is not a command may be
/// anything. The dead letter holds the bytes.
fn not_an_object(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_data() {
        return "the record is JSON but not an object".to_owned();
    }
    format!("the record of {} bytes is not JSON ({error})", bytes.len())
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => format!("the boolean {truth}"),
        Value::Number(number) => format!("the number {}", quoted(&number.to_string())),
        Value::String(text) => quoted(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

macro_rules! displays_as_it_is_written {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}
displays_as_it_is_written!(Format, Compression, Mode, When);

#[cfg(test)]
mod tests;
