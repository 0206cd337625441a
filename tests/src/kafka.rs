//! Where Kafka is, and what a test needs of its own.

use aws_sdk_dynamodb::types::{BillingMode, GlobalSecondaryIndex};
use weir_ledger::DynamoStore;

use crate::{Failed, Stack};

/// Where Kafka is.
///
/// # Errors
/// If it was not started.
pub fn brokers() -> Result<String, Failed> {
    std::env::var("WEIR_KAFKA")
        .map_err(|_| "WEIR_KAFKA is not set: run `make test`, or `make kafka-up` and `source target/local/env`".into())
}

/// A ledger of a test's own, as the stack's is: what it hands on is nobody's to work on.
///
/// # Errors
/// DynamoDB's.
pub async fn own_ledger(stack: &Stack) -> Result<(String, DynamoStore), Failed> {
    let (client, name) = (aws_sdk_dynamodb::Client::new(&stack.aws), format!("ledger-{}", stack.run));
    let there = client.describe_table().table_name("weir-ledger").send().await?;
    let there = there.table().ok_or("there is no ledger")?;
    let mut made = client
        .create_table()
        .table_name(&name)
        .billing_mode(BillingMode::PayPerRequest)
        .set_key_schema(Some(there.key_schema().to_vec()))
        .set_attribute_definitions(Some(there.attribute_definitions().to_vec()));
    for index in there.global_secondary_indexes() {
        let index = GlobalSecondaryIndex::builder()
            .set_index_name(index.index_name().map(str::to_owned))
            .set_key_schema(Some(index.key_schema().to_vec()))
            .set_projection(index.projection().cloned());
        made = made.global_secondary_indexes(index.build()?);
    }
    made.send().await?;
    Ok((name.clone(), DynamoStore::new(client, name)))
}

/// A database of a test's own in the catalog.
///
/// # Errors
/// Glue's.
pub async fn own_database(stack: &Stack) -> Result<String, Failed> {
    let name = stack.run.replace('-', "_");
    let input = aws_sdk_glue::types::DatabaseInput::builder().name(&name).build()?;
    aws_sdk_glue::Client::new(&stack.aws).create_database().database_input(input).send().await?;
    Ok(name)
}
