//! The ledger in one DynamoDB table.
//!
//! | attribute | what |
//! | --- | --- |
//! | `pk` | `job#<id>` or `count#<counter>` |
//! | the members of [`Job`] | as they serialise, so that the console shows them |
//! | `due_pk`, `look_at_ms` | index `due`, sparse: open jobs by when to look at them |
//! | `day_pk`, `received_ms` | index `recent`: jobs by day |
//!
//! Both index keys are spread over [`SPREAD`] values, because one value is one DynamoDB partition (1,000 writes a
//! second).

use std::collections::HashMap;
use std::future::Future;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use serde_json::{Map, Number, Value};
use weir_delivery::Failure;

use crate::{Job, Put, State, Store};

/// Over how many values an index key is spread.
const SPREAD: u32 = 4;
const DAY_MS: u64 = 86_400_000;

/// Jobs in a DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    client: Client,
    table: String,
}

type Item = HashMap<String, AttributeValue>;

impl DynamoStore {
    /// A table that has the keys and indexes above (template.yaml makes it).
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    fn failed<E, R>(&self, doing: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata,
        R: AsStatus,
    {
        let status = error.raw_response().map(AsStatus::status);
        let said = error.message().unwrap_or("no answer came");
        Failure::aws(error.code(), status, format!("ledger table {}: {doing}: {said}", self.table))
    }

    /// Asks one index for the same range in every spread value, and merges.
    async fn spread<F>(&self, ask: impl Fn(u32) -> F) -> Result<Vec<Job>, Failure>
    where
        F: Future<Output = Result<Vec<Job>, Failure>>,
    {
        let mut jobs = Vec::new();
        for value in 0..SPREAD {
            jobs.extend(ask(value).await?);
        }
        Ok(jobs)
    }

    async fn query(
        &self,
        index: &str,
        key: &str,
        range: (&str, u64, u64),
        newest_first: bool,
        most: usize,
    ) -> Result<Vec<Job>, Failure> {
        let (partition, sort) = (format!("{index}_pk"), range.0);
        let partition = if index == "recent" { "day_pk".to_owned() } else { partition };
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .key_condition_expression("#p = :p AND #s BETWEEN :from AND :to")
            .expression_attribute_names("#p", partition)
            .expression_attribute_names("#s", sort)
            .expression_attribute_values(":p", AttributeValue::S(key.to_owned()))
            .expression_attribute_values(":from", AttributeValue::N(range.1.to_string()))
            .expression_attribute_values(":to", AttributeValue::N(range.2.to_string()))
            .scan_index_forward(!newest_first)
            .limit(i32::try_from(most).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| self.failed(&format!("query {index}"), &error))?;
        answer.items().iter().map(to_job).collect()
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure> {
        let key = AttributeValue::S(job_key(id));
        let answer = self.client.get_item().table_name(&self.table).key("pk", key).consistent_read(true).send().await;
        let answer = answer.map_err(|error| self.failed("read a job", &error))?;
        answer.item().map(to_job).transpose()
    }

    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item(job)?))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match expected {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => put
                .condition_expression("#v = :v")
                .expression_attribute_names("#v", "version")
                .expression_attribute_values(":v", AttributeValue::N(version.to_string())),
        };
        match put.send().await {
            Ok(_) => Ok(Put::Stored),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Put::Conflict(failed.item().map(to_job).transpose()?.map(Box::new)))
                }
                _ => Err(self.failed("write a job", &error)),
            },
        }
    }

    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let ask = |value| async move {
            self.query("due", &format!("sweep#{value}"), ("look_at_ms", 0, now_ms), false, most).await
        };
        let mut jobs = self.spread(ask).await?;
        jobs.sort_by_key(|job| job.look_at_ms);
        jobs.truncate(most);
        Ok(jobs)
    }

    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::new();
        for day in (since_ms / DAY_MS..=until_ms / DAY_MS).rev() {
            let range = ("received_ms", since_ms, until_ms);
            let ask = |value| async move { self.query("recent", &format!("{day}#{value}"), range, true, most).await };
            jobs.extend(self.spread(ask).await?);
            if jobs.len() >= most {
                break;
            }
        }
        jobs.sort_by_key(|job| std::cmp::Reverse(job.received_ms));
        jobs.truncate(most);
        Ok(jobs)
    }

    async fn count(&self, counter: &str, expires_s: u64) -> Result<u64, Failure> {
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(format!("count#{counter}")))
            .update_expression("SET expires_s = :expires ADD #n :one")
            .expression_attribute_names("#n", "n")
            .expression_attribute_values(":expires", AttributeValue::N(expires_s.to_string()))
            .expression_attribute_values(":one", AttributeValue::N("1".into()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| self.failed("count", &error))?;
        let value = answer.attributes().and_then(|new| new.get("n")).and_then(|n| n.as_n().ok()?.parse().ok());
        value.ok_or_else(|| Failure::internal("LedgerShape", "DynamoDB returned no counter after ADD"))
    }

    async fn reset(&self, counter: &str) -> Result<(), Failure> {
        let update = self.client.update_item().table_name(&self.table);
        let update = update.key("pk", AttributeValue::S(format!("count#{counter}")));
        let update = update.update_expression("SET #n = :zero").expression_attribute_names("#n", "n");
        let sent = update.expression_attribute_values(":zero", AttributeValue::N("0".into())).send().await;
        sent.map(|_| ()).map_err(|error| self.failed("reset a counter", &error))
    }
}

