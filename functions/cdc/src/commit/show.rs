//! Tables in the catalog: shown before rows are committed that readers by it would otherwise miss.

use std::sync::PoisonError;

use arrow_schema::{DataType, Schema};
use weir_catalog::{Format, Partition, Table, values_of};
use weir_contract::Type;
use weir_delivery::Failure;
use weir_hudi::schema::META_COLUMNS;
use weir_hudi::settings::Settings;
use weir_hudi::{Place, Prepared};

use crate::Cdc;

/// As Hive spells it.
fn hive(kind: &DataType) -> String {
    let kind = match kind {
        DataType::Boolean => Type::Bool,
        DataType::Int32 => Type::Int32,
        DataType::Int64 => Type::Int64,
        DataType::Float64 => Type::Float64,
        DataType::Float32 => return "float".to_owned(),
        DataType::Binary => return "binary".to_owned(),
        DataType::Date32 => Type::Date,
        DataType::Timestamp(..) => Type::Timestamp,
        DataType::Decimal128(precision, scale) => return format!("decimal({precision},{scale})"),
        _ => Type::String,
    };
    kind.to_hive()
}

/// A Hudi table, as the catalog has it: Hudi's columns, and its own; the partition's is a key.
pub(crate) fn table_of(place: &Place, settings: &Settings, schema: &Schema, of: &str) -> Table {
    let meta = META_COLUMNS.iter().map(|name| ((*name).to_owned(), Type::String.to_hive()));
    let own = schema.fields().iter().map(|field| (field.name().clone(), hive(field.data_type())));
    let is_key = |(name, _): &(String, String)| settings.partition.as_ref() == Some(name);
    let (keys, columns) = meta.chain(own).partition(is_key);
    let description =
        format!("{of} as its database has it, by Weir. An Apache Hudi table: weir table show {}", place.at);
    Table { name: settings.name.clone(), description, format: Format::Hudi, at: place.at.clone(), columns, keys }
}

impl Cdc {
    /// Sees to it that readers by the catalog find what is about to be committed.
    pub(crate) async fn show(
        &self,
        place: &Place,
        settings: &Settings,
        prepared: &Prepared,
        of: &str,
    ) -> Result<(), Failure> {
        let table = table_of(place, settings, prepared.schema(), of);
        let known = || self.memory.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let as_it_is = format!("{table:?}");
        let is_shown = known().contains(&as_it_is);
        if !is_shown {
            self.catalog.ensure_table(&table).await?;
            known().insert(as_it_is);
        }
        if table.keys.is_empty() {
            return Ok(());
        }
        let name_of = |folder: &str| format!("{}/{folder}", place.at);
        let fresh: Vec<&str> = {
            let known = known();
            prepared.partitions().into_iter().filter(|folder| !known.contains(&name_of(folder))).collect()
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let partition = |folder: &&str| Partition { values: values_of(folder), at: place.join(&format!("{folder}/")) };
        let partitions: Vec<Partition> = fresh.iter().map(partition).collect();
        self.catalog.add_partitions(&table, &partitions).await?;
        let mut known = known();
        if known.len() > crate::MOST_REMEMBERED {
            known.clear();
        }
        known.extend(fresh.into_iter().map(name_of));
        Ok(())
    }
}
