//! A contract as a table: for people, for Athena, for CloudFormation.

use std::fmt::Write as _;

use crate::{Contract, Type};

impl Contract {
    /// The columns beside the partitions, as `(name, Hive type)`.
    pub fn hive_columns(&self, partitions: &[&str]) -> Vec<(String, String)> {
        let columns = self.columns().filter(|column| !partitions.contains(&column.name));
        columns.map(|column| (column.name.to_owned(), column.kind.to_hive())).collect()
    }

    /// The dataset's own partitions, as `(name, type)`.
    pub fn partitions(&self) -> Vec<(&str, Type)> {
        let of =
            |name: &str| self.columns().find(|column| column.name == name).map(|column| (column.name, column.kind));
        self.partition_by().into_iter().filter_map(of).collect()
    }

    /// A line a column, for people: name, type, and what is asked of it.
    pub fn describe(&self) -> Vec<[String; 3]> {
        let partitions = self.partition_by();
        let line = |(place, column): (usize, crate::Column<'_>)| {
            let mut notes = Vec::new();
            if let Some(field) = self.fields.get(place) {
                if field.required {
                    notes.push("required".to_owned());
                }
                if field.min.is_some() || field.max.is_some() {
                    notes.push(field.range());
                }
                let other: Vec<&str> = self.aliases(place).filter(|alias| *alias != column.name).collect();
                if !other.is_empty() {
                    notes.push(format!("also {}", other.join(", ")));
                }
                if let Some((hide, audience)) = field.sensitive {
                    notes.push(format!("sensitive: {hide:?} in {audience:?}").to_lowercase());
                }
            } else {
                notes.push("derived".to_owned());
            }
            if partitions.contains(&column.name) {
                notes.push("partition".to_owned());
            }
            [column.name.to_owned(), column.kind.to_string(), notes.join("; ")]
        };
        self.columns().enumerate().map(line).collect()
    }

    fn aliases(&self, place: usize) -> impl Iterator<Item = &str> {
        let mut names: Vec<&str> =
            self.lookup.iter().filter(|(_, of)| **of == place).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// `CREATE EXTERNAL TABLE` for Athena of what lies under `location`, as in `s3://bucket/prefix/`; partitions are found
    /// by projection rather than by a crawler.
    pub fn ddl(&self, location: &str) -> String {
        let partitions = self.partitions();
        let properties = projection(&partitions, location.trim_end_matches('/'));
        self.table(&partitions, location, &properties)
    }

    /// The same of what batch runs write, each under its name: `job=<run>/`. Names of runs can't be projected, so Athena is told of them.
    pub fn ddl_by_run(&self, location: &str) -> String {
        let partitions: Vec<_> = [("job", Type::String)].into_iter().chain(self.partitions()).collect();
        let table = self.table(&partitions, location, &[]);
        format!("{table}-- and after runs: MSCK REPAIR TABLE `{}`\n", self.name())
    }

    fn table(&self, partitions: &[(&str, Type)], location: &str, properties: &[(String, String)]) -> String {
        let names: Vec<&str> = partitions.iter().map(|(name, _)| *name).collect();
        let columns: Vec<String> =
            self.hive_columns(&names).iter().map(|(name, kind)| format!("  `{name}` {kind}")).collect();
        let mut ddl = format!("CREATE EXTERNAL TABLE IF NOT EXISTS `{}` (\n{}\n)\n", self.name(), columns.join(",\n"));
        if !partitions.is_empty() {
            let keys: Vec<String> =
                partitions.iter().map(|(name, kind)| format!("`{name}` {}", kind.to_hive())).collect();
            let _ = writeln!(ddl, "PARTITIONED BY ({})", keys.join(", "));
        }
        let _ = writeln!(ddl, "STORED AS PARQUET\nLOCATION '{}/'", location.trim_end_matches('/'));
        if !properties.is_empty() {
            let properties: Vec<String> =
                properties.iter().map(|(key, value)| format!("  '{key}' = '{value}'")).collect();
            let _ = writeln!(ddl, "TBLPROPERTIES (\n{}\n)", properties.join(",\n"));
        }
        ddl
    }

    /// `Columns` and `PartitionKeys` of an `AWS::Glue::Table`, as YAML.
    pub fn cloudformation(&self) -> String {
        let partitions = self.partition_by();
        let mut yaml = String::from("Columns:\n");
        for (name, kind) in self.hive_columns(&partitions) {
            let _ = writeln!(yaml, "  - {{ Name: {name}, Type: {} }}", quoted(&kind));
        }
        yaml.push_str("PartitionKeys:\n");
        for (name, kind) in self.partitions() {
            let _ = writeln!(yaml, "  - {{ Name: {name}, Type: {} }}", quoted(&kind.to_hive()));
        }
        yaml
    }
}

/// In a flow mapping a comma would end the value.
fn quoted(kind: &str) -> String {
    if kind.contains(',') { format!("\"{kind}\"") } else { kind.to_owned() }
}

/// Athena user guide, "Supported types for partition projection".
fn projection(partitions: &[(&str, Type)], location: &str) -> Vec<(String, String)> {
    if partitions.is_empty() {
        return Vec::new();
    }
    let mut properties = vec![("projection.enabled".to_owned(), "true".to_owned())];
    let mut template = String::from(location);
    for (name, kind) in partitions {
        let mut put = |key: &str, value: &str| properties.push((format!("projection.{name}.{key}"), value.to_owned()));
        match kind {
            Type::Date => {
                put("type", "date");
                put("format", "yyyy-MM-dd");
                put("range", "2009-01-01,NOW");
            }
            Type::Int32 | Type::Int64 => {
                put("type", "integer");
                // The only whole numbers that partition are hours of a day.
                put("range", "0,23");
            }
            // Its values can't be known: queries must name them.
            _ => put("type", "injected"),
        }
        let _ = write!(template, "/{name}=${{{name}}}");
    }
    properties.push(("storage.location.template".to_owned(), format!("{template}/")));
    properties
}
