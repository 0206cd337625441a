//! One commit of one table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::{DataType, Schema};
use weir_alerts::{Notice, Unheard};
use weir_changes::{ColumnDefinition, Entry, Source, TableDefinition, contract_of, inferred, plain_name, reduce};
use weir_contract::Contract;
use weir_delivery::Failure;
use weir_hudi::settings::Settings;
use weir_hudi::timeline::Instant;
use weir_hudi::{Counts, Place, Table};
use weir_ledger::backlog::Backlog;
use weir_records::sha256;
use weir_telemetry::{Trouble, Visit};

use super::drain::{Drained, Positions};
use super::own::Own;
use super::{Turn, table_name};
use crate::Cdc;
use crate::columns::Columns;
use crate::routes::Taken;
use crate::rows::{How, Made, POSITION, make, schema};
use crate::said::{ColumnsLeftOut, StagedGone};

/// What a round came to.
#[derive(Debug)]
pub(crate) struct Round {
    /// How far the table has come.
    pub(crate) positions: Positions,
    /// What was committed, if anything was.
    pub(crate) commit: Option<Done>,
    /// Whether there was more than one commit takes.
    pub(crate) more: bool,
}

/// A commit.
#[derive(Debug, Clone)]
pub struct Done {
    /// When.
    pub instant: Instant,
    /// What became of its changes.
    pub counts: Counts,
    /// Changes that broke the contract.
    pub bad: u64,
    /// Changes that the contract drops.
    pub dropped: u64,
    /// Staged files that it is of.
    pub staged: usize,
    /// Base files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How long the oldest of the changes had been staged, in milliseconds.
    pub lag_ms: u64,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

impl Cdc {
    /// One commit of what is staged.
    ///
    /// # Errors
    /// Whatever keeps it from being made. Nothing of it is seen then; rows that are put aside may be already.
    pub(crate) async fn commit_round(&self, turn: &Turn<'_>, backlog: &Backlog) -> Result<Round, Failure> {
        let Turn { place, source, taken, lease, visit } = *turn;
        let begun_ms = visit.now_ms();
        let table = Table::open_to_write(place, lease, &self.limits, visit.clock).await?;
        let mut own = match &table {
            Some(table) => Own::read(&table.own_members().await?)?,
            None => Own::default(),
        };
        own.is_of(source)?;
        let covered = if own.positions.is_empty() { &backlog.covered } else { &own.positions };
        if table.is_none() {
            is_where_it_was(source, place, backlog)?;
        }
        let drained = self.drain(source, covered, backlog).await?;
        self.tell_of_gone(source, &drained, visit).await;
        let mut positions = covered.clone();
        positions.extend(drained.upto);
        if drained.files == 0 {
            return Ok(Round { positions, commit: None, more: false });
        }
        let mut definition = drained.definition.or(own.definition);
        if definition.is_none() && taken.contract.is_none() && drained.more {
            definition = self.first_definition(source, &positions, backlog).await?;
        }
        own = Own { source: Some(source.to_string()), positions, definition };
        let kept = table.as_ref().map(|table| Arc::clone(&table.schema));
        let (contract, entries) =
            self.by_columns(source, taken, drained.entries, &mut own.definition, kept.as_deref(), visit)?;
        let key: Vec<String> = contract.key().iter().map(|name| (*name).to_owned()).collect();
        let (entries, keyless) = reduce(entries, &key);
        let in_buckets = table.as_ref().map_or(taken.buckets, |table| table.settings.buckets).is_some();
        let now_micros = i64::try_from(begun_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let how = How { source, contract: &contract, soft_deletes: self.config.soft_deletes, in_buckets, now_micros };
        let Made { changes, quarantine, bad, dropped } = make(how, &entries, &keyless)?;
        let members = own.write()?;
        let table = match table {
            Some(table) => table,
            None => self.create(turn, &contract).await?,
        };
        is_as_agreed(&table, &contract, &key)?;
        let prepared = table.prepare(&changes, &self.memory.keys, &self.limits).await?;
        self.show(place, &table.settings, &prepared, &source.to_string()).await?;
        if bad > 0 {
            self.put_aside(&table.settings.name, &members, quarantine).await?;
        }
        let counts = prepared.counts;
        // One of nothing but late changes is a commit, too: the table says how far it has come.
        let committed = table.write(prepared, &members, lease, &self.limits, visit.clock).await?;
        self.clean_up(place, visit).await;
        let now_ms = visit.now_ms();
        let done = Done {
            instant: committed.instant,
            counts,
            bad,
            dropped,
            staged: drained.files,
            files: committed.files,
            bytes: committed.bytes,
            lag_ms: drained.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest)),
            ms: now_ms.saturating_sub(begun_ms),
        };
        Ok(Round { positions: own.positions, commit: Some(done), more: drained.more })
    }

