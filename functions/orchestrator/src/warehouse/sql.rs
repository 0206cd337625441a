//! The statements of a load.
//!
//! A table a dataset has a row a (run, day, group) with sums and counts, which add up; means are made when they are asked for, by
//! views, so that they stay right as runs accumulate. A load replaces its runs: it deletes them by name and inserts what their
//! files hold. Redshift's COPY has no upsert, so files go to a stage first; and it takes Parquet's columns by position, so the files of
//! one contract have a name of their own ([`Contract::sums_shape`]), by which they are asked for.
//!
//! All but COPY is SQL that PostgreSQL knows as well, which is what the tests run it on (local/redshift.py).

use weir_command::Location;
use weir_contract::{Contract, FromSums, Type};

use super::RunSums;

/// Where and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The schema, which must exist.
    pub schema: String,
    /// The role that COPY reads S3 with: an ARN, or `default` for the warehouse's own.
    pub copy_role: String,
}

impl Place {
    /// The table of a dataset's sums.
    pub fn table(&self, dataset: &str) -> String {
        self.name(&format!("{dataset}_sums"))
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(name))
    }

    /// The table and the views, for one transaction with a load. Views lock out who reads them, so this is not for every load.
    pub fn preparation(&self, contract: &Contract) -> Vec<String> {
        let daily = contract.by_day();
        let (table, run_id) = (self.table(contract.name()), quoted("run_id"));
        let typed = typed(&daily.sums_columns());
        vec![
            format!("CREATE TABLE IF NOT EXISTS {table} ({run_id} VARCHAR(256) NOT NULL, {typed})"),
            self.view(contract, "metrics", &table),
            self.view(&daily, "metrics_by_day", &table),
        ]
    }

    /// The load itself, for one transaction. At most [`MOST_AT_ONCE`](weir_ledger::batch::load::MOST_AT_ONCE) runs fit the Data
    /// API's 40 statements beside the preparation.
    pub fn load(&self, contract: &Contract, runs: &[RunSums]) -> Vec<String> {
        let columns = contract.by_day().sums_columns();
        let named: Vec<String> = columns.iter().map(|(name, _)| quoted(name)).collect();
        let (named, run_id) = (named.join(", "), quoted("run_id"));
        let (dataset, table) = (contract.name(), self.table(contract.name()));
        let stage = quoted(&format!("weir_stage_{dataset}"));
        let mut all = vec![format!("CREATE TEMP TABLE {stage} ({})", typed(&columns))];
        for RunSums { run, files } in runs {
            let run = literal(run);
            if let Some(files) = files {
                all.push(format!("DELETE FROM {stage}"));
                all.push(self.copy(&stage, files));
            }
            all.push(format!("DELETE FROM {table} WHERE {run_id} = {run}"));
            if files.is_some() {
                all.push(format!("INSERT INTO {table} ({run_id}, {named}) SELECT {run}, {named} FROM {stage}"));
            }
        }
        all
    }

    fn copy(&self, stage: &str, files: &Location) -> String {
        let role = if self.copy_role == "default" { "default".to_owned() } else { literal(&self.copy_role) };
        format!("COPY {stage} FROM {} IAM_ROLE {role} FORMAT AS PARQUET", literal(&files.to_string()))
    }

    /// The contract's metrics over all runs.
    fn view(&self, contract: &Contract, what: &str, table: &str) -> String {
        let keys: Vec<String> = contract.metric_keys().iter().map(|key| quoted(key.name)).collect();
        let columns = contract.sums_columns();
        let kind_of = |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, kind)| *kind);
        let metrics = contract.from_sums();
        let metrics = metrics.iter().map(|(name, how)| format!("{} AS {}", expression(how, kind_of), quoted(name)));
        let selected: Vec<String> = keys.iter().cloned().chain(metrics).collect();
        let view = self.name(&format!("{}_{what}", contract.name()));
        let grouped = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
        format!("CREATE OR REPLACE VIEW {view} AS SELECT {} FROM {table}{grouped}", selected.join(", "))
    }
}

fn expression(how: &FromSums, kind_of: impl Fn(&str) -> Option<Type>) -> String {
    let sum = |column: &str| format!("SUM({})", quoted(column));
    match how {
        // A sum of whole numbers is a decimal otherwise.
        FromSums::Total(column) if kind_of(column) == Some(Type::Int64) => format!("CAST({} AS BIGINT)", sum(column)),
        FromSums::Total(column) => sum(column),
        FromSums::Mean(total, count) => {
            let float = |sum: String| format!("CAST({sum} AS DOUBLE PRECISION)");
            format!("{} / NULLIF({}, 0)", float(sum(total)), float(sum(count)))
        }
        FromSums::Least(column) => format!("MIN({})", quoted(column)),
        FromSums::Greatest(column) => format!("MAX({})", quoted(column)),
    }
}

