//! Jobs in the table.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use weir_delivery::Failure;

use super::table::{Range, Record, spread_of};
use super::{DAY_MS, DynamoStore};
use crate::batch::Swap;
use crate::{Job, Put, State, Store};

impl Record for Job {
    fn pk(&self) -> String {
        job_key(&self.id)
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        let spread = spread_of(&self.id);
        let mut places = vec![("day_pk", AttributeValue::S(format!("{}#{spread}", self.received_ms / DAY_MS)))];
        if self.look_at_ms.is_some() {
            let waits_for = if self.state == State::Deferred { "batch" } else { "sweep" };
            places.push(("due_pk", AttributeValue::S(format!("{waits_for}#{spread}"))));
        }
        places
    }
}

fn job_key(id: &str) -> String {
    format!("job#{id}")
}

impl DynamoStore {
    /// Open jobs that wait for `whom`, up to a time, those that are due first first.
    pub(super) async fn waiting(&self, whom: &str, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let ask = |value| async move {
            let partition = ("due_pk", format!("{whom}#{value}"));
            let range = Range { index: "due", partition, sort: ("look_at_ms", 0, until_ms) };
            self.0.query(&range, false, most).await
        };
        let mut jobs: Vec<Job> = self.0.spread(ask).await?;
        jobs.sort_by_key(|job| job.look_at_ms);
        jobs.truncate(most);
        Ok(jobs)
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, id: &str) -> Result<Option<Job>, Failure> {
        self.0.get(job_key(id)).await
    }

    async fn put(&self, job: &Job, expected: Option<u64>) -> Result<Put, Failure> {
        Ok(match self.0.put(job, expected).await? {
            Swap::Stored => Put::Stored,
            Swap::Conflict(there) => Put::Conflict(there),
        })
    }

    async fn due(&self, now_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        self.waiting("sweep", now_ms, most).await
    }

    async fn recent(&self, since_ms: u64, until_ms: u64, most: usize) -> Result<Vec<Job>, Failure> {
        let mut jobs: Vec<Job> = Vec::new();
        for day in (since_ms / DAY_MS..=until_ms / DAY_MS).rev() {
            let ask = |value| async move {
                let partition = ("day_pk", format!("{day}#{value}"));
                let range = Range { index: "recent", partition, sort: ("received_ms", since_ms, until_ms) };
                self.0.query(&range, true, most).await
            };
            jobs.extend(self.0.spread(ask).await?);
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
            .0
            .client
            .update_item()
            .table_name(&self.0.name)
            .key("pk", AttributeValue::S(format!("count#{counter}")))
            .update_expression("SET expires_s = :expires ADD #n :one")
            .expression_attribute_names("#n", "n")
            .expression_attribute_values(":expires", AttributeValue::N(expires_s.to_string()))
            .expression_attribute_values(":one", AttributeValue::N("1".into()))
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| self.0.failed("count", &error))?;
        let value = answer.attributes().and_then(|new| new.get("n")).and_then(|n| n.as_n().ok()?.parse().ok());
        value.ok_or_else(|| Failure::internal("LedgerShape", "DynamoDB returned no counter after ADD"))
    }

    async fn reset(&self, counter: &str) -> Result<(), Failure> {
        let update = self.0.client.update_item().table_name(&self.0.name);
        let update = update.key("pk", AttributeValue::S(format!("count#{counter}")));
        let update = update.update_expression("SET #n = :zero").expression_attribute_names("#n", "n");
        let sent = update.expression_attribute_values(":zero", AttributeValue::N("0".into())).send().await;
        sent.map(|_| ()).map_err(|error| self.0.failed("reset a counter", &error))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{to_item, to_record};
    use super::*;
    use crate::protocol;

    #[test]
    fn a_job_survives_its_item() {
        let failure = Failure::user("NoSuchKey", "there is no such object");
        let job = protocol::stillborn("j-1", "hash", "stream/shard/7", failure, 1_700_000_000_000, "t");
        let item = to_item(&job).unwrap();
        assert_eq!(item["state"], AttributeValue::S("FAILED".into()));
        assert!(!item.contains_key("due_pk"), "a final job is in no work list");
        assert_eq!(to_record::<Job>(&item).unwrap(), job);
    }
}
