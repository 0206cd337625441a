//! What the template tells the function, read once.

use weir_command::Location;
use weir_contract::{Contract, contract};
use weir_live::Plan;
use weir_settings::Variables;

/// The function's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `STACK`: the stack's name, the namespace of its metrics.
    pub stack: String,
    /// `STATISTICS`: where results are, `<STATISTICS><dataset>/`, and the parts they are made of, `<STATISTICS>_parts/`.
    pub statistics: Location,
    /// `DELIVERS`: whether results are marked to be delivered to OpenSearch.
    pub delivers: bool,
    /// `SEARCH_ENDPOINT`: where the function that delivers finds OpenSearch, `https://host`. Not set in the stream's function.
    pub search: Option<Search>,
}

/// An OpenSearch domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// `https://host`, or `http://host:port` on a laptop.
    pub endpoint: String,
    /// `SEARCH_SECRET`: the secret that holds `username` and `password`; without it, the function's role signs.
    pub secret: Option<String>,
}

impl Config {
    /// Reads the settings by name, and what `DATASET` names.
    ///
    /// # Errors
    /// Every problem at once, a line each.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<(Self, Contract, Plan), String> {
        let mut variables = Variables::new(get);
        let stack = variables.text("STACK");
        let statistics = variables.parsed::<Location>("STATISTICS");
        let dataset = variables.text("DATASET");
        let delivers =
            variables.one_of("DELIVERS", |value| value.parse().ok(), "`true` or `false`").unwrap_or_default();
        let endpoint = variables.optional("SEARCH_ENDPOINT");
        if let Some(endpoint) =
            endpoint.as_ref().filter(|it| !it.starts_with("https://") && !it.starts_with("http://127.0.0.1:"))
        {
            variables.problem("SEARCH_ENDPOINT", format!("`{endpoint}` must begin with https://"));
        }
        let secret = variables.optional("SEARCH_SECRET");
        let planned = contract(&dataset).map_err(|error| error.to_string()).and_then(|contract| {
            let none = || format!("the contract of `{dataset}` has no [live], which says what is kept of a window");
            let plan = Plan::of(&contract).ok_or_else(none)?.map_err(|error| error.to_string())?;
            Ok((contract, plan))
        });
        if let (Err(problem), false) = (&planned, dataset.is_empty()) {
            variables.problem("DATASET", problem);
        }
        variables.finish()?;
        let statistics = statistics.ok_or("STATISTICS is missing")?.as_prefix();
        let (contract, plan) = planned?;
        let search = endpoint.map(|endpoint| Search { endpoint, secret });
        Ok((Self { stack, statistics, delivers, search }, contract, plan))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dataset: &str, statistics: &str) -> Result<(Config, Contract, Plan), String> {
        Config::read(|name| match name {
            "STACK" => Some("weir".into()),
            "DELIVERS" => Some("false".into()),
            "DATASET" => Some(dataset.into()),
            "STATISTICS" => Some(statistics.into()),
            _ => None,
        })
    }

    #[test]
    fn a_whole_set_is_read() {
        let (config, contract, plan) = read("trips", "s3://tables-bucket/live").unwrap();
        assert_eq!(config.statistics.to_string(), "s3://tables-bucket/live/");
        assert_eq!((contract.name(), plan.dataset()), ("trips", "trips"));
    }

    #[test]
    fn every_problem_is_said_at_once() {
        let said = read("orders", "live").err().unwrap();
        assert!(said.contains("no [live]") && said.contains("STATISTICS"), "{said}");
        assert!(read("trip", "s3://tables-bucket/live").err().unwrap().contains("`trips`"));
    }
}
