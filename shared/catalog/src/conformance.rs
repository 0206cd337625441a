//! What every [`Catalog`] must do, as one suite that runs against each of them.

use std::fmt::Debug;

use weir_command::Location;
use weir_delivery::Failure;

use crate::{Catalog, Format, Partition, Table};

/// Runs the suite on a table of this name and one of this name and `_hudi`, which must not exist.
///
/// # Errors
/// The first promise that the catalog does not keep.
pub async fn suite(catalog: &dyn Catalog, name: &str, at: &Location) -> Result<(), String> {
    let pair = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    let table = Table {
        name: name.to_owned(),
        description: "Of a test.".to_owned(),
        format: Format::Parquet,
        at: at.clone(),
        columns: vec![pair("page_url", "string")],
        keys: vec![pair("event_date", "date"), pair("hour", "int")],
    };
    let partition = |day: u32, folder: &str| Partition {
        values: vec![format!("2024-05-{day:02}"), "7".to_owned()],
        at: at.join(&format!("{folder}/")),
    };
    let place = async |day| catalog.place_of(name, &partition(day, "").values).await;
    expect("a place in no table", place(1).await, None)?;
    expect("a table", catalog.ensure_table(&table).await, ())?;
    expect("once more", catalog.ensure_table(&table).await, ())?;
    let wider = Table { columns: vec![pair("page_url", "string"), pair("tti", "bigint")], ..table.clone() };
    expect("another column", catalog.ensure_table(&wider).await, ())?;
    expect("fewer again", catalog.ensure_table(&table).await, ())?;
    expect("no partition", place(1).await, None)?;
    // More than one request takes.
    let many = (1..=30).flat_map(|day| (0..8).map(move |hour| (day, hour))).map(|(day, hour)| {
        let values = vec![format!("2024-06-{day:02}"), hour.to_string()];
        Partition { at: at.join(&format!("{day}/{hour}/")), values }
    });
    let many: Vec<Partition> = many.collect();
    expect("many partitions", catalog.add_partitions(&wider, &many).await, ())?;
    for one in many.iter().step_by(37) {
        expect("one of many", catalog.place_of(name, &one.values).await, Some(one.at.clone()))?;
    }
    expect("two", catalog.add_partitions(&wider, &[partition(1, "a"), partition(2, "b")]).await, ())?;
    expect("one of them again", catalog.add_partitions(&wider, &[partition(2, "c"), partition(3, "c")]).await, ())?;
    for (day, folder) in [(1, "a"), (2, "b"), (3, "c")] {
        expect("its place", place(day).await, Some(at.join(&format!("{folder}/"))))?;
    }
    expect("a move", catalog.move_to(name, &partition(2, "d")).await, ())?;
    expect("the new place", place(2).await, Some(at.join("d/")))?;
    expect("the others'", place(1).await, Some(at.join("a/")))?;
    match catalog.move_to(name, &partition(9, "e")).await {
        Err(failure) if failure.code == "NoSuchPartition" => {}
        other => return Err(format!("what is not there was moved: {other:?}")),
    }
    let hudi = Table { format: Format::Hudi, name: format!("{name}_hudi"), ..table.clone() };
    expect("a Hudi table", catalog.ensure_table(&hudi).await, ())?;
    let widened = Table { columns: vec![pair("page_url", "string"), pair("hits", "int")], ..hudi.clone() };
    expect("with a column", catalog.ensure_table(&widened).await, ())?;
    let widened = Table { columns: vec![pair("page_url", "string"), pair("hits", "bigint")], ..hudi };
    expect("a wider type", catalog.ensure_table(&widened).await, ())?;
    let columns = catalog.columns_of(&widened.name).await;
    expect("its columns", columns, Some(widened.columns.clone()))?;
    match catalog.ensure_table(&Table { name: name.to_owned(), ..widened }).await {
        Err(failure) if failure.code == "OtherTable" => Ok(()),
        other => Err(format!("a table of Parquet was taken for one of Hudi: {other:?}")),
    }
}

fn expect<T: PartialEq + Debug>(what: &str, is: Result<T, Failure>, should: T) -> Result<(), String> {
    match is {
        Ok(is) if is == should => Ok(()),
        is => Err(format!("{what}: is {is:?}, should be {should:?}")),
    }
}
