//! The twin.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::{Map, Value};
use weir_delivery::Failure;

use crate::{Document, Index, Refused};

/// What indices begin with, and what they hold.
type Template = (String, Map<String, Value>);

/// A version, and what it says.
type Held = (u64, Map<String, Value>);

/// Documents in memory, by index and id, with their versions.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    documents: Mutex<BTreeMap<(String, String), Held>>,
    /// By priority.
    templates: Mutex<BTreeMap<u64, Template>>,
}

impl MemoryIndex {
    /// An index' documents by id.
    pub fn documents(&self, index: &str) -> BTreeMap<String, Map<String, Value>> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let of_index = documents.iter().filter(|((name, _), _)| name == index);
        of_index.map(|((_, id), (_, body))| (id.clone(), body.clone())).collect()
    }

    /// The first member that is not of the type that its template says.
    fn misfit(&self, document: &Document) -> Option<String> {
        let templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ours = templates.values().rev();
        let (_, properties) = ours.find(|(prefix, _)| document.index.starts_with(prefix.as_str()))?;
        let fits = |name: &str, value: &Value| match properties.get(name).and_then(|it| it.get("type")?.as_str()) {
            Some("date") => value.as_str().is_some_and(|text| text.contains('T') && text.ends_with('Z')),
            Some("long" | "double") => value.is_number() || value.is_null(),
            _ => true,
        };
        document.body.iter().find(|(name, value)| !fits(name, value)).map(|(name, _)| name.clone())
    }
}

#[async_trait]
impl Index for MemoryIndex {
    async fn template(&self, _: &str, body: &Value) -> Result<(), Failure> {
        let patterns = body.get("index_patterns").and_then(Value::as_array).into_iter().flatten();
        let properties = body.pointer("/template/mappings/properties").and_then(Value::as_object);
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        for prefix in patterns.filter_map(|pattern| pattern.as_str()?.strip_suffix('*')) {
            let priority = body.get("priority").and_then(Value::as_u64).unwrap_or_default();
            templates.insert(priority, (prefix.to_owned(), properties.cloned().unwrap_or_default()));
        }
        Ok(())
    }

    async fn write(&self, documents: &[Document]) -> Result<Vec<Refused>, Failure> {
        let mut refused = Vec::new();
        for (place, document) in documents.iter().enumerate() {
            if let Some(name) = self.misfit(document) {
                let failure = Failure::user("mapper_parsing_exception", format!("failed to parse field [{name}]"));
                refused.push(Refused { place, failure });
                continue;
            }
            let mut known = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (document.index.clone(), document.id.clone());
            if known.get(&at).is_none_or(|(version, _)| *version <= document.version) {
                known.insert(at, (document.version, document.body.clone()));
            }
        }
        Ok(refused)
    }
}
