//! AWS Glue's catalog.

use async_trait::async_trait;
use aws_sdk_glue::Client;
use aws_sdk_glue::config::http::HttpResponse;
use aws_sdk_glue::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::{Column, PartitionInput, SerDeInfo, StorageDescriptor, Table as GlueTable, TableInput};
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Catalog, Format, Partition, Table};

/// How many partitions one request makes (Glue API reference, BatchCreatePartition).
const AT_ONCE: usize = 100;

/// How often a table is looked at again that another changes at the same time.
const MOST_TRIES: usize = 4;

/// A database of the catalog.
#[derive(Debug, Clone)]
pub struct GlueCatalog {
    client: Client,
    database: String,
}

impl GlueCatalog {
    /// By its name.
    pub fn new(client: Client, database: impl Into<String>) -> Self {
        Self { client, database: database.into() }
    }

    fn failed<E>(&self, doing: &str, table: &str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let said = error.message().map_or_else(|| DisplayErrorContext(error).to_string(), str::to_owned);
        Failure::aws(error.code(), status, format!("{doing} {}.{table}: {said}", self.database))
    }

    async fn table(&self, name: &str) -> Result<Option<GlueTable>, Failure> {
        match self.client.get_table().database_name(&self.database).name(name).send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(None),
            Err(error) => Err(self.failed("look at the table", name, &error)),
        }
    }
}

const NOT_FOUND: &str = "EntityNotFoundException";
const EXISTS: &str = "AlreadyExistsException";

fn shape(error: BuildError) -> Failure {
    Failure::internal("CatalogShape", error.to_string())
}

