//! Which tables are taken, and how: `public.customers=customers,public.items/16,shop.*,-shop.audit`.

use std::sync::Arc;

use weir_changes::Source;
use weir_contract::{Contract, contract};

/// Rules, the first that fits counts.
#[derive(Debug, Clone, Default)]
pub struct Routes(Vec<Route>);

#[derive(Debug, Clone)]
struct Route {
    schema: String,
    /// All of the schema's, if none is named.
    table: Option<String>,
    /// Nothing: the table is left out.
    taken: Option<Taken>,
}

/// How a table is taken.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The contract that somebody wrote for it. Without one it is as its database has it.
    pub contract: Option<Arc<Contract>>,
    /// How many buckets its rows are in, if they are.
    pub buckets: Option<u32>,
}

/// So many file groups are written at once at most, when a table begins.
const MOST_BUCKETS: u32 = 1_024;

impl Routes {
    /// Reads `schema.table`, `schema.table=dataset`, `schema.table/buckets`, `schema.*` and `-schema.table`, with commas between.
    ///
    /// # Errors
    /// Every problem, with the rule and what would be right.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let (mut routes, mut problems) = (Vec::new(), Vec::new());
        for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
            match route(rule) {
                Ok(route) => routes.push(route),
                Err(why) => problems.push(format!("`{rule}`: {why}")),
            }
        }
        if routes.is_empty() && problems.is_empty() {
            problems.push("no table is named: write schema.table, schema.table=dataset or schema.*".to_owned());
        }
        // A table that is named counts before its schema.
        routes.sort_by_key(|route| route.table.is_none());
        if problems.is_empty() { Ok(Self(routes)) } else { Err(problems) }
    }

    /// The contracts that tables have.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.0.iter().filter_map(|route| route.taken.as_ref()?.contract.as_deref())
    }

    /// Whether a table is taken, and how.
    pub fn of(&self, source: &Source) -> Option<&Taken> {
        let fits = |route: &&Route| {
            route.schema == source.schema && route.table.as_ref().is_none_or(|table| *table == source.table)
        };
        self.0.iter().find(fits).and_then(|route| route.taken.as_ref())
    }
}

fn route(rule: &str) -> Result<Route, String> {
    let (is_taken, rule) = rule.strip_prefix('-').map_or((true, rule), |rest| (false, rest));
    let (place, dataset) = match rule.split_once('=') {
        Some((place, dataset)) => (place.trim(), Some(dataset.trim())),
        None => (rule, None),
    };
    let (schema, table) =
        place.split_once('.').ok_or("a table is named with its schema: public.customers, or public.*")?;
    if schema.is_empty() || table.is_empty() {
        return Err("the schema or the table is empty".to_owned());
    }
    let (table, buckets) = match table.split_once('/') {
        Some((table, buckets)) => {
            let count = buckets.parse().ok().filter(|count| (1..=MOST_BUCKETS).contains(count));
            (table, Some(count.ok_or(format!("`{buckets}` is no number of buckets: 1 to {MOST_BUCKETS}"))?))
        }
        None => (table, None),
    };
    let table = (table != "*").then(|| table.to_owned());
    if table.is_none() && buckets.is_some() {
        return Err("buckets are one table's".to_owned());
    }
    let contract = dataset.map(contract).transpose().map_err(|error| error.to_string())?;
    if let Some(contract) = &contract {
        if table.is_none() {
            return Err("a contract is one table's".to_owned());
        }
        if contract.key().is_empty() {
            return Err(format!("the contract `{}` has no `key`, and so no rows to change", contract.name()));
        }
        if contract.of_key().key().len() != contract.key().len() {
            return Err(format!(
                "the contract `{}` has a derived column in its `key`: deletes do not say it",
                contract.name()
            ));
        }
        if buckets.is_some() && (!contract.partition_by().is_empty() || contract.key().len() != 1) {
            return Err(format!(
                "the contract `{}` has partitions or a key of several columns, and buckets go with neither",
                contract.name()
            ));
        }
        if contract.partition_by().len() > 1 {
            return Err(format!("the contract `{}` has several partitions, and a Hudi table has one", contract.name()));
        }
    }
    let taken = is_taken.then(|| Taken { contract: contract.map(Arc::new), buckets });
    Ok(Route { schema: schema.to_owned(), table, taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(schema: &str, table: &str) -> Source {
        Source { schema: schema.to_owned(), table: table.to_owned() }
    }

    #[test]
    fn a_named_table_counts_before_its_schema() {
        let routes = Routes::parse("public.*, public.orders=orders,shop.items/8,-public.audit").unwrap();
        let name = |schema: &str, table: &str| {
            routes.of(&source(schema, table)).map(|found| found.contract.as_ref().map(|it| it.name().to_owned()))
        };
        assert_eq!(name("public", "orders"), Some(Some("orders".to_owned())));
        assert_eq!(name("public", "Orders"), Some(None));
        assert_eq!(name("shop", "items"), Some(None));
        assert_eq!(routes.of(&source("shop", "items")).unwrap().buckets, Some(8));
        assert_eq!(name("shop", "other"), None);
        assert_eq!(name("public", "audit"), None);
        assert_eq!(name("secret", "orders"), None);
    }

    #[test]
    fn what_the_template_shows_is_right() {
        let template = include_str!("../../../template.yaml");
        let shown = template.split("become Hudi tables, such as ").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(Routes::parse(shown).unwrap().0.len(), 4, "{shown}");
    }

    #[test]
    fn all_that_is_wrong_is_said() {
        let problems = Routes::parse(
            "customers,public.,shop.t=nothing,public.*=orders,public.p=page_logs,a.b/0,a.*/2,a.o/4=orders",
        )
        .unwrap_err();
        let words =
            ["public.customers", "empty", "nothing", "one table's", "no `key`", "`0`", "one table's", "neither"];
        assert_eq!(problems.len(), words.len(), "{problems:?}");
        for (problem, word) in problems.iter().zip(words) {
            assert!(problem.contains(word), "{word}: {problem}");
        }
        assert!(Routes::parse(" ").unwrap_err()[0].contains("schema.table"));
    }
}
