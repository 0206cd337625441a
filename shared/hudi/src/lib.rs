//! Apache Hudi copy-on-write tables, version 6: what lies in a table's folder, purely.
//!
//! * [`timeline`]: what was done to the table, and what somebody has begun.
//! * [`commit`]: what one commit did.
//! * [`names`]: base files, and which file group a key belongs to.
//!
//! Terms are Hudi's ("Apache Hudi technical specification", version 6): an *instant* is an action at a time, a *file group* the
//! versions of one file, a *slice* one of them.

pub mod commit;
pub mod names;
pub mod timeline;
