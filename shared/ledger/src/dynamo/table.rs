//! Records as items: compare-and-swap, and queries by index.

use std::collections::HashMap;
use std::future::Future;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use weir_delivery::Failure;

use super::SPREAD;
use crate::batch::Swap;

pub(super) type Item = HashMap<String, AttributeValue>;

/// What is one item.
pub(super) trait Record: Serialize + DeserializeOwned {
    /// The item's key.
    fn pk(&self) -> String;
    /// Its places in the indexes.
    fn places(&self) -> Vec<(&'static str, AttributeValue)>;
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) client: Client,
    pub(super) name: String,
}

/// A range of an index: its partition key and value, its sort key from and to.
pub(super) struct Range<'a> {
    pub(super) index: &'a str,
    pub(super) partition: (&'a str, String),
    pub(super) sort: (&'a str, u64, u64),
}

/// What must be so for a record to be put.
pub(super) struct Condition {
    pub(super) expression: &'static str,
    pub(super) names: Option<HashMap<String, String>>,
    pub(super) values: Option<Item>,
}

impl Condition {
    /// That what is stored has version `expected` (`None`: that nothing is).
    pub(super) fn of(expected: Option<u64>) -> Self {
        let Some(version) = expected else {
            return Self { expression: "attribute_not_exists(pk)", names: None, values: None };
        };
        let names = HashMap::from([("#v".to_owned(), "version".to_owned())]);
        let values = HashMap::from([(":v".to_owned(), AttributeValue::N(version.to_string()))]);
        Self { expression: "#v = :v", names: Some(names), values: Some(values) }
    }
}

impl Table {
    pub(super) fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    pub(super) fn failed<E, R>(&self, doing: &str, error: &SdkError<E, R>) -> Failure
    where
        E: ProvideErrorMetadata,
        R: AsStatus,
    {
        let status = error.raw_response().map(AsStatus::status);
        let said = error.message().unwrap_or("no answer came");
        Failure::aws(error.code(), status, format!("ledger table {}: {doing}: {said}", self.name))
    }

    /// Reads consistently.
    pub(super) async fn item(&self, pk: String) -> Result<Option<Item>, Failure> {
        let get = self.client.get_item().table_name(&self.name).key("pk", AttributeValue::S(pk));
        let answer = get.consistent_read(true).send().await;
        Ok(answer.map_err(|error| self.failed("read a record", &error))?.item)
    }

    pub(super) async fn get<R: Record>(&self, pk: String) -> Result<Option<R>, Failure> {
        self.item(pk).await?.as_ref().map(to_record).transpose()
    }

    /// Stores a record if what is stored has version `expected` (`None`: if nothing is).
    pub(super) async fn put<R: Record>(&self, record: &R, expected: Option<u64>) -> Result<Swap<R>, Failure> {
        let put = self.client.put_item().table_name(&self.name).set_item(Some(to_item(record)?));
        let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let condition = Condition::of(expected);
        let put = put.condition_expression(condition.expression).set_expression_attribute_names(condition.names);
        match put.set_expression_attribute_values(condition.values).send().await {
            Ok(_) => Ok(Swap::Stored),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Swap::Conflict(failed.item().map(to_record).transpose()?.map(Box::new)))
                }
                _ => Err(self.failed("write a record", &error)),
            },
        }
    }

    /// Asks for the same in every spread value, and merges.
    pub(super) async fn spread<T, F>(&self, ask: impl Fn(u32) -> F) -> Result<Vec<T>, Failure>
    where
        F: Future<Output = Result<Vec<T>, Failure>>,
    {
        let all = futures::future::join_all((0..SPREAD).map(ask)).await;
        Ok(all.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The records in a range of an index, in the order of the sort key, at most so many.
    pub(super) async fn query<R: Record>(
        &self,
        range: &Range<'_>,
        newest_first: bool,
        most: usize,
    ) -> Result<Vec<R>, Failure> {
        let (mut records, mut from) = (Vec::new(), None);
        loop {
            let query = self
                .client
                .query()
                .table_name(&self.name)
                .index_name(range.index)
                .key_condition_expression("#p = :p AND #s BETWEEN :from AND :to")
                .expression_attribute_names("#p", range.partition.0)
                .expression_attribute_names("#s", range.sort.0)
                .expression_attribute_values(":p", AttributeValue::S(range.partition.1.clone()))
                .expression_attribute_values(":from", AttributeValue::N(range.sort.1.to_string()))
                .expression_attribute_values(":to", AttributeValue::N(range.sort.2.to_string()))
                .scan_index_forward(!newest_first)
                .limit(i32::try_from(most - records.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from);
            let answer = query.send().await.map_err(|error| self.failed(&format!("query {}", range.index), &error))?;
            for item in answer.items() {
                records.push(to_record(item)?);
            }
            from = answer.last_evaluated_key;
            if from.is_none() || records.len() >= most {
                return Ok(records);
            }
        }
    }
}

/// FNV-1a: any even and stable spread will do.
pub(super) fn spread_of(id: &str) -> u32 {
    id.bytes().fold(2_166_136_261u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619)) % SPREAD
}

pub(super) fn to_item<R: Record>(record: &R) -> Result<Item, Failure> {
    let pk = record.pk();
    let shape = |error: serde_json::Error| Failure::internal("LedgerShape", format!("{pk}: {error}"));
    let Value::Object(members) = serde_json::to_value(record).map_err(shape)? else {
        return Err(Failure::internal("LedgerShape", format!("{pk} is not an object")));
    };
    let mut item: Item = members.into_iter().map(|(name, value)| (name, to_attribute(value))).collect();
    item.extend(record.places().into_iter().map(|(name, value)| (name.to_owned(), value)));
    item.insert("pk".to_owned(), AttributeValue::S(pk));
    Ok(item)
}

pub(super) fn to_record<R: Record>(item: &Item) -> Result<R, Failure> {
    let members: Map<String, Value> = item
        .iter()
        .filter(|(name, _)| !name.ends_with("pk"))
        .map(|(name, value)| (name.clone(), to_value(value)))
        .collect();
    serde_json::from_value(Value::Object(members)).map_err(|error| {
        Failure::internal("LedgerShape", format!("the ledger holds a record this release can't read: {error}"))
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
pub(super) trait AsStatus {
    fn status(&self) -> u16;
}

impl AsStatus for aws_sdk_dynamodb::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}
