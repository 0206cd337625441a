//! `weir contract`: check, show and export dataset contracts.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::json;
use weir_contract::{Contract, contract, names};

use crate::Stop;
use crate::out::say;

#[derive(Args)]
pub(crate) struct ContractArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what is wrong with contracts: names, or paths of TOML files; all that are built in if none is named.
    Check { contracts: Vec<String> },
    /// A dataset's columns, and what is asked of them.
    Show {
        /// Its name, or the path of a TOML file.
        contract: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// `CREATE EXTERNAL TABLE` for Athena, or CloudFormation's columns.
    Ddl {
        /// Its name, or the path of a TOML file.
        contract: String,
        /// Where its files are.
        #[arg(long, default_value = "s3://YOUR-BUCKET/YOUR-PREFIX/")]
        location: String,
        /// `Columns` and `PartitionKeys` of an AWS::Glue::Table instead.
        #[arg(long)]
        cloudformation: bool,
        /// Of what batch runs write: `<dataset>/rows/` of the tables bucket, where each has a folder of its own.
        #[arg(long, conflicts_with = "cloudformation")]
        by_run: bool,
    },
}

impl ContractArgs {
    pub(crate) fn run(&self) -> Result<(), Stop> {
        match &self.verb {
            Verb::Check { contracts } => check(contracts),
            Verb::Show { contract, json } => show(&open(contract)?, *json),
            Verb::Ddl { contract, location, cloudformation, by_run } => {
                let contract = open(contract)?;
                let ddl = match (cloudformation, by_run) {
                    (true, _) => contract.cloudformation(),
                    (false, true) => contract.ddl_by_run(location),
                    (false, false) => contract.ddl(location),
                };
                say!("{}", ddl.trim_end());
                Ok(())
            }
        }
    }
}

/// By name, or by path if it looks like one.
fn open(name: &str) -> Result<Contract, Stop> {
    if !name.ends_with(".toml") && !name.contains('/') {
        return contract(name).map_err(|error| Stop(1, error.to_string()));
    }
    let text = std::fs::read_to_string(name).map_err(|error| Stop(1, format!("{name}: {error}")))?;
    Contract::parse(name, &text).map_err(|error| Stop(1, error.to_string()))
}

fn check(contracts: &[String]) -> Result<(), Stop> {
    let named: Vec<String> = match contracts {
        [] => names().map(str::to_owned).collect(),
        some => some.to_vec(),
    };
    let mut wrong = Vec::new();
    for name in &named {
        match open(name) {
            Ok(contract) => say!("{name}: {} columns, right", contract.columns().count()),
            Err(Stop(_, said)) => wrong.push(said),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Stop(1, wrong.join("\n"))) }
}

fn show(contract: &Contract, as_json: bool) -> Result<(), Stop> {
    if as_json {
        let columns: Vec<_> = contract
            .columns()
            .map(|column| json!({"name": column.name, "type": column.kind.to_string(), "nullable": column.nullable}))
            .collect();
        let found = json!({
            "name": contract.name(), "description": contract.description(), "columns": columns,
            "partition_by": contract.partition_by(), "key": contract.key(), "order_by": contract.order_by(),
        });
        say!("{found}");
        return Ok(());
    }
    say!("{}: {}", contract.name(), contract.description());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["COLUMN", "TYPE", "NOTES"]);
    for line in contract.describe() {
        table.add_row(line);
    }
    say!("{table}");
    for (what, names) in
        [("partitioned by", contract.partition_by()), ("key", contract.key()), ("newest by", contract.order_by())]
    {
        if !names.is_empty() {
            say!("{what}: {}", names.join(", "));
        }
    }
    Ok(())
}
