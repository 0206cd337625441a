//! What the template tells the function, read once.

use std::collections::HashMap;
use std::sync::Arc;

use weir_contract::{Contract, contract};
use weir_settings::Variables;

/// The function's settings.
#[derive(Debug)]
pub struct Config {
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letter_bucket: String,
    /// `CONTRACTS`: `delivery-stream=dataset,…`.
    pub contracts: HashMap<String, Arc<Contract>>,
    /// `PARTITION_KEYS`: whether answers carry keys for dynamic partitioning: `on` or `off`.
    pub partition_keys: bool,
}

impl Config {
    /// Reads the settings by name.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut variables = Variables::new(get);
        let (stack, dead_letter_bucket) = (variables.text("STACK"), variables.text("DEAD_LETTER_BUCKET"));
        let listed = variables.text("CONTRACTS");
        let mut contracts = HashMap::new();
        for entry in listed.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.split_once('=') {
                None => variables.problem("CONTRACTS", format!("`{entry}` must be `delivery-stream=dataset`")),
                Some((stream, dataset)) => match contract(dataset.trim()) {
                    Ok(contract) => {
                        contracts.insert(stream.trim().to_owned(), Arc::new(contract));
                    }
                    Err(error) => variables.problem("CONTRACTS", format!("`{entry}`: {error}")),
                },
            }
        }
        let switch = |value: &str| match value {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let partition_keys = variables.one_of("PARTITION_KEYS", switch, "`on` or `off`").unwrap_or_default();
        variables.finish()?;
        Ok(Self { stack, dead_letter_bucket, contracts, partition_keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_by_delivery_stream() {
        let config = Config::read(|name| {
            Some(if name == "CONTRACTS" { "weir-trips=trips, weir-logs=page_logs" } else { "on" }.to_owned())
        })
        .unwrap();
        assert_eq!(config.contracts["weir-logs"].name(), "page_logs");
        assert!(config.partition_keys);
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = Config::read(|name| match name {
            "CONTRACTS" => Some("weir-trips=trip,loose".into()),
            "PARTITION_KEYS" => Some("yes".into()),
            _ => None,
        })
        .unwrap_err();
        for word in ["STACK", "DEAD_LETTER_BUCKET", "did you mean `trips`?", "`loose`", "`yes`"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
