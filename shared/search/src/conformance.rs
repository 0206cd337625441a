//! What every [`Index`] must do.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use weir_delivery::Failure;

use crate::{Document, Index};

const DATE: &str = "window_start";

/// What an index holds, by id.
pub type Held = BTreeMap<String, Map<String, Value>>;

/// Goes through all of it, in an index of its own. `read` gives all of its documents.
///
/// # Errors
/// What is not as it must be.
pub async fn run<F, R>(index: &dyn Index, name: &str, read: F) -> Result<(), String>
where
    F: Fn() -> R,
    R: Future<Output = Result<Held, Failure>>,
{
    let said = |failure: Failure| failure.reason;
    let document = |id: &str, version: u64, trips: u64| {
        let body = json!({DATE: "2024-05-01T10:00:00Z", "trips": trips});
        let body = body.as_object().cloned().unwrap_or_default();
        Document { index: name.to_owned(), id: id.to_owned(), version, body }
    };
    let template = json!({
        "index_patterns": [format!("{name}*")], "priority": 500,
        "template": {"mappings": {"properties": {DATE: {"type": "date"}, "trips": {"type": "long"}}}},
    });
    for _ in 0..2 {
        index.template(name, &template).await.map_err(said)?;
    }
    let check = |what: &'static str, expected: Vec<(&'static str, u64)>| {
        let read = &read;
        async move {
            let held = read().await.map_err(said)?;
            let trips = |(id, body): (&String, &Map<String, Value>)| {
                (id.clone(), body.get("trips").and_then(Value::as_u64).unwrap_or_default())
            };
            let held: Vec<(String, u64)> = held.iter().map(trips).collect();
            let expected: Vec<(String, u64)> = expected.into_iter().map(|(id, trips)| (id.to_owned(), trips)).collect();
            if held == expected { Ok(()) } else { Err(format!("{what}: {held:?}, not {expected:?}")) }
        }
    };
    let none =
        |refused: Vec<crate::Refused>| if refused.is_empty() { Ok(()) } else { Err(format!("refused: {refused:?}")) };
    none(index.write(&[document("a", 1, 10), document("b", 2, 20)]).await.map_err(said)?)?;
    check("documents are there once they are written", vec![("a", 10), ("b", 20)]).await?;
    none(index.write(&[document("a", 1, 11), document("b", 3, 30)]).await.map_err(said)?)?;
    check("the same version again, and a newer one, take the place of the old", vec![("a", 11), ("b", 30)]).await?;
    none(index.write(&[document("b", 2, 99), document("c", 1, 40)]).await.map_err(said)?)?;
    check("an older version is no error, and is not taken", vec![("a", 11), ("b", 30), ("c", 40)]).await?;
    let mut bad = document("d", 1, 50);
    bad.body.insert(DATE.to_owned(), json!("yesterday"));
    let refused = index.write(&[bad, document("e", 1, 60)]).await.map_err(said)?;
    if refused.iter().map(|one| one.place).collect::<Vec<_>>() != [0] {
        return Err(format!("only the bad one is refused: {refused:?}"));
    }
    check("its neighbour is taken", vec![("a", 11), ("b", 30), ("c", 40), ("e", 60)]).await?;
    none(index.write(&[]).await.map_err(said)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryIndex;

    #[test]
    fn the_twin_does_it() {
        let index = MemoryIndex::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let held = || async { Ok(index.documents("of-its-own")) };
        runtime.block_on(run(&index, "of-its-own", held)).unwrap();
    }
}
