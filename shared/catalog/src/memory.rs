//! A catalog in memory: for unit tests, held to the same suite as Glue.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Catalog, Format, Partition, Table};

/// Tables by name, with their partitions by values.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<BTreeMap<String, Kept>>);

#[derive(Debug)]
struct Kept {
    table: Table,
    partitions: BTreeMap<Vec<String>, Location>,
}

impl MemoryCatalog {
    fn inner(&self) -> MutexGuard<'_, BTreeMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table.
    pub fn table(&self, name: &str) -> Option<Table> {
        self.inner().get(name).map(|kept| kept.table.clone())
    }

    /// Where a table's partitions are.
    pub fn partitions(&self, name: &str) -> BTreeMap<Vec<String>, Location> {
        self.inner().get(name).map(|kept| kept.partitions.clone()).unwrap_or_default()
    }
}

fn no_such(what: &str, name: &str) -> Failure {
    Failure::user(what, format!("there is no {name}"))
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn ensure_table(&self, table: &Table) -> Result<(), Failure> {
        let mut inner = self.inner();
        let fresh = || Kept { table: table.clone(), partitions: BTreeMap::new() };
        let known = &mut inner.entry(table.name.clone()).or_insert_with(fresh).table;
        if known.format != table.format {
            return Err(Failure::user("OtherTable", format!("there is another table {}", table.name)));
        }
        for column in &table.columns {
            match known.columns.iter_mut().find(|(name, _)| *name == column.0) {
                Some(known) if table.format == Format::Hudi => known.1.clone_from(&column.1),
                Some(_) => {}
                None => known.columns.push(column.clone()),
            }
        }
        Ok(())
    }

    async fn add_partitions(&self, table: &Table, partitions: &[Partition]) -> Result<(), Failure> {
        let mut inner = self.inner();
        let kept = inner.get_mut(&table.name).ok_or_else(|| no_such("NoSuchTable", &table.name))?;
        for partition in partitions {
            kept.partitions.entry(partition.values.clone()).or_insert_with(|| partition.at.clone());
        }
        Ok(())
    }

    async fn columns_of(&self, table: &str) -> Result<Option<Vec<(String, String)>>, Failure> {
        Ok(self.table(table).map(|table| table.columns))
    }

    async fn place_of(&self, table: &str, values: &[String]) -> Result<Option<Location>, Failure> {
        Ok(self.inner().get(table).and_then(|kept| kept.partitions.get(values).cloned()))
    }

    async fn move_to(&self, table: &str, partition: &Partition) -> Result<(), Failure> {
        let mut inner = self.inner();
        let there = inner.get_mut(table).and_then(|kept| kept.partitions.get_mut(&partition.values));
        *there.ok_or_else(|| no_such("NoSuchPartition", &partition.values.join("/")))? = partition.at.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        let at = Location::parse("s3://tables/suite/").unwrap();
        crate::conformance::suite(&MemoryCatalog::default(), "suite", &at).await.unwrap();
    }
}
