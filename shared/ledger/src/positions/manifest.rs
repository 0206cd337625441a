//! What a commit is made of, as a file on S3: written before the files that it names, and handed on by the commit.

use serde::{Deserialize, Serialize};

use super::Range;

/// The files of one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The dataset they belong to; empty for a topic that has none.
    pub dataset: String,
    /// The position that is committed.
    pub position: String,
    /// Which of its offsets.
    pub offsets: Range,
    /// The table's files.
    pub files: Vec<Listed>,
    /// Files of what is not in the table: the quarantine and dead letters.
    #[serde(default)]
    pub aside: Vec<Listed>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// `s3://bucket/key`.
    pub uri: String,
    /// How many rows.
    pub rows: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Manifest {
    /// All that lies on S3 because of it, but for itself.
    pub fn all(&self) -> impl Iterator<Item = &Listed> {
        self.files.iter().chain(&self.aside)
    }

    /// The size of the table's files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}
