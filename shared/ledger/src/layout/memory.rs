//! The layout in memory: for unit tests, held to the same suite as DynamoDB.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use weir_delivery::Failure;

use super::{Layout, Layouts};
use crate::batch::Swap;

/// A layout.
#[derive(Debug, Default)]
pub struct MemoryLayouts(Mutex<Layout>);

#[async_trait]
impl Layouts for MemoryLayouts {
    async fn layout(&self) -> Result<Layout, Failure> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    async fn put_layout(&self, layout: &Layout) -> Result<Swap<Layout>, Failure> {
        let mut there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if there.version + 1 != layout.version {
            return Ok(Swap::Conflict((there.version > 0).then(|| Box::new(there.clone()))));
        }
        *there = layout.clone();
        Ok(Swap::Stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        super::super::conformance::suite(&MemoryLayouts::default()).await.unwrap();
    }
}
