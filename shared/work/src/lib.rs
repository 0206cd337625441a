//! What commands do with objects on S3. The functions and the tasks of a Spark job run this same code, so what a job comes to
//! does not depend on who does it.
//!
//! * [`copy`]: the bytes, unchanged, server side.
//! * [`convert`]: what goes through the process: `convert`, `clean`, `aggregate`.

pub mod convert;
pub mod copy;
