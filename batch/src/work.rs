//! What a task does with objects: the functions' own code.
//!
//! Orders and answers are JSON: Spark moves them about, and people read them in logs.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};
use weir_command::{Action, Command, Location};
use weir_contract::{Audience, Contract, Measured};
use weir_delivery::Failure;
use weir_formats::{Cleaned, Cleaning, ConvertError, Output, Settings, Sink, clean_part, write_batch};
use weir_lake::to_failure;
use weir_lake::{ObjectInfo, Page, S3Input, S3Output};
use weir_telemetry::now_ms;
use weir_work::convert::{self, Converted, Lease, Making, remove_others};
use weir_work::copy::{self, Copied};

use crate::aws::Aws;

/// An object, as the manifest has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Object {
    uri: String,
    size: u64,
    etag: String,
}

/// Some of a job's objects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    dataset: String,
    objects: Vec<Object>,
    /// Where rows and the quarantine go.
    output: String,
    /// Which part of the job this is: part of its files' names.
    number: u32,
    /// Whether rows are written.
    rows: bool,
    /// Whether metrics are by day as well.
    by_day: bool,
    /// How many machines add up metrics.
    buckets: usize,
    /// The time that derived columns are given, in microseconds since 1970.
    now_micros: i64,
    /// How many threads there are for it.
    threads: usize,
    /// Whether an object that can't be read is put aside, instead of failing the job.
    put_aside: bool,
}

/// What a part came to.
#[derive(Debug, Default, Serialize)]
struct Made {
    rows: u64,
    dropped: u64,
    quarantined: u64,
    files: Vec<String>,
    bytes_in: u64,
    bytes_out: u64,
    broken: Vec<(String, u64)>,
    first_bad: Option<String>,
    quarantine: Option<String>,
    notes: Vec<String>,
    refused: Vec<Refused>,
}

/// An object that can't be read.
#[derive(Debug, Serialize)]
struct Refused {
    uri: String,
    reason: String,
}

fn order<'a, T: Deserialize<'a>>(text: &'a str) -> PyResult<T> {
    serde_json::from_str(text).map_err(|error| PyValueError::new_err(format!("the order is not understood: {error}")))
}

fn answer<T: Serialize>(value: &T) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// As JSON, so that it survives Spark: `{"fault":…,"advice":…,"code":…,"reason":…}`.
fn raise(failure: Failure) -> PyErr {
    PyRuntimeError::new_err(serde_json::to_string(&failure).unwrap_or(failure.reason))
}

fn place(uri: &str) -> Result<Location, Failure> {
    Location::parse(uri).map_err(|error| Failure::internal("Order", error.to_string()))
}

fn info(object: &Object) -> Result<ObjectInfo, Failure> {
    let (size, etag) = (object.size, object.etag.clone());
    Ok(ObjectInfo { location: place(&object.uri)?, size, etag, modified_ms: 0, attributes: Default::default() })
}

/// A run has its paths to itself until Glue ends it: the token says so.
const ALONE: Lease = Lease { now_ms, until_ms: u64::MAX };

fn settings(threads: usize) -> Settings {
    Settings { threads: threads.max(1), ..Settings::for_machine() }
}

/// Files of several tasks in one folder: their names say whose they are.
struct Named {
    output: S3Output,
    number: u32,
}

impl Named {
    fn name(&self, name: &str) -> String {
        match name.rsplit_once("part-") {
            Some((folder, rest)) => format!("{folder}part-{:05}-{rest}", self.number),
            None => name.to_owned(),
        }
    }
}

impl Output for Named {
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        self.output.create(&self.name(name))
    }
}

/// Where what is only looked at goes.
struct Nowhere;

impl Output for Nowhere {
    fn create(&self, _name: &str) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(Self))
    }
}

