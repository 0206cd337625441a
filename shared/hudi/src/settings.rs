//! What kind of table it is, from its properties and into them; and whether it can be kept right here.

use std::collections::BTreeMap;

use arrow_schema::Schema;
use weir_delivery::Failure;

use crate::properties;
use crate::schema::to_avro;

/// What a table is made with, and keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// The database it is in, for catalogs.
    pub database: String,
    /// The columns that make a row's key.
    pub key: Vec<String>,
    /// The column that says which of two versions of a row is the later one: Hudi's precombine field.
    pub ordering: String,
    /// The column whose values are folders.
    pub partition: Option<String>,
    /// How many file groups rows are spread over by their key's hash, without looking for them: Hudi's bucket index. Without it, rows are
    /// looked for in all files: its simple index, over all partitions.
    pub buckets: Option<u32>,
}

/// The only version that Athena, Glue 5, Spark with Hudi 0.15 and hudi-rs all read.
const VERSION: &str = "6";

fn refused(reason: impl Into<String>) -> Failure {
    Failure::user("HudiRefused", reason)
}

/// Java checks it when it opens a table (`HoodieTableConfig.generateChecksum`).
fn checksum(database: &str, name: &str) -> u32 {
    crc32fast::hash(format!("{database}.{name}").as_bytes())
}

const NAME: &str = "hoodie.table.name";
const DATABASE: &str = "hoodie.database.name";
const KEY: &str = "hoodie.table.recordkey.fields";
const ORDERING: &str = "hoodie.table.precombine.field";
const PARTITION: &str = "hoodie.table.partition.fields";
const CHECKSUM: &str = "hoodie.table.checksum";
const CREATED: &str = "hoodie.table.create.schema";
/// Not of Hudi's table properties, but what its writers call the same thing in their own.
const INDEX: &str = "hoodie.index.type";
const BUCKETS: &str = "hoodie.bucket.index.num.buckets";

/// What must be as said, or left out.
const MUST_BE: [(&str, &str, &str); 5] = [
    ("hoodie.table.base.file.format", "PARQUET", "only Parquet is written here"),
    ("hoodie.timeline.layout.version", "1", "its timeline is of another layout"),
    ("hoodie.populate.meta.fields", "true", "without Hudi's columns no row is found again"),
    ("hoodie.datasource.write.drop.partition.columns", "false", "files must hold the partition column"),
    ("hoodie.table.cdc.enabled", "false", "the log of its changes would have holes"),
];

