//! Tables of ours on the local AWS, read by those who know Hudi best: hudi-rs, and Spark with Hudi's own bundles. Spark writes to them,
//! too, and ours goes on.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use weir_hudi::schema::timestamp;
use weir_hudi::settings::Settings;
use weir_hudi::{Changes, KeyCache, Lease, Limits, Place, Table};
use weir_lake::Lake;
use weir_tests::hudi::{Reader, bring_back, fetch};
use weir_tests::{Failed, Stack};

/// A row as texts, as the scripts tell it.
type Row = BTreeMap<String, String>;

/// A row that is to be.
#[derive(Clone)]
struct Version {
    id: i64,
    position: String,
    /// Nothing: it goes.
    values: Option<Values>,
}

#[derive(Clone)]
struct Values {
    day: i32,
    name: String,
    cents: i128,
    at: i64,
    quantity: i64,
    ok: bool,
    quarters: i32,
    more: Option<String>,
}

/// The table as it begins; later it has another column, and larger quantities.
fn schema(is_later: bool) -> SchemaRef {
    let quantity = if is_later { DataType::Int64 } else { DataType::Int32 };
    let mut fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("dt", DataType::Date32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("sum", DataType::Decimal128(12, 2), true),
        Field::new("at", timestamp(), true),
        Field::new("quantity", quantity, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("_change_position", DataType::Utf8, true),
    ];
    if is_later {
        fields.push(Field::new("more", DataType::Utf8, true));
    }
    Arc::new(Schema::new(fields))
}

fn batch(versions: &[Version], is_later: bool) -> Changes {
    fn column<T: FromIterator<Option<V>>, V>(versions: &[Version], of: impl Fn(&Values) -> V) -> T {
        versions.iter().map(|version| version.values.as_ref().map(&of)).collect()
    }
    let sums: Decimal128Array = column(versions, |values| values.cents);
    let times: TimestampMicrosecondArray = column(versions, |values| values.at);
    let quantities: Int64Array = column(versions, |values| values.quantity);
    let narrow: Int32Array = column(versions, |values| values.quantity as i32);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(versions.iter().map(|version| Some(version.id)).collect::<Int64Array>()),
        Arc::new(column::<Date32Array, _>(versions, |values| values.day)),
        Arc::new(column::<StringArray, _>(versions, |values| values.name.clone())),
        Arc::new(sums.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(times.with_timezone("UTC")),
        if is_later { Arc::new(quantities) } else { Arc::new(narrow) },
        Arc::new(column::<BooleanArray, _>(versions, |values| values.ok)),
        Arc::new(column::<Float64Array, _>(versions, |values| f64::from(values.quarters) / 4.0)),
        Arc::new(versions.iter().map(|version| Some(version.position.clone())).collect::<StringArray>()),
    ];
    if is_later {
        let more = versions.iter().map(|version| version.values.as_ref().and_then(|values| values.more.clone()));
        columns.push(Arc::new(more.collect::<StringArray>()));
    }
    let rows = RecordBatch::try_new(schema(is_later), columns).unwrap();
    Changes { rows, deletes: versions.iter().map(|version| version.values.is_none()).collect() }
}

/// As the scripts tell such a row.
fn told(version: &Version) -> Option<Row> {
    let values = version.values.as_ref()?;
    let day = 1 + values.day - 19_844;
    let all = [
        ("id", version.id.to_string()),
        ("dt", format!("2024-05-{day:02}")),
        ("name", values.name.clone()),
        (
            "sum",
            format!(
                "{}{}.{:02}",
                if values.cents < 0 { "-" } else { "" },
                values.cents.abs() / 100,
                values.cents.abs() % 100
            ),
        ),
        ("at", values.at.to_string()),
        ("quantity", values.quantity.to_string()),
        ("ok", values.ok.to_string()),
        ("ratio", format!("{:?}", f64::from(values.quarters) / 4.0)),
        ("_change_position", version.position.clone()),
    ];
    let more = values.more.clone().map(|more| ("more", more));
    Some(all.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect())
}

struct World {
    place: Place,
    settings: Settings,
    cache: KeyCache,
    random: StdRng,
    step: u32,
    /// What must be there, by key.
    rows: BTreeMap<i64, Row>,
    /// What was there, as of each of our commits.
    past: Vec<(String, Value)>,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// As the scripts sort them: by the key's text.
fn sorted(rows: &BTreeMap<i64, Row>) -> Value {
    let mut all: Vec<&Row> = rows.values().collect();
    all.sort_by(|one, other| one["id"].cmp(&other["id"]));
    json!(all)
}

impl World {
    async fn new(name: &str, settings: Settings) -> Result<Self, Failed> {
        let stack = Stack::open(name).await?;
        let at = stack.output("table/")?;
        let lake: Arc<dyn Lake> = Arc::new(stack.lake.clone());
        Ok(Self {
            place: Place { lake, at },
            settings,
            cache: KeyCache::default(),
            random: StdRng::seed_from_u64(7),
            step: 0,
            rows: BTreeMap::new(),
            past: Vec::new(),
        })
    }

    fn version(&mut self, id: i64, is_later: bool) -> Version {
        let random = &mut self.random;
        let values = random.random_bool(0.85).then(|| Values {
            day: 19_844 + random.random_range(0..3),
            name: format!("näme {} / \"{}\"", self.step, random.random_range(0..1_000)),
            cents: random.random_range(-100_000..100_000),
            at: random.random_range(-1_000_000..1_714_521_600_000_001),
            quantity: random.random_range(0..if is_later { 1 << 40 } else { 1_000 }),
            ok: random.random_bool(0.5),
            quarters: random.random_range(-9..9),
            more: (is_later && random.random_bool(0.5)).then(|| "more".to_owned()),
        });
        Version { id, position: format!("2 {:08}", self.step), values }
    }

    /// One commit of ours.
    async fn commit(&mut self, is_later: bool) -> Result<(), Failed> {
        self.step += 1;
        let keys: std::collections::BTreeSet<i64> = (0..120).map(|_| self.random.random_range(0..300)).collect();
        let versions: Vec<Version> = keys.into_iter().map(|id| self.version(id, is_later)).collect();
        let owner = format!("test {}", self.step);
        let lease = Lease::take(&self.place, &owner, now_ms() + 60_000, now_ms()).await?;
        let limits = Limits { target_bytes: 12_000, ..Limits::default() };
        let table = match Table::open_to_write(&self.place, &lease, &limits, now_ms).await? {
            Some(table) => table,
            None => {
                Table::create(&self.place, &self.settings, &schema(false)).await?;
                Table::open_to_write(&self.place, &lease, &limits, now_ms).await?.ok_or("no table")?
            }
        };
        let known = table.own_members().await?;
        assert_eq!(known.get("step").map_or(0, |step| step.parse().unwrap()), self.step - 1, "what was done is known");
        let prepared = table.prepare(&batch(&versions, is_later), &self.cache, &limits).await?;
        let own = BTreeMap::from([("step".to_owned(), self.step.to_string())]);
        let committed = table.write(prepared, &own, &lease, &limits, now_ms).await?;
        lease.release(&self.place).await?;
        let verdict = Table::open(&self.place).await?.ok_or("no table")?.verify().await?;
        assert_eq!((verdict.broken, verdict.left_over), (vec![], vec![]));
        for version in &versions {
            match told(version) {
                Some(row) => drop(self.rows.insert(version.id, row)),
                None => drop(self.rows.remove(&version.id)),
            }
        }
        self.past.push((committed.instant.to_string(), sorted(&self.rows)));
        Ok(())
    }

    /// Reads all that can be asked for.
    async fn is_read_by(&self, reader: &mut Reader, who: &str) -> Result<(), Failed> {
        assert!(self.rows.len() > 100, "there is something to read");
        assert_eq!(reader.ask(&json!({})).await?, sorted(&self.rows), "{who}");
        for (instant, rows) in &self.past {
            assert_eq!(&reader.ask(&json!({"as_of": instant})).await?, rows, "{who}, as of {instant}");
        }
        for two in self.past.windows(2) {
            let ((since, before), (until, then)) = (&two[0], &two[1]);
            let before = before.as_array().unwrap();
            let changed: Vec<&Value> = then.as_array().unwrap().iter().filter(|row| !before.contains(row)).collect();
            let found = reader.ask(&json!({"since": since, "until": until})).await?;
            assert_eq!(found, json!(changed), "{who}, from {since} to {until}");
        }
        Ok(())
    }

    /// Spark changes rows, and ours goes on from there.
    async fn spark_writes(&mut self, spark: &mut Reader, folder: &std::path::Path) -> Result<(), Failed> {
        let name = format!("spark {}", self.step);
        let update = format!("SELECT * EXCEPT (name), '{name}' AS name FROM t WHERE id % 7 = 0");
        let update =
            update.replace("* EXCEPT (name), ", "id, dt, sum, at, quantity, ok, ratio, _change_position, more, ");
        spark.ask(&json!({"upsert": update})).await?;
        let insert = "SELECT 1000 + id AS id, dt, name, sum, at, quantity, ok, ratio, _change_position, more FROM t WHERE id BETWEEN 5 AND 15";
        spark.ask(&json!({"upsert": insert})).await?;
        spark.ask(&json!({"delete": "SELECT * FROM t WHERE id % 11 = 0"})).await?;
        for (_, row) in self.rows.iter_mut().filter(|(id, _)| *id % 7 == 0) {
            row.insert("name".to_owned(), name.clone());
        }
        let new: Vec<(i64, Row)> = self.rows.range(5..=15).map(|(id, row)| (1000 + id, row.clone())).collect();
        for (id, mut row) in new {
            row.insert("id".to_owned(), id.to_string());
            self.rows.insert(id, row);
        }
        self.rows.retain(|id, _| id % 11 != 0);
        bring_back(&self.place, folder).await
    }
}

async fn through(mut world: World) -> Result<(), Failed> {
    for n in 0..4 {
        world.commit(n >= 2).await?;
    }
    let folder = tempfile::tempdir()?;
    fetch(&world.place, folder.path()).await?;
    let path = folder.path().to_str().ok_or("no path")?;
    world.is_read_by(&mut Reader::start("rs.py", &[path])?, "hudi-rs").await?;
    for version in ["0.15.0", "1.0.2"] {
        let folder = tempfile::tempdir()?;
        fetch(&world.place, folder.path()).await?;
        let path = folder.path().to_str().ok_or("no path")?;
        let mut spark = Reader::start("spark.py", &[version, path])?;
        world.is_read_by(&mut spark, version).await?;
        world.spark_writes(&mut spark, folder.path()).await?;
        world.commit(true).await?;
    }
    let folder = tempfile::tempdir()?;
    fetch(&world.place, folder.path()).await?;
    let path = folder.path().to_str().ok_or("no path")?;
    let last = json!({});
    assert_eq!(Reader::start("rs.py", &[path])?.ask(&last).await?, sorted(&world.rows), "hudi-rs, at last");
    assert_eq!(Reader::start("spark.py", &["0.15.0", path])?.ask(&last).await?, sorted(&world.rows), "Spark, at last");
    Ok(())
}

fn settings(partition: Option<&str>, buckets: Option<u32>) -> Settings {
    Settings {
        name: "sales".to_owned(),
        database: "default".to_owned(),
        key: vec!["id".to_owned()],
        ordering: "_change_position".to_owned(),
        partition: partition.map(str::to_owned),
        buckets,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_partitions_is_what_others_take_it_for() -> Result<(), Failed> {
    through(World::new("hudi-partitions", settings(Some("dt"), None)).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_buckets_is_what_others_take_it_for() -> Result<(), Failed> {
    through(World::new("hudi-buckets", settings(None, Some(5))).await?).await
}
