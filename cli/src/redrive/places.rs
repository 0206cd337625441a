//! Where a stack's dead letters lie, and what its delivery streams read.

use std::collections::BTreeMap;

use weir_command::Location;

use super::letters::Known;
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
        let function = format!("{}-realtime", stack.name);
        let variables = stack.variables(&function).await?;
        let bucket = variables.get("DEAD_LETTER_BUCKET");
        let bucket = bucket.ok_or_else(|| Stop(3, format!("{function} has no DEAD_LETTER_BUCKET")))?;
        let bucket = Location::parse(&format!("s3://{bucket}")).map_err(|error| Stop(3, error.to_string()))?;
        let mut places = Self {
            known: Known { stack: stack.name.clone(), errors: Vec::new() },
            under: ["poison/", "aws/lambda/"].iter().map(|under| bucket.join(under)).collect(),
            sources: BTreeMap::new(),
        };
        let client = aws_sdk_firehose::Client::new(&stack.aws);
        for name in names(&client, &format!("{}-", stack.name)).await? {
            let described = client.describe_delivery_stream().delivery_stream_name(&name).send().await;
            let described =
                described.map_err(|error| Stop::aws(aws_sdk_firehose::error::DisplayErrorContext(error)))?;
            if let Some(description) = described.delivery_stream_description() {
                places.add(&name, description)?;
            }
        }
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
            let prefix = prefix.split("!{").next().unwrap_or_default();
            let bucket = bucket.trim_start_matches("arn:").split(':').next_back().unwrap_or_default();
            let at = Location::parse(&format!("s3://{bucket}/{prefix}")).map_err(|error| Stop(3, error.to_string()))?;
            self.known.errors.push((prefix.to_owned(), name.to_owned()));
            self.under.push(at);
        }
        Ok(())
    }
}

async fn names(client: &aws_sdk_firehose::Client, begin: &str) -> Result<Vec<String>, Stop> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let asked = client.list_delivery_streams().set_exclusive_start_delivery_stream_name(after.take());
        let page =
            asked.send().await.map_err(|error| Stop::aws(aws_sdk_firehose::error::DisplayErrorContext(error)))?;
        found.extend(page.delivery_stream_names().iter().filter(|name| name.starts_with(begin)).cloned());
        after = page.delivery_stream_names().last().cloned();
        if !page.has_more_delivery_streams() || after.is_none() {
            return Ok(found);
        }
    }
}