impl Settings {
    /// What `hoodie.properties` holds of a table that is made so.
    ///
    /// # Errors
    /// `HudiSchema`, `HudiRefused`: columns that have no place in such a table.
    pub fn properties(&self, schema: &Schema) -> Result<Vec<u8>, Failure> {
        self.check(schema)?;
        let generator = match (&self.partition, self.key.len()) {
            (None, _) => "NonpartitionedKeyGenerator",
            (Some(_), 1) => "SimpleKeyGenerator",
            (Some(_), _) => "ComplexKeyGenerator",
        };
        let mut all: BTreeMap<String, String> = [
            (NAME, self.name.clone()),
            (DATABASE, self.database.clone()),
            ("hoodie.table.type", "COPY_ON_WRITE".to_owned()),
            ("hoodie.table.version", VERSION.to_owned()),
            (KEY, self.key.join(",")),
            (ORDERING, self.ordering.clone()),
            ("hoodie.archivelog.folder", "archived".to_owned()),
            ("hoodie.table.timeline.timezone", "UTC".to_owned()),
            ("hoodie.datasource.write.hive_style_partitioning", "true".to_owned()),
            ("hoodie.datasource.write.partitionpath.urlencode", "true".to_owned()),
            ("hoodie.partition.metafile.use.base.format", "false".to_owned()),
            ("hoodie.compaction.payload.class", "org.apache.hudi.common.model.DefaultHoodieRecordPayload".to_owned()),
            ("hoodie.table.keygenerator.class", format!("org.apache.hudi.keygen.{generator}")),
            (CREATED, to_avro(schema, &self.name)?),
            (CHECKSUM, checksum(&self.database, &self.name).to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        all.extend(MUST_BE.map(|(key, value, _)| (key.to_owned(), value.to_owned())));
        all.extend(self.partition.iter().map(|field| (PARTITION.to_owned(), field.clone())));
        if let Some(buckets) = self.buckets {
            all.insert(INDEX.to_owned(), "BUCKET".to_owned());
            all.insert(BUCKETS.to_owned(), buckets.to_string());
        }
        Ok(properties::write(&all))
    }

    fn check(&self, schema: &Schema) -> Result<(), Failure> {
        let columns = self.key.iter().chain([&self.ordering]).chain(&self.partition);
        if let Some(missing) = columns.into_iter().find(|name| schema.column_with_name(name).is_none()) {
            return Err(refused(format!("the table {} has no column `{missing}`", self.name)));
        }
        if self.key.is_empty() {
            return Err(refused(format!("the table {} has no key", self.name)));
        }
        self.check_index()
    }

    fn check_index(&self) -> Result<(), Failure> {
        match (self.buckets, &self.partition) {
            (Some(0), _) => Err(refused("a table has at least one bucket")),
            // A key's bucket would be looked for in one partition, and the row may be in another.
            (Some(_), Some(_)) => {
                Err(refused("a table with buckets has no partitions: a row that moves would not be found"))
            }
            _ => Ok(()),
        }
    }

    /// From `hoodie.properties`, and the schema that it was made with, if that is said.
    ///
    /// # Errors
    /// `HudiRefused`: why such a table is left alone.
    pub fn read(text: &[u8]) -> Result<(Self, Option<String>), Failure> {
        let mut all = properties::parse(text);
        let mut take = |key: &str| all.remove(key).filter(|value| !value.is_empty());
        let list = |text: Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect()
        };
        let name = take(NAME).ok_or_else(|| refused("hoodie.properties names no table"))?;
        let refuse = |why: String| Err(refused(format!("the table {name} is left alone: {why}")));
        match take("hoodie.table.type").as_deref() {
            Some("COPY_ON_WRITE") => {}
            other => {
                return refuse(format!(
                    "it is {}, and only COPY_ON_WRITE is written here",
                    other.unwrap_or("of no type")
                ));
            }
        }
        match take("hoodie.table.version").as_deref() {
            Some(VERSION) => {}
            other => {
                let version = other.unwrap_or("unknown");
                return refuse(format!("its version is {version}, and only version {VERSION} is written here"));
            }
        }
        for (key, value, why) in MUST_BE {
            if let Some(other) = take(key).filter(|found| found != value) {
                return refuse(format!("{key} is {other}: {why}"));
            }
        }
        if let Some(partitions) = take("hoodie.table.metadata.partitions") {
            return refuse(format!(
                "it has a metadata table ({partitions}), whose readers would miss what is written here; set hoodie.metadata.enable=false in its writers and remove it"
            ));
        }
        let database = take(DATABASE).unwrap_or_default();
        if let Some(found) = take(CHECKSUM).filter(|found| *found != checksum(&database, &name).to_string()) {
            return refuse(format!("the checksum of its properties is {found}, which is that of another table"));
        }
        let partition = list(take(PARTITION));
        if partition.len() > 1 {
            return refuse("it has several partition columns, and only one is written here".to_owned());
        }
        let buckets = take(INDEX).filter(|index| index == "BUCKET").and_then(|_| take(BUCKETS)?.parse().ok());
        let key = list(take(KEY));
        let Some(ordering) = take(ORDERING).filter(|_| !key.is_empty()) else {
            return refuse(
                "it has no record key or no precombine field, and so no order of a row's versions".to_owned(),
            );
        };
        let created = take(CREATED);
        let settings = Self { name, database, key, ordering, partition: partition.into_iter().next(), buckets };
        settings.check_index()?;
        Ok((settings, created))
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    fn schema() -> Schema {
        Schema::new(["id", "dt", "at"].map(|name| Field::new(name, DataType::Utf8, true)).to_vec())
    }

    fn settings() -> Settings {
        Settings {
            name: "orders".to_owned(),
            database: "default".to_owned(),
            key: vec!["id".to_owned()],
            ordering: "at".to_owned(),
            partition: Some("dt".to_owned()),
            buckets: None,
        }
    }

    #[test]
    fn tables_come_back() {
        let bucketed = Settings { partition: None, buckets: Some(16), ..settings() };
        for made in [settings(), bucketed] {
            let text = made.properties(&schema()).unwrap();
            let (read, created) = Settings::read(&text).unwrap();
            assert_eq!(read, made);
            assert_eq!(crate::schema::from_avro(&created.unwrap()).unwrap().as_ref(), &schema());
        }
    }

    #[test]
    fn the_checksum_is_javas() {
        // ../shared/reference/hudi-cow-v6.md; the second was written by Spark.
        assert_eq!(checksum("default", "orders"), 1_214_328_098);
        assert_eq!(checksum("default", "v6_simplekeygen_nonhivestyle"), 616_688_896);
    }

    #[test]
    fn what_can_not_be_kept_right_is_refused_with_the_reason() {
        let text = String::from_utf8(settings().properties(&schema()).unwrap()).unwrap();
        for (from, to, word) in [
            ("COPY_ON_WRITE", "MERGE_ON_READ", "MERGE_ON_READ"),
            ("table.version=6", "table.version=8", "version is 8"),
            ("table.cdc.enabled=false", "table.cdc.enabled=true", "cdc.enabled"),
            ("populate.meta.fields=true", "populate.meta.fields=false", "populate.meta.fields"),
            ("1214328098", "1", "checksum"),
            ("partition.fields=dt", "partition.fields=dt,at", "several partition"),
            ("hoodie.table.precombine.field=at", "x=y", "precombine"),
            ("hoodie.archivelog", "hoodie.table.metadata.partitions=files\nx", "metadata table"),
        ] {
            assert!(text.contains(from), "{from}");
            let refused = Settings::read(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(refused.code == "HudiRefused" && refused.reason.contains(word), "{word}: {refused}");
        }
        let absent = Settings { ordering: "no".to_owned(), ..settings() };
        assert!(absent.properties(&schema()).unwrap_err().reason.contains("`no`"));
        let both = Settings { buckets: Some(4), ..settings() };
        assert!(both.properties(&schema()).unwrap_err().reason.contains("partitions"));
    }
}
