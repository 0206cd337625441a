//! Positions in the table.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use weir_delivery::Failure;

use super::DynamoStore;
use super::table::{Condition, Range, Record, spread_of, to_item, to_record};
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

/// How often a transaction is tried that is in another's way, or throttled: the SDK does not try those again.
const MOST_TRIES: u32 = 4;

/// Before the second; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl DynamoStore {
    fn conditional(&self, record: &impl Record, expected: Option<u64>) -> Result<TransactWriteItem, Failure> {
        let condition = Condition::of(expected);
        let put = Put::builder()
            .table_name(&self.0.name)
            .set_item(Some(to_item(record)?))
            .condition_expression(condition.expression)
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build();
        let put = put.map_err(|error| Failure::internal("LedgerShape", error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Puts both, or neither; [`CANCELED`] if that was for no condition's sake.
    async fn put_both(
        &self,
        next: &Position,
        expected: Option<u64>,
        handed_on: &Landed,
    ) -> Result<Swap<Position>, Failure> {
        let both = [self.conditional(next, expected)?, self.conditional(handed_on, None)?];
        let sent = self.0.client.transact_write_items().set_transact_items(Some(both.into())).send().await;
        let Err(error) = sent else { return Ok(Swap::Stored) };
        let reasons = match error.as_service_error() {
            Some(TransactWriteItemsError::TransactionCanceledException(canceled)) => canceled.cancellation_reasons(),
            _ => return Err(self.0.failed("commit a position", &error)),
        };
        let Some(first) = reasons.iter().find(|reason| reason.code() == Some("ConditionalCheckFailed")) else {
            let codes: Vec<&str> = reasons.iter().filter_map(|reason| reason.code()).collect();
            return Err(Failure::passing(CANCELED, format!("commit {}: {}", next.name, codes.join(", "))));
        };
        // Of the two, the position's reason comes first; if only the object was there, what is stored is read.
        let there = match first.item().filter(|item| item.get("pk") == Some(&AttributeValue::S(next.pk()))) {
            Some(item) => Some(to_record(item)?),
            None => self.position(&next.name).await?,
        };
        Ok(Swap::Conflict(there.map(Box::new)))
    }
}

/// What a transaction's failure is called that may be tried again at once.
const CANCELED: &str = "TransactionCanceled";

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
        let mut tries = 1;
        loop {
            match self.put_both(next, expected, handed_on).await {
                Err(failure) if failure.code == CANCELED && tries < MOST_TRIES => {
                    tokio::time::sleep(FIRST_PAUSE * 2u32.pow(tries - 1)).await;
                    tries += 1;
                }
                ended => return ended,
            }
        }
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
