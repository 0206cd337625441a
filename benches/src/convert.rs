//! `bench-convert SOURCE FOLDER THREADS [DATASET]`: one conversion to Parquet from disk to disk, or one cleaning by a
//! dataset's contract, as the function does it from S3 to S3. Prints rows and milliseconds as JSON; whoever runs it looks at the process's memory and CPU time.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use weir_command::{Compression, Format};
use weir_contract::Audience;
use weir_formats::{Cleaning, FileInput, Input, Output, Settings, Sink, clean, convert};

struct Folder(PathBuf);

struct FileSink(BufWriter<File>);

impl Output for Folder {
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        let path = self.0.join(name);
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        Ok(Box::new(FileSink(BufWriter::with_capacity(64 << 10, File::create(path)?))))
    }
}

impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Sink for FileSink {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(source), Some(folder), Some(threads)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: bench-convert SOURCE FOLDER THREADS".into());
    };
    let settings = Settings { threads: threads.parse()?, ..Settings::for_machine() };
    let begun = Instant::now();
    let inputs: Vec<Arc<dyn Input>> = vec![Arc::new(FileInput::open(source)?)];
    let folder = Folder(folder.into());
    let summary = match arguments.next() {
        None => convert(&inputs, Format::Parquet, Compression::Snappy, &folder, &settings)?,
        Some(dataset) => {
            let contract = weir_contract::contract(&dataset)?;
            let cleaning =
                Cleaning { contract: &contract, audience: Audience::Tables, now_micros: 1_700_000_000_000_000 };
            clean(&inputs, &cleaning, &folder, &settings)?.summary
        }
    };
    let ms = begun.elapsed().as_secs_f64() * 1000.0;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak_bytes = peak.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    println!(
        "{}",
        json!({"rows": summary.rows, "ms": ms, "peak_bytes": peak_bytes, "restarts": summary.restarts, "quarantined": summary.quarantined})
    );
    Ok(())
}
