//! Every file in events/, through the function that it is for: by the Lambda runtime API of our own, and as SAM runs it.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

mod changes;
mod ingest;
mod orchestrator;
mod realtime;
mod transform;
mod windows;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use weir_tests::sam::By;
use weir_tests::{Failed, Stack, aws};

fn folder(of: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../events")).join(of)
}

/// The files of a folder in events/.
fn names(of: &str) -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(folder(of))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn event(of: &str, name: &str) -> io::Result<String> {
    std::fs::read_to_string(folder(of).join(name))
}

/// A bucket for what a run puts aside: others leave theirs elsewhere meanwhile.
async fn own_bucket(stack: &Stack) -> Result<String, Failed> {
    aws(&["s3api", "create-bucket", "--bucket", &stack.run]).await?;
    Ok(stack.run.clone())
}

/// A suite by both, one after the other: some write what events/ names.
macro_rules! by_both {
    ($($suite:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $suite() -> Result<(), Failed> {
            $suite::every_event(By::Ourselves).await?;
            $suite::every_event(By::Sam).await
        }
    )*};
}

by_both!(changes, ingest, orchestrator, realtime, transform, windows);

#[test]
fn no_folder_of_events_is_forgotten() -> Result<(), Failed> {
    let known = ["analytics", "cdc", "data", "ingest", "orchestrator", "realtime", "transform"];
    assert_eq!(names("")?, known.map(str::to_owned).into());
    Ok(())
}
