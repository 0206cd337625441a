//! Where a stack's dead letters lie, and what its delivery streams read.

use std::collections::{BTreeMap, HashMap};

use weir_command::Location;

use super::letters::Known;
use crate::stack::said;
use crate::{Stack, Stop};

/// What a delivery stream reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// Itself: records are put to it.
    Direct,
    /// A Kinesis stream.
    Stream(String),
    /// A Kafka topic.
    Topic(String),
}

/// All of it.
pub(crate) struct Places {
    pub(crate) known: Known,
    /// Prefixes that are looked through.
    pub(crate) under: Vec<Location>,
    pub(crate) sources: BTreeMap<String, Source>,
}

impl Places {
    /// As the deployed functions and delivery streams have it.
    pub(crate) async fn find(stack: &Stack) -> Result<Self, Stop> {
        let variables = stack.variables("realtime").await?.ok_or_else(|| stack.lacks("realtime", "that part"))?;
        let bucket = variables.get("DEAD_LETTER_BUCKET");
        let bucket = bucket.ok_or_else(|| Stop(3, "realtime has no DEAD_LETTER_BUCKET".to_owned()))?;
        let bucket = Location::parse(&format!("s3://{bucket}")).map_err(|error| Stop(3, error.to_string()))?;
        let name = |end: &str| format!("{}-{end}", stack.name);
        let known = Known {
            stack: stack.name.clone(),
            streams: ["commands", "changes", "telemetry"].map(name).into(),
            ..Known::default()
        };
        let under = ["poison/", "aws/lambda/"].iter().map(|under| bucket.join(under)).collect();
        let mut places = Self { known, under, sources: BTreeMap::new() };
        // By what the functions are told, not by how names begin: another stack's may begin so as well.
        let client = aws_sdk_firehose::Client::new(&stack.aws);
        for name in left_sides(stack.variables("transform").await?, "CONTRACTS") {
            let described = client.describe_delivery_stream().delivery_stream_name(&name).send().await;
            match described {
                Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                }
                Err(error) => return Err(Stop::aws(said(&error))),
                Ok(described) => {
                    described
                        .delivery_stream_description()
                        .map_or(Ok(()), |description| places.add(&name, description))?;
                }
            }
        }
        places.known.topics = left_sides(stack.variables("ingest").await?, "TOPICS").into_iter().collect();
        Ok(places)
    }

    fn add(&mut self, name: &str, of: &aws_sdk_firehose::types::DeliveryStreamDescription) -> Result<(), Stop> {
        let stream = of.source().and_then(|source| source.kinesis_stream_source_description());
        let stream = stream.and_then(|source| source.kinesis_stream_arn()?.rsplit_once('/'));
        let topic = of.source().and_then(|source| source.msk_source_description()?.topic_name());
        let source = match (stream, topic) {
            (Some((_, stream)), _) => Source::Stream(stream.to_owned()),
            (None, Some(topic)) => Source::Topic(topic.to_owned()),
            (None, None) => Source::Direct,
        };
        self.sources.insert(name.to_owned(), source);
        let to = of.destinations().first().and_then(|to| to.extended_s3_destination_description());
        if let Some((prefix, bucket)) = to.and_then(|to| Some((to.error_output_prefix()?, to.bucket_arn()))) {
            // Without a folder of its own, it could be anything.
            let prefix = prefix.split("!{").next().filter(|prefix| prefix.ends_with('/'));
            let bucket = bucket.rsplit(':').next().unwrap_or_default();
            if let Some(prefix) = prefix {
                let at = Location::parse(&format!("s3://{bucket}/{prefix}"));
                let at = at.map_err(|error| Stop(3, error.to_string()))?;
                self.known.errors.push((at.clone(), name.to_owned()));
                self.under.push(at);
            }
        }
        Ok(())
    }
}

/// The names before `=` of a list such as `trips=trips+masked,logs=page_logs`.
fn left_sides(variables: Option<HashMap<String, String>>, name: &str) -> Vec<String> {
    let listed = variables.and_then(|mut variables| variables.remove(name)).unwrap_or_default();
    let names = listed.split(',').filter_map(|one| one.split_once('=')).map(|(name, _)| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}