/// As Parquet's types are loaded (Redshift database developer guide, "COPY from columnar data formats"). A text has no length in a
/// contract; Redshift's longest is 65,535 bytes.
fn sql_type(kind: Type) -> String {
    match kind {
        Type::Bool => "BOOLEAN".to_owned(),
        Type::Int32 => "INTEGER".to_owned(),
        Type::Int64 => "BIGINT".to_owned(),
        Type::Float64 => "DOUBLE PRECISION".to_owned(),
        Type::Decimal { precision, scale } => format!("DECIMAL({precision}, {scale})"),
        Type::String => "VARCHAR(65535)".to_owned(),
        Type::Date => "DATE".to_owned(),
        Type::Timestamp => "TIMESTAMP".to_owned(),
    }
}

fn typed(columns: &[(String, Type)]) -> String {
    let typed = columns.iter().map(|(name, kind)| format!("{} {}", quoted(name), sql_type(*kind)));
    typed.collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_contract::contract;
    use weir_ledger::batch::load::MOST_AT_ONCE;

    fn place() -> Place {
        Place { schema: "public".into(), copy_role: "arn:aws:iam::123456789012:role/copy".into() }
    }

    fn sums(run: &str) -> RunSums {
        let files = format!("s3://tables/page_logs/sums/job={run}/0a1b2c3d");
        RunSums { run: run.into(), files: Some(Location::parse(&files).unwrap()) }
    }

    #[test]
    fn a_run_is_staged_and_replaces_itself() {
        let page_logs = contract("page_logs").unwrap();
        let expected = [
            r#"CREATE TABLE IF NOT EXISTS "public"."page_logs_sums" ("run_id" VARCHAR(256) NOT NULL, "event_date" DATE, "page_url" VARCHAR(65535), "sum_tti" BIGINT, "count_tti" BIGINT, "sum_ttar" BIGINT, "count_ttar" BIGINT, "event_count" BIGINT)"#,
            r#"CREATE OR REPLACE VIEW "public"."page_logs_metrics" AS SELECT "page_url", CAST(SUM("sum_tti") AS DOUBLE PRECISION) / NULLIF(CAST(SUM("count_tti") AS DOUBLE PRECISION), 0) AS "avg_tti", CAST(SUM("sum_ttar") AS DOUBLE PRECISION) / NULLIF(CAST(SUM("count_ttar") AS DOUBLE PRECISION), 0) AS "avg_ttar", CAST(SUM("event_count") AS BIGINT) AS "event_count" FROM "public"."page_logs_sums" GROUP BY "page_url""#,
            r#"CREATE OR REPLACE VIEW "public"."page_logs_metrics_by_day" AS SELECT "event_date", "page_url", CAST(SUM("sum_tti") AS DOUBLE PRECISION) / NULLIF(CAST(SUM("count_tti") AS DOUBLE PRECISION), 0) AS "avg_tti", CAST(SUM("sum_ttar") AS DOUBLE PRECISION) / NULLIF(CAST(SUM("count_ttar") AS DOUBLE PRECISION), 0) AS "avg_ttar", CAST(SUM("event_count") AS BIGINT) AS "event_count" FROM "public"."page_logs_sums" GROUP BY "event_date", "page_url""#,
            r#"CREATE TEMP TABLE "weir_stage_page_logs" ("event_date" DATE, "page_url" VARCHAR(65535), "sum_tti" BIGINT, "count_tti" BIGINT, "sum_ttar" BIGINT, "count_ttar" BIGINT, "event_count" BIGINT)"#,
            r#"DELETE FROM "weir_stage_page_logs""#,
            r#"COPY "weir_stage_page_logs" FROM 's3://tables/page_logs/sums/job=r1/0a1b2c3d' IAM_ROLE 'arn:aws:iam::123456789012:role/copy' FORMAT AS PARQUET"#,
            r#"DELETE FROM "public"."page_logs_sums" WHERE "run_id" = 'r1'"#,
            r#"INSERT INTO "public"."page_logs_sums" ("run_id", "event_date", "page_url", "sum_tti", "count_tti", "sum_ttar", "count_ttar", "event_count") SELECT 'r1', "event_date", "page_url", "sum_tti", "count_tti", "sum_ttar", "count_ttar", "event_count" FROM "weir_stage_page_logs""#,
            r#"DELETE FROM "public"."page_logs_sums" WHERE "run_id" = 'it''s'"#,
        ];
        let runs = [sums("r1"), RunSums { run: "it's".into(), files: None }];
        let mut all = place().preparation(&page_logs);
        all.extend(place().load(&page_logs, &runs));
        assert_eq!(all, expected);
    }

    #[test]
    fn as_many_runs_as_one_load_takes_fit_one_call_of_every_dataset() {
        let runs: Vec<RunSums> = (0..MOST_AT_ONCE).map(|n| sums(&format!("r{n}"))).collect();
        for name in weir_contract::names().filter(|name| contract(name).unwrap().has_metrics()) {
            let contract = contract(name).unwrap();
            let (prepared, loaded) = (place().preparation(&contract).len(), place().load(&contract, &runs).len());
            assert_eq!(prepared + loaded, 40, "{name}");
        }
    }
}
