//! A table on the lake: made, opened, looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;
use weir_lake::{Lake, ObjectInfo};

use crate::commit::Commit;
use crate::names::looks_like_a_bucket;
use crate::schema::{from_avro, to_avro};
use crate::settings::Settings;
use crate::timeline::{Action, Instant, State};
use crate::view::View;

/// Where a table is, and by whom it is reached.
#[derive(Clone)]
pub struct Place {
    /// The object store.
    pub lake: Arc<dyn Lake>,
    /// The table's folder.
    pub at: Location,
}

/// A table as it was found.
pub struct Table {
    /// Where.
    pub place: Place,
    /// What it was made with.
    pub settings: Settings,
    /// Its columns as of the last commit, without Hudi's own.
    pub schema: SchemaRef,
    /// What lies in its folder.
    pub view: View,
    /// Why it is read here and not written to, if that is so.
    pub not_written: Option<Failure>,
    /// The last instant that was taken back when it was opened.
    pub(crate) taken_back: Option<Instant>,
}

/// Members of a commit that are ours begin so.
const OWN: &str = "weir.";

impl Place {
    /// An object of the table.
    pub fn join(&self, path: &str) -> Location {
        self.at.as_prefix().join(path)
    }

    /// A file of the timeline.
    pub(crate) fn hoodie(&self, name: &str) -> Location {
        self.join(&format!(".hoodie/{name}"))
    }

    pub(crate) async fn list(&self, under: &Location) -> Result<Vec<ObjectInfo>, Failure> {
        weir_lake::list_all(&*self.lake, under).await
    }

    /// A whole object; nothing if there is none.
    pub(crate) async fn read(&self, at: &Location) -> Result<Option<Bytes>, Failure> {
        Ok(weir_lake::find(&*self.lake, at).await?.map(|(bytes, _)| bytes))
    }

    pub(crate) async fn put(&self, name: &str, text: impl Into<Bytes>) -> Result<(), Failure> {
        self.lake.put(&self.hoodie(name), text.into(), "application/json").await
    }
}

impl Table {
    /// Makes a table, if there is none. Another may make it at the same time: then it is that one's.
    ///
    /// # Errors
    /// The lake's; `HudiSchema`, `HudiRefused`: columns that have no place in such a table.
    pub async fn create(place: &Place, settings: &Settings, schema: &Schema) -> Result<(), Failure> {
        let text = settings.properties(schema)?;
        let at = place.hoodie("hoodie.properties");
        match place.lake.put_new(&at, Bytes::from(text), "text/plain").await {
            Err(failure) if failure.code == "PreconditionFailed" => Ok(()),
            made => made,
        }
    }

    /// Opens a table; nothing if there is none.
    ///
    /// # Errors
    /// The lake's; `HudiRefused`: why it can't even be read. What can be read and is not written says so ([`Table::not_written`]).
    pub async fn open(place: &Place) -> Result<Option<Self>, Failure> {
        let Some(properties) = place.read(&place.hoodie("hoodie.properties")).await? else {
            return no_table(place).await.map(|()| None);
        };
        let found = Settings::read(&properties)?;
        let mut view = View::of(&place.at, place.list(&place.at.as_prefix()).await?);
        for instant in replacing(&view) {
            let commit = read_commit(place, &instant, "replacecommit").await?;
            for (partition, groups) in commit.partition_to_replace_file_ids {
                view.replaced.extend(groups.into_iter().map(|group| ((partition.clone(), group), instant.clone())));
            }
        }
        let not_written = found.not_written.or_else(|| strangers(&found.settings, &view));
        let (place, settings) = (place.clone(), found.settings);
        let mut table =
            Self { place, settings, schema: Arc::new(Schema::empty()), view, not_written, taken_back: None };
        let said = |commit: &Commit| commit.extra_metadata.get("schema").filter(|schema| !schema.is_empty()).cloned();
        let committed = table.newest(said).await?.map(|(_, schema)| schema);
        let Some(avro) = committed.or(found.created) else {
            let reason = format!(
                "the table {} has no schema: neither its commits nor its properties say one",
                table.settings.name
            );
            return Err(Failure::user("HudiRefused", reason));
        };
        table.schema = from_avro(&avro)?;
        Ok(Some(table))
    }

    /// What the newest commit that says so says.
    async fn newest<T>(&self, find: impl Fn(&Commit) -> Option<T>) -> Result<Option<(Instant, T)>, Failure> {
        for instant in self.view.timeline.commits().rev() {
            if let Some(found) = find(&self.commit_at(instant).await?) {
                return Ok(Some((instant.clone(), found)));
            }
        }
        Ok(None)
    }

