//! A table, as a catalog has it.

use percent_encoding::percent_decode_str;
use weir_command::Location;
use weir_contract::{Contract, Type};

/// How a table's files make a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Every file of a folder is part of it.
    #[default]
    Parquet,
    /// Files are versions, and a timeline says which are seen (Apache Hudi, copy on write).
    Hudi,
}

impl Format {
    /// What Hive and its like read it with. With Parquet's, a Hudi table would show all versions of its rows.
    pub fn input_format(self) -> &'static str {
        match self {
            Self::Parquet => "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
            Self::Hudi => "org.apache.hudi.hadoop.HoodieParquetInputFormat",
        }
    }
}

/// A table of Parquet files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Lowercase.
    pub name: String,
    /// For people.
    pub description: String,
    /// How its files make a table.
    pub format: Format,
    /// What all of its partitions are under.
    pub at: Location,
    /// The columns of its files and their types, as Hive spells them.
    pub columns: Vec<(String, String)>,
    /// The columns that are folders, likewise.
    pub keys: Vec<(String, String)>,
}

/// Where a partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The values of the table's keys.
    pub values: Vec<String>,
    /// The folder.
    pub at: Location,
}

impl Table {
    /// Of a contract's clean rows. `more`: columns that files have beside the contract's.
    pub fn of(contract: &Contract, name: &str, description: &str, at: Location, more: &[(&str, Type)]) -> Self {
        let keys = contract.partition_by();
        let all = contract.columns().map(|column| (column.name, column.kind)).chain(more.iter().copied());
        let spelled = |(name, kind): (&str, Type)| (name.to_owned(), kind.to_hive());
        let (keyed, columns): (Vec<_>, Vec<_>) = all.map(spelled).partition(|(name, _)| keys.contains(&name.as_str()));
        // In the order of the folders.
        let keys = keys.iter().filter_map(|key| keyed.iter().find(|(name, _)| name == key).cloned()).collect();
        let (name, description) = (name.to_owned(), description.to_owned());
        Self { name, description, format: Format::Parquet, at, columns, keys }
    }
}

/// The values in a partition's folder: `event_date=2024-05-01/pickup_hour=7/`.
pub fn values_of(folder: &str) -> Vec<String> {
    let segments = folder.split('/').filter_map(|segment| segment.split_once('='));
    segments.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contracts_partitions_are_keys() {
        let contract = weir_contract::contract("trips").unwrap();
        let at = Location::parse("s3://tables/events/trips/").unwrap();
        let table = Table::of(&contract, "trips_events", "Trips.", at, &[("_offset", Type::Int64)]);
        let keys: Vec<_> = table.keys.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
        assert_eq!(keys, [("event_date", "date"), ("pickup_hour", "int")]);
        assert!(table.columns.iter().all(|(name, _)| name != "event_date"));
        assert_eq!(table.columns.last().unwrap(), &("_offset".to_owned(), "bigint".to_owned()));
    }

    #[test]
    fn folders_say_the_values() {
        assert_eq!(values_of("event_date=2024-05-01/pickup_hour=7/"), ["2024-05-01", "7"]);
        assert_eq!(values_of("page=a%2Fb%3D1/"), ["a/b=1"]);
    }
}
