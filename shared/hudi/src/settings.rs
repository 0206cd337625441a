//! What kind of table it is, from its properties and into them; and whether it can be kept right here.

use std::collections::BTreeMap;

use arrow_schema::Schema;
use weir_delivery::Failure;

use crate::properties;
use crate::schema::{check_name, check_names, to_avro};

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
const GENERATOR: &str = "hoodie.table.keygenerator.class";
const CREATED: &str = "hoodie.table.create.schema";
/// Not of Hudi's table properties, but what its writers call the same thing in their own.
const INDEX: &str = "hoodie.index.type";
const BUCKETS: &str = "hoodie.bucket.index.num.buckets";

/// What must be as said, or left out.
const MUST_BE: [(&str, &str, &str); 6] = [
    ("hoodie.table.base.file.format", "PARQUET", "only Parquet is written here"),
    ("hoodie.timeline.layout.version", "1", "its timeline is of another layout"),
    ("hoodie.populate.meta.fields", "true", "without Hudi's columns no row is found again"),
    ("hoodie.datasource.write.drop.partition.columns", "false", "files must hold the partition column"),
    ("hoodie.table.cdc.enabled", "false", "the log of its changes would have holes"),
    ("hoodie.partition.metafile.use.base.format", "false", "its partitions are marked in another way"),
];

/// What must be as said, and is otherwise by default (Hudi's `HoodieTableConfig`).
const MUST_SAY: [(&str, &str, &str); 1] = [(
    "hoodie.table.timeline.timezone",
    "UTC",
    "its instants are in somebody's local time, and would not sort with those written here",
)];

/// The same, of tables with partitions.
const FOLDERS: [(&str, &str, &str); 2] = [
    ("hoodie.datasource.write.hive_style_partitioning", "true", "its folders are not called `column=value`"),
    ("hoodie.datasource.write.partitionpath.urlencode", "true", "its folders' names are not escaped"),
];

impl Settings {
    /// What `hoodie.properties` holds of a table that is made so.
    ///
    /// # Errors
    /// `HudiSchema`, `HudiRefused`: columns that have no place in such a table.
    pub fn properties(&self, schema: &Schema) -> Result<Vec<u8>, Failure> {
        self.check(schema)?;
        let mut all: BTreeMap<String, String> = [
            (NAME, self.name.clone()),
            (DATABASE, self.database.clone()),
            ("hoodie.table.type", "COPY_ON_WRITE".to_owned()),
            ("hoodie.table.version", VERSION.to_owned()),
            (KEY, self.key.join(",")),
            (ORDERING, self.ordering.clone()),
            ("hoodie.archivelog.folder", "archived".to_owned()),
            ("hoodie.compaction.payload.class", "org.apache.hudi.common.model.DefaultHoodieRecordPayload".to_owned()),
            (GENERATOR, format!("org.apache.hudi.keygen.{}", self.generator())),
            (CREATED, to_avro(schema, &self.name)?),
            (CHECKSUM, checksum(&self.database, &self.name).to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let fixed = MUST_BE.iter().chain(&MUST_SAY).chain(&FOLDERS);
        all.extend(fixed.map(|(key, value, _)| ((*key).to_owned(), (*value).to_owned())));
        all.extend(self.partition.iter().map(|field| (PARTITION.to_owned(), field.clone())));
        if let Some(buckets) = self.buckets {
            all.insert(INDEX.to_owned(), "BUCKET".to_owned());
            all.insert(BUCKETS.to_owned(), buckets.to_string());
        }
        Ok(properties::write(&all))
    }

    /// How keys are made: several columns are `a:1,b:2`.
    fn generator(&self) -> &'static str {
        match (&self.partition, self.key.len()) {
            (None, _) => "NonpartitionedKeyGenerator",
            (Some(_), 1) => "SimpleKeyGenerator",
            (Some(_), _) => "ComplexKeyGenerator",
        }
    }

    fn check(&self, schema: &Schema) -> Result<(), Failure> {
        check_name(&self.name)?;
        check_names(schema)?;
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
            // Java hashes the list of values, which can't be had back from every key.
            (Some(_), None) if self.key.len() > 1 => Err(refused("a table with buckets has a key of one column")),
            _ => Ok(()),
        }
    }

