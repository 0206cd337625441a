//! Hudi tables, as tests write them here and have them read by others.

use std::path::Path;
use std::process::Stdio;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use weir_hudi::Place;

use crate::Failed;

/// A reader of tables in another language: it is asked by lines, and answers by lines.
pub struct Reader {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    /// Starts a script of `tests/hudi/`.
    ///
    /// # Errors
    /// If there is no Python.
    pub fn start(script: &str, arguments: &[&str]) -> Result<Self, Failed> {
        let script = format!("{}/hudi/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python");
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { _child: child, input, output })
    }

    /// Asks it.
    ///
    /// # Errors
    /// If it ends instead of answering: what went wrong is on standard error.
    pub async fn ask(&mut self, request: &Value) -> Result<Value, Failed> {
        self.input.write_all(format!("{request}\n").as_bytes()).await?;
        let line = self.output.next_line().await?.ok_or("the reader ended; what it said is above")?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// Brings a table from the lake to a folder, as it is.
///
/// # Errors
/// The lake's, the disk's.
pub async fn fetch(place: &Place, folder: &Path) -> Result<(), Failed> {
    let under = place.at.as_prefix();
    for object in list(place).await? {
        let key = object.location.key().strip_prefix(under.key()).ok_or("a key from elsewhere")?;
        let path = folder.join(key);
        std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
        std::fs::write(path, place.lake.get(&object.location, None, 0, object.size).await?)?;
    }
    Ok(())
}

async fn list(place: &Place) -> Result<Vec<weir_lake::ObjectInfo>, Failed> {
    Ok(weir_lake::list_all(&*place.lake, &place.at.as_prefix()).await?)
}

/// Brings it back, with what others have made of it: what they deleted is deleted.
///
/// # Errors
/// The lake's, the disk's.
pub async fn bring_back(place: &Place, folder: &Path) -> Result<(), Failed> {
    let mut there = Vec::new();
    files(folder, &mut there)?;
    let mut kept = std::collections::HashSet::new();
    for path in there {
        let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
        // Checksums of Hadoop's for the local disk.
        if name.ends_with(".crc") {
            continue;
        }
        let at = place.at.as_prefix().join(&name);
        place.lake.put(&at, Bytes::from(std::fs::read(&path)?), "application/octet-stream").await?;
        kept.insert(at.key().to_owned());
    }
    let all = list(place).await?.into_iter().map(|object| object.location);
    let gone: Vec<_> = all.filter(|at| !kept.contains(at.key())).collect();
    Ok(place.lake.delete(&gone).await?)
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