fn job_key(id: &str) -> String {
    format!("job#{id}")
}

/// FNV-1a: any even and stable spread will do.
fn spread_of(id: &str) -> u32 {
    id.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619)) % SPREAD
}

fn to_item(job: &Job) -> Result<Item, Failure> {
    let shape = |error: serde_json::Error| Failure::internal("LedgerShape", format!("job {}: {error}", job.id));
    let Value::Object(members) = serde_json::to_value(job).map_err(shape)? else {
        return Err(Failure::internal("LedgerShape", "a job is not an object"));
    };
    let mut item: Item = members.into_iter().map(|(name, value)| (name, to_attribute(value))).collect();
    let spread = spread_of(&job.id);
    let mut key = |name: &str, value: String| item.insert(name.to_owned(), AttributeValue::S(value));
    key("pk", job_key(&job.id));
    key("day_pk", format!("{}#{spread}", job.received_ms / DAY_MS));
    if job.look_at_ms.is_some() {
        let waits_for = if job.state == State::Deferred { "batch" } else { "sweep" };
        key("due_pk", format!("{waits_for}#{spread}"));
    }
    Ok(item)
}

fn to_job(item: &Item) -> Result<Job, Failure> {
    let members: Map<String, Value> = item
        .iter()
        .filter(|(name, _)| !name.ends_with("pk"))
        .map(|(name, value)| (name.clone(), to_value(value)))
        .collect();
    serde_json::from_value(Value::Object(members)).map_err(|error| {
        Failure::internal("LedgerShape", format!("the ledger holds a job this release can't read: {error}"))
    })
}

fn to_attribute(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(truth) => AttributeValue::Bool(truth),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text),
        Value::Array(values) => AttributeValue::L(values.into_iter().map(to_attribute).collect()),
        Value::Object(members) => {
            AttributeValue::M(members.into_iter().map(|(name, value)| (name, to_attribute(value))).collect())
        }
    }
}

fn to_value(attribute: &AttributeValue) -> Value {
    match attribute {
        AttributeValue::Bool(truth) => Value::Bool(*truth),
        AttributeValue::N(number) => number.parse::<Number>().map_or(Value::Null, Value::Number),
        AttributeValue::S(text) => Value::String(text.clone()),
        AttributeValue::L(values) => values.iter().map(to_value).collect(),
        AttributeValue::M(members) => members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
        _ => Value::Null,
    }
}

/// The HTTP status of an SDK's raw response.
trait AsStatus {
    fn status(&self) -> u16;
}

impl AsStatus for aws_sdk_dynamodb::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    #[test]
    fn a_job_survives_its_item() {
        let failure = Failure::user("NoSuchKey", "there is no such object");
        let job = protocol::stillborn("j-1", "hash", "stream/shard/7", failure, 1_700_000_000_000, "t");
        let item = to_item(&job).unwrap();
        assert_eq!(item["state"], AttributeValue::S("FAILED".into()));
        assert!(!item.contains_key("due_pk"), "a final job is in no work list");
        assert_eq!(to_job(&item).unwrap(), job);
    }
}
