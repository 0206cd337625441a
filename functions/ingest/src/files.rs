//! The files of a commit: named, listed, written, and closed where a worker left them.

use std::fmt::Display;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use weir_command::Location;
use weir_contract::contract;
use weir_delivery::Failure;
use weir_ledger::positions::{Listed, Manifest, Range};
use weir_telemetry::Visit;

use crate::placing::Placed;
use crate::rows::{Aside, Made, Origin, empty_file};
use crate::said::ManifestGone;
use crate::{Ingest, LAST_MS};

/// How many files are written at a time.
const AT_ONCE: usize = 16;

/// How often what another is writing at the same time is written.
const MOST_TRIES: usize = 3;

const PARQUET: &str = "application/vnd.apache.parquet";
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// A commit's files before they are written, and their list.
pub(crate) struct Planned {
    pub(crate) manifest: Manifest,
    pub(crate) at: Location,
    /// Of those, the dead letters.
    pub(crate) letters: Option<Listed>,
    /// The partitions of the table that it has rows of: `page_logs/event_date=2024-05-01/`.
    pub(crate) folders: Vec<String>,
    pub(crate) files: Vec<(Location, Bytes)>,
}

/// What the files of a commit are called: by where their records come from, and a mark that no other's have.
pub(crate) fn stem(origin: &Origin, first: impl Display, mark: &str) -> String {
    let mark = mark.get(..8).unwrap_or(mark);
    format!("{}-{}-{first}-{mark}", folder(origin), origin.number)
}

/// The topic as a folder. Kafka allows these characters in a topic's name, and no others.
fn folder(origin: &Origin) -> String {
    origin.topic.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)), "_")
}

impl Ingest {
    /// Names what is to be written.
    pub(crate) fn plan(&self, position: &str, origin: &Origin, offsets: Range, made: Made, placed: &Placed) -> Planned {
        let dataset = origin.contract.as_ref().map_or("", |contract| contract.name());
        let stem = stem(origin, offsets.from, &hex::encode(Sha256::digest(self.writer.token())));
        let mut files = Vec::new();
        let mut add = |at: Location, rows: u64, bytes: Bytes| {
            let one = Listed { uri: at.to_string(), rows, bytes: bytes.len() as u64 };
            files.push((at, bytes));
            one
        };
        let mut put_aside =
            |at: Location, lines: Aside| (lines.count > 0).then(|| add(at, lines.count, lines.lines.into()));
        let table = self.config.events.join(&format!("{dataset}/"));
        let quarantine = put_aside(table.join(&format!("_quarantine/{stem}.ndjson")), made.quarantine);
        let letters = put_aside(self.letters_at(origin, &stem), made.letters);
        let mut folders = Vec::new();
        let listed = made.files.into_iter().map(|file| {
            let folder = format!("{dataset}/{}", file.folder);
            let at = self.place(&folder, placed.folders.generation_of(&folder));
            folders.push(folder);
            add(at.join(&format!("{stem}.parquet")), file.rows, file.bytes)
        });
        let manifest = Manifest {
            dataset: dataset.to_owned(),
            position: position.to_owned(),
            offsets,
            files: listed.collect(),
            aside: quarantine.into_iter().chain(letters.clone()).collect(),
        };
        let at = self.config.events.join(&format!("_manifests/{}/{stem}.json", folder(origin)));
        Planned { manifest, at, letters, folders, files }
    }

    /// Where dead letters are.
    pub(crate) fn letters_at(&self, origin: &Origin, stem: &str) -> Location {
        self.config.dead_letters.join(&format!("poison/ingest/{}/{stem}.ndjson", folder(origin)))
    }

    pub(crate) async fn write_manifest(&self, planned: &Planned) -> Result<(), Failure> {
        let bytes =
            serde_json::to_vec(&planned.manifest).map_err(|error| Failure::internal("Json", error.to_string()))?;
        self.lake.put(&planned.at, bytes.into(), "application/json").await
    }

