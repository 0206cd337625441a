//! The contracts that are built in: every file of `datasets/`.

use weir_settings::did_you_mean;

use crate::{Contract, ContractError};

/// Each file's name and text, by name.
const DATASETS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/datasets.rs"));

/// Why there is no such contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoContract {
    /// No file has that name.
    #[error("there is no dataset `{name}`: there are {known}{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        hint: String,
        /// What there is.
        known: String,
    },
    /// Its file is wrong.
    #[error(transparent)]
    Wrong(#[from] ContractError),
}

/// The names of the contracts that are built in.
pub fn names() -> impl Iterator<Item = &'static str> {
    DATASETS.iter().map(|(name, _)| *name)
}

/// A contract that is built in.
///
/// # Errors
/// There is none of that name, or its file is wrong.
pub fn contract(name: &str) -> Result<Contract, NoContract> {
    let Some((_, text)) = DATASETS.iter().find(|(known, _)| *known == name) else {
        let hint = did_you_mean(name, names());
        let known: Vec<String> = names().map(|name| format!("`{name}`")).collect();
        return Err(NoContract::Unknown { name: name.to_owned(), hint, known: known.join(", ") });
    };
    Ok(Contract::parse(&format!("datasets/{name}.toml"), text)?)
}