impl io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Nowhere {
    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// How many objects that can't be read have their part begun again. With more of them, each of the others is tried by itself first:
/// a part is read twice then, however many there are.
const MOST_RESTARTS: usize = 3;

/// Objects that are asked about at a time.
const HEADS_AT_ONCE: usize = 32;

#[pymethods]
impl Aws {
    /// `credentials` is called whenever fresh ones are needed and gives `(access key, secret key, session token or None)`.
    /// `endpoint` is for another S3 than AWS'.
    #[new]
    #[pyo3(signature = (credentials, region, endpoint=None))]
    fn new(py: Python<'_>, credentials: Py<PyAny>, region: String, endpoint: Option<String>) -> PyResult<Self> {
        Self::connect(py, credentials, region, endpoint)
    }

    /// The objects under a prefix, or the one object: `[{"uri":…,"size":…,"etag":…}]`. With `data`, only what a conversion
    /// would read.
    fn list(&self, py: Python<'_>, source: &str, data: bool) -> PyResult<String> {
        let objects = py.detach(|| self.all_under(source, data)).map_err(raise)?;
        answer(&objects)
    }

    /// Reads some of a job's objects through a contract. Returns what came of it, and the metrics in `buckets` parts.
    fn part<'py>(&self, py: Python<'py>, text: &str) -> PyResult<(String, Vec<Bound<'py, PyBytes>>)> {
        let part: Part = order(text)?;
        let (made, parts) = py.detach(|| self.make_part(part)).map_err(raise)?;
        Ok((answer(&made)?, parts.iter().map(|bytes| PyBytes::new(py, bytes)).collect()))
    }

    /// Adds up the metrics of one bucket, and writes them.
    fn add_up(&self, py: Python<'_>, text: &str, parts: Vec<Vec<u8>>) -> PyResult<String> {
        let sum: AddUp = order(text)?;
        let added = py.detach(|| self.add_parts(&sum, &parts)).map_err(raise)?;
        answer(&added)
    }

    /// Copies some of a command's objects.
    fn copy(&self, py: Python<'_>, text: &str) -> PyResult<String> {
        let some: Order = order(text)?;
        let report = py.detach(|| self.copy_some(&some)).map_err(raise)?;
        answer(&report)
    }

    /// Converts all of a command's objects: one process, one schema.
    fn convert(&self, py: Python<'_>, text: &str) -> PyResult<String> {
        let all: Order = order(text)?;
        let report = py.detach(|| self.convert_all(all)).map_err(raise)?;
        answer(&report)
    }

    /// Removes what is under a prefix and not among `own`.
    fn remove_others(&self, py: Python<'_>, under: &str, own: Vec<String>) -> PyResult<()> {
        let removed = py.detach(|| {
            let own = own.iter().map(|uri| place(uri)).collect::<Result<HashSet<_>, _>>()?;
            self.wait(remove_others(self.lake.as_ref(), &place(under)?, &own, ALONE))
        });
        removed.map_err(raise)
    }
}

/// Metrics of one bucket, to be added up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddUp {
    dataset: String,
    by_day: bool,
    bucket: u32,
    /// Where the metrics go.
    metrics: String,
    /// Where their sums by day go.
    sums: Option<String>,
}

/// What was added up.
#[derive(Debug, Serialize)]
struct Added {
    groups: u64,
    files: Vec<String>,
    bytes: u64,
}

/// Objects for a command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    command: String,
    objects: Vec<Object>,
    output: String,
    threads: usize,
}

impl Aws {
    fn all_under(&self, source: &str, data: bool) -> Result<Vec<Object>, Failure> {
        let source = place(source)?;
        let object = |info: ObjectInfo| Object { uri: info.location.to_string(), size: info.size, etag: info.etag };
        if !source.is_prefix() {
            return Ok(vec![object(self.wait(self.lake.head(&source))?)]);
        }
        let all = self.wait(weir_lake::list_all(&*self.lake, &source))?;
        Ok(all.into_iter().filter(|one| !data || convert::is_data(one, &source)).map(object).collect())
    }

