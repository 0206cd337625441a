//! Tables of the catalog have the columns that their contracts and the code have.

use std::collections::BTreeMap;

use serde_json::Value;
use weir_contract::contract;
use weir_live::Plan;

use crate::worlds::{stacks, template};

/// Which contract a table is of.
const CONTRACTS: [(&str, &str); 2] = [("trips", "trips"), ("page_logs_delivered", "page_logs")];

fn columns(all: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.as_array().into_iter().flatten().map(|column| (text(&column["Name"]), text(&column["Type"]))).collect()
}

#[test]
fn columns_and_partitions_are_the_contracts() {
    let template = template();
    let mut seen = BTreeMap::new();
    for (world, stack) in stacks(&template) {
        for (_, table) in stack.resources("AWS::Glue::Table") {
            let input = &table["TableInput"];
            let name = input["Name"].as_str().unwrap();
            *seen.entry(name.to_owned()).or_insert(0) += 1;
            let there = columns(&input["StorageDescriptor"]["Columns"]);
            let partitions = columns(&input["PartitionKeys"]);
            let names: Vec<&str> = partitions.iter().map(|(name, _)| name.as_str()).collect();
            if let Some((_, contract_of)) = CONTRACTS.iter().find(|(table, _)| *table == name) {
                let contract = contract(contract_of).unwrap();
                assert_eq!(there, contract.hive_columns(&names), "{name} of {world}");
                let whole = contract.hive_columns(&[]);
                for partition in &partitions {
                    assert!(
                        partition.0 == "delivery_date" || whole.contains(partition),
                        "{name} of {world}: {partition:?}"
                    );
                }
            } else {
                assert_eq!(name, "live_trips", "whose columns are {name}'s?");
                let trips = contract("trips").unwrap();
                let plan = Plan::of(&trips).unwrap().unwrap();
                let there: BTreeMap<&str, &str> =
                    there.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
                assert_eq!(there, plan.hive_columns().collect(), "{world}");
            }
            check_projection(name, input, &partitions);
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

/// Each partition is projected by its type, and the folders are those that are written.
fn check_projection(name: &str, input: &Value, partitions: &[(String, String)]) {
    let parameters = &input["Parameters"];
    assert_eq!(parameters["projection.enabled"], "true", "{name}");
    let location = input["StorageDescriptor"]["Location"].as_str().unwrap();
    let mut folders = location.to_owned();
    for (partition, kind) in partitions {
        let projected = &parameters[format!("projection.{partition}.type")];
        assert_eq!(projected, if kind == "date" { "date" } else { "integer" }, "{name}.{partition}");
        assert!(parameters[format!("projection.{partition}.range")].is_string(), "{name}.{partition}");
        if kind == "date" {
            assert_eq!(parameters[format!("projection.{partition}.format")], "yyyy-MM-dd", "{name}.{partition}");
        }
        folders += &format!("{partition}=${{{partition}}}/");
    }
    assert_eq!(parameters["storage.location.template"], folders.as_str(), "{name}");
}

/// Where Firehose writes is where its table looks, and its schema is that table.
#[test]
fn deliveries_write_where_their_tables_look() {
    let template = template();
    let mut seen = 0;
    for (world, stack) in stacks(&template) {
        let tables = stack.resources("AWS::Glue::Table");
        for (name, delivery) in stack.resources("AWS::KinesisFirehose::DeliveryStream") {
            let to = &delivery["ExtendedS3DestinationConfiguration"];
            let Some(prefix) = to["Prefix"].as_str() else { continue };
            seen += 1;
            let table = &to["DataFormatConversionConfiguration"]["SchemaConfiguration"]["TableName"];
            let (_, table) = tables.iter().find(|(_, other)| other["TableInput"]["Name"] == *table).unwrap();
            let parameters = &table["TableInput"]["Parameters"];
            let looks = parameters["storage.location.template"].as_str().unwrap();
            let bucket = to["BucketARN"].as_str().unwrap().trim_start_matches("arn:aws:s3:::");
            let mut writes = format!("s3://{bucket}/{prefix}");
            for key in table["TableInput"]["PartitionKeys"].as_array().unwrap() {
                let key = key["Name"].as_str().unwrap();
                writes = writes.replace(&format!("!{{partitionKeyFromLambda:{key}}}"), &format!("${{{key}}}"));
                writes = writes.replace(&format!("{key}=!{{timestamp:yyyy-MM-dd}}"), &format!("{key}=${{{key}}}"));
            }
            assert_eq!(writes, looks, "{name} of {world}");
            assert!(to["ErrorOutputPrefix"].as_str().unwrap().starts_with("telemetry-errors/"), "{name}");
        }
    }
    assert!(seen >= 5, "{seen} deliveries");
}

/// What DMS is told is what `cdc` reads: messages by the record, with their keys, transactions and control records.
#[test]
fn dms_sends_what_is_read() {
    let template = template();
    let mut seen = 0;
    for (_, stack) in stacks(&template) {
        for (_, endpoint) in stack.resources("AWS::DMS::Endpoint") {
            let settings = &endpoint["KinesisSettings"];
            if settings.is_null() {
                continue;
            }
            seen += 1;
            assert_eq!(settings["MessageFormat"], "json-unformatted");
            for what in [
                "IncludeTransactionDetails",
                "IncludeControlDetails",
                "IncludeTableAlterOperations",
                "IncludeNullAndEmpty",
                "PartitionIncludeSchemaTable",
            ] {
                assert_eq!(settings[what], true, "{what}");
            }
        }
        for (_, replication) in stack.resources("AWS::DMS::ReplicationConfig") {
            let before = &replication["ReplicationSettings"]["BeforeImageSettings"];
            assert_eq!((&before["EnableBeforeImage"], &before["FieldName"]), (&true.into(), &"before-image".into()));
            let mappings: Value = serde_json::from_str(replication["TableMappings"].as_str().unwrap()).unwrap();
            let mapped =
                mappings["rules"].as_array().unwrap().iter().find(|rule| rule["rule-type"] == "object-mapping");
            assert_eq!(mapped.unwrap()["mapping-parameters"]["partition-key-type"], "primary-key");
        }
    }
    assert!(seen > 0);
}
