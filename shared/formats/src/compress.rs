//! Compression around a file, off and on.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use weir_command::Compression;

/// What a file is wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)] // the names are the documentation
pub enum Wrapping {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    /// Snappy's framing format, not the bare blocks of Hadoop.
    Snappy,
    Lz4,
    /// A zip archive with one member.
    Zip,
}

impl Wrapping {
    /// By the first bytes.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => Self::Snappy,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            _ => Self::None,
        }
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zip => "zip",
        })
    }
}

/// The caller's error, kept aside while it passes through a decoder that would hide it.
type Aside = Arc<Mutex<Option<io::Error>>>;

struct Watched<R> {
    inner: R,
    aside: Aside,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            *self.aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::new(kind, "the source failed")
        })
    }
}

/// Unwrapped content. Its errors are the caller's own, or `UnexpectedEof` for a truncated wrapping, or `InvalidData`.
struct Unwrapped {
    decoder: Box<dyn Read + Send>,
    aside: Aside,
}

impl Read for Unwrapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer).map_err(|error| {
            if let Some(own) = self.aside.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return own;
            }
            match error.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => error,
                _ => io::Error::new(io::ErrorKind::InvalidData, error),
            }
        })
    }
}

/// Takes the wrapping off a stream. A zip is not a stream: see [`crate::zipped`].
pub(crate) fn unwrap(wrapping: Wrapping, source: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let aside = Aside::default();
    let watched = Watched { inner: source, aside: Arc::clone(&aside) };
    let decoder: Box<dyn Read + Send> = match wrapping {
        Wrapping::None | Wrapping::Zip => return Ok(Box::new(watched.inner)),
        Wrapping::Gzip => Box::new(flate2::read::MultiGzDecoder::new(watched)),
        Wrapping::Zstd => Box::new(zstd::stream::read::Decoder::new(watched)?),
        Wrapping::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(watched)),
        Wrapping::Xz => Box::new(liblzma::read::XzDecoder::new_multi_decoder(watched)),
        Wrapping::Snappy => Box::new(snap::read::FrameDecoder::new(watched)),
        Wrapping::Lz4 => {
            Box::new(Lz4Frames { frame: Some(lz4_flex::frame::FrameDecoder::new(BufReader::new(watched))) })
        }
    };
    Ok(Box::new(Unwrapped { decoder, aside }))
}

/// One lz4 frame after the other, as the other formats' decoders do by themselves; and a frame cut short is an error.
struct Lz4Frames<R: BufRead> {
    frame: Option<lz4_flex::frame::FrameDecoder<R>>,
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(frame) = &mut self.frame {
            let count = frame.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(frame) = self.frame.take() else { break };
            let mut source = frame.into_inner();
            if !source.fill_buf()?.is_empty() {
                self.frame = Some(lz4_flex::frame::FrameDecoder::new(source));
            }
        }
        Ok(0)
    }
}

/// Wraps bytes as one member; members one after the other are a valid file in each of these formats, which is what lets
/// blocks be compressed in parallel.
pub(crate) fn wrap(compression: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
    Ok(match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            encoder.write_all(bytes)?;
            encoder.finish()?
        }
        Compression::Zstd => zstd::bulk::compress(bytes, 3)?,
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            encoder.write_all(bytes)?;
            encoder.finish()?
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 4);
            encoder.write_all(bytes)?;
            encoder.finish()?
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(bytes)?;
            encoder.finish().map_err(io::Error::other)?
        }
        Compression::None | Compression::Snappy | Compression::Brotli | Compression::Deflate => bytes.to_vec(),
    })
}

/// What a wrapped file's name ends with.
pub(crate) fn extension(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
        Compression::Bzip2 => ".bz2",
        Compression::Xz => ".xz",
        Compression::Lz4 => ".lz4",
        Compression::None | Compression::Snappy | Compression::Brotli | Compression::Deflate => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz, Compression::Lz4];

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let wrapping = Wrapping::of(&bytes);
        assert_ne!(wrapping, Wrapping::None);
        let mut out = Vec::new();
        unwrap(wrapping, Box::new(io::Cursor::new(bytes)))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn members_one_after_the_other_are_one_file() {
        for compression in ALL {
            let mut file = wrap(compression, b"first,").unwrap();
            file.extend(wrap(compression, b"second").unwrap());
            assert_eq!(read(file).unwrap(), b"first,second", "{compression}");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_of_the_data() {
        let text: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compression in ALL {
            let mut file = wrap(compression, &text).unwrap();
            file.truncate(file.len() / 2);
            let kind = read(file).unwrap_err().kind();
            assert!(
                matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
                "{compression}: {kind:?}"
            );
        }
        let mut snappy = snap::write::FrameEncoder::new(Vec::new());
        snappy.write_all(&text).unwrap();
        let mut file = snappy.into_inner().unwrap();
        assert_eq!(read(file.clone()).unwrap(), text);
        file.truncate(file.len() / 2);
        assert_eq!(read(file).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_callers_own_error_comes_through_unchanged() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("S3 is away"))
            }
        }
        for wrapping in [Wrapping::Gzip, Wrapping::Zstd, Wrapping::Bzip2, Wrapping::Xz, Wrapping::Snappy, Wrapping::Lz4]
        {
            let error = unwrap(wrapping, Box::new(Broken)).and_then(|mut read| read.read(&mut [0; 10])).unwrap_err();
            assert_eq!(error.to_string(), "S3 is away", "{wrapping}");
        }
    }
}
