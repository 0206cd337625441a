//! What the template tells the function, read once.

use std::collections::HashMap;

use weir_contract::{Audience, Contract, contract};
use weir_settings::Variables;

/// The function's settings.
#[derive(Debug)]
pub struct Config {
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `DEAD_LETTER_BUCKET`.
    pub dead_letter_bucket: String,
    /// `CONTRACTS`, by delivery stream: `delivery-stream=dataset,…`, with `+keys` or `+masked` behind the dataset.
    pub contracts: HashMap<String, Applied>,
}

/// What is done with a delivery stream's records.
#[derive(Debug)]
pub struct Applied {
    /// What they are cleaned by.
    pub contract: Contract,
    /// Whether answers carry the keys that the stream partitions by dynamically (`+keys`).
    pub keys: bool,
    /// For whom: dashboards with `+masked`, else tables.
    pub audience: Audience,
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
                Some((stream, dataset)) => {
                    let mut words = dataset.trim().split('+');
                    let applied = contract(words.next().unwrap_or_default());
                    let applied = applied.map(|contract| Applied { contract, keys: false, audience: Audience::Tables });
                    let mut applied = match applied {
                        Ok(applied) => applied,
                        Err(error) => {
                            variables.problem("CONTRACTS", format!("`{entry}`: {error}"));
                            continue;
                        }
                    };
                    for word in words {
                        match word {
                            "keys" => applied.keys = true,
                            "masked" => applied.audience = Audience::Dashboards,
                            _ => {
                                let reason = format!("`{entry}`: there is no `+{word}`, but `+keys` and `+masked`");
                                variables.problem("CONTRACTS", reason);
                            }
                        }
                    }
                    contracts.insert(stream.trim().to_owned(), applied);
                }
            }
        }
        variables.finish()?;
        Ok(Self { stack, dead_letter_bucket, contracts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_by_delivery_stream() {
        let config = Config::read(|name| {
            Some(
                if name == "CONTRACTS" {
                    "weir-trips=trips+keys, weir-logs=page_logs, weir-search=trips+masked+keys"
                } else {
                    "x"
                }
                .to_owned(),
            )
        })
        .unwrap();
        let found = |stream: &str| (config.contracts[stream].contract.name(), config.contracts[stream].keys);
        assert_eq!((found("weir-trips"), found("weir-logs")), (("trips", true), ("page_logs", false)));
        let audience = |stream: &str| config.contracts[stream].audience;
        assert_eq!((audience("weir-trips"), audience("weir-search")), (Audience::Tables, Audience::Dashboards));
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = Config::read(|name| match name {
            "CONTRACTS" => Some("weir-trips=trip,loose,weir-logs=page_logs+key".into()),
            _ => None,
        })
        .unwrap_err();
        for word in ["STACK", "DEAD_LETTER_BUCKET", "did you mean `trips`?", "`loose`", "`+key`"] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
