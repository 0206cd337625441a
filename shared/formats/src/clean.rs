//! `clean` and `aggregate`: inputs of any format through a dataset's contract.
//!
//! One thread reads and cuts units. Workers clean units, and encode row groups. The calling thread takes clean units in
//! order, collects their rows by partition ([`crate::partition`]), hands out row groups and appends them to files in order:
//! the same input makes the same files. A ticket goes back to the reader only while what waits is below its bound.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow_array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use weir_command::{Compression, Format};
use weir_contract::{Audience, Contract, Measured, MetricsError};

use crate::encode::{Chunk, Codec};
use crate::partition::{Files, Group, Partition, Plan, Waiting};
use crate::quarantine::{QUARANTINE, Quarantine, Reject};
use crate::reading::{Surveyed, block_bytes, read, survey, tickets};
use crate::source::Unit;
use crate::{Columns, ConvertError, Input, Output, Settings, Sniffed, Summary};

/// By what, for whom, and when rows are cleaned.
#[derive(Clone, Copy)]
pub struct Cleaning<'a> {
    /// What is right and wrong.
    pub contract: &'a Contract,
    /// Who will see the rows.
    pub audience: Audience,
    /// The time that derived columns are given, in microseconds since 1970.
    pub now_micros: i64,
}

/// What cleaning came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Cleaned {
    /// What was read and written, as of a conversion. Of `aggregate`, its rows are the groups.
    pub summary: Summary,
    /// Rows that were clean.
    pub clean: u64,
    /// Rows that the contract drops.
    pub dropped: u64,
    /// Bad rows by what they break, most first.
    pub broken: Vec<(String, u64)>,
    /// Partitions written.
    pub partitions: u64,
}

/// A conversion: every row as it came.
impl From<Summary> for Cleaned {
    fn from(summary: Summary) -> Self {
        Self { clean: summary.rows, summary, dropped: 0, broken: Vec::new(), partitions: 0 }
    }
}

/// Cleans inputs into Parquet, a folder a partition.
///
/// # Errors
/// See [`ConvertError`]. What is visible then is only what `Settings::open_bytes` did not hold.
pub fn clean(
    inputs: &[Arc<dyn Input>],
    cleaning: &Cleaning<'_>,
    output: &dyn Output,
    settings: &Settings,
) -> Result<Cleaned, ConvertError> {
    Ok(run(inputs, cleaning, output, settings, Making::Rows)?.0)
}

/// Cleans inputs and writes the contract's metrics over their clean rows: one Parquet file, a row a group.
///
/// # Errors
/// See [`ConvertError`]; then nothing is visible. A contract without metrics is the data's error.
pub fn aggregate(
    inputs: &[Arc<dyn Input>],
    cleaning: &Cleaning<'_>,
    output: &dyn Output,
    settings: &Settings,
) -> Result<Cleaned, ConvertError> {
    if !cleaning.contract.has_metrics() {
        let reason = "its contract has no [metrics]; add them, or use `clean`";
        return Err(ConvertError::data(cleaning.contract.name(), reason));
    }
    Ok(run(inputs, cleaning, output, settings, Making::Metrics)?.0)
}

/// Cleans some of a job's inputs: what one of many machines does. Its metrics, if the contract has any, come back to be added
/// to those of the others; its rows are written if `rows` says so. That no row at all is good is not an error here, because
/// others may have good ones.
///
/// # Errors
/// As [`clean`].
pub fn clean_part(
    inputs: &[Arc<dyn Input>],
    cleaning: &Cleaning<'_>,
    output: &dyn Output,
    settings: &Settings,
    rows: bool,
) -> Result<(Cleaned, Measured), ConvertError> {
    run(inputs, cleaning, output, settings, Making::Part { rows })
}

/// Writes one batch, such as metrics that several machines have measured, as a file of this name; its size in bytes.
///
/// # Errors
/// The output's.
pub fn write_batch(batch: &RecordBatch, name: &str, output: &dyn Output) -> Result<u64, ConvertError> {
    let codec = Codec::new(Format::Parquet, Compression::Snappy, &batch.schema(), &[])?;
    let mut encoder = codec.begin()?;
    encoder.push(batch)?;
    let mut file = codec.open(output.create(name)?)?;
    file.append(encoder.finish()?)?;
    file.finish()
}

