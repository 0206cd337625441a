//! What a table's own commits say of where it stands: members of ours, which every commit of ours carries whole.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_changes::{Source, TableDefinition};
use weir_delivery::Failure;

use super::drain::Positions;

/// Where a table stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// The table as the database calls it.
    pub source: Option<String>,
    /// How far of each shard it has come.
    pub positions: Positions,
    /// How the database's table was last said to be.
    pub definition: Option<TableDefinition>,
}

const SOURCE: &str = "source";
const POSITIONS: &str = "positions";
const DEFINITION: &str = "definition";

impl Own {
    /// From a commit's members.
    ///
    /// # Errors
    /// `HudiCommit`: they are not as we wrote them.
    pub fn read(members: &BTreeMap<String, String>) -> Result<Self, Failure> {
        Ok(Self {
            source: members.get(SOURCE).cloned(),
            positions: member(members, POSITIONS)?.unwrap_or_default(),
            definition: member(members, DEFINITION)?,
        })
    }

    /// As a commit's members.
    ///
    /// # Errors
    /// None but for a defect of ours.
    pub fn write(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut members = BTreeMap::from([(POSITIONS.to_owned(), text(&self.positions)?)]);
        members.extend(self.source.iter().map(|source| (SOURCE.to_owned(), source.clone())));
        if let Some(definition) = &self.definition {
            members.insert(DEFINITION.to_owned(), text(definition)?);
        }
        Ok(members)
    }

    /// That this is the table of that source: two may have one name in the catalog.
    ///
    /// # Errors
    /// `OtherSource`.
    pub fn is_of(&self, source: &Source) -> Result<(), Failure> {
        match &self.source {
            Some(other) if *other != source.to_string() => {
                let reason = format!("the table by its name is that of {other}; name a contract for one of the two");
                Err(Failure::user("OtherSource", reason))
            }
            _ => Ok(()),
        }
    }
}

fn member<T: DeserializeOwned>(members: &BTreeMap<String, String>, name: &str) -> Result<Option<T>, Failure> {
    let read = |text: &String| {
        let broken = |error| Failure::user("HudiCommit", format!("the commit's `weir.{name}` can't be read: {error}"));
        serde_json::from_str(text).map_err(broken)
    };
    members.get(name).map(read).transpose()
}

fn text(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::internal("HudiCommit", error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back() {
        let source = Source { schema: "public".into(), table: "t".into() };
        let own = Own {
            source: Some(source.to_string()),
            positions: Positions::from([("s.shardId-0".into(), "7".into())]),
            definition: Some(TableDefinition { primary_key: vec!["id".into()], ..TableDefinition::default() }),
        };
        assert_eq!(Own::read(&own.write().unwrap()).unwrap(), own);
        assert_eq!(Own::read(&BTreeMap::new()).unwrap(), Own::default());
        assert!(own.is_of(&source).is_ok());
        let other = Source { table: "u".into(), ..source };
        assert!(own.is_of(&other).unwrap_err().reason.contains("public.t"));
    }
}
