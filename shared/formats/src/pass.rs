//! One pass over the inputs: read, make rows in parallel, write in order.
//!
//! One thread reads and cuts units. Workers make chunks of them. The calling thread puts chunks back into order, rolls
//! files and writes rejects. A fixed number of tickets bounds how many units are anywhere between: that, times the size of
//! a unit, is the memory. At the first contradiction the pass stops writing and goes on only to learn what the columns
//! really hold, so that the next pass is the last (but for whole numbers that turn out too large to be floats).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use weir_command::{Compression, Format};

use crate::encode::{Chunk, Codec, File, file_name};
use crate::quarantine::{Quarantine, Reject};
use crate::reading::{read, tickets};
use crate::source::{Stop, Unit};
use crate::{Columns, ConvertError, Input, Output, Settings, Sniffed};

/// What a pass came to.
pub(crate) enum Pass {
    /// All is written.
    Done(Written),
    /// The columns hold more than was thought; nothing is visible.
    Widen(Columns),
}

#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) files: Vec<String>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) rejected: u64,
    pub(crate) first_reject: Option<String>,
}

/// Where and how a job's files are written.
pub(crate) struct Job<'a> {
    pub(crate) inputs: &'a [(Arc<dyn Input>, Sniffed)],
    pub(crate) format: Format,
    pub(crate) compression: Compression,
    pub(crate) columns: &'a Columns,
    pub(crate) unique: &'a [String],
    pub(crate) output: &'a dyn Output,
    pub(crate) settings: &'a Settings,
}

/// What a worker makes of a unit.
enum Made {
    Chunk { chunk: Chunk, rejects: Vec<Reject>, input: Arc<str> },
    Found(Columns),
}

pub(crate) fn run(job: &Job<'_>) -> Result<Pass, ConvertError> {
    let codec = Codec::new(job.format, job.compression, &job.columns.to_arrow(), job.unique)?;
    let settings = job.settings;
    let threads = settings.threads.max(1);
    let in_flight = threads + 1;
    let contradicted = AtomicBool::new(false);
    let (ticket_in, ticket_out) = tickets(in_flight);
    let (units_in, units_out) = bounded::<(u64, Unit)>(in_flight);
    let (made_in, made_out) = bounded::<(u64, Result<Made, ConvertError>)>(in_flight);
    std::thread::scope(|scope| {
        let failures = made_in.clone();
        scope.spawn(move || {
            if let Err(error) = read(job.inputs, settings, &ticket_out, &units_in) {
                // An error has no place among the units: it ends the pass.
                let _ = failures.send((0, Err(error)));
            }
        });
        for _ in 0..threads {
            let (units_out, made_in, codec, contradicted) = (units_out.clone(), made_in.clone(), &codec, &contradicted);
            scope.spawn(move || {
                for (number, unit) in units_out {
                    let made = make(job, codec, &unit, contradicted);
                    if made_in.send((number, made)).is_err() {
                        break;
                    }
                }
            });
        }
        drop((units_out, made_in));
        let result = write(job, &codec, &made_out, &ticket_in);
        // Lets every thread that still waits for a place come to its end.
        drop((made_out, ticket_in));
        result
    })
}

/// A worker's part: a unit as a chunk or, once there is a contradiction anywhere, as what its columns hold.
fn make(job: &Job<'_>, codec: &Codec, unit: &Unit, contradicted: &AtomicBool) -> Result<Made, ConvertError> {
    if contradicted.load(Ordering::Relaxed) {
        return Ok(Made::Found(unit.infer()));
    }
    let schema = job.columns.to_arrow();
    let mut encoder = codec.begin()?;
    let mut rejects = Vec::new();
    let decoded = unit.decode(job.columns, &schema, &mut rejects, |batch| {
        if job.settings.stopped() {
            return Err(Stop::Failed(ConvertError::Stopped));
        }
        Ok(encoder.push(&batch)?)
    });
    match decoded {
        Ok(()) => Ok(Made::Chunk { chunk: encoder.finish()?, rejects, input: Arc::clone(&unit.input) }),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::Contradiction) => {
            contradicted.store(true, Ordering::Relaxed);
            Ok(Made::Found(unit.infer()))
        }
    }
}

/// The writing thread: chunks in order into files that become visible together at the end.
fn write(
    job: &Job<'_>,
    codec: &Codec,
    made: &Receiver<(u64, Result<Made, ConvertError>)>,
    tickets: &Sender<()>,
) -> Result<Pass, ConvertError> {
    let quarantine = Quarantine::new(job.output);
    let mut files = Files { job, codec, open: Vec::new(), quarantine, written: Written::default() };
    let mut found: Option<Columns> = None;
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (number, made) in made {
        early.insert(number, made?);
        while let Some(made) = early.remove(&next) {
            next += 1;
            match made {
                Made::Found(columns) => {
                    let so_far = found.take().unwrap_or_else(|| job.columns.clone());
                    found = Some(so_far.join(&columns));
                    files.open.clear();
                }
                Made::Chunk { .. } if found.is_some() => {}
                Made::Chunk { chunk, rejects, input } => files.append(chunk, &rejects, &input)?,
            }
            let _ = tickets.send(());
        }
    }
    match found {
        None => files.finish().map(Pass::Done),
        Some(columns) if columns != *job.columns => Ok(Pass::Widen(columns)),
        Some(_) => Err(ConvertError::Internal("a value contradicts its column and yet does not widen it".to_owned())),
    }
}

struct Files<'a> {
    job: &'a Job<'a>,
    codec: &'a Codec,
    open: Vec<File>,
    quarantine: Quarantine<'a>,
    written: Written,
}

impl Files<'_> {
    fn append(&mut self, chunk: Chunk, rejects: &[Reject], input: &str) -> Result<(), ConvertError> {
        self.quarantine.add(rejects, input)?;
        if chunk.rows == 0 {
            return Ok(());
        }
        self.written.rows += chunk.rows;
        let full = |file: &File| file.written() >= self.job.settings.target_file_bytes;
        if self.open.last().is_none_or(full) {
            self.begin_file()?;
        }
        self.open.last_mut().map_or(Ok(()), |file| file.append(chunk))
    }

    fn begin_file(&mut self) -> Result<(), ConvertError> {
        let name = file_name(self.job.format, self.job.compression, self.open.len());
        self.open.push(self.codec.open(self.job.output.create(&name)?)?);
        self.written.files.push(name);
        Ok(())
    }

    fn finish(mut self) -> Result<Written, ConvertError> {
        if self.written.rows == 0 {
            self.quarantine.nothing_else()?;
        }
        // No rows still make a file: its schema is what is known.
        if self.open.is_empty() {
            self.begin_file()?;
        }
        (self.written.rejected, self.written.first_reject) = self.quarantine.finish()?;
        for file in self.open {
            self.written.bytes += file.finish()?;
        }
        Ok(self.written)
    }
}
