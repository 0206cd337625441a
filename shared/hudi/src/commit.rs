//! What one commit did: the JSON of `.hoodie/<instant>.commit`, member for member in Spark's order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// Files that were written, by partition.
    #[serde(default)]
    pub partition_to_write_stats: BTreeMap<String, Vec<WriteStat>>,
    /// Of merge-on-read tables.
    #[serde(default)]
    pub compacted: bool,
    /// The table's schema as Avro has it, under `schema`: a commit without one can't be read by hudi-rs. Members of our own are
    /// left alone by others.
    #[serde(default)]
    pub extra_metadata: BTreeMap<String, String>,
    /// `UPSERT`.
    #[serde(default = "unknown")]
    pub operation_type: String,
    /// File groups that are no longer, by partition: of commits that replace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partition_to_replace_file_ids: BTreeMap<String, Vec<String>>,
}

impl Commit {
    /// From a commit's file. What is null in it is as if it were left out, and an empty file is a commit of nothing: other writers leave
    /// both.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        if text.is_empty() {
            return Ok(Self { operation_type: unknown(), ..Self::default() });
        }
        let mut value: serde_json::Value = serde_json::from_slice(text)?;
        drop_nulls(&mut value);
        serde_json::from_value(value)
    }
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(all) => all.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn unknown() -> String {
    "UNKNOWN".to_owned()
}

/// A file that was written. Members that we make no use of are what Hudi's are when it makes none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WriteStat {
    /// The file group.
    pub file_id: String,
    /// Where it is, below the table.
    pub path: String,
    /// Of tables that log changes.
    pub cdc_stats: Option<BTreeMap<String, i64>>,
    /// The commit that wrote the slice before; `null`, as a text, of a new file group.
    pub prev_commit: String,
    /// Rows that are in it.
    pub num_writes: i64,
    /// Rows that were in the slice before and are not.
    pub num_deletes: i64,
    /// Rows that are others than in the slice before.
    pub num_update_writes: i64,
    /// Rows that are new.
    pub num_inserts: i64,
    /// Bytes that were written.
    pub total_write_bytes: i64,
    /// Rows that could not be written.
    pub total_write_errors: i64,
    /// Unused.
    pub temp_path: Option<String>,
    /// The partition: empty if the table has none.
    pub partition_path: String,
    /// Of merge-on-read tables, as all of the next.
    pub total_log_records: i64,
    /// See above.
    pub total_log_files_compacted: i64,
    /// See above.
    pub total_log_size_compacted: i64,
    /// See above.
    pub total_updated_records_compacted: i64,
    /// See above.
    pub total_log_blocks: i64,
    /// See above.
    pub total_corrupt_log_block: i64,
    /// See above.
    pub total_rollback_blocks: i64,
    /// The file's size.
    pub file_size_in_bytes: i64,
    /// Unused.
    pub min_event_time: Option<i64>,
    /// Unused.
    pub max_event_time: Option<i64>,
    /// Unused.
    pub runtime_stats: Option<serde_json::Value>,
}

/// What [`WriteStat::prev_commit`] is of a new file group.
pub const NO_COMMIT: &str = "null";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_sparks_order() {
        let stat = WriteStat { file_id: "f-0".into(), prev_commit: NO_COMMIT.into(), ..WriteStat::default() };
        let commit = Commit {
            partition_to_write_stats: [("dt=2024-05-01".to_owned(), vec![stat])].into(),
            extra_metadata: [("schema".to_owned(), "{}".to_owned())].into(),
            operation_type: "UPSERT".to_owned(),
            ..Commit::default()
        };
        let text = serde_json::to_string(&commit).unwrap();
        let expected = concat!(
            r#"{"partitionToWriteStats":{"dt=2024-05-01":[{"fileId":"f-0","path":"","cdcStats":null,"prevCommit":"null","#,
            r#""numWrites":0,"numDeletes":0,"numUpdateWrites":0,"numInserts":0,"totalWriteBytes":0,"totalWriteErrors":0,"#,
            r#""tempPath":null,"partitionPath":"","totalLogRecords":0,"totalLogFilesCompacted":0,"totalLogSizeCompacted":0,"#,
            r#""totalUpdatedRecordsCompacted":0,"totalLogBlocks":0,"totalCorruptLogBlock":0,"totalRollbackBlocks":0,"#,
            r#""fileSizeInBytes":0,"minEventTime":null,"maxEventTime":null,"runtimeStats":null}]},"compacted":false,"#,
            r#""extraMetadata":{"schema":"{}"},"operationType":"UPSERT"}"#
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Commit>(&text).unwrap(), commit);
    }

    #[test]
    fn what_others_write_is_read() {
        let text = r#"{"partitionToWriteStats":{"":[{"fileId":"f-0","path":"f-0_0-1-2_20241121103000123.parquet",
            "prevCommit":"20241121103000000","numWrites":3,"recordsStats":{"x":1},"runtimeStats":{"totalCreateTime":5}}]},
            "extraMetadata":{"schema":null,"a":"b"},"writePartitionPaths":[""],"writeStats":[],"totalCreateTime":5}"#;
        let commit = Commit::read(text.as_bytes()).unwrap();
        assert_eq!(commit.extra_metadata.len(), 1);
        assert_eq!(Commit::read(b"").unwrap().partition_to_write_stats.len(), 0);
        let stat = &commit.partition_to_write_stats.values().next().unwrap().first().unwrap().clone();
        assert_eq!((stat.num_writes, commit.operation_type.as_str()), (3, "UNKNOWN"));
    }
}
