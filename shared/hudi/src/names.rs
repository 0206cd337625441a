//! What files are called, and which file group a key belongs to.

use std::fmt;

use crate::timeline::Instant;

/// A base file: one version of a file group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseFile {
    /// The file group.
    pub file_id: String,
    /// Who wrote it within its commit: `3-0-0`.
    pub write_token: String,
    /// The commit.
    pub instant: Instant,
}

impl BaseFile {
    /// From a file's name; nothing if it is no base file's.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.split('_');
        let (Some(file_id), Some(token), Some(instant), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let instant = Instant::parse(instant)?;
        let whole = !file_id.is_empty() && !token.is_empty();
        whole.then(|| Self { file_id: file_id.to_owned(), write_token: token.to_owned(), instant })
    }
}

impl fmt::Display for BaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}.parquet", self.file_id, self.write_token, self.instant)
    }
}

/// The bucket of a record key, of so many, as Hudi's bucket index has it (`BucketIdentifier`): by the hash of a Java list that holds the
/// key.
pub fn bucket_of(key: &str, buckets: u32) -> u32 {
    let hash = 31i32.wrapping_add(java_hash(key));
    (hash & i32::MAX).unsigned_abs() % buckets.max(1)
}

/// `String.hashCode`, over UTF-16.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// The file group of a bucket: its number, then what makes it unlike that of another partition. `unique` is a UUID.
pub fn bucket_file_id(bucket: u32, unique: &str) -> String {
    format!("{bucket:08}{}-0", unique.get(8..).unwrap_or_default())
}

/// The file group of no bucket. `unique` is a UUID; one in 430,000 begins as a bucket's number, and then with another digit instead: a table
/// whose only group it was would be taken for one of buckets.
pub fn file_id(unique: &str) -> String {
    match unique.get(1..) {
        Some(rest) if looks_like_a_bucket(unique) => format!("f{rest}-0"),
        _ => format!("{unique}-0"),
    }
}

/// Whether a file group is called as those of buckets are: their numbers are small.
pub fn looks_like_a_bucket(file_id: &str) -> bool {
    file_id.starts_with("0000") && bucket_in(file_id).is_some()
}

/// The bucket of a file group.
pub fn bucket_in(file_id: &str) -> Option<u32> {
    file_id.get(..8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_buckets_that_java_gives_them() {
        // Computed from the Java source (../shared/reference/hudi-cow-v6.md, "Index").
        let found = ["1", "2", "42", "abc"].map(|key| bucket_of(key, 16));
        assert_eq!(found, [0, 1, 13, 1]);
        // "polygenelubricants" hashes to the least number of all.
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert!(bucket_of("polygenelubricants", 16) < 16 && bucket_of("ü𝄞", 1) == 0);
    }

    #[test]
    fn a_buckets_file_group_says_which_it_is() {
        let id = bucket_file_id(13, "2f9ae54b-0a4c-4b9c-9a0e-7f6f1d2b3c4d");
        assert_eq!(id, "00000013-0a4c-4b9c-9a0e-7f6f1d2b3c4d-0");
        assert_eq!((bucket_in(&id), bucket_in("2f9ae54b-0a4c-0")), (Some(13), None));
    }

    #[test]
    fn a_uuid_is_not_taken_for_a_bucket() {
        assert!(looks_like_a_bucket(&bucket_file_id(13, "2f9ae54b-0a4c-4b9c-9a0e-7f6f1d2b3c4d")));
        for (unique, expected) in [
            ("00001234-0a4c-4b9c-9a0e-7f6f1d2b3c4d", "f0001234-0a4c-4b9c-9a0e-7f6f1d2b3c4d-0"),
            ("0000a234-0a4c-4b9c-9a0e-7f6f1d2b3c4d", "0000a234-0a4c-4b9c-9a0e-7f6f1d2b3c4d-0"),
            ("2f9ae54b-0a4c-4b9c-9a0e-7f6f1d2b3c4d", "2f9ae54b-0a4c-4b9c-9a0e-7f6f1d2b3c4d-0"),
        ] {
            let id = file_id(unique);
            assert_eq!((id.as_str(), looks_like_a_bucket(&id)), (expected, false));
        }
    }

    #[test]
    fn names_come_back() {
        let name = "2f9ae54b-0a4c-4b9c-9a0e-7f6f1d2b3c4d-0_3-0-0_20241121103000123.parquet";
        assert_eq!(BaseFile::parse(name).unwrap().to_string(), name);
        for other in ["x.parquet", "a_b_c.parquet", "_3-0-0_20241121103000123.parquet", "a_1_20241121103000123.log"] {
            assert_eq!(BaseFile::parse(other), None, "{other}");
        }
    }
}
