//! A result as documents, purely.

use serde_json::{Map, Value};
use weir_live::{Plan, Published, Span};
use weir_search::Document;

/// One for all rows (`kind` is `all`), one for each group (`group`), one for each of the most frequent values of all rows (`top`).
/// Their names are the same whenever they are made, and their version is the result's revision, so that the last one
/// stays.
pub fn documents_of(stack: &str, plan: &Plan, span: &Span, published: &Published) -> Vec<Document> {
    let (dataset, start) = (plan.dataset(), span.start());
    let month = start.get(..7).unwrap_or_default();
    // Months go as a whole when they are no longer wanted.
    let index = format!("weir-live-{}-{dataset}-{month}", stack.to_ascii_lowercase());
    let version = published.revision().max(1);
    let make = |name: &str, body: Map<String, Value>| Document {
        index: index.clone(),
        id: format!("{start}-{}s-{name}", span.seconds()),
        version,
        body,
    };
    let mut documents = Vec::new();
    for (n, line) in published.lines.iter().enumerate() {
        let tops = plan.columns().filter_map(|(name, _)| Some((name, line.get(name)?.as_array()?)));
        if n == 0 {
            for (name, values) in tops {
                for (rank, value) in values.iter().enumerate() {
                    let mut body = header(line);
                    body.insert("kind".to_owned(), "top".into());
                    body.insert("statistic".to_owned(), name.into());
                    body.insert("rank".to_owned(), (rank + 1).into());
                    body.extend(value.as_object().cloned().unwrap_or_default());
                    documents.push(make(&format!("top-{name}-{:03}", rank + 1), body));
                }
            }
        }
        let mut body = line.clone();
        body.retain(|name, value| !value.is_array() && name != "parts");
        let name = if n == 0 {
            "all".to_owned()
        } else if line.contains_key("is_other") {
            "other".to_owned()
        } else {
            let of_group = plan.group_by().map(|name| format!("{name}={}", line.get(name).unwrap_or(&Value::Null)));
            of_group.collect::<Vec<_>>().join(",")
        };
        body.insert("kind".to_owned(), if n == 0 { "all" } else { "group" }.into());
        documents.push(make(&name, body));
    }
    documents
}

/// What all rows of a window have.
fn header(line: &Map<String, Value>) -> Map<String, Value> {
    let names = ["dataset", "window_start", "window_end", "window_seconds"];
    names.iter().filter_map(|name| Some(((*name).to_owned(), line.get(*name)?.clone()))).collect()
}
