//! The ledger in one DynamoDB table.
//!
//! | attribute | what |
//! | --- | --- |
//! | `pk` | `job#<id>`, `lane#<name>`, `object#<dataset>#<uri>`, `token#<token>`, `position#<cluster>/<topic>/<partition>`, `layout` or `count#<counter>` |
//! | the members of the record | as they serialise, so that the console shows them |
//! | `due_pk`, `look_at_ms` | index `due`, sparse: open jobs and lanes by when to look at them; pending objects by when they landed; positions with files under way by lease |
//! | `day_pk`, `received_ms` | index `recent`: jobs by day; all positions |
//!
//! Both index keys are spread over [`SPREAD`] values, because one value is one DynamoDB partition (1,000 writes a
//! second).

mod backlogs;
mod book;
mod jobs;
mod layouts;
mod positions;
mod table;

use aws_sdk_dynamodb::Client;

use table::Table;

/// Over how many values an index key is spread.
const SPREAD: u32 = 4;
const DAY_MS: u64 = 86_400_000;

/// The ledger of jobs and of the batch side in a DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoStore(Table);

impl DynamoStore {
    /// A table that has the keys and indexes above (template.yaml makes it).
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self(Table::new(client, table.into()))
    }
}
