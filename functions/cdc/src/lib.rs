//! Database changes (AWS DMS' or Debezium's, on Kinesis) into Hudi tables, in two steps: each batch is reduced and staged by table, then
//! acknowledged; and what is staged of a table becomes one commit, every minute or so.
//!
//! * [`routes`]: which tables are taken, and by which contract.
//! * [`staged`]: what lies between the two steps.

pub mod routes;
pub mod staged;