    /// Makes the table, on first sight.
    async fn create(&self, turn: &Turn<'_>, contract: &Contract) -> Result<Table, Failure> {
        let Turn { place, source, taken, lease, visit } = *turn;
        let settings = Settings {
            name: table_name(source, taken),
            database: self.config.database.clone(),
            key: contract.key().iter().map(|name| (*name).to_owned()).collect(),
            ordering: POSITION.to_owned(),
            partition: contract.partition_by().first().map(|name| (*name).to_owned()),
            buckets: taken.buckets,
        };
        Table::create(place, &settings, &schema(contract, self.config.soft_deletes)).await?;
        let made = Table::open_to_write(place, lease, &self.limits, visit.clock).await?;
        made.ok_or_else(|| Failure::passing("HudiProperties", format!("{} was deleted just now", place.at)))
    }

    /// The table's contract, and changes with its names. Without one that somebody wrote, members that no definition has become columns,
    /// and the definition has them from then on. `kept`: the columns that the table has by now.
    fn by_columns(
        &self,
        source: &Source,
        taken: &Taken,
        entries: Vec<Entry>,
        definition: &mut Option<TableDefinition>,
        kept: Option<&Schema>,
        visit: &Visit,
    ) -> Result<(Arc<Contract>, Vec<Entry>), Failure> {
        let contract = match &taken.contract {
            Some(contract) => Arc::clone(contract),
            None => {
                let Some(known) = definition else {
                    let reason = format!(
                        "nothing says how {source} is: let the capture send its definition (DMS: IncludeControlDetails and IncludeTableAlterOperations), or name a contract for it"
                    );
                    // It may be under way, on another shard.
                    return Err(Failure::passing("NoDefinition", reason));
                };
                extend(known, &entries, kept);
                let contract = contract_of(source, &as_kept(known, kept));
                let contract = contract
                    .map_err(|error| Failure::user("NoContract", format!("{source} can't be a table: {error}")))?;
                if contract.key().is_empty() {
                    let reason = format!(
                        "{source} has no primary key, by which its rows would be told apart: name a contract with one"
                    );
                    return Err(Failure::user("NoKey", reason));
                }
                Arc::new(contract)
            }
        };
        let columns = Columns::of(&contract);
        let entries: Vec<Entry> = entries.into_iter().map(|entry| columns.rename(entry)).collect();
        let unknown = columns.unknown(&entries);
        if !unknown.is_empty() && self.memory.is_news(format!("{source}: {unknown:?}")) {
            self.herald.say(visit, &ColumnsLeftOut { source, columns: &unknown });
        }
        Ok((contract, entries))
    }

    /// Stores what is not in the table, before the commit that leaves it out; made again, it is written over.
    async fn put_aside(&self, table: &str, members: &BTreeMap<String, String>, lines: Vec<u8>) -> Result<(), Failure> {
        let mark = sha256(format!("{members:?}").as_bytes());
        let mark = mark.get(..16).unwrap_or_default();
        let at = self.config.changes.join(&format!("_quarantine/{table}/{mark}.ndjson"));
        self.lake.put(&at, lines.into(), "application/x-ndjson").await
    }

    /// Old slices and instants go. What fails of it is done by the next commit.
    async fn clean_up(&self, place: &Place, visit: &Visit) {
        let horizon = visit.now_ms().saturating_sub(self.config.keep_ms);
        let Some(horizon) = i64::try_from(horizon).ok().and_then(Instant::of) else { return };
        let cleaned = match Table::open(place).await {
            Ok(Some(table)) => table.keep_since(&horizon).await.map(drop),
            other => other.map(drop),
        };
        if let Err(failure) = cleaned {
            self.herald.say(visit, &Trouble { doing: "delete a table's old files", failure: &failure });
        }
    }

