//! Which paths a command may name.

use std::str::FromStr;

use crate::{Location, LocationError};

/// The prefixes a command may read from, or write to.
///
/// Whoever may write to the stream must not thereby reach every bucket the function can reach. An empty list allows
/// nothing: forgetting to set it fails closed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    allowed: Vec<Location>,
}

/// An entry of an allow-list that is not an S3 path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("allow-list entry: {0}")]
pub struct AllowListError(#[from] LocationError);

/// A comma-separated list of `s3://bucket` and `s3://bucket/prefix/`; blanks around entries and empty entries are ignored.
impl FromStr for AllowList {
    type Err = AllowListError;

    fn from_str(text: &str) -> Result<Self, AllowListError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let allowed = entries.map(Location::parse).collect::<Result<_, _>>()?;
        Ok(Self { allowed })
    }
}

impl AllowList {
    /// Whether `location` lies under one of the prefixes.
    pub fn permits(&self, location: &Location) -> bool {
        self.allowed.iter().any(|prefix| prefix.covers(location))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_what_lies_under_an_entry_only() {
        let list = AllowList::from_str("s3://in-bucket/landing/, s3://shared-bucket,").unwrap();
        let permits = |path: &str| list.permits(&Location::parse(path).unwrap());
        assert!(permits("s3://in-bucket/landing/a.csv"));
        assert!(permits("s3://shared-bucket/a.csv"));
        assert!(!permits("s3://in-bucket/landing-zone/a.csv"));
        assert!(!permits("s3://in-bucket/a.csv"));
        assert!(!permits("s3://in-bucket/"));
    }

    #[test]
    fn an_empty_list_permits_nothing() {
        let list = AllowList::from_str(" , ").unwrap();
        assert!(!list.permits(&Location::parse("s3://any-bucket/x").unwrap()));
    }

    #[test]
    fn a_wrong_entry_is_named() {
        assert!(AllowList::from_str("s3://ok-bucket,*").unwrap_err().to_string().contains("`*`"));
    }
}