    fn make_part(&self, part: Part) -> Result<(Made, Vec<Vec<u8>>), Failure> {
        let coarse = contract(&part.dataset)?;
        let fine = if part.by_day { coarse.by_day() } else { coarse.clone() };
        let cleaning = Cleaning { contract: &fine, audience: Audience::Tables, now_micros: part.now_micros };
        let under = place(&part.output)?;
        let handle = self.runtime.handle();
        let output =
            Named { output: S3Output::new(Arc::clone(&self.lake), under.clone(), handle.clone()), number: part.number };
        let (mut refused, mut objects) =
            if part.put_aside { self.unchanged(part.objects)? } else { (Vec::new(), part.objects) };
        let mut measured = Measured::new();
        let (mut made, mut restarts) = (Made::default(), 0);
        while !objects.is_empty() {
            if restarts == MOST_RESTARTS {
                self.put_unreadable_aside(&mut objects, &mut refused, &cleaning, part.threads)?;
            }
            let infos = objects.iter().map(info).collect::<Result<Vec<_>, _>>()?;
            let inputs = S3Input::all(&self.lake, infos, handle);
            match clean_part(&inputs, &cleaning, &output, &settings(part.threads), part.rows) {
                Ok((cleaned, its)) => {
                    measured = its;
                    made = said(cleaned, &under, &output);
                    break;
                }
                // All of them are empty. Those of other parts may not be.
                Err(ConvertError::Data { input, reason }) if input == NOTHING => {
                    made.notes.push(reason);
                    break;
                }
                Err(ConvertError::Data { input, reason }) if part.put_aside => {
                    let Some(at) = objects.iter().position(|object| object.uri == input) else {
                        return Err(to_failure(ConvertError::Data { input, reason }));
                    };
                    refused.push(Refused { uri: objects.remove(at).uri, reason });
                    restarts += 1;
                }
                Err(error) => return Err(to_failure(error)),
            }
        }
        made.refused = refused;
        let parts = measured.to_parts(&fine, &coarse, part.buckets);
        Ok((made, parts.map_err(|error| Failure::internal("Metrics", error.to_string()))?))
    }

    /// Reads each object by itself, to no end but to see whether it can be read.
    fn put_unreadable_aside(
        &self,
        objects: &mut Vec<Object>,
        refused: &mut Vec<Refused>,
        cleaning: &Cleaning<'_>,
        threads: usize,
    ) -> Result<(), Failure> {
        let mut readable = Vec::with_capacity(objects.len());
        for object in objects.drain(..) {
            let inputs = S3Input::all(&self.lake, vec![info(&object)?], self.runtime.handle());
            match clean_part(&inputs, cleaning, &Nowhere, &settings(threads), false) {
                Err(ConvertError::Data { input, reason }) if input != NOTHING => {
                    refused.push(Refused { uri: object.uri, reason });
                }
                // One that is empty is no trouble among others.
                Ok(_) | Err(ConvertError::Data { .. }) => readable.push(object),
                Err(error) => return Err(to_failure(error)),
            }
        }
        *objects = readable;
        Ok(())
    }

    /// Objects that are gone, or not what was claimed, and the others, in their order.
    fn unchanged(&self, objects: Vec<Object>) -> Result<(Vec<Refused>, Vec<Object>), Failure> {
        let (mut refused, mut kept) = (Vec::new(), Vec::new());
        let heads = objects.into_iter().map(|object| async {
            let there = self.lake.head(&place(&object.uri)?).await;
            Ok::<_, Failure>((object, there))
        });
        let heads: Vec<_> = self.wait(futures::stream::iter(heads).buffered(HEADS_AT_ONCE).try_collect())?;
        for (object, there) in heads {
            match there {
                // What has no etag has a name that is used once.
                Ok(there) if object.etag.is_empty() && there.size == object.size => {
                    kept.push(Object { etag: there.etag, ..object });
                }
                Ok(there) if there.etag.trim_matches('"') == object.etag.trim_matches('"') => {
                    kept.push(Object { etag: there.etag, size: there.size, ..object });
                }
                Ok(_) => {
                    let reason = "it is another version than the one that was claimed".to_owned();
                    refused.push(Refused { uri: object.uri, reason });
                }
                Err(failure) if failure.code == "NoSuchKey" => {
                    refused.push(Refused { uri: object.uri, reason: failure.reason });
                }
                // Not allowed to read it, for one: that is no fault of the object, and may be so of all.
                Err(failure) => return Err(failure),
            }
        }
        Ok((refused, kept))
    }