fn columns(of: &[(String, String)]) -> Result<Vec<Column>, Failure> {
    of.iter().map(|(name, kind)| Column::builder().name(name).r#type(kind).build().map_err(shape)).collect()
}

/// How files are read, wherever they are.
fn storage(table: &Table, at: &Location) -> Result<StorageDescriptor, Failure> {
    let serde = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe";
    let storage = StorageDescriptor::builder()
        .set_columns(Some(columns(&table.columns)?))
        .location(at.to_string())
        .input_format(table.format.input_format())
        .output_format("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat")
        .serde_info(SerDeInfo::builder().serialization_library(serde).build());
    Ok(storage.build())
}

/// The columns that a table should have, if it has not: those that are there, and those that it lacks.
fn wanting(there: &[Column], table: &Table) -> Option<Vec<(String, String)>> {
    let known = |column: &Column| (column.name().to_owned(), column.r#type().unwrap_or_default().to_owned());
    let before: Vec<_> = there.iter().map(known).collect();
    let mut all = before.clone();
    for column in &table.columns {
        match all.iter_mut().find(|(name, _)| *name == column.0) {
            Some(known) if table.format == Format::Hudi => known.1.clone_from(&column.1),
            Some(_) => {}
            None => all.push(column.clone()),
        }
    }
    (all != before).then_some(all)
}

/// A table that is there, with these columns.
fn widened(there: GlueTable, columns: Vec<Column>) -> Result<TableInput, Failure> {
    let storage = there.storage_descriptor.map(|mut storage| {
        storage.columns = Some(columns);
        storage
    });
    let input = TableInput::builder()
        .name(there.name)
        .set_description(there.description)
        .set_owner(there.owner)
        .retention(there.retention)
        .set_storage_descriptor(storage)
        .set_partition_keys(there.partition_keys)
        .set_table_type(there.table_type)
        .set_parameters(there.parameters);
    input.build().map_err(shape)
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn ensure_table(&self, table: &Table) -> Result<(), Failure> {
        for _ in 0..MOST_TRIES {
            let Some(there) = self.table(&table.name).await? else {
                let input = TableInput::builder()
                    .name(&table.name)
                    .description(&table.description)
                    .table_type("EXTERNAL_TABLE")
                    .parameters("classification", "parquet")
                    .set_partition_keys(Some(columns(&table.keys)?))
                    .storage_descriptor(storage(table, &table.at)?);
                let input = input.build().map_err(shape)?;
                match self.client.create_table().database_name(&self.database).table_input(input).send().await {
                    Ok(_) => return Ok(()),
                    Err(error) if error.code() == Some(EXISTS) => continue,
                    Err(error) => return Err(self.failed("make the table", &table.name, &error)),
                }
            };
            let storage = there.storage_descriptor.as_ref();
            let format = storage.and_then(StorageDescriptor::input_format).unwrap_or_default();
            if (table.format == Format::Hudi) != (format == Format::Hudi.input_format()) {
                let (own, name) = (table.format.input_format(), &table.name);
                let reason = format!(
                    "{}.{name} is another table, read by `{format}` and not by {own}: rename one of the two",
                    self.database
                );
                return Err(Failure::user("OtherTable", reason));
            }
            let Some(all) = wanting(storage.map_or(&[][..], StorageDescriptor::columns), table) else {
                return Ok(());
            };
            let version = there.version_id.clone();
            let input = widened(there, columns(&all)?)?;
            let update = self.client.update_table().database_name(&self.database).table_input(input);
            match update.set_version_id(version).send().await {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == Some("ConcurrentModificationException") => {}
                Err(error) => return Err(self.failed("add columns to the table", &table.name, &error)),
            }
        }
        Err(Failure::passing("Contended", format!("others keep changing the table {}.{}", self.database, table.name)))
    }

    async fn add_partitions(&self, table: &Table, partitions: &[Partition]) -> Result<(), Failure> {
        for some in partitions.chunks(AT_ONCE) {
            let inputs = some.iter().map(|partition| {
                let storage = storage(table, &partition.at)?;
                Ok(PartitionInput::builder()
                    .set_values(Some(partition.values.clone()))
                    .storage_descriptor(storage)
                    .parameters("classification", "parquet")
                    .build())
            });
            let inputs = inputs.collect::<Result<Vec<_>, Failure>>()?;
            let create = self.client.batch_create_partition().database_name(&self.database).table_name(&table.name);
            let answer = create.set_partition_input_list(Some(inputs)).send().await;
            let answer = answer.map_err(|error| self.failed("add partitions to", &table.name, &error))?;
            let mut details = answer.errors().iter().filter_map(|error| error.error_detail());
            if let Some(detail) = details.find(|detail| detail.error_code() != Some(EXISTS)) {
                let said = detail.error_message().unwrap_or_default();
                let reason = format!("add partitions to {}.{}: {said}", self.database, table.name);
                return Err(Failure::aws(detail.error_code(), None, reason));
            }
        }
        Ok(())
    }

    async fn columns_of(&self, table: &str) -> Result<Option<Vec<(String, String)>>, Failure> {
        let columns =
            self.table(table).await?.map(|there| there.storage_descriptor.and_then(|storage| storage.columns));
        let pair = |column: Column| (column.name, column.r#type.unwrap_or_default());
        Ok(columns.map(|columns| columns.unwrap_or_default().into_iter().map(pair).collect()))
    }

    async fn place_of(&self, table: &str, values: &[String]) -> Result<Option<Location>, Failure> {
        let get = self.client.get_partition().database_name(&self.database).table_name(table);
        let found = match get.set_partition_values(Some(values.to_vec())).send().await {
            Ok(answer) => answer.partition,
            Err(error) if error.code() == Some(NOT_FOUND) => None,
            Err(error) => return Err(self.failed("look for a partition of", table, &error)),
        };
        let at = found.and_then(|partition| partition.storage_descriptor?.location);
        at.map(|at| Location::parse(&at).map_err(|error| Failure::user("PartitionPlace", error.to_string())))
            .transpose()
    }

    async fn move_to(&self, table: &str, partition: &Partition) -> Result<(), Failure> {
        let values = || Some(partition.values.clone());
        let get = self.client.get_partition().database_name(&self.database).table_name(table);
        let there = match get.set_partition_values(values()).send().await {
            Ok(answer) => answer.partition,
            Err(error) if error.code() == Some(NOT_FOUND) => None,
            Err(error) => return Err(self.failed("look for a partition of", table, &error)),
        };
        let Some(there) = there else {
            let reason = format!("{}.{table} has no partition {}", self.database, partition.values.join("/"));
            return Err(Failure::user("NoSuchPartition", reason));
        };
        // What somebody has changed about it stays, but for its place.
        let storage = there.storage_descriptor.map(|mut storage| {
            storage.location = Some(partition.at.to_string());
            storage
        });
        let input = PartitionInput::builder()
            .set_values(values())
            .set_storage_descriptor(storage)
            .set_parameters(there.parameters)
            .build();
        let update = self.client.update_partition().database_name(&self.database).table_name(table);
        let update = update.set_partition_value_list(values()).partition_input(input).send().await;
        update.map(drop).map_err(|error| self.failed("move a partition of", table, &error))
    }
}
