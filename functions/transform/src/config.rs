//! What the template tells the function, read once.

use std::collections::HashMap;
use std::sync::Arc;

use weir_contract::{Contract, contract};

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
        let mut problems = Vec::new();
        let mut text = |name: &str| match get(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                problems.push(format!("{name} is not set"));
                String::new()
            }
        };
        let (stack, dead_letter_bucket) = (text("STACK"), text("DEAD_LETTER_BUCKET"));
        let (listed, keys) = (text("CONTRACTS"), text("PARTITION_KEYS"));
        let mut contracts = HashMap::new();
        for entry in listed.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.split_once('=') {
                None => problems.push(format!("CONTRACTS has `{entry}`, but must be `delivery-stream=dataset,…`")),
                Some((stream, dataset)) => match contract(dataset.trim()) {
                    Ok(contract) => {
                        contracts.insert(stream.trim().to_owned(), Arc::new(contract));
                    }
                    Err(error) => problems.push(format!("CONTRACTS, `{entry}`: {error}")),
                },
            }
        }
        let partition_keys = match keys.as_str() {
            "on" => true,
            "off" | "" => false,
            other => {
                problems.push(format!("PARTITION_KEYS is `{other}`, but must be `on` or `off`"));
                false
            }
        };
        if problems.is_empty() {
            return Ok(Self { stack, dead_letter_bucket, contracts, partition_keys });
        }
        Err(problems.join("\n"))
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