    /// What a commit did.
    ///
    /// # Errors
    /// The lake's; `HudiCommit`: it can't be read.
    pub async fn commit_at(&self, instant: &Instant) -> Result<Commit, Failure> {
        let replaces = |entry: &&crate::timeline::Entry| entry.instant == *instant && entry.action == Action::Replace;
        let is_replace = self.view.timeline.entries().iter().any(|entry| replaces(&entry));
        read_commit(&self.place, instant, if is_replace { "replacecommit" } else { "commit" }).await
    }

    /// Members of our own in the newest commit that has any: another's commits have none.
    ///
    /// # Errors
    /// The lake's.
    pub async fn own_members(&self) -> Result<BTreeMap<String, String>, Failure> {
        Ok(self.newest_own().await?.map(|(_, own)| own).unwrap_or_default())
    }

    /// That commit, and its members.
    pub(crate) async fn newest_own(&self) -> Result<Option<(Instant, BTreeMap<String, String>)>, Failure> {
        let own = |commit: &Commit| {
            let own = commit.extra_metadata.iter().filter_map(|(key, value)| {
                let key = key.strip_prefix(OWN)?;
                Some((key.to_owned(), value.clone()))
            });
            let own: BTreeMap<_, _> = own.collect();
            (!own.is_empty()).then_some(own)
        };
        self.newest(own).await
    }

    /// What a commit says beside its files: the schema, and members of our own.
    pub(crate) fn members(
        &self,
        schema: &Schema,
        own: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let own = own.iter().map(|(key, value)| (format!("{OWN}{key}"), value.clone()));
        Ok(own.chain([("schema".to_owned(), to_avro(schema, &self.settings.name)?)]).collect())
    }
}

async fn read_commit(place: &Place, instant: &Instant, action: &str) -> Result<Commit, Failure> {
    let at = place.hoodie(&format!("{instant}.{action}"));
    let Some(text) = place.read(&at).await? else {
        return Err(Failure::passing("HudiCommit", format!("{at} is gone: another writer trimmed the timeline")));
    };
    Commit::read(&text).map_err(|error| Failure::user("HudiCommit", format!("{at} can't be read: {error}")))
}

fn replacing(view: &View) -> Vec<Instant> {
    let entries = view.timeline.entries().iter();
    let done = entries.filter(|entry| entry.action == Action::Replace && entry.state == State::Completed);
    done.map(|entry| entry.instant.clone()).collect()
}

/// That there is no table, rather than one whose properties are being written again: Java deletes them for that moment.
async fn no_table(place: &Place) -> Result<(), Failure> {
    let left = place.list(&place.hoodie("")).await?;
    // The lease is taken before the table is made.
    let locks = place.hoodie(".locks/");
    match left.iter().find(|object| !locks.covers(&object.location)) {
        None => Ok(()),
        Some(object) => {
            let reason = format!(
                "{} has no hoodie.properties and yet {}: somebody is writing them, or lost them; Hudi keeps a copy in hoodie.properties.backup",
                place.at, object.location
            );
            Err(Failure::passing("HudiProperties", reason))
        }
    }
}

/// What others do to a table that is not kept right here.
fn strangers(settings: &Settings, view: &View) -> Option<Failure> {
    let alone =
        |why: &str| Some(Failure::user("HudiRefused", format!("the table {} is left alone: {why}", settings.name)));
    if view.has_metadata_table {
        return alone(
            "it has a metadata table (.hoodie/metadata), whose readers would miss what is written here; set hoodie.metadata.enable=false in its writers and remove it",
        );
    }
    if view.has_schema_history {
        return alone("it has a history of its schema (.hoodie/.schema): columns that were renamed would be lost");
    }
    let groups = || view.files.iter().map(|slice| slice.base.file_id.as_str());
    // A UUID of another writer's is called so by a chance of one in 430,000.
    if settings.buckets.is_none() && groups().next().is_some() && groups().all(looks_like_a_bucket) {
        return alone(
            "its file groups are buckets, and its properties don't say how many: set hoodie.index.type and hoodie.bucket.index.num.buckets there",
        );
    }
    view.timeline.entries().iter().find_map(|entry| match (&entry.action, entry.state) {
        (Action::Other(action), State::Completed) if action == "restore" => None,
        (Action::Other(action), _) => {
            alone(&format!("its timeline has a {action} ({}), which is not known here", entry.instant))
        }
        (Action::Replace, State::Requested | State::Inflight) => alone(&format!(
            "somebody is replacing its file groups ({}); let that finish, or roll it back",
            entry.instant
        )),
        _ => None,
    })
}