/// What is made of clean rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    Rows,
    Metrics,
    Part { rows: bool },
}

impl Making {
    fn rows(self) -> bool {
        matches!(self, Self::Rows | Self::Part { rows: true })
    }

    fn measures(self) -> bool {
        self != Self::Rows
    }
}

/// A unit, cleaned.
struct CleanUnit {
    input: Arc<str>,
    rows: u64,
    split: Vec<(Partition, RecordBatch)>,
    measured: Option<Measured>,
    dropped: u64,
    rejects: Vec<Reject>,
}

/// What comes back from workers and the reader.
enum Made {
    Unit(u64, Box<CleanUnit>),
    Chunk(u64, Chunk, usize),
    /// The reader is at its end; so many units there were.
    AllRead(u64),
    Failed(ConvertError),
}

/// What all threads see.
struct Job<'a> {
    cleaning: &'a Cleaning<'a>,
    inputs: &'a [(Arc<dyn Input>, Sniffed)],
    settings: &'a Settings,
    plan: &'a Plan,
    codec: &'a Codec,
    making: Making,
}

/// More groups than this are no work for one process's memory.
const MOST_GROUPS: usize = 4_000_000;

fn internal(error: impl std::fmt::Display) -> ConvertError {
    ConvertError::Internal(error.to_string())
}

fn run(
    inputs: &[Arc<dyn Input>],
    cleaning: &Cleaning<'_>,
    output: &dyn Output,
    settings: &Settings,
    making: Making,
) -> Result<(Cleaned, Measured), ConvertError> {
    let Surveyed { inputs: sniffed, notes } = survey(inputs, "clean")?;
    let settings = &Settings { block_bytes: block_bytes(&sniffed, settings), ..settings.clone() };
    let contract = cleaning.contract;
    let plan = Plan::new(contract).map_err(internal)?;
    let schema = if making == Making::Metrics { contract.metrics_schema() } else { Arc::clone(&plan.schema) };
    let codec = Codec::new(Format::Parquet, Compression::Snappy, &schema, &hardly_repeating(contract, &sniffed))?;
    let job = Job { cleaning, inputs: &sniffed, settings, plan: &plan, codec: &codec, making };
    let (mut cleaned, measured) = in_threads(&job, output)?;
    cleaned.summary.bytes_in = inputs.iter().map(|input| input.size()).sum();
    cleaned.summary.columns = Columns::from_arrow(&schema);
    cleaned.summary.notes = notes;
    Ok((cleaned, measured))
}

/// The columns whose raw values hardly repeat in the first input's sample, by their clean names.
fn hardly_repeating(contract: &Contract, sniffed: &[(Arc<dyn Input>, Sniffed)]) -> Vec<String> {
    let unique = sniffed.first().map_or(&[][..], |(_, first)| &first.unique);
    let places = unique.iter().filter_map(|name| contract.place_of(name));
    places.filter_map(|place| contract.columns().nth(place)).map(|column| column.name.to_owned()).collect()
}

fn in_threads(job: &Job<'_>, output: &dyn Output) -> Result<(Cleaned, Measured), ConvertError> {
    let threads = job.settings.threads.max(1);
    let in_flight = threads + 1;
    let (ticket_in, ticket_out) = tickets(in_flight);
    let (units_in, units_out) = bounded::<(u64, Unit)>(in_flight);
    // As many as the coordinator lets out; it must never wait for a worker that waits for it.
    let (groups_in, groups_out) = unbounded::<(u64, Group)>();
    let (made_in, made_out) = unbounded::<Made>();
    std::thread::scope(|scope| {
        let made = made_in.clone();
        scope.spawn(move || {
            let ended = read(job.inputs, job.settings, &ticket_out, &units_in);
            let _ = made.send(ended.map_or_else(Made::Failed, Made::AllRead));
        });
        for _ in 0..threads {
            let (units, groups, made) = (units_out.clone(), groups_out.clone(), made_in.clone());
            scope.spawn(move || work(job, &units, &groups, &made));
        }
        drop((units_out, groups_out, made_in));
        let coordinator = Coordinator::new(job, output, ticket_in, groups_in);
        coordinator.run(&made_out)
    })
}

