//! The contracts and the commands as a Python module, for Spark.
//!
//! * [`columns`]: `clean` takes an Arrow batch and gives the clean rows: for `DataFrame.mapInArrow` over any DataFrame.
//! * [`work`]: what a task of a Spark job does with objects on S3: the same code as the Lambda's, so the same rows, the same
//!   schema and the same quarantine. It reads and writes by the AWS SDK, with the credentials that Python has.
//!
//! Nothing here holds Python's lock while it works.

mod aws;
mod columns;
mod work;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<aws::Aws>()?;
    module.add_class::<columns::Rows>()?;
    module.add_function(wrap_pyfunction!(columns::clean, module)?)?;
    module.add_function(wrap_pyfunction!(columns::schema, module)?)?;
    module.add_function(wrap_pyfunction!(columns::ddl, module)?)?;
    Ok(())
}
