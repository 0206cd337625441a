//! The OpenSearch edge.
//!
//! [`Index`] is what is needed of it: documents by id and version, of which the newest wins however often and in whatever order
//! they come. `Node` (feature `http`) is a real one, [`MemoryIndex`] its twin for unit tests; both pass [`conformance`].

pub mod conformance;
mod memory;
#[cfg(feature = "http")]
mod node;

use async_trait::async_trait;
use serde_json::{Map, Value};
use weir_delivery::Failure;

pub use memory::MemoryIndex;
#[cfg(feature = "http")]
pub use node::{Identity, Login, Logins, Node};

/// A document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The index it belongs to.
    pub index: String,
    /// Its name there.
    pub id: String,
    /// Of two of one name the higher one stays; of equal ones the later.
    pub version: u64,
    /// What it says.
    pub body: Map<String, Value>,
}

/// A document that is not wanted, and never will be as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Its place among those that were written.
    pub place: usize,
    /// Why.
    pub failure: Failure,
}

/// Documents by id and version.
#[async_trait]
pub trait Index: Send + Sync + 'static {
    /// Sets an index template, which indices that come to be are made by.
    async fn template(&self, name: &str, body: &Value) -> Result<(), Failure>;

    /// Writes documents, in one request; says which are refused for good. An error means that some may be written, some not.
    async fn write(&self, documents: &[Document]) -> Result<Vec<Refused>, Failure>;
}