    /// From `hoodie.properties`.
    ///
    /// # Errors
    /// `HudiRefused`: why such a table can't even be read here.
    pub fn read(text: &[u8]) -> Result<Found, Failure> {
        let all = properties::parse(text);
        let get = |key: &str| all.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let list = |key: &str| -> Vec<String> {
            get(key).iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect()
        };
        let name = get(NAME).ok_or_else(|| refused("hoodie.properties names no table"))?.to_owned();
        let alone = |why: String| refused(format!("the table {name} is left alone: {why}"));
        match (get("hoodie.table.type"), get("hoodie.table.version")) {
            (Some("COPY_ON_WRITE"), Some(VERSION)) => {}
            (Some("COPY_ON_WRITE"), version) => {
                let version = version.unwrap_or("unknown");
                return Err(alone(format!("its version is {version}, and only version {VERSION} is known here")));
            }
            (kind, _) => {
                return Err(alone(format!(
                    "it is {}, and only COPY_ON_WRITE is known here",
                    kind.unwrap_or("of no type")
                )));
            }
        }
        let partition = list(PARTITION);
        let buckets = get(BUCKETS).and_then(|text| text.parse().ok());
        let settings = Self {
            name: name.clone(),
            database: get(DATABASE).unwrap_or_default().to_owned(),
            key: list(KEY),
            ordering: get(ORDERING).unwrap_or_default().to_owned(),
            partition: partition.first().cloned(),
            buckets: buckets.filter(|_| get(INDEX) == Some("BUCKET")),
        };
        let not_written = settings.not_written(&partition, get).map(alone);
        Ok(Found { settings, created: get(CREATED).map(str::to_owned), not_written })
    }

    /// Why what is said of the table keeps us from writing to it.
    fn not_written<'a>(&self, partition: &[String], get: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        let differs = |(key, value, why): &(&str, &str, &str), absent: &str| {
            let found = get(key).unwrap_or(absent);
            (found != *value).then(|| format!("{key} is {found}: {why}"))
        };
        let fixed = MUST_BE.iter().find_map(|one| differs(one, one.1));
        let said = || MUST_SAY.iter().find_map(|one| differs(one, "LOCAL"));
        let folders = || FOLDERS.iter().filter(|_| self.partition.is_some()).find_map(|one| differs(one, "false"));
        if let Some(why) = fixed.or_else(said).or_else(folders) {
            return Some(why);
        }
        if let Some(parts) = get("hoodie.table.metadata.partitions") {
            return Some(format!(
                "it has a metadata table ({parts}), whose readers would miss what is written here; set hoodie.metadata.enable=false in its writers and remove it"
            ));
        }
        if let Some(base) = get("hoodie.bootstrap.base.path") {
            return Some(format!("half of its columns are kept elsewhere ({base})"));
        }
        let expected = checksum(&self.database, &self.name).to_string();
        if let Some(found) = get(CHECKSUM).filter(|found| *found != expected) {
            return Some(format!("the checksum of its properties is {found}, which is that of another table"));
        }
        if partition.len() > 1 {
            return Some("it has several partition columns, and only one is written here".to_owned());
        }
        if self.key.is_empty() || self.ordering.is_empty() {
            return Some("it has no record key or no precombine field, and so no order of a row's versions".to_owned());
        }
        let generator = get(GENERATOR).and_then(|class| class.rsplit('.').next());
        if generator != Some(self.generator()) {
            let found = generator.unwrap_or("not said");
            return Some(format!("its key generator is {found}, and keys are made here as by {}", self.generator()));
        }
        if get(INDEX) == Some("BUCKET") && self.buckets.is_none() {
            return Some(format!("it has buckets, and {BUCKETS} does not say how many"));
        }
        self.check_index().err().map(|failure| failure.reason)
    }
}

/// What properties say of a table.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it was made with.
    pub settings: Settings,
    /// The Avro schema that it was made with.
    pub created: Option<String>,
    /// Why it is not written to, if it is not.
    pub not_written: Option<Failure>,
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
            let found = Settings::read(&text).unwrap();
            assert_eq!((&found.settings, &found.not_written), (&made, &None));
            assert_eq!(crate::schema::from_avro(&found.created.unwrap()).unwrap().as_ref(), &schema());
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
            ("hive_style_partitioning=true", "x=true", "hive_style_partitioning is false"),
            ("urlencode=true", "urlencode=false", "not escaped"),
            ("timezone=UTC", "timezone=LOCAL", "local time"),
            ("SimpleKeyGenerator", "ComplexKeyGenerator", "ComplexKeyGenerator"),
            ("hoodie.table.name", "hoodie.bootstrap.base.path=s3\\://b/\nhoodie.table.name", "kept elsewhere"),
            ("hoodie.table.name", "hoodie.index.type=BUCKET\nhoodie.table.name", "how many"),
            ("hoodie.archivelog", "hoodie.table.metadata.partitions=files\nx", "metadata table"),
        ] {
            assert!(text.contains(from), "{from}");
            let found = Settings::read(text.replace(from, to).as_bytes());
            let refused = found.map_or_else(|refused| refused, |found| found.not_written.unwrap());
            assert!(refused.code == "HudiRefused" && refused.reason.contains(word), "{word}: {refused}");
        }
        let absent = Settings { ordering: "no".to_owned(), ..settings() };
        assert!(absent.properties(&schema()).unwrap_err().reason.contains("`no`"));
        let both = Settings { buckets: Some(4), ..settings() };
        assert!(both.properties(&schema()).unwrap_err().reason.contains("partitions"));
    }
}
