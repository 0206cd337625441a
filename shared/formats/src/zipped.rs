//! A zip archive with one member, as a stream.

use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::Arc;

use zip::CompressionMethod;

use crate::Input;

/// Reads an [`Input`] as a seekable file, for the archive's directory.
struct Seekable<'a> {
    input: &'a dyn Input,
    position: u64,
}

impl Read for Seekable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.input.size().saturating_sub(self.position);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        if let Some(room) = buffer.get_mut(..count)
            && count > 0
        {
            room.copy_from_slice(&self.input.read_at(self.position, count)?);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Seekable<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.input.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Checks the member's checksum when its end is reached.
struct Checked<R> {
    inner: R,
    crc: flate2::Crc,
    expected: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.crc.update(buffer.get(..count).unwrap_or_default());
        if count == 0 && !buffer.is_empty() && self.crc.sum() != self.expected {
            return Err(invalid("the zip member's checksum is wrong"));
        }
        Ok(count)
    }
}

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The member's name and content.
///
/// # Errors
/// `InvalidData` if there isn't exactly one member, or it is encrypted or packed otherwise than by deflate.
pub(crate) fn open(input: &Arc<dyn Input>) -> io::Result<(String, Box<dyn Read + Send>)> {
    let directory = BufReader::new(Seekable { input: input.as_ref(), position: 0 });
    let mut archive =
        zip::ZipArchive::new(directory).map_err(|error| invalid(format!("not a readable zip: {error}")))?;
    if archive.len() != 1 {
        return Err(invalid(format!("a zip with {} members; only one with exactly one can be read", archive.len())));
    }
    let member = archive.by_index_raw(0).map_err(|error| invalid(format!("not a readable zip: {error}")))?;
    if member.encrypted() {
        return Err(invalid("the zip is encrypted"));
    }
    let name = String::from_utf8_lossy(member.name_raw()).into_owned();
    let start = member.data_start().ok_or_else(|| invalid("the zip member has no data"))?;
    let (packed, method, expected) = (member.compressed_size(), member.compression(), member.crc32());
    let mut source = input.open()?;
    io::copy(&mut source.by_ref().take(start), &mut io::sink())?;
    let source = source.take(packed);
    let content: Box<dyn Read + Send> = match method {
        CompressionMethod::Stored => Box::new(source),
        CompressionMethod::Deflated => Box::new(flate2::read::DeflateDecoder::new(source)),
        other => return Err(invalid(format!("the zip member is packed by {other:?}; deflate can be read"))),
    };
    Ok((name, Box::new(Checked { inner: content, crc: flate2::Crc::new(), expected })))
}
