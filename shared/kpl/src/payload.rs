//! Compressed payloads, and aggregates inside or outside of them.

use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::aggregate::{SubRecord, open};

/// How a producer compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// What a stream record's bytes hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpacked {
    /// One payload, as it came.
    Plain,
    /// One payload, uncompressed.
    One(Bytes),
    /// The user records of an aggregate, uncompressed; those that are damaged as they came, and why.
    Many(Vec<(SubRecord, Option<Damaged>)>),
}

/// A payload that begins as a compressed one and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not unpack.
    #[error("the payload begins like {0} and does not unpack: {1}")]
    Broken(&'static str, String),
    /// It unpacks to more than a function can hold.
    #[error("the payload unpacks to more than may be held, {MOST_BYTES} bytes in all")]
    TooLarge,
}

impl Codec {
    /// By the first bytes: RFC 1952, 2.3.1; RFC 8878, 3.1.1.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Compresses a payload.
///
/// # Errors
/// The compressor's, which memory has none of.
pub fn compress(codec: Codec, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Codec::Zstd => zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

/// How much a batch may unpack to.
pub const MOST_BYTES: usize = 64 << 20;

/// Opens a stream record: uncompresses it, takes an aggregate apart, and uncompresses what is in it. `left` is what may
/// still be unpacked, of [`MOST_BYTES`] for one record or for a batch that is held whole.
///
/// # Errors
/// It is compressed and damaged: then it is one record that can't be read.
pub fn unpack(bytes: &Bytes, left: &mut usize) -> Result<Unpacked, Damaged> {
    let plain = uncompress(bytes, left)?;
    let Some(records) = open(plain.as_ref().unwrap_or(bytes)) else {
        return Ok(plain.map_or(Unpacked::Plain, Unpacked::One));
    };
    let each = |mut record: SubRecord| match uncompress(&record.data, left) {
        Ok(None) => (record, None),
        Ok(Some(plain)) => {
            record.data = plain;
            (record, None)
        }
        Err(damaged) => (record, Some(damaged)),
    };
    Ok(Unpacked::Many(records.into_iter().map(each).collect()))
}

/// `None` for what isn't compressed.
fn uncompress(bytes: &Bytes, left: &mut usize) -> Result<Option<Bytes>, Damaged> {
    let Some(codec) = Codec::of(bytes) else { return Ok(None) };
    let broken = |error: io::Error| Damaged::Broken(codec.name(), error.to_string());
    let mut reader: Box<dyn Read> = match codec {
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes.as_ref())),
        Codec::Zstd => Box::new(zstd::Decoder::new(bytes.as_ref()).map_err(broken)?),
    };
    let mut plain = Vec::new();
    (&mut reader).take(*left as u64 + 1).read_to_end(&mut plain).map_err(broken)?;
    *left = left.checked_sub(plain.len()).ok_or(Damaged::TooLarge)?;
    Ok(Some(plain.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Aggregate;

    fn all(bytes: &Bytes) -> Result<Unpacked, Damaged> {
        unpack(bytes, &mut MOST_BYTES.clone())
    }

    #[test]
    fn one_damaged_record_does_not_harm_its_neighbours() {
        let good = Bytes::from_static(b"good");
        let mut bad = compress(Codec::Gzip, &[7; 1000]).unwrap();
        bad.truncate(12);
        let bad = Bytes::from(bad);
        let Unpacked::Many(records) = all(&aggregate(&[good.clone(), bad.clone(), good.clone()]).into()).unwrap()
        else {
            panic!("an aggregate")
        };
        let found: Vec<_> = records.iter().map(|(record, damaged)| (record.data.clone(), damaged.is_some())).collect();
        assert_eq!(found, [(good.clone(), false), (bad, true), (good, false)]);
    }

    fn aggregate(data: &[Bytes]) -> Vec<u8> {
        let mut aggregate = Aggregate::new();
        for data in data {
            aggregate.push(SubRecord { partition_key: "k".into(), explicit_hash_key: None, data: data.clone() });
        }
        aggregate.finish()
    }

    #[test]
    fn compressed_outside_and_inside() {
        let plain = Bytes::from_static(b"{\"a\":1}");
        for codec in [Codec::Gzip, Codec::Zstd] {
            let small: Bytes = compress(codec, &plain).unwrap().into();
            assert_eq!(all(&small).unwrap(), Unpacked::One(plain.clone()));
            let packed = compress(codec, &aggregate(&[small, plain.clone()])).unwrap();
            let Unpacked::Many(records) = all(&packed.into()).unwrap() else { panic!("an aggregate") };
            assert!(
                records.len() == 2 && records.iter().all(|(record, damaged)| record.data == plain && damaged.is_none())
            );
        }
    }

    #[test]
    fn two_members_of_gzip_are_one_payload() {
        let mut twice = compress(Codec::Gzip, b"one").unwrap();
        twice.extend(compress(Codec::Gzip, b"two").unwrap());
        assert_eq!(all(&twice.into()).unwrap(), Unpacked::One(Bytes::from_static(b"onetwo")));
    }

    #[test]
    fn damaged_payloads_say_so() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut cut = compress(codec, &[7; 1000]).unwrap();
            cut.truncate(cut.len() - 3);
            let error = all(&cut.into()).unwrap_err().to_string();
            assert!(error.contains(codec.name()), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = compress(Codec::Zstd, &vec![0; MOST_BYTES + 1]).unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(all(&bomb.into()), Err(Damaged::TooLarge));
        // And many small ones that add up to one.
        let half: Bytes = compress(Codec::Zstd, &vec![0; MOST_BYTES / 2 + 1]).unwrap().into();
        let Unpacked::Many(records) = all(&aggregate(&[half.clone(), half]).into()).unwrap() else {
            panic!("an aggregate")
        };
        assert_eq!((records[0].1.clone(), records[1].1.clone()), (None, Some(Damaged::TooLarge)));
    }
}
