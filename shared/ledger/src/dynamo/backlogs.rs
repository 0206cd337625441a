//! Backlogs in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use weir_delivery::Failure;

use super::DynamoStore;
use super::table::{Range, Record, spread_of};
use crate::backlog::{Backlog, Backlogs};
use crate::batch::Swap;

impl Record for Backlog {
    fn pk(&self) -> String {
        key(&self.name)
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        let due = self.look_at_ms.map(|_| ("due_pk", AttributeValue::S(format!("backlog#{}", spread_of(&self.name)))));
        due.into_iter().collect()
    }
}

fn key(name: &str) -> String {
    format!("backlog#{name}")
}

#[async_trait]
impl Backlogs for DynamoStore {
    async fn backlog(&self, name: &str) -> Result<Option<Backlog>, Failure> {
        self.0.get(key(name)).await
    }

    async fn put_backlog(&self, backlog: &Backlog) -> Result<Swap<Backlog>, Failure> {
        self.0.put(backlog, (backlog.version > 1).then(|| backlog.version - 1)).await
    }

    async fn due_backlogs(&self, now_ms: u64, most: usize) -> Result<Vec<Backlog>, Failure> {
        let ask = |value| async move {
            let partition = ("due_pk", format!("backlog#{value}"));
            self.0.query(&Range { index: "due", partition, sort: ("look_at_ms", 0, now_ms) }, false, most).await
        };
        let mut all: Vec<Backlog> = self.0.spread(ask).await?;
        all.sort_by_key(|backlog| backlog.look_at_ms);
        all.truncate(most);
        Ok(all)
    }
}
