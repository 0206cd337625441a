//! A contract over Arrow batches.

use arrow_array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_pyarrow::{PyArrowType, ToPyArrow};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;
use weir_contract::{Audience, Cleaner, Contract, contract};

/// A dataset's contract.
pub(crate) fn contract_of(dataset: &str) -> PyResult<Contract> {
    contract(dataset).map_err(|error| PyKeyError::new_err(error.to_string()))
}

fn failed(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The clean rows of a batch, and the others: `row` (their place in the batch), `rule`, `field` and `reason`; the rule of a row
/// that the contract drops is null.
#[pyclass(frozen, get_all)]
pub(crate) struct Rows {
    clean: Py<PyAny>,
    refused: Py<PyAny>,
}

/// Cleans a batch by a dataset's contract, columns by name. `now_micros` is the time that derived columns are given, in
/// microseconds since 1970.
#[pyfunction]
pub(crate) fn clean(py: Python<'_>, dataset: &str, batch: PyArrowType<RecordBatch>, now_micros: i64) -> PyResult<Rows> {
    let contract = contract_of(dataset)?;
    let PyArrowType(batch) = batch;
    let (clean, refused) = py.detach(|| clean_batch(&contract, &batch, now_micros)).map_err(failed)?;
    Ok(Rows { clean: clean.to_pyarrow(py)?.unbind(), refused: refused.to_pyarrow(py)?.unbind() })
}

fn clean_batch(
    contract: &Contract,
    batch: &RecordBatch,
    now_micros: i64,
) -> Result<(RecordBatch, RecordBatch), arrow_schema::ArrowError> {
    let mut cleaner = Cleaner::new(contract, Audience::Tables, now_micros);
    let mut refused = Vec::new();
    cleaner.push_batch(batch, |one| refused.push(one))?;
    let violations = || refused.iter().map(|one| one.violation.as_ref());
    let columns: [(&str, ArrayRef); 4] = [
        ("row", Arc::new(refused.iter().map(|one| one.row as u64).collect::<UInt64Array>())),
        ("rule", Arc::new(violations().map(|one| Some(one?.rule.name())).collect::<StringArray>())),
        ("field", Arc::new(violations().map(|one| Some(one?.field.as_str())).collect::<StringArray>())),
        ("reason", Arc::new(violations().map(|one| Some(one?.reason.as_ref())).collect::<StringArray>())),
    ];
    Ok((cleaner.take()?, RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true)))?))
}

/// The clean rows' columns, as `pyarrow.Schema`.
#[pyfunction]
pub(crate) fn schema(py: Python<'_>, dataset: &str) -> PyResult<Py<PyAny>> {
    Ok(contract_of(dataset)?.schema().as_ref().to_pyarrow(py)?.unbind())
}

/// The clean rows' columns as Spark wants them for `mapInArrow`. Made from the contract, because Spark goes by place alone:
/// swapped columns of one type, or fewer columns, it takes without a word.
#[pyfunction]
pub(crate) fn ddl(dataset: &str) -> PyResult<String> {
    Ok(spark_ddl(&contract_of(dataset)?.schema()))
}

fn spark_ddl(schema: &Schema) -> String {
    let column = |field: &Arc<Field>| {
        let kind = match field.data_type() {
            DataType::Boolean => "boolean".to_owned(),
            DataType::Int32 => "int".to_owned(),
            DataType::Int64 => "bigint".to_owned(),
            DataType::Float64 => "double".to_owned(),
            DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
            DataType::Date32 => "date".to_owned(),
            DataType::Timestamp(TimeUnit::Microsecond, _) => "timestamp".to_owned(),
            _ => "string".to_owned(),
        };
        let nullable = if field.is_nullable() { "" } else { " not null" };
        format!("`{}` {kind}{nullable}", field.name())
    };
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}
