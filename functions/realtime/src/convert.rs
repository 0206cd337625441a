//! `convert`: any readable input as one format and one schema, under `<dest>/job=<id>/`.

use std::sync::Arc;

use tokio::runtime::Handle;
use weir_command::{Command, Compression, Format, Location};
use weir_delivery::Failure;
use weir_formats::{ConvertError, Settings, Summary, convert};
use weir_lake::{Lake, ObjectInfo, S3Input, S3Output};
use weir_ledger::Report;

use crate::time::now_ms;

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

/// Converts objects; removes nothing that is not its own when the lease is over.
///
/// # Errors
/// The data's (`User`) or the lake's.
pub async fn run(
    lake: &Arc<dyn Lake>,
    objects: Vec<ObjectInfo>,
    to: (Format, Compression),
    output: Location,
    settings: Settings,
    lease_until_ms: u64,
) -> Result<Converted, Failure> {
    let count = objects.len() as u64;
    let (place, owned) = (output.clone(), Arc::clone(lake));
    // Parsing and encoding are work for a thread that may block.
    let converted = tokio::task::spawn_blocking(move || {
        let runtime = Handle::current();
        let inputs = S3Input::all(&owned, objects, &runtime);
        let sink = S3Output::new(Arc::clone(&owned), place, runtime.clone());
        convert(&inputs, to.0, to.1, &sink, &settings)
    });
    let converted =
        converted.await.map_err(|error| Failure::internal("Panic", format!("the conversion broke down: {error}")))?;
    let summary = match converted {
        Ok(summary) => summary,
        Err(ConvertError::Stopped) => return Ok(Converted::OutOfTime),
        Err(error @ ConvertError::TooLargeToSpool { .. }) => return Ok(Converted::TooLarge(error.to_string())),
        Err(error) => return Err(to_failure(error)),
    };
    remove_others(lake.as_ref(), &output, &summary, lease_until_ms).await?;
    Ok(Converted::Done(report(summary, &output, count)))
}

/// The lake's own failure, where one comes back through the conversion, or what the data did wrong.
fn to_failure(error: ConvertError) -> Failure {
    match error {
        ConvertError::Data { .. } => Failure::user("UnreadableData", error.to_string()),
        ConvertError::Io(io) => match io.downcast::<Failure>() {
            Ok(own) => own,
            Err(other) => Failure::internal("Io", other.to_string()),
        },
        other => Failure::internal("Conversion", other.to_string()),
    }
}

/// Removes what an earlier attempt left under this job's prefix and this one did not write: attempts never add up.
async fn remove_others(
    lake: &dyn Lake,
    output: &Location,
    summary: &Summary,
    lease_until_ms: u64,
) -> Result<(), Failure> {
    let quarantine = summary.quarantine.as_ref().map(|(name, _)| *name);
    let own: Vec<Location> =
        summary.files.iter().map(String::as_str).chain(quarantine).map(|name| output.join(name)).collect();
    let mut after: Option<String> = None;
    loop {
        let page = lake.list(output, after.as_deref()).await?;
        let others: Vec<Location> =
            page.objects.iter().map(|object| object.location.clone()).filter(|at| !own.contains(at)).collect();
        // Whoever stalled until now may find the next owner's files here. The ledger says then that the job is lost.
        if now_ms() >= lease_until_ms {
            return Err(Failure::passing("Late", "the invocation stalled until its lease was over"));
        }
        lake.delete(&others).await?;
        after = page.objects.last().map(|object| object.location.key().to_owned());
        if !page.more {
            return Ok(());
        }
    }
}

fn report(summary: Summary, output: &Location, objects: u64) -> Report {
    let mut notes = summary.notes;
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
        quarantined: summary.quarantined,
        quarantine: summary.quarantine.map(|(name, _)| output.join(name).to_string()),
        restarts: summary.restarts,
        ms: 0,
        notes,
    }
}
