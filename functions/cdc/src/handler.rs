//! One invocation.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use weir_delivery::Failure;
use weir_delivery::kinesis::{BatchResponse, read_batch};
use weir_telemetry::Visit;

use crate::Cdc;
use crate::commit::Report;
use crate::config::Role;

/// What it may be invoked with beside batches.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Commit(IgnoredAny),
}

/// What it answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// From where on records are to come again.
    Batch(BatchResponse),
    /// What was committed.
    Committed(Report),
}

impl Cdc {
    /// Answers one invocation: a batch of the stream, or `{"commit":{}}`.
    ///
    /// # Errors
    /// What is neither; the ledger's, when it is asked what is to be committed.
    pub async fn handle(&self, payload: &str, visit: &Visit) -> Result<Answer, Failure> {
        let elsewhere = |what: &str| {
            Failure::user("NotHere", format!("the stack's other function of change capture does that: {what}"))
        };
        match (read_batch(payload), self.config.role) {
            (Some(records), Role::Stage) => return Ok(Answer::Batch(self.stage(records, visit).await)),
            (Some(_), Role::Commit) => return Err(elsewhere("it reads the stream")),
            (None, _) => {}
        }
        match (serde_json::from_str::<Request>(payload), self.config.role) {
            (Ok(Request::Commit(_)), Role::Commit) => self.commit(visit).await.map(Answer::Committed),
            (Ok(Request::Commit(_)), Role::Stage) => Err(elsewhere("it commits")),
            (Err(_), _) => {
                // Not the parser's words: they show what was sent.
                let reason =
                    "this is neither a batch of records as Lambda delivers them from Kinesis nor {\"commit\":{}}";
                Err(Failure::user("NotChanges", reason))
            }
        }
    }
}
