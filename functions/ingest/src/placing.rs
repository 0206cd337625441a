//! Where files go: the generation of their partition's folder that is written now, shown by the catalog.

use std::sync::{Arc, PoisonError};

use weir_catalog::{Partition, Table, values_of};
use weir_command::Location;
use weir_contract::{Contract, Type, contract};
use weir_delivery::Failure;
use weir_ledger::batch::Swap;
use weir_ledger::layout::{Folders, Layout, count, path_of};
use weir_ledger::positions::Position;

use crate::Ingest;
use crate::rows::{OFFSET, Origin, PARTITION, TOPIC};

/// A layout's folders.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) generation: u64,
    pub(crate) folders: Folders,
}

impl Ingest {
    /// A table of events, as the catalog has it.
    pub(crate) fn table_of(&self, contract: &Contract) -> Table {
        let dataset = contract.name();
        let description = format!(
            "Events of {dataset} as they came from Kafka, by Weir. _topic, _partition and _offset say from where."
        );
        let at = self.config.events.join(&format!("{dataset}/"));
        let more = [(TOPIC, Type::String), (PARTITION, Type::Int32), (OFFSET, Type::Int64)];
        Table::of(contract, &format!("{dataset}_events"), &description, at, &more)
    }

    /// A partition of it: `page_logs/event_date=2024-05-01/`.
    pub(crate) fn partition_at(&self, folder: &str, generation: u64) -> Partition {
        Partition { values: values_of(folder), at: self.place(folder, generation) }
    }

    pub(crate) fn place(&self, folder: &str, generation: u64) -> Location {
        self.config.events.join(&path_of(folder, generation))
    }

    /// The folders that whoever holds a position may plan by. Where the partition was never counted, it is now.
    pub(crate) async fn placed_for(&self, held: &Position, origin: &Origin) -> Result<Arc<Placed>, Failure> {
        if let Some(known) = self.memory.placed()
            && held.generation.is_some_and(|needed| needed <= known.generation)
        {
            return Ok(known);
        }
        let mut layout = self.layouts.layout().await?;
        if held.generation.is_none() {
            let topic = held.name.rsplit_once('/').map_or(held.name.as_str(), |(topic, _)| topic);
            (layout, _) = self.change_layout(layout, |layout| count(layout, topic, origin.number)).await?;
        }
        self.folders_of(&layout).await
    }

    /// Stores a change of the layout, made again from what is there if another was faster. As it is then, and whether it was changed.
    pub(crate) async fn change_layout(
        &self,
        mut layout: Layout,
        to: impl Fn(&Layout) -> Option<Layout> + Send,
    ) -> Result<(Layout, bool), Failure> {
        while let Some(next) = to(&layout) {
            let next = Layout { write_token: self.writer.token(), ..next };
            match self.layouts.put_layout(&next).await? {
                Swap::Conflict(Some(there)) if there.write_token != next.write_token => layout = *there,
                Swap::Conflict(None) => return Err(gone()),
                // Stored; or the write's own repeat finds that it was.
                _ => return Ok((next, true)),
            }
        }
        Ok((layout, false))
    }

    /// The folders of a layout.
    pub(crate) async fn folders_of(&self, layout: &Layout) -> Result<Arc<Placed>, Failure> {
        if let Some(known) = self.memory.placed().filter(|known| known.generation == layout.generation) {
            return Ok(known);
        }
        let folders = match &layout.folders {
            None => Folders::default(),
            Some(at) => {
                let at = Location::parse(at).map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
                let bytes = self.whole(&at).await?;
                serde_json::from_slice(&bytes)
                    .map_err(|error| Failure::internal("Folders", format!("{at}: {error}")))?
            }
        };
        let placed = Arc::new(Placed { generation: layout.generation, folders });
        *self.memory.placed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&placed));
        Ok(placed)
    }

    /// Sees to it that readers by the catalog find what is about to be committed in these folders.
    pub(crate) async fn register(
        &self,
        contract: &Contract,
        folders: &[String],
        placed: &Placed,
    ) -> Result<(), Failure> {
        let known = || self.memory.registered.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh: Vec<&String> = {
            let known = known();
            folders.iter().filter(|folder| !known.contains(*folder)).collect()
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let table = self.table_of(contract);
        let ensured = known().contains(&table.name);
        if !ensured {
            self.catalog.ensure_table(&table).await?;
            known().insert(table.name.clone());
        }
        // Where there is one, it stays where it is: it may be moving just now.
        let at = |folder: &&String| self.partition_at(folder, placed.folders.generation_of(folder));
        let partitions: Vec<Partition> = fresh.iter().map(at).collect();
        if !table.keys.is_empty() {
            self.catalog.add_partitions(&table, &partitions).await?;
        }
        let mut known = known();
        if known.len() > MOST_KNOWN {
            known.clear();
        }
        known.extend(fresh.into_iter().cloned());
        Ok(())
    }
}

/// Nobody deletes it. Without it writers would go back to the first generation, which readers are not shown any more.
pub(crate) fn gone() -> Failure {
    Failure::internal(
        "LayoutGone",
        "the ledger's record `layout` is gone: restore it, or the tables lose what came since",
    )
}

/// The contract of a partition's table: `page_logs/event_date=2024-05-01/`.
pub(crate) fn contract_of(folder: &str) -> Result<Contract, Failure> {
    let dataset = folder.split('/').next().unwrap_or_default();
    contract(dataset).map_err(|error| Failure::internal("NoContract", format!("{folder}: {error}")))
}

/// Partitions that a process remembers to be in the catalog.
const MOST_KNOWN: usize = 100_000;