    async fn tell_of_gone(&self, source: &Source, drained: &Drained, visit: &Visit) {
        for shard in &drained.gone {
            self.herald.say(visit, &StagedGone { source, shard });
            let reason = format!("changes of {source} were staged, and are gone, all or some of them: {shard}");
            let notice = Notice {
                what: format!("read staged changes of {source}"),
                place: source.to_string(),
                failure: Failure::internal("StagedGone", reason),
                job_id: None,
                next_step: "Load the table anew (docs/changes.md says how). They may have been deleted, or have waited longer than ChangesStagedDays.".to_owned(),
            };
            // Nobody will find out again.
            if let Err(failure) = self.herald.tell_surely(&notice).await {
                self.herald.say(visit, &Unheard(&failure));
            }
        }
    }
}

/// How a definition would say a column that the table has; nothing if it has none.
fn said(schema: Option<&Schema>, name: &str) -> Option<ColumnDefinition> {
    let field = schema?.field_with_name(&plain_name(name)).ok()?;
    let (kind, digits) = match field.data_type() {
        DataType::Boolean => ("BOOLEAN", None),
        DataType::Int32 => ("INT4", None),
        DataType::Int64 => ("INT8", None),
        DataType::Float32 | DataType::Float64 => ("REAL8", None),
        DataType::Date32 => ("DATE", None),
        DataType::Timestamp(..) => ("DATETIME", None),
        DataType::Decimal128(precision, scale) => ("NUMERIC", Some((*precision, *scale))),
        _ => ("STRING", None),
    };
    let (precision, scale) = digits.map(|(p, s)| (u32::from(p), u32::try_from(s).unwrap_or(0))).unzip();
    Some(ColumnDefinition { kind: kind.to_owned(), nullable: true, precision, scale })
}

/// A definition, but for columns that the table has as text: they stay so, whatever they are said to be. They were seen before they were said.
fn as_kept(definition: &TableDefinition, kept: Option<&Schema>) -> TableDefinition {
    let mut definition = definition.clone();
    for (name, column) in &mut definition.columns {
        if let Some(text) = said(kept, name).filter(|said| said.kind == "STRING") {
            *column = text;
        }
    }
    definition
}

/// Members that the definition does not have, or not any more, become columns: as the table has them, or by their values.
fn extend(definition: &mut TableDefinition, entries: &[Entry], kept: Option<&Schema>) {
    let members = entries.iter().filter(|entry| !entry.gone).flat_map(|entry| entry.row.keys());
    let unknown: BTreeSet<&String> = members.filter(|member| !definition.columns.contains_key(*member)).collect();
    for member in unknown {
        let values = entries.iter().filter_map(|entry| entry.row.get(member)).map(AsRef::as_ref);
        let column = said(kept, member).unwrap_or_else(|| inferred(values));
        definition.columns.insert(member.clone(), column);
    }
}

/// That a table that is not there was not somewhere else: its changes so far would be missing from a new one.
fn is_where_it_was(source: &Source, place: &Place, backlog: &Backlog) -> Result<(), Failure> {
    match &backlog.at {
        Some(at) if *at != place.at.to_string() => {
            let reason = format!(
                "the changes of {source} so far are in {at}, and would go to {} from now on: set ChangeTables as it was, or load the table anew (docs/changes.md says how)",
                place.at
            );
            Err(Failure::user("OtherPlace", reason))
        }
        _ => Ok(()),
    }
}

/// That the table is one that these changes can be made to.
fn is_as_agreed(table: &Table, contract: &Contract, key: &[String]) -> Result<(), Failure> {
    let Settings { key: own, ordering, partition, .. } = &table.settings;
    let at = &table.place.at;
    let (then, now) = if own.as_slice() != key {
        (format!("key {}", own.join(",")), format!("key {}", key.join(",")))
    } else if ordering != POSITION {
        (format!("ordering {ordering}"), format!("ordering {POSITION}"))
    } else if partition.as_deref() != contract.partition_by().first().copied() {
        (format!("partition {partition:?}"), format!("partition {:?}", contract.partition_by().first()))
    } else {
        return Ok(());
    };
    let reason = format!(
        "{at} was made with the {then}, and its changes have the {now}: it must be loaded anew, elsewhere or after it is deleted"
    );
    Err(Failure::user("HudiOtherShape", reason))
}
