//! The layout in the table: one item.

use async_trait::async_trait;
use aws_sdk_dynamodb::types::AttributeValue;
use weir_delivery::Failure;

use super::DynamoStore;
use super::table::Record;
use crate::batch::Swap;
use crate::layout::{Layout, Layouts};

const KEY: &str = "layout";

impl Record for Layout {
    fn pk(&self) -> String {
        KEY.to_owned()
    }

    fn places(&self) -> Vec<(&'static str, AttributeValue)> {
        Vec::new()
    }
}

#[async_trait]
impl Layouts for DynamoStore {
    async fn layout(&self) -> Result<Layout, Failure> {
        Ok(self.0.get(KEY.to_owned()).await?.unwrap_or_default())
    }

    async fn put_layout(&self, layout: &Layout) -> Result<Swap<Layout>, Failure> {
        self.0.put(layout, (layout.version > 1).then(|| layout.version - 1)).await
    }
}
