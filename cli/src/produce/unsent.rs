//! The file of rows that could not be sent: NDJSON, to be sent again as it is.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::lanes::Row;
use crate::Stop;

/// The file, once there is something to put in it.
pub(crate) struct Unsent {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    pub(crate) rows: u64,
}

impl Unsent {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, rows: 0 }
    }

    pub(crate) fn path(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) fn keep(&mut self, row: &Row) -> Result<(), Stop> {
        let wrong = |error: std::io::Error| Stop(1, format!("{}: {error}", self.path.display()));
        let file = match &mut self.file {
            Some(file) => file,
            // An earlier run's rows are not to be lost to this one's.
            none => none
                .insert(BufWriter::new(OpenOptions::new().append(true).create(true).open(&self.path).map_err(wrong)?)),
        };
        self.rows += 1;
        file.write_all(&row.data).and_then(|()| file.write_all(b"\n")).map_err(wrong)
    }

    pub(crate) fn finish(&mut self) -> Result<(), Stop> {
        let wrong = |error: std::io::Error| Stop(1, format!("{}: {error}", self.path.display()));
        self.file.as_mut().map_or(Ok(()), |file| file.flush().map_err(wrong))
    }
}
