//! Positions in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use weir_delivery::Failure;

use super::DynamoStore;
use super::table::{Range, Record, spread_of, to_item, to_record};
use crate::batch::{Landed, Swap};
use crate::positions::{Position, Positions};

impl Record for Position {
    fn pk(&self) -> String {
        position_key(&self.name)
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        let spread = spread_of(&self.name);
        let mut places = vec![
            ("day_pk", AttributeValue::S(format!("position#{spread}"))),
            ("received_ms", AttributeValue::N("0".to_owned())),
        ];
        if self.intent.is_some() {
            places.push(("due_pk", AttributeValue::S(format!("intent#{spread}"))));
            places.push(("look_at_ms", AttributeValue::N(self.lease_until_ms.to_string())));
        }
        places
    }
}

fn position_key(name: &str) -> String {
    format!("position#{name}")
}

impl DynamoStore {
    fn conditional(&self, record: &impl Record, expected: Option<u64>) -> Result<TransactWriteItem, Failure> {
        let put = Put::builder().table_name(&self.0.name).set_item(Some(to_item(record)?));
        let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match expected {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(version) => put
                .condition_expression("#v = :v")
                .expression_attribute_names("#v", "version")
                .expression_attribute_values(":v", AttributeValue::N(version.to_string())),
        };
        let put = put.build().map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }
}

#[async_trait]
impl Positions for DynamoStore {
    async fn position(&self, name: &str) -> Result<Option<Position>, Failure> {
        self.0.get(position_key(name)).await
    }

    async fn put_position(
        &self,
        next: &Position,
        expected: u64,
        handed_on: Option<&Landed>,
    ) -> Result<Swap<Position>, Failure> {
        let expected = (expected > 0).then_some(expected);
        let Some(handed_on) = handed_on else { return self.0.put(next, expected).await };
        let both = [self.conditional(next, expected)?, self.conditional(handed_on, None)?];
        let sent = self.0.client.transact_write_items().set_transact_items(Some(both.into())).send().await;
        let Err(error) = sent else { return Ok(Swap::Stored) };
        let canceled = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled,
            _ => return Err(self.0.failed("commit a position", &error)),
        };
        let mut refused =
            canceled.cancellation_reasons().iter().filter(|reason| reason.code() == Some("ConditionalCheckFailed"));
        let Some(first) = refused.next() else {
            // Another is writing the same position just now, or the table is throttled.
            let codes: Vec<&str> = canceled.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect();
            return Err(Failure::passing("TransactionCanceled", format!("commit {}: {}", next.name, codes.join(", "))));
        };
        // Of the two, the position's reason comes first; if only the object was there, what is stored is read.
        let there = match first.item().filter(|item| item.get("pk") == Some(&AttributeValue::S(next.pk()))) {
            Some(item) => Some(to_record(item)?),
            None => self.position(&next.name).await?,
        };
        Ok(Swap::Conflict(there.map(Box::new)))
    }

    async fn left_over(&self, now_ms: u64, most: usize) -> Result<Vec<Position>, Failure> {
        let ask = |value| async move {
            let partition = ("due_pk", format!("intent#{value}"));
            self.0.query(&Range { index: "due", partition, sort: ("look_at_ms", 0, now_ms) }, false, most).await
        };
        let mut all: Vec<Position> = self.0.spread(ask).await?;
        all.sort_by_key(|one| one.lease_until_ms);
        all.truncate(most);
        Ok(all)
    }

    async fn positions(&self) -> Result<Vec<Position>, Failure> {
        let ask = |value| async move {
            let partition = ("day_pk", format!("position#{value}"));
            self.0.query(&Range { index: "recent", partition, sort: ("received_ms", 0, 0) }, false, MOST_LISTED).await
        };
        let mut all: Vec<Position> = self.0.spread(ask).await?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

/// A cluster with more partitions than this is none that one function reads.
const MOST_LISTED: usize = 100_000;
