//! The conversion: look, agree on columns, pass over the inputs until nothing contradicts them.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use weir_command::{Compression, Format};

use crate::pass::{self, Job, Pass};
use crate::quarantine::QUARANTINE;
use crate::reading::{Surveyed, block_bytes, survey};
use crate::source::columns_of;
use crate::{Columns, ConvertError, Input, Kind, Output, Sniffed};

/// What a conversion may use.
#[derive(Clone)]
pub struct Settings {
    /// Threads that parse and encode. One more reads, and the caller's writes.
    pub threads: usize,
    /// Text per unit of work, in bytes. About `(threads + 2) * 3 * block_bytes` are in memory at a time.
    pub block_bytes: usize,
    /// A file of the output is closed when it is at least this large.
    pub target_file_bytes: u64,
    /// Clean rows that wait for others of their partition, in bytes. Half as many again may be being encoded.
    pub waiting_bytes: usize,
    /// Bytes of output that many small files may hold back before the largest are closed.
    pub open_bytes: u64,
    /// Where seekable formats inside a compression are unpacked to.
    pub spool_dir: PathBuf,
    /// How much may be unpacked there.
    pub spool_max_bytes: u64,
    /// Asked between blocks: true ends the conversion with [`ConvertError::Stopped`].
    pub stop: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Settings {
    /// For a process that has the machine to itself.
    pub fn for_machine() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            block_bytes: 8 << 20,
            target_file_bytes: 512 << 20,
            waiting_bytes: 128 << 20,
            open_bytes: 512 << 20,
            spool_dir: std::env::temp_dir(),
            spool_max_bytes: 10 << 30,
            stop: Arc::new(|| false),
        }
    }

    pub(crate) fn stopped(&self) -> bool {
        (self.stop)()
    }
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The files written, by name.
    pub files: Vec<String>,
    /// Rows written.
    pub rows: u64,
    /// Bytes read, as the inputs count them.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Rows put aside.
    pub quarantined: u64,
    /// The file they are in, and the first of them.
    pub quarantine: Option<(&'static str, String)>,
    /// How often a contradiction made it begin again.
    pub restarts: u32,
    /// The columns written.
    pub columns: Columns,
    /// What a person should know: empty inputs, inferred formats that are not certain.
    pub notes: Vec<String>,
}

/// Passes before giving up. Each widens at least one column; two are usual, three happen (a whole number too large to be
/// a float), more would be a defect.
const MOST_PASSES: u32 = 8;

/// Converts inputs to one format and one schema.
///
/// # Errors
/// See [`ConvertError`]. On an error nothing is visible in `output`.
pub fn convert(
    inputs: &[Arc<dyn Input>],
    format: Format,
    compression: Compression,
    output: &dyn Output,
    settings: &Settings,
) -> Result<Summary, ConvertError> {
    let Surveyed { inputs: sniffed, notes } = survey(inputs, "convert")?;
    let Agreed { mut columns, unique } = agree(&sniffed, settings)?;
    let settings = &Settings { block_bytes: block_bytes(&sniffed, settings), ..settings.clone() };
    for restarts in 0..MOST_PASSES {
        let job = Job { inputs: &sniffed, format, compression, columns: &columns, unique: &unique, output, settings };
        match pass::run(&job)? {
            Pass::Widen(wider) => columns = wider,
            Pass::Done(written) => {
                if columns.0.is_empty() {
                    return Err(ConvertError::data("nothing to convert", "there is no column in any input"));
                }
                return Ok(Summary {
                    files: written.files,
                    rows: written.rows,
                    bytes_in: inputs.iter().map(|input| input.size()).sum(),
                    bytes_out: written.bytes,
                    quarantined: written.rejected,
                    quarantine: written.first_reject.map(|first| (QUARANTINE, first)),
                    restarts,
                    columns,
                    notes,
                });
            }
        }
    }
    Err(ConvertError::Internal(format!("the columns still change after {MOST_PASSES} passes")))
}

struct Agreed {
    columns: Columns,
    /// Columns whose values hardly repeat in the sample.
    unique: Vec<String>,
}

/// The columns as the first input shows them and all files that have fixed columns agree on them. The types may still
/// widen; the columns of a table may not differ, because which was meant is not ours to guess.
fn agree(inputs: &[(Arc<dyn Input>, Sniffed)], settings: &Settings) -> Result<Agreed, ConvertError> {
    let mut columns = Columns::default();
    let mut unique = Vec::new();
    let mut first_fixed: Option<(String, Vec<String>)> = None;
    for (index, (input, sniffed)) in inputs.iter().enumerate() {
        let (seen, fixed) = columns_of(input, sniffed, settings)?;
        if fixed {
            let names: Vec<String> = seen.names().map(str::to_owned).collect();
            match &first_fixed {
                None => first_fixed = Some((input.name().to_owned(), names)),
                Some((first, known)) => same_columns(input.name(), &names, first, known)?,
            }
        }
        columns = columns.join(&seen);
        if index == 0 {
            unique.clone_from(&sniffed.unique);
        }
    }
    Ok(Agreed { columns, unique })
}

fn same_columns(name: &str, columns: &[String], first: &str, known: &[String]) -> Result<(), ConvertError> {
    let (a, b): (HashSet<_>, HashSet<_>) = (columns.iter().collect(), known.iter().collect());
    if a == b {
        return Ok(());
    }
    let list = |set: Vec<&&String>| set.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let (only_here, only_there) = (list(a.difference(&b).collect()), list(b.difference(&a).collect()));
    let mut reason = format!("its columns are not those of {first}, and one job writes one schema;");
    if !only_here.is_empty() {
        reason.push_str(&format!(" only here: {only_here};"));
    }
    if !only_there.is_empty() {
        reason.push_str(&format!(" only there: {only_there};"));
    }
    Err(ConvertError::data(name, format!("{reason} convert them as jobs of their own")))
}

impl Columns {
    /// A line a column, for people.
    pub fn describe(&self) -> String {
        let kind = |kind: &Kind| kind.to_arrow().to_string();
        self.0.iter().map(|(name, of)| format!("{name}: {}", kind(of))).collect::<Vec<_>>().join("\n")
    }
}
