//! The S3 edge.
//!
//! [`Lake`] is what the functions need of an object store, in the words of S3: heads, paged listings, ranged reads,
//! server-side copies, streaming uploads. [`S3Lake`] is S3; [`MemoryLake`] is its twin for unit tests. Both pass
//! [`conformance`]. Errors are [`weir_delivery::Failure`]s: whose fault, and whether to try again.
//!
//! Why not the `object_store` crate here: it would bring a second HTTP and TLS stack and a second set of credentials
//! into every function beside the SDK that server-side copy needs anyway, and start-up and package size are numbers we
//! hold.

#[cfg(feature = "s3")]
mod aws;
pub mod conformance;
mod copy;
#[cfg(feature = "formats")]
mod files;
mod memory;
mod read;
#[cfg(feature = "s3")]
mod s3;
mod upload;
mod whole;

use async_trait::async_trait;
use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;

#[cfg(feature = "s3")]
pub use aws::{Region, SdkConfig, aws_config, http_client};
pub use copy::{CopySizes, OUT_OF_TIME, copy_object};
#[cfg(feature = "formats")]
pub use files::{S3Input, S3Output, to_failure};
pub use memory::MemoryLake;
pub use read::ObjectReader;
#[cfg(feature = "s3")]
pub use s3::S3Lake;
pub use upload::Upload;
pub use whole::{each_page, find, list_after, list_all};

/// An object as a head or a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Where.
    pub location: Location,
    /// Bytes.
    pub size: u64,
    /// Its entity tag, with S3's quotes.
    pub etag: String,
    /// When it was last written, in milliseconds since the epoch.
    pub modified_ms: u64,
    /// What a copy by parts must carry over itself. Empty in a listing.
    pub attributes: Attributes,
}

/// What an object carries beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// User metadata (`x-amz-meta-*`), sorted by name.
    pub metadata: Vec<(String, String)>,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In key order.
    pub objects: Vec<ObjectInfo>,
    /// Whether there are more after the last of these.
    pub more: bool,
}

/// A part that has been uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// From 1 to 10,000.
    pub number: i32,
    /// What S3 answered.
    pub etag: String,
}

/// An object store. Every call is one request (with the SDK's own retries).
#[async_trait]
pub trait Lake: Send + Sync + 'static {
    /// An object's size, tag and attributes; `NoSuchKey` (a `User` failure) if it isn't there.
    async fn head(&self, at: &Location) -> Result<ObjectInfo, Failure>;

    /// Objects under a prefix whose keys come after `after`, in key order, one page.
    async fn list(&self, prefix: &Location, after: Option<&str>) -> Result<Page, Failure>;

    /// `length` bytes from `offset`. With an etag, fails with `PreconditionFailed` if the object has changed.
    async fn get(&self, at: &Location, etag: Option<&str>, offset: u64, length: u64) -> Result<Bytes, Failure>;

    /// Writes a whole object.
    async fn put(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure>;

    /// Writes a whole object if there is none; `PreconditionFailed` if there is. One whose answer was lost fails the same way when it
    /// is repeated.
    async fn put_new(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure>;

    /// Writes a whole object in the place of one that still has this etag; `PreconditionFailed` if it changed, `NoSuchKey` if it is gone.
    /// One whose answer was lost fails when it is repeated.
    async fn put_if(&self, at: &Location, etag: &str, bytes: Bytes, content_type: &str) -> Result<(), Failure>;

    /// Removes an object that still has this etag; `PreconditionFailed` if it changed. One that isn't there is no error.
    async fn delete_if(&self, at: &Location, etag: &str) -> Result<(), Failure>;

    /// Removes objects; those that aren't there are no error.
    async fn delete(&self, all: &[Location]) -> Result<(), Failure>;

    /// Copies up to 5 GB server side, bytes, attributes and tags, if the source still has this etag.
    async fn copy(&self, from: &ObjectInfo, to: &Location) -> Result<(), Failure>;

    /// Begins an upload by parts.
    async fn begin_parts(&self, at: &Location, attributes: &Attributes) -> Result<String, Failure>;

    /// Uploads one part.
    async fn put_part(&self, at: &Location, upload: &str, number: i32, bytes: Bytes) -> Result<Part, Failure>;

    /// Copies a range of an object server side as one part.
    async fn copy_part(
        &self,
        from: &ObjectInfo,
        to: &Location,
        upload: &str,
        number: i32,
        range: (u64, u64),
    ) -> Result<Part, Failure>;

    /// Makes the parts one object, atomically.
    async fn finish_parts(&self, at: &Location, upload: &str, parts: &[Part]) -> Result<(), Failure>;

    /// Forgets the parts. An upload that isn't there is no error.
    async fn abort_parts(&self, at: &Location, upload: &str) -> Result<(), Failure>;
}
