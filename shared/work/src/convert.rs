//! `convert`, `clean` and `aggregate`: what goes through the process, under `<dest>/job=<id>/`.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use weir_command::{Command, Compression, Format, Location};
use weir_contract::{Audience, Contract};
use weir_delivery::Failure;
use weir_formats::{Cleaned, Cleaning, ConvertError, Input, Output, Settings, Summary, aggregate, clean, convert};
use weir_lake::{Lake, ObjectInfo, S3Input, S3Output, to_failure};
use weir_ledger::Report;

/// What a conversion came to.
#[derive(Debug)]
pub enum Converted {
    /// All of it.
    Done(Report),
    /// Time ran out, and nothing is left behind.
    OutOfTime,
    /// It needs more disk than there is.
    TooLarge(String),
}

/// Objects that are no data: folder markers and hidden names, as Hive and Spark see them (`_SUCCESS`, `.crc` files).
pub fn is_data(object: &ObjectInfo, under: &Location) -> bool {
    let relative = object.location.key().strip_prefix(under.key()).unwrap_or(object.location.key());
    let named = !under.is_prefix();
    named
        || !relative.is_empty()
            && !relative.split('/').any(|segment| segment.is_empty() || segment.starts_with(['_', '.']))
}

/// Where a job's output goes.
pub fn output_of(command: &Command, job_id: &str) -> Location {
    command.dest.join(&format!("job={job_id}/"))
}

/// What is made of a job's objects.
#[derive(Debug, Clone)]
pub enum Making {
    /// The same rows in this format.
    Convert(Format, Compression),
    /// Clean rows by a contract.
    Clean(Arc<Contract>),
    /// A contract's metrics over clean rows.
    Aggregate(Arc<Contract>),
}

impl Making {
    /// Makes files of inputs, on a thread that may block. `now_micros` is the time that derived columns are given, in
    /// microseconds since 1970.
    ///
    /// # Errors
    /// The data's, or what inputs and output said.
    pub fn make(
        &self,
        inputs: &[Arc<dyn Input>],
        output: &dyn Output,
        settings: &Settings,
        now_micros: i64,
    ) -> Result<Cleaned, ConvertError> {
        let cleaning = |contract| Cleaning { contract, audience: Audience::Tables, now_micros };
        match self {
            Self::Convert(format, compression) => {
                convert(inputs, *format, *compression, output, settings).map(Cleaned::from)
            }
            Self::Clean(contract) => clean(inputs, &cleaning(contract), output, settings),
            Self::Aggregate(contract) => aggregate(inputs, &cleaning(contract), output, settings),
        }
    }
}

/// The time, and until when what is written is ours alone.
#[derive(Clone, Copy)]
pub struct Lease {
    /// Milliseconds since the epoch.
    pub now_ms: fn() -> u64,
    /// In the same.
    pub until_ms: u64,
}

/// Makes files of objects; removes nothing that is not its own when the lease is over.
///
/// # Errors
/// The data's (`User`) or the lake's.
pub async fn run(
    lake: &Arc<dyn Lake>,
    objects: Vec<ObjectInfo>,
    making: Making,
    output: Location,
    settings: Settings,
    lease: Lease,
) -> Result<Converted, Failure> {
    let count = objects.len() as u64;
    let (place, owned) = (output.clone(), Arc::clone(lake));
    // Parsing and encoding are work for a thread that may block.
    let converted = tokio::task::spawn_blocking(move || {
        let runtime = Handle::current();
        let inputs = S3Input::all(&owned, objects, &runtime);
        let sink = S3Output::new(Arc::clone(&owned), place, runtime.clone());
        making.make(&inputs, &sink, &settings, (lease.now_ms)() as i64 * 1000)
    });
    let converted =
        converted.await.map_err(|error| Failure::internal("Panic", format!("the conversion broke down: {error}")))?;
    let cleaned = match converted {
        Ok(made) => made,
        Err(error) => {
            // Cleaning into many partitions may have closed files already; of a job that is not done, nothing is to be seen.
            remove_others(lake.as_ref(), &output, &HashSet::new(), lease).await?;
            return match error {
                ConvertError::Stopped => Ok(Converted::OutOfTime),
                error @ (ConvertError::TooLargeToSpool { .. } | ConvertError::TooLarge { .. }) => {
                    Ok(Converted::TooLarge(error.to_string()))
                }
                error => Err(to_failure(error)),
            };
        }
    };
    remove_others(lake.as_ref(), &output, &files_of(&cleaned.summary, &output), lease).await?;
    Ok(Converted::Done(report(cleaned, &output, count)))
}

/// All that was written.
fn files_of(summary: &Summary, output: &Location) -> HashSet<Location> {
    let quarantine = summary.quarantine.as_ref().map(|(name, _)| *name);
    summary.files.iter().map(String::as_str).chain(quarantine).map(|name| output.join(name)).collect()
}

/// Removes what earlier attempts left under a job's prefix, and this one did not write: attempts never add up.
///
/// # Errors
/// The lake's; `Late` when the lease is over before all is removed.
pub async fn remove_others(
    lake: &dyn Lake,
    output: &Location,
    own: &HashSet<Location>,
    lease: Lease,
) -> Result<(), Failure> {
    let mut after: Option<String> = None;
    loop {
        let page = lake.list(output, after.as_deref()).await?;
        let others: Vec<Location> =
            page.objects.iter().map(|object| object.location.clone()).filter(|at| !own.contains(at)).collect();
        // Whoever stalled until now may find the next owner's files here. The ledger says then that the job is lost.
        if (lease.now_ms)() >= lease.until_ms {
            return Err(Failure::passing("Late", "the invocation stalled until its lease was over"));
        }
        lake.delete(&others).await?;
        after = page.objects.last().map(|object| object.location.key().to_owned());
        if !page.more {
            return Ok(());
        }
    }
}

/// The most kinds of bad rows that a job's record tells of.
const MOST_KINDS: usize = 10;

/// What a job's record says of it.
pub fn report(cleaned: Cleaned, output: &Location, objects: u64) -> Report {
    let Cleaned { summary, dropped, broken, partitions, .. } = cleaned;
    let mut notes = summary.notes;
    let broken = broken.iter().take(MOST_KINDS);
    notes.extend(broken.map(|(kind, count)| format!("bad rows: {count} where {kind}")));
    if partitions > 0 {
        notes.push(format!("{partitions} partitions"));
    }
    if let Some((_, first)) = &summary.quarantine {
        notes.push(format!("the first row put aside: {first}"));
    }
    if summary.rows == 0 {
        notes.push("there are columns but no rows".to_owned());
    }
    Report {
        output: output.to_string(),
        objects,
        files: summary.files.len() as u64,
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        rows: Some(summary.rows),
        dropped,
        quarantined: summary.quarantined,
        quarantine: summary.quarantine.map(|(name, _)| output.join(name).to_string()),
        restarts: summary.restarts,
        ms: 0,
        notes,
    }
}