    fn add_parts(&self, sum: &AddUp, parts: &[Vec<u8>]) -> Result<Added, Failure> {
        let internal = |error: &dyn std::fmt::Display| Failure::internal("Metrics", error.to_string());
        let coarse = contract(&sum.dataset)?;
        let fine = if sum.by_day { coarse.by_day() } else { coarse.clone() };
        let mut measured = Measured::new();
        for part in parts {
            measured.add_part(part).map_err(|error| internal(&error))?;
        }
        let mut added = Added { groups: 0, files: Vec::new(), bytes: 0 };
        let mut write = |batch: &_, under: &str, kind: &str| {
            let under = place(under)?;
            let output = S3Output::new(Arc::clone(&self.lake), under.clone(), self.runtime.handle().clone());
            let name = format!("{kind}-{:05}.parquet", sum.bucket);
            added.bytes += write_batch(batch, &name, &output).map_err(to_failure)?;
            added.files.push(under.join(&name).to_string());
            Ok::<(), Failure>(())
        };
        let overflow = |error: weir_contract::MetricsError| Failure::user("Metrics", error.to_string());
        if let Some(sums) = &sum.sums {
            write(&measured.sums(&fine).map_err(overflow)?, sums, &fine.sums_shape())?;
        }
        let regrouped = measured.regroup(&fine, &coarse).map_err(|error| internal(&error))?;
        let metrics = regrouped.finish(&coarse).map_err(overflow)?;
        write(&metrics, &sum.metrics, "part")?;
        added.groups = metrics.num_rows() as u64;
        Ok(added)
    }

    fn copy_some(&self, some: &Order) -> Result<weir_ledger::Report, Failure> {
        let command = command(&some.command)?;
        let objects = some.objects.iter().map(info).collect::<Result<Vec<_>, _>>()?;
        let first = Page { objects, more: false };
        match self.wait(copy::run(&self.lake, &command, first, None, Arc::new(|| false)))? {
            Copied::Done(report) => Ok(report),
            Copied::Unfinished(_) => Err(Failure::internal("Stopped", "a copy stopped that nobody had stopped")),
        }
    }

    fn convert_all(&self, all: Order) -> Result<weir_ledger::Report, Failure> {
        let Action::Convert { format, compression } = command(&all.command)?.action else {
            return Err(Failure::internal("Order", "this is no conversion"));
        };
        let objects = all.objects.iter().map(info).collect::<Result<Vec<_>, _>>()?;
        let making = Making::Convert(format, compression);
        let run = convert::run(&self.lake, objects, making, place(&all.output)?, settings(all.threads), ALONE);
        match self.wait(run)? {
            Converted::Done(report) => Ok(report),
            Converted::TooLarge(why) => Err(Failure::user("TooLarge", why)),
            Converted::OutOfTime => Err(Failure::internal("Stopped", "a conversion stopped that nobody had stopped")),
        }
    }
}

/// What cleaning says it found if there was nothing.
const NOTHING: &str = "nothing to clean";

fn command(text: &str) -> Result<Command, Failure> {
    Command::parse(text.as_bytes()).map_err(|error| Failure::user("Command", error.to_string()))
}

fn contract(dataset: &str) -> Result<Contract, Failure> {
    weir_contract::contract(dataset).map_err(|error| Failure::user("UnknownDataset", error.to_string()))
}

fn said(cleaned: Cleaned, under: &Location, output: &Named) -> Made {
    let Cleaned { summary, clean, dropped, broken, .. } = cleaned;
    let uri = |name: &str| under.join(&output.name(name)).to_string();
    let mut files: Vec<String> = summary.files.iter().map(|name| uri(name)).collect();
    let quarantine = summary.quarantine.as_ref().map(|(name, _)| uri(name));
    files.extend(quarantine.clone());
    Made {
        rows: clean,
        dropped,
        quarantined: summary.quarantined,
        files,
        bytes_in: summary.bytes_in,
        bytes_out: summary.bytes_out,
        broken,
        first_bad: summary.quarantine.map(|(_, first)| first),
        quarantine,
        notes: summary.notes,
        refused: Vec::new(),
    }
}
