//! What people are told, kept.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use weir_alerts::Publisher;
use weir_delivery::Failure;

/// Notices, subject and text.
#[derive(Debug, Default)]
pub struct Told(Mutex<Vec<String>>);

impl Told {
    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Publisher for Told {
    async fn publish(&self, subject: &str, text: &str) -> Result<(), Failure> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{subject}\n{text}"));
        Ok(())
    }
}
