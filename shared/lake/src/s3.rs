//! S3 itself.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::copy_object::CopyObjectError;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, Delete, MetadataDirective, ObjectIdentifier, TaggingDirective,
};
use bytes::Bytes;
use weir_command::Location;
use weir_delivery::Failure;

use crate::{Attributes, Lake, ObjectInfo, Page, Part};

/// DeleteObjects takes this many keys (S3 API reference).
const DELETE_AT_ONCE: usize = 1000;

/// S3 by the SDK.
#[derive(Debug, Clone)]
pub struct S3Lake {
    client: Client,
}

impl S3Lake {
    /// A client from the shared configuration. Path-style addressing where an endpoint is set: a local AWS has no
    /// wildcard DNS.
    pub fn new(config: &SdkConfig) -> Self {
        let s3 = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(config.endpoint_url().is_some())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self { client: Client::from_conf(s3) }
    }

    /// The client below.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// An S3 error as a failure that names the place and, where a person must act, the way out.
fn failed<E>(doing: &str, at: &Location, error: &SdkError<E>) -> Failure
where
    E: ProvideErrorMetadata,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    // A head has no body, so S3 can't say which it is.
    let code = error.code().filter(|code| *code != "NotFound").or(match status {
        Some(404) => Some("NoSuchKey"),
        Some(403) => Some("AccessDenied"),
        _ => None,
    });
    let what = match code {
        Some("NoSuchKey") => "there is no such object".to_owned(),
        Some("NoSuchBucket") => format!("there is no bucket `{}`", at.bucket()),
        Some("AccessDenied") => {
            "access denied; the function's role, the bucket's policy or its key's policy must allow it".to_owned()
        }
        Some("PreconditionFailed") => "the object has changed, or there is one already".to_owned(),
        Some("InvalidObjectState") => "the object is archived; restore it first".to_owned(),
        _ => error.message().map_or_else(|| format!("{error}"), str::to_owned),
    };
    Failure::aws(code, status, format!("{doing} {at}: {what}"))
}

