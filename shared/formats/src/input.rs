//! Where bytes come from and go to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Something to read: an object, a file, bytes.
pub trait Input: Send + Sync {
    /// Its name, for messages and as a hint at its format.
    fn name(&self) -> &str;
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Its bytes from front to back.
    ///
    /// # Errors
    /// The caller's own, of kind `Other`.
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
    /// Exactly `length` bytes from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` past the end; the caller's own, of kind `Other`.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes>;
}

/// Where files are written.
pub trait Output: Send + Sync {
    /// Begins a file; nothing is visible before it is finished.
    ///
    /// # Errors
    /// The caller's own.
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>>;
}

/// A file being written. Dropped without [`Sink::finish`], it never was.
pub trait Sink: Write + Send {
    /// Makes it visible.
    ///
    /// # Errors
    /// The caller's own; then nothing is visible.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Bytes in memory.
#[derive(Debug, Clone)]
pub struct BytesInput {
    name: String,
    bytes: Bytes,
}

impl BytesInput {
    /// Named bytes.
    pub fn new(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), bytes: bytes.into() }
    }
}

impl Input for BytesInput {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.bytes.clone())))
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        match start.checked_add(length) {
            Some(end) if end <= self.bytes.len() => Ok(self.bytes.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file on disk.
#[derive(Debug)]
pub struct FileInput {
    name: String,
    file: File,
    size: u64,
}

/// Reads a file from front to back without moving the handle's own position, which clones share.
struct FileReader {
    file: File,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl FileInput {
    /// Opens a file.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        Self::of(&path.display().to_string(), File::open(&path)?)
    }

    /// A file that is already open.
    pub(crate) fn of(name: &str, file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { name: name.to_owned(), file, size })
    }
}

impl Input for FileInput {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(FileReader { file: self.file.try_clone()?, at: 0 }))
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if offset.saturating_add(length as u64) > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

/// Files in memory, for tests and for looking at a few rows.
#[derive(Debug, Clone, Default)]
pub struct MemoryOutput {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemoryOutput {
    /// The finished files by name.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct MemorySink {
    output: MemoryOutput,
    name: String,
    bytes: Vec<u8>,
}

impl Output for MemoryOutput {
    fn create(&self, name: &str) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(MemorySink { output: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }
}

impl Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for MemorySink {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Self { output, name, bytes } = *self;
        output.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name, bytes.into());
        Ok(())
    }
}
