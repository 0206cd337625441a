//! `copy`: the bytes, unchanged, server side.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use weir_command::{Command, Location};
use weir_delivery::Failure;
use weir_lake::{CopySizes, Lake, OUT_OF_TIME, ObjectInfo, Page, copy_object};
use weir_ledger::{Progress, Report};

/// Copies at a time: S3 does the work, we wait for its answers.
const AT_ONCE: usize = 16;

/// What a copy came to.
#[derive(Debug)]
pub enum Copied {
    /// All of it.
    Done(Report),
    /// Time ran out; everything up to here is there.
    Unfinished(Progress),
}

/// The key a source object gets under the destination.
fn target(command: &Command, object: &ObjectInfo) -> Location {
    if !command.source.is_prefix() {
        return match command.dest.is_prefix() {
            true => command.dest.join(command.source.file_name()),
            false => command.dest.clone(),
        };
    }
    let relative = object.location.key().strip_prefix(command.source.key()).unwrap_or(object.location.key());
    command.dest.join(relative)
}

/// Copies what `first` lists and what comes after it.
///
/// # Errors
/// The lake's: the first object that can't be copied fails the job. What was copied before it stays; a repeat overwrites.
pub async fn run(
    lake: &Arc<dyn Lake>,
    command: &Command,
    first: Page,
    done_before: Option<Progress>,
    stop: Arc<dyn Fn() -> bool + Send + Sync>,
) -> Result<Copied, Failure> {
    let mut progress = done_before.unwrap_or_default();
    let mut page = first;
    let mut last_output = command.dest.clone();
    loop {
        // A folder marker (a key that ends in `/`, made by the console) is an object like any other: bytes unchanged.
        let copies = page.objects.iter().map(|object| {
            let (lake, stop) = (Arc::clone(lake), Arc::clone(&stop));
            let to = target(command, object);
            async move {
                if stop() {
                    return Err(Failure::passing(OUT_OF_TIME, "out of time"));
                }
                copy_object(lake.as_ref(), object, &to, CopySizes::default(), stop.as_ref()).await?;
                Ok((object, to))
            }
        });
        let mut copied = futures::stream::iter(copies).buffered(AT_ONCE);
        loop {
            match copied.try_next().await {
                Ok(Some((object, to))) => {
                    progress.objects += 1;
                    progress.bytes += object.size;
                    progress.after_key = object.location.key().to_owned();
                    last_output = to;
                }
                Ok(None) => break,
                Err(failure) if failure.code == OUT_OF_TIME => return Ok(Copied::Unfinished(progress)),
                Err(failure) => return Err(failure),
            }
        }
        drop(copied);
        if !page.more {
            break;
        }
        page = lake.list(&command.source, Some(&progress.after_key)).await?;
    }
    let output = if command.source.is_prefix() { command.dest.as_prefix() } else { last_output };
    Ok(Copied::Done(Report {
        output: output.to_string(),
        objects: progress.objects,
        files: progress.objects,
        bytes_in: progress.bytes,
        bytes_out: progress.bytes,
        ..Report::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use weir_lake::MemoryLake;

    fn command(source: &str, dest: &str) -> Command {
        let record = format!(r#"{{"source":"{source}","dest":"{dest}","command":"copy"}}"#);
        Command::parse(record.as_bytes()).unwrap()
    }

    async fn lake(objects: usize) -> Arc<dyn Lake> {
        let lake = MemoryLake::default();
        lake.make_bucket("in-bucket");
        lake.make_bucket("out-bucket");
        for n in 0..objects {
            let at = Location::parse(&format!("s3://in-bucket/a/{n:05}")).unwrap();
            lake.put(&at, Bytes::from(n.to_string()), "text/plain").await.unwrap();
        }
        Arc::new(lake)
    }

    async fn keys(lake: &Arc<dyn Lake>) -> usize {
        let all = Location::parse("s3://out-bucket").unwrap();
        weir_lake::list_all(&**lake, &all).await.unwrap().len()
    }

    #[test]
    fn where_an_object_goes() {
        let object = |at: &str| ObjectInfo {
            location: Location::parse(at).unwrap(),
            size: 0,
            etag: String::new(),
            modified_ms: 0,
            attributes: Default::default(),
        };
        for (source, dest, from, to) in [
            ("s3://in-bucket/a/x.csv", "s3://out-bucket/b/", "s3://in-bucket/a/x.csv", "s3://out-bucket/b/x.csv"),
            ("s3://in-bucket/a/x.csv", "s3://out-bucket/b/y.csv", "s3://in-bucket/a/x.csv", "s3://out-bucket/b/y.csv"),
            ("s3://in-bucket/a/x.csv", "s3://out-bucket", "s3://in-bucket/a/x.csv", "s3://out-bucket/x.csv"),
            ("s3://in-bucket/a/", "s3://out-bucket/b", "s3://in-bucket/a/c/x.csv", "s3://out-bucket/b/c/x.csv"),
            ("s3://in-bucket", "s3://out-bucket/b/", "s3://in-bucket/a/x.csv", "s3://out-bucket/b/a/x.csv"),
        ] {
            assert_eq!(target(&command(source, dest), &object(from)).to_string(), to);
        }
    }

    #[tokio::test]
    async fn thousands_of_objects_are_copied_page_by_page() {
        let lake = lake(2503).await;
        let command = command("s3://in-bucket/a/", "s3://out-bucket/b/");
        let first = lake.list(&command.source, None).await.unwrap();
        let Copied::Done(report) = run(&lake, &command, first, None, Arc::new(|| false)).await.unwrap() else {
            panic!()
        };
        assert_eq!((report.objects, keys(&lake).await), (2503, 2503));
    }

    #[tokio::test]
    async fn out_of_time_it_says_how_far_it_came_and_goes_on_from_there() {
        let lake = lake(100).await;
        let command = command("s3://in-bucket/a/", "s3://out-bucket/b/");
        let asked = AtomicUsize::new(0);
        let stop = Arc::new(move || asked.fetch_add(1, Ordering::Relaxed) >= 40);
        let first = lake.list(&command.source, None).await.unwrap();
        let Copied::Unfinished(progress) = run(&lake, &command, first, None, stop).await.unwrap() else { panic!() };
        assert!((20..=40).contains(&progress.objects), "{progress:?}");
        let rest = lake.list(&command.source, Some(&progress.after_key)).await.unwrap();
        let Copied::Done(report) = run(&lake, &command, rest, Some(progress), Arc::new(|| false)).await.unwrap() else {
            panic!()
        };
        assert_eq!((report.objects, keys(&lake).await), (100, 100));
    }
}
