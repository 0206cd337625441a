//! `s3://bucket/key`, checked.

use std::fmt;

/// A place on S3: an object, or, where the key is empty or ends in `/`, everything under a prefix.
///
/// Only constructed by [`Location::parse`], so a `Location` never holds a path that means one thing to S3 and another to
/// Spark, Hadoop or a shell: no `..` or empty segments, no control characters, no glob characters, no commas (Hadoop
/// splits input paths on them).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    bucket: String,
    key: String,
}

/// Why a path is not a [`Location`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocationError(String);

/// S3's limit on an object key, in bytes of UTF-8 (S3 user guide, "Naming Amazon S3 objects").
const MAX_KEY_BYTES: usize = 1024;

impl Location {
    /// Reads `s3://bucket/key`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the path and what would be right.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(LocationError(format!("{} is not an S3 path: write s3://bucket/key", quoted(text))));
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        check_bucket(bucket)?;
        check_key(key)?;
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, without a leading `/`; empty for a whole bucket.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether this names everything under a prefix rather than one object.
    pub fn is_prefix(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// This location as a prefix: with a trailing `/` unless it is a whole bucket.
    pub fn as_prefix(&self) -> Self {
        if self.is_prefix() {
            return self.clone();
        }
        Self { bucket: self.bucket.clone(), key: format!("{}/", self.key) }
    }

    /// The last segment of the key: the file's name.
    pub fn file_name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or("")
    }

    /// The object `relative` under this prefix. Object keys that S3 listed need not satisfy [`Location::parse`], so
    /// they are joined as they are.
    pub fn join(&self, relative: &str) -> Self {
        let prefix = self.as_prefix();
        Self { bucket: prefix.bucket, key: format!("{}{relative}", prefix.key) }
    }

    /// The object `key` in the same bucket, as S3 listed it.
    pub fn sibling(&self, key: &str) -> Self {
        Self { bucket: self.bucket.clone(), key: key.to_owned() }
    }

    /// Whether `other` is this place or lies under it, compared on `/` boundaries: `s3://b/in` covers `s3://b/in/x` and
    /// not `s3://b/inside`.
    pub fn covers(&self, other: &Self) -> bool {
        if self.bucket != other.bucket {
            return false;
        }
        let own = self.key.trim_end_matches('/');
        match other.key.strip_prefix(own) {
            Some(rest) => own.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl std::str::FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// A user's text, short enough for a message and free of control characters.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// S3 user guide, "General purpose bucket naming rules".
fn check_bucket(bucket: &str) -> Result<(), LocationError> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if (3..=63).contains(&bucket.len())
        && bucket.chars().all(legal)
        && bucket.starts_with(edge)
        && bucket.ends_with(edge)
        && !bucket.contains("..")
    {
        return Ok(());
    }
    Err(LocationError(format!(
        "{} is not a bucket name: 3 to 63 lowercase letters, digits, dots and hyphens, beginning and ending with a letter or digit",
        quoted(bucket)
    )))
}

fn check_key(key: &str) -> Result<(), LocationError> {
    let refuse = |why: String| Err(LocationError(format!("the path {} {why}", quoted(key))));
    if key.len() > MAX_KEY_BYTES {
        return refuse(format!("is longer than S3's {MAX_KEY_BYTES} bytes"));
    }
    if let Some(c) = key.chars().find(|c| c.is_control()) {
        return refuse(format!("holds the control character U+{:04X}", c as u32));
    }
    if let Some(c) = key.chars().find(|c| "*?{}[],\\".contains(*c)) {
        return refuse(format!("holds `{c}`: name one object, or a prefix ending in `/`; patterns are not expanded"));
    }
    let segments = key.strip_suffix('/').unwrap_or(key);
    for segment in segments.split('/') {
        match segment {
            ".." | "." => return refuse(format!("holds the segment `{segment}`: write the path it means")),
            "" if !key.is_empty() => return refuse("holds an empty segment (`//`)".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Location {
        Location::parse(text).unwrap()
    }

    #[test]
    fn reads_objects_prefixes_and_whole_buckets() {
        assert_eq!(at("s3://in-bucket/a/b.csv").key(), "a/b.csv");
        assert_eq!(at("s3://in-bucket/a/b.csv").file_name(), "b.csv");
        assert!(!at("s3://in-bucket/a/b.csv").is_prefix());
        assert!(at("s3://in-bucket/a/").is_prefix());
        assert!(at("s3://in-bucket").is_prefix());
        assert!(at("s3://in-bucket/").is_prefix());
        assert_eq!(at("s3://in-bucket/a").as_prefix().to_string(), "s3://in-bucket/a/");
        assert_eq!(at("s3://in-bucket").join("x/y").to_string(), "s3://in-bucket/x/y");
    }

    #[test]
    fn refuses_what_another_reader_would_understand_otherwise() {
        for (path, word) in [
            ("/tmp/x", "not an S3 path"),
            ("S3://bucket/x", "not an S3 path"),
            ("s3:///key", "bucket name"),
            ("s3://Bucket/key", "bucket name"),
            ("s3://b/key", "bucket name"),
            ("s3://buck..et/key", "bucket name"),
            ("s3://bucket/a/../b", "`..`"),
            ("s3://bucket/./b", "`.`"),
            ("s3://bucket//b", "empty segment"),
            ("s3://bucket/a//", "empty segment"),
            ("s3://bucket/a*", "`*`"),
            ("s3://bucket/a,b", "`,`"),
            ("s3://bucket/{a}", "`{`"),
            ("s3://bucket/a\nb", "U+000A"),
        ] {
            let error = Location::parse(path).unwrap_err().to_string();
            assert!(error.contains(word), "{path}: {error}");
        }
        assert!(Location::parse(&format!("s3://bucket/{}", "k".repeat(1025))).is_err());
    }

    #[test]
    fn a_long_path_is_shown_short_and_escaped() {
        let error = Location::parse(&format!("file://\u{1b}[31m{}", "x".repeat(5000))).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn covers_on_segment_boundaries() {
        assert!(at("s3://bucket/in").covers(&at("s3://bucket/in/x")));
        assert!(at("s3://bucket/in/").covers(&at("s3://bucket/in")));
        assert!(at("s3://bucket").covers(&at("s3://bucket/anything")));
        assert!(!at("s3://bucket/in").covers(&at("s3://bucket/inside")));
        assert!(!at("s3://bucket/in").covers(&at("s3://other/in/x")));
        assert!(!at("s3://bucket/in/x").covers(&at("s3://bucket/in")));
    }

    proptest! {
        #[test]
        fn never_panics_and_round_trips(text in "\\PC*") {
            let path = format!("s3://bucket/{text}");
            if let Ok(location) = Location::parse(&path) {
                prop_assert_eq!(location.to_string(), path);
            }
        }
    }
}