/// A worker: row groups first, because they free memory. It ends when the coordinator hands out no more groups.
fn work(job: &Job<'_>, units: &Receiver<(u64, Unit)>, groups: &Receiver<(u64, Group)>, made: &Sender<Made>) {
    let mut no_more_units = false;
    let never = crossbeam_channel::never();
    loop {
        let units = if no_more_units { &never } else { units };
        let result = select_biased! {
            recv(groups) -> group => match group {
                Err(_) => return,
                Ok((number, group)) => encode(job, &group).map(|chunk| Made::Chunk(number, chunk, group.bytes)),
            },
            recv(units) -> unit => match unit {
                Err(_) => {
                    no_more_units = true;
                    continue;
                }
                Ok((number, unit)) => clean_unit(job, &unit).map(|unit| Made::Unit(number, Box::new(unit))),
            },
        };
        if made.send(result.unwrap_or_else(Made::Failed)).is_err() {
            return;
        }
    }
}

fn encode(job: &Job<'_>, group: &Group) -> Result<Chunk, ConvertError> {
    let mut encoder = job.codec.begin()?;
    group.batches.iter().try_for_each(|batch| encoder.push(batch))?;
    encoder.finish()
}

fn clean_unit(job: &Job<'_>, unit: &Unit) -> Result<CleanUnit, ConvertError> {
    if job.settings.stopped() {
        return Err(ConvertError::Stopped);
    }
    let (batch, dropped, rejects) = unit.clean(job.cleaning)?;
    let mut measured = None;
    if job.making.measures() {
        let mut own = Measured::new();
        own.add(job.cleaning.contract, &batch).map_err(internal)?;
        measured = Some(own);
    }
    let split =
        if job.making.rows() && batch.num_rows() > 0 { job.plan.split(&batch).map_err(internal)? } else { Vec::new() };
    Ok(CleanUnit { input: Arc::clone(&unit.input), rows: batch.num_rows() as u64, split, measured, dropped, rejects })
}

/// The calling thread's part.
struct Coordinator<'a> {
    job: &'a Job<'a>,
    tickets: Sender<()>,
    groups: Option<Sender<(u64, Group)>>,
    waiting: Waiting,
    files: Files<'a>,
    quarantine: Quarantine<'a>,
    measured: Measured,
    clean: u64,
    dropped: u64,
    broken: BTreeMap<String, u64>,
    /// Row groups in the order they were handed out, and those that came back.
    handed: VecDeque<(u64, Partition)>,
    encoded: BTreeMap<u64, Chunk>,
    next_group: u64,
    encoding_bytes: usize,
    /// Tickets held back until memory is free.
    held_back: usize,
}

impl<'a> Coordinator<'a> {
    fn new(job: &'a Job<'a>, output: &'a dyn Output, tickets: Sender<()>, groups: Sender<(u64, Group)>) -> Self {
        Self {
            job,
            tickets,
            groups: Some(groups),
            waiting: Waiting::default(),
            files: Files::new(job.codec, output, job.settings),
            quarantine: Quarantine::new(output),
            measured: Measured::new(),
            clean: 0,
            dropped: 0,
            broken: BTreeMap::new(),
            handed: VecDeque::new(),
            encoded: BTreeMap::new(),
            next_group: 0,
            encoding_bytes: 0,
            held_back: 0,
        }
    }

    fn run(mut self, made: &Receiver<Made>) -> Result<(Cleaned, Measured), ConvertError> {
        let mut early = BTreeMap::new();
        let (mut next, mut units) = (0, None);
        // Ends when the workers have, which they do when there are no more groups to come.
        for result in made {
            match result {
                Made::Failed(error) => return Err(error),
                Made::AllRead(count) => units = Some(count),
                Made::Unit(number, unit) => {
                    early.insert(number, unit);
                    while let Some(unit) = early.remove(&next) {
                        next += 1;
                        self.held_back += 1;
                        self.take(*unit)?;
                    }
                }
                Made::Chunk(number, chunk, bytes) => {
                    self.encoding_bytes = self.encoding_bytes.saturating_sub(bytes);
                    self.encoded.insert(number, chunk);
                    self.append()?;
                }
            }
            self.relieve();
            if units == Some(next) {
                while let Some(group) = self.waiting.take_next() {
                    self.hand(group);
                }
                self.groups = None;
            }
        }
        self.finish()
    }