    pub(crate) async fn write_files(&self, files: Vec<(Location, Bytes)>, visit: &Visit) -> Result<(), Failure> {
        let writes = files.into_iter().map(|(at, bytes)| async move { self.write_new(&at, &bytes, visit).await });
        futures::stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Writes a file if there is nothing by its name.
    async fn write_new(&self, at: &Location, bytes: &Bytes, visit: &Visit) -> Result<(), Failure> {
        let mut tries = 1;
        loop {
            if !visit.has_left(LAST_MS) {
                return Err(Failure::passing("OutOfTime", format!("there was no time left to write {at}")));
            }
            match self.lake.put_new(at, bytes.clone(), content_type(at)).await {
                // Ours, if only the answer was lost; or empty, if another has taken over.
                Err(failure) if failure.code == "PreconditionFailed" => {
                    if self.lake.head(at).await?.size == bytes.len() as u64 {
                        return Ok(());
                    }
                    return Err(Failure::passing("TakenOver", format!("{at} is closed: another has taken over")));
                }
                // "If a conflicting operation occurs during the upload, S3 returns 409; retry the upload."
                Err(failure) if failure.code == "ConditionalRequestConflict" && tries < MOST_TRIES => tries += 1,
                written => return written,
            }
        }
    }

    /// Closes what a worker left.
    pub(crate) async fn close_left(&self, manifest: &str, visit: &Visit) -> Result<(), Failure> {
        match self.close(manifest, visit).await {
            // Someone has deleted it. What it named can't be known any more, and must not hold the partition for ever.
            Err(failure) if failure.code == "NoSuchKey" => {
                self.herald.say(visit, &ManifestGone { manifest });
                Ok(())
            }
            closed => closed,
        }
    }

    /// A manifest that was written.
    pub(crate) async fn manifest(&self, at: &Location) -> Result<Manifest, Failure> {
        let bytes = self.whole(at).await?;
        serde_json::from_slice(&bytes).map_err(|error| Failure::internal("Manifest", format!("{at}: {error}")))
    }

    /// An object of ours, whole.
    pub(crate) async fn whole(&self, at: &Location) -> Result<Bytes, Failure> {
        let info = self.lake.head(at).await?;
        self.lake.get(at, Some(&info.etag), 0, info.size).await
    }

    /// Puts an empty file by every name that a manifest has: nothing is there any more, and nothing can come.
    async fn close(&self, manifest: &str, visit: &Visit) -> Result<(), Failure> {
        let at = Location::parse(manifest).map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
        let manifest = self.manifest(&at).await?;
        // Should the contract be gone, of a table that nobody knows any more.
        let empty = empty_file(contract(&manifest.dataset).ok().as_ref())?;
        let closes = manifest.all().map(|file| async {
            let at = Location::parse(&file.uri).map_err(|error| Failure::internal("Manifest", error.to_string()))?;
            let empty = if content_type(&at) == PARQUET { empty.clone() } else { Bytes::new() };
            self.close_one(&at, &empty, visit).await
        });
        let closes: Vec<_> = closes.collect();
        futures::stream::iter(closes).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Of two writes at the same time S3 may keep either: it is looked at. One that comes later finds something there.
    async fn close_one(&self, at: &Location, empty: &Bytes, visit: &Visit) -> Result<(), Failure> {
        for _ in 0..MOST_TRIES {
            if !visit.has_left(LAST_MS) {
                break;
            }
            self.lake.put(at, empty.clone(), content_type(at)).await?;
            if self.lake.head(at).await?.size == empty.len() as u64 {
                return Ok(());
            }
        }
        Err(Failure::passing("NotClosed", format!("{at} could not be closed yet")))
    }
}

fn content_type(at: &Location) -> &'static str {
    if at.key().ends_with(".parquet") { PARQUET } else { NDJSON }
}