/// `bucket/key` for the copy-source header, percent-encoded but for `/` (S3 API reference, CopyObject).
fn copy_source(at: &Location) -> String {
    use std::fmt::Write;
    let mut encoded = format!("{}/", at.bucket());
    for byte in at.key().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn millis(moment: Option<&DateTime>) -> u64 {
    moment.and_then(|moment| u64::try_from(moment.to_millis().ok()?).ok()).unwrap_or(0)
}

#[async_trait]
impl Lake for S3Lake {
    async fn head(&self, at: &Location) -> Result<ObjectInfo, Failure> {
        let head = self.client.head_object().bucket(at.bucket()).key(at.key()).send().await;
        let head = head.map_err(|error| failed("look at", at, &error))?;
        let mut metadata: Vec<(String, String)> = head.metadata().cloned().unwrap_or_default().into_iter().collect();
        metadata.sort();
        Ok(ObjectInfo {
            location: at.clone(),
            size: head.content_length().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            etag: head.e_tag().unwrap_or_default().to_owned(),
            modified_ms: millis(head.last_modified()),
            attributes: Attributes {
                content_type: head.content_type().map(str::to_owned),
                content_encoding: head.content_encoding().map(str::to_owned),
                content_disposition: head.content_disposition().map(str::to_owned),
                content_language: head.content_language().map(str::to_owned),
                cache_control: head.cache_control().map(str::to_owned),
                metadata,
            },
        })
    }

    async fn list(&self, prefix: &Location, after: Option<&str>) -> Result<Page, Failure> {
        let list = self.client.list_objects_v2().bucket(prefix.bucket()).prefix(prefix.key());
        let list = list.set_start_after(after.map(str::to_owned)).send().await;
        let list = list.map_err(|error| failed("list", prefix, &error))?;
        let objects = list.contents().iter().filter_map(|object| {
            Some(ObjectInfo {
                location: prefix.sibling(object.key()?),
                size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                etag: object.e_tag().unwrap_or_default().to_owned(),
                modified_ms: millis(object.last_modified()),
                attributes: Attributes::default(),
            })
        });
        Ok(Page { objects: objects.collect(), more: list.is_truncated().unwrap_or(false) })
    }

    async fn get(&self, at: &Location, etag: Option<&str>, offset: u64, length: u64) -> Result<Bytes, Failure> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let last = offset + length - 1;
        let get = self.client.get_object().bucket(at.bucket()).key(at.key()).range(format!("bytes={offset}-{last}"));
        let get = get.set_if_match(etag.map(str::to_owned)).send().await;
        let get = get.map_err(|error| failed("read", at, &error))?;
        let body = get.body.collect().await;
        let body =
            body.map_err(|error| Failure::passing("BodyBroken", format!("read {at}: the answer broke off: {error}")))?;
        let bytes = body.into_bytes();
        if bytes.len() as u64 != length {
            let got = bytes.len();
            return Err(Failure::passing(
                "BodyShort",
                format!("read {at}: {got} bytes came where {length} were asked for"),
            ));
        }
        Ok(bytes)
    }

    async fn put(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let put = self.client.put_object().bucket(at.bucket()).key(at.key());
        let put = put.content_type(content_type).body(ByteStream::from(bytes)).send().await;
        put.map(|_| ()).map_err(|error| failed("write", at, &error))
    }

    async fn put_new(&self, at: &Location, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let put = self.client.put_object().bucket(at.bucket()).key(at.key()).if_none_match("*");
        let put = put.content_type(content_type).body(ByteStream::from(bytes)).send().await;
        put.map(|_| ()).map_err(|error| failed("write", at, &error))
    }

    async fn put_if(&self, at: &Location, etag: &str, bytes: Bytes, content_type: &str) -> Result<(), Failure> {
        let put = self.client.put_object().bucket(at.bucket()).key(at.key()).if_match(etag);
        let put = put.content_type(content_type).body(ByteStream::from(bytes)).send().await;
        put.map(|_| ()).map_err(|error| failed("write", at, &error))
    }

    async fn delete_if(&self, at: &Location, etag: &str) -> Result<(), Failure> {
        let asked = self.client.delete_object().bucket(at.bucket()).key(at.key()).if_match(etag).send().await;
        match asked.map(drop).map_err(|error| failed("delete", at, &error)) {
            Err(failure) if failure.code == "NoSuchKey" => Ok(()),
            done => done,
        }
    }

    async fn delete(&self, all: &[Location]) -> Result<(), Failure> {
        for some in all.chunk_by(|a, b| a.bucket() == b.bucket()).flat_map(|same| same.chunks(DELETE_AT_ONCE)) {
            let Some(first) = some.first() else { continue };
            let broken = |error| Failure::internal("DeleteRequest", format!("delete {first}: {error}"));
            let keys = some.iter().map(|at| ObjectIdentifier::builder().key(at.key()).build());
            let keys = keys.collect::<Result<Vec<_>, _>>().map_err(broken)?;
            let delete = Delete::builder().set_objects(Some(keys)).quiet(true).build().map_err(broken)?;
            let answer = self.client.delete_objects().bucket(first.bucket()).delete(delete).send().await;
            let answer = answer.map_err(|error| failed("delete", first, &error))?;
            if let Some(error) = answer.errors().first() {
                let at = first.sibling(error.key().unwrap_or_default());
                let what = error.message().unwrap_or_default();
                return Err(Failure::aws(error.code(), None, format!("delete {at}: {what}")));
            }
        }
        Ok(())
    }

    async fn copy(&self, from: &ObjectInfo, to: &Location) -> Result<(), Failure> {
        let copy = self
            .client
            .copy_object()
            .copy_source(copy_source(&from.location))
            .copy_source_if_match(&from.etag)
            .bucket(to.bucket())
            .key(to.key())
            .metadata_directive(MetadataDirective::Copy)
            .tagging_directive(TaggingDirective::Copy)
            .send()
            .await;
        copy.map(|_| ()).map_err(|error| copy_failed(&from.location, to, &error))
    }

    async fn begin_parts(&self, at: &Location, attributes: &Attributes) -> Result<String, Failure> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(at.bucket())
            .key(at.key())
            .set_content_type(attributes.content_type.clone())
            .set_content_encoding(attributes.content_encoding.clone())
            .set_content_disposition(attributes.content_disposition.clone())
            .set_content_language(attributes.content_language.clone())
            .set_cache_control(attributes.cache_control.clone())
            .set_metadata(Some(attributes.metadata.iter().cloned().collect()))
            .send()
            .await
            .map_err(|error| failed("write", at, &error))?;
        let id = begun.upload_id().map(str::to_owned);
        id.ok_or_else(|| Failure::internal("NoUploadId", format!("write {at}: S3 gave the upload no id")))
    }

    async fn put_part(&self, at: &Location, upload: &str, number: i32, bytes: Bytes) -> Result<Part, Failure> {
        let put = self.client.upload_part().bucket(at.bucket()).key(at.key()).upload_id(upload).part_number(number);
        let put = put.body(ByteStream::from(bytes)).send().await.map_err(|error| failed("write", at, &error))?;
        Ok(Part { number, etag: put.e_tag().unwrap_or_default().to_owned() })
    }

    async fn copy_part(
        &self,
        from: &ObjectInfo,
        to: &Location,
        upload: &str,
        number: i32,
        range: (u64, u64),
    ) -> Result<Part, Failure> {
        let copied = self
            .client
            .upload_part_copy()
            .copy_source(copy_source(&from.location))
            .copy_source_if_match(&from.etag)
            .copy_source_range(format!("bytes={}-{}", range.0, range.1))
            .bucket(to.bucket())
            .key(to.key())
            .upload_id(upload)
            .part_number(number)
            .send()
            .await
            .map_err(|error| failed("copy", &from.location, &error))?;
        let etag = copied.copy_part_result().and_then(|result| result.e_tag()).unwrap_or_default().to_owned();
        Ok(Part { number, etag })
    }

    async fn finish_parts(&self, at: &Location, upload: &str, parts: &[Part]) -> Result<(), Failure> {
        let parts =
            parts.iter().map(|part| CompletedPart::builder().part_number(part.number).e_tag(&part.etag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let done = self.client.complete_multipart_upload().bucket(at.bucket()).key(at.key());
        let done = done.upload_id(upload).multipart_upload(parts).send().await;
        done.map(|_| ()).map_err(|error| failed("write", at, &error))
    }

    async fn abort_parts(&self, at: &Location, upload: &str) -> Result<(), Failure> {
        let abort =
            self.client.abort_multipart_upload().bucket(at.bucket()).key(at.key()).upload_id(upload).send().await;
        match abort.map_err(|error| failed("give up", at, &error)) {
            Err(failure) if !matches!(failure.code.as_str(), "NoSuchUpload" | "NoSuchKey") => Err(failure),
            _ => Ok(()),
        }
    }
}

/// A copy touches two places; S3's answer does not always say which one it means.
fn copy_failed(from: &Location, to: &Location, error: &SdkError<CopyObjectError>) -> Failure {
    let failure = failed("copy", from, error);
    match failure.code.as_str() {
        "NoSuchBucket" => {
            Failure { reason: format!("copy {from} to {to}: one of the buckets does not exist"), ..failure }
        }
        "AccessDenied" => Failure {
            reason: format!(
                "copy {from} to {to}: access denied; the function's role must be allowed to read the one and write the other"
            ),
            ..failure
        },
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_source_is_encoded() {
        let at = Location::parse("s3://in-bucket/a b/ü+%.csv").unwrap();
        assert_eq!(copy_source(&at), "in-bucket/a%20b/%C3%BC%2B%25.csv");
    }
}