    fn take(&mut self, unit: CleanUnit) -> Result<(), ConvertError> {
        self.clean += unit.rows;
        self.dropped += unit.dropped;
        self.quarantine.add(&unit.rejects, &unit.input)?;
        for reject in &unit.rejects {
            *self.broken.entry(reject.kind()).or_default() += 1;
        }
        if let Some(measured) = unit.measured {
            self.measured.merge(measured).map_err(internal)?;
            if self.measured.groups() > MOST_GROUPS {
                let reason = format!("its metrics have more than {MOST_GROUPS} groups");
                return Err(ConvertError::TooLarge { input: unit.input.to_string(), reason });
            }
        }
        for (partition, batch) in unit.split {
            if let Some(group) = self.waiting.add(partition, batch) {
                self.hand(group);
            }
        }
        Ok(())
    }

    fn hand(&mut self, group: Group) {
        self.encoding_bytes += group.bytes;
        self.handed.push_back((self.next_group, Arc::clone(&group.partition)));
        if let Some(groups) = &self.groups {
            let _ = groups.send((self.next_group, group));
        }
        self.next_group += 1;
    }

    /// Puts what is encoded into its files, in the order it was handed out.
    fn append(&mut self) -> Result<(), ConvertError> {
        while let Some((number, partition)) = self.handed.pop_front() {
            match self.encoded.remove(&number) {
                Some(chunk) => self.files.append(&partition, chunk)?,
                None => {
                    self.handed.push_front((number, partition));
                    break;
                }
            }
        }
        Ok(())
    }

    /// Hands out row groups before their time if too much waits, and lets the reader go on only if that is enough.
    fn relieve(&mut self) {
        let most = self.job.settings.waiting_bytes;
        if self.waiting.bytes() > most {
            // Down to half, so that this is not looked for again with the next rows.
            for group in self.waiting.take_down_to(most / 2) {
                self.hand(group);
            }
        }
        if self.waiting.bytes() + self.encoding_bytes <= 2 * most {
            for () in std::iter::repeat_n((), std::mem::take(&mut self.held_back)) {
                let _ = self.tickets.send(());
            }
        }
    }

    fn finish(mut self) -> Result<(Cleaned, Measured), ConvertError> {
        let making = self.job.making;
        if self.clean == 0 && self.dropped == 0 && !matches!(making, Making::Part { .. }) {
            self.quarantine.nothing_else()?;
        }
        let mut rows = self.clean;
        let mut measured = std::mem::take(&mut self.measured);
        if making == Making::Metrics {
            let metrics = match std::mem::take(&mut measured).finish(self.job.cleaning.contract) {
                Err(MetricsError::Overflow(overflow)) => {
                    return Err(ConvertError::data(self.job.cleaning.contract.name(), overflow.to_string()));
                }
                other => other.map_err(internal)?,
            };
            rows = metrics.num_rows() as u64;
            let mut encoder = self.job.codec.begin()?;
            encoder.push(&metrics)?;
            self.files.append(&Partition::from(""), encoder.finish()?)?;
        }
        self.files.finish()?;
        let (quarantined, first) = self.quarantine.finish()?;
        let mut broken: Vec<(String, u64)> = self.broken.into_iter().collect();
        broken.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let partitions = if making.rows() { self.files.partitions() as u64 } else { 0 };
        let summary = Summary {
            files: self.files.names,
            rows,
            bytes_in: 0,
            bytes_out: self.files.bytes,
            quarantined,
            quarantine: first.map(|first| (QUARANTINE, first)),
            restarts: 0,
            columns: Columns::default(),
            notes: Vec::new(),
        };
        Ok((Cleaned { summary, clean: self.clean, dropped: self.dropped, broken, partitions }, measured))
    }
}
