//! Lanes, objects and tokens in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use weir_delivery::Failure;

use super::DynamoStore;
use super::table::{Item, Range, Record, spread_of};
use crate::Job;
use crate::batch::{Book, Landed, Lane, Standing, Swap};

/// The attribute of a token that names who has it. The Glue script writes it, too (batch/python/weir_batch/job.py).
const HAS_IT: &str = "run_id";

impl Record for Lane {
    fn pk(&self) -> String {
        lane_key(&self.name)
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        let due = self.look_at_ms.map(|_| ("due_pk", AttributeValue::S(format!("lane#{}", spread_of(&self.name)))));
        due.into_iter().collect()
    }
}

impl Record for Landed {
    fn pk(&self) -> String {
        object_key(&self.dataset, &self.uri)
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        let place = |kind: &str, spread: u32, at_ms: u64| {
            let key = AttributeValue::S(format!("{kind}#{}#{spread}", self.dataset));
            vec![("due_pk", key), ("look_at_ms", AttributeValue::N(at_ms.to_string()))]
        };
        match (&self.newer, self.standing) {
            (Some(newer), _) => place("newer", 0, newer.landed_ms),
            (None, Standing::Pending) => place("pending", spread_of(&self.uri), self.version_of.landed_ms),
            _ => Vec::new(),
        }
    }
}

fn lane_key(name: &str) -> String {
    format!("lane#{name}")
}

fn object_key(dataset: &str, uri: &str) -> String {
    format!("object#{dataset}#{uri}")
}

fn token_key(token: &str) -> String {
    format!("token#{token}")
}

fn holder(item: &Item) -> Option<String> {
    item.get(HAS_IT)?.as_s().ok().cloned()
}

impl DynamoStore {
    async fn objects(&self, kind: &str, dataset: &str, value: u32, most: usize) -> Result<Vec<Landed>, Failure> {
        let partition = ("due_pk", format!("{kind}#{dataset}#{value}"));
        let range = Range { index: "due", partition, sort: ("look_at_ms", 0, i64::MAX as u64) };
        self.0.query(&range, false, most).await
    }
}

#[async_trait]
impl Book for DynamoStore {
    async fn lane(&self, name: &str) -> Result<Option<Lane>, Failure> {
        self.0.get(lane_key(name)).await
    }

    async fn put_lane(&self, lane: &Lane) -> Result<Swap<Lane>, Failure> {
        self.0.put(lane, (lane.version > 1).then(|| lane.version - 1)).await
    }

    async fn due_lanes(&self, now_ms: u64, most: usize) -> Result<Vec<Lane>, Failure> {
        let ask = |value| async move {
            let partition = ("due_pk", format!("lane#{value}"));
            self.0.query(&Range { index: "due", partition, sort: ("look_at_ms", 0, now_ms) }, false, most).await
        };
        let mut lanes: Vec<Lane> = self.0.spread(ask).await?;
        lanes.sort_by_key(|lane| lane.look_at_ms);
        lanes.truncate(most);
        Ok(lanes)
    }

    async fn object(&self, dataset: &str, uri: &str) -> Result<Option<Landed>, Failure> {
        self.0.get(object_key(dataset, uri)).await
    }

    async fn put_object(&self, object: &Landed) -> Result<Swap<Landed>, Failure> {
        self.0.put(object, (object.version > 1).then(|| object.version - 1)).await
    }

    async fn pending(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        let mut all = self.0.spread(|value| self.objects("pending", dataset, value, most)).await?;
        all.sort_by_key(|object| object.version_of.landed_ms);
        all.truncate(most);
        Ok(all)
    }

    async fn conflicts(&self, dataset: &str, most: usize) -> Result<Vec<Landed>, Failure> {
        self.objects("newer", dataset, 0, most).await
    }

    async fn deferred(&self, most: usize) -> Result<Vec<Job>, Failure> {
        self.waiting("batch", i64::MAX as u64, most).await
    }

    async fn take_token(&self, token: &str, who: &str, expires_s: u64) -> Result<String, Failure> {
        let update = self.0.client.update_item().table_name(&self.0.name);
        let update = update
            .key("pk", AttributeValue::S(token_key(token)))
            .update_expression("SET run_id = :me, expires_s = :expires")
            .condition_expression("attribute_not_exists(run_id) OR run_id = :me")
            .expression_attribute_values(":me", AttributeValue::S(who.to_owned()))
            .expression_attribute_values(":expires", AttributeValue::N(expires_s.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await {
            Ok(_) => Ok(who.to_owned()),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(there)) => match there.item().and_then(holder) {
                    Some(holder) => Ok(holder),
                    None => Err(Failure::internal("LedgerShape", format!("nobody has the taken token {token}"))),
                },
                _ => Err(self.0.failed("take a token", &error)),
            },
        }
    }

    async fn token(&self, token: &str) -> Result<Option<String>, Failure> {
        Ok(self.0.item(token_key(token)).await?.as_ref().and_then(holder))
    }
}
