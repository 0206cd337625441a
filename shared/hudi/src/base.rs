//! Base files: Parquet as Hudi's own writers leave it, with Hudi's columns in front and the Avro schema in the footer.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::arrow::{ArrowSchemaConverter, ProjectionMask};
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type};
use weir_delivery::Failure;

use crate::schema::{META_COLUMNS, fixed_bytes, to_avro, widens, with_meta};

/// Rows that are read at a time.
const BATCH_ROWS: usize = 8_192;

/// Rows of a row group: what readers skip by statistics, and what is held in memory while it is encoded.
const GROUP_ROWS: usize = 131_072;

fn broken(doing: &str, error: impl std::fmt::Display) -> Failure {
    Failure::internal("HudiFile", format!("{doing}: {error}"))
}

/// The Parquet schema that Hudi's writers give these columns: decimals are of a fixed length, whatever their precision, because
/// Hudi's merges read files by their Avro schema, and that says so.
fn parquet_schema(schema: &SchemaRef, name: &str) -> Result<SchemaDescriptor, Failure> {
    let plain = ArrowSchemaConverter::new().convert(schema).map_err(|error| broken("make a schema", error))?;
    let fields = schema.fields().iter().zip(plain.root_schema().get_fields()).map(|(field, converted)| {
        match field.data_type() {
            DataType::Decimal128(precision, scale) => decimal(field, i32::from(*precision), i32::from(*scale)),
            _ => Ok(Arc::clone(converted)),
        }
    });
    let fields = fields.collect::<Result<Vec<_>, Failure>>()?;
    let root = Type::group_type_builder(name).with_fields(fields).build();
    Ok(SchemaDescriptor::new(Arc::new(root.map_err(|error| broken("make a schema", error))?)))
}

fn decimal(field: &Field, precision: i32, scale: i32) -> Result<Arc<Type>, Failure> {
    let bytes = u8::try_from(precision).map_or(0, fixed_bytes) as i32;
    let kind = Type::primitive_type_builder(field.name(), Physical::FIXED_LEN_BYTE_ARRAY)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::decimal(scale, precision)))
        .with_precision(precision)
        .with_scale(scale)
        .with_length(bytes)
        .build();
    kind.map(Arc::new).map_err(|error| broken("make a schema", error))
}

/// A base file that is being written, in memory.
pub(crate) struct Encoder {
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
}

impl Encoder {
    /// Of these data columns. `unique`: columns whose values hardly repeat.
    pub(crate) fn new(data: &SchemaRef, table: &str, unique: &[String]) -> Result<Self, Failure> {
        let schema = with_meta(data);
        let avro = to_avro(&schema, table)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            // As Java's readers take versions apart.
            .set_created_by(concat!("weir version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(64))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_key_value_metadata(Some(vec![
                KeyValue::new("parquet.avro.schema".to_owned(), avro),
                KeyValue::new("writer.model.name".to_owned(), "avro".to_owned()),
            ]));
        let own = ["_hoodie_commit_seqno", "_hoodie_record_key"];
        for name in own.into_iter().chain(unique.iter().map(String::as_str)) {
            // A dictionary of values that hardly repeat is work for nothing.
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(name), false);
        }
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(parquet_schema(&schema, &format!("{table}_record"))?);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options);
        Ok(Self { writer: writer.map_err(|error| broken("begin a base file", error))?, rows: 0 })
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    pub(crate) fn push(&mut self, rows: &RecordBatch) -> Result<(), Failure> {
        self.rows += rows.num_rows() as u64;
        self.writer.write(rows).map_err(|error| broken("write a base file", error))
    }

    pub(crate) fn finish(self) -> Result<Bytes, Failure> {
        self.writer.into_inner().map(Bytes::from).map_err(|error| broken("end a base file", error))
    }
}

/// Rows of a base file, as the table has its columns now.
pub(crate) struct Decoder {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    name: String,
}

/// Reads these columns of a file. Those that it lacks are null, those that were narrower are widened.
///
/// # Errors
/// `HudiFile`: it is no Parquet file, or one of another table.
pub(crate) fn decode(bytes: Bytes, name: &str, columns: SchemaRef) -> Result<Decoder, Failure> {
    let unreadable = |error| Failure::user("HudiFile", format!("{name} can't be read: {error}"));
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(unreadable)?;
    let wanted = columns.fields().iter().map(|field| field.name().as_str());
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
    Ok(Decoder { reader, schema: columns, name: name.to_owned() })
}

impl Iterator for Decoder {
    type Item = Result<RecordBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.reader.next()?;
        let unreadable = |error| Failure::user("HudiFile", format!("{} can't be read: {error}", self.name));
        Some(rows.and_then(|rows| adapt(&rows, &self.schema)).map_err(unreadable))
    }
}

/// The same rows in these columns.
pub(crate) fn adapt(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = schema.fields().iter().map(|field| match rows.column_by_name(field.name()) {
        Some(array) if array.data_type() == field.data_type() => Ok(Arc::clone(array)),
        Some(array) if widens(array.data_type(), field.data_type()) => cast(array, field.data_type()),
        // A cast makes nulls of what does not fit.
        Some(array) => {
            let (name, has, wants) = (field.name(), array.data_type(), field.data_type());
            Err(ArrowError::CastError(format!("the column `{name}` is {has} and not {wants}")))
        }
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_, _>>()?;
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
}

/// The same text, so many times.
pub(crate) fn repeated(text: &str, times: usize) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(text, times)))
}

/// Where a column of Hudi's own is.
pub(crate) fn meta_index(name: &str) -> usize {
    META_COLUMNS.iter().position(|column| *column == name).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Decimal128Array, Int32Array};
    use arrow_schema::Schema;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    #[test]
    fn files_are_as_hudis_writers_leave_them() {
        let data = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int32, true),
            Field::new("sum", DataType::Decimal128(9, 2), true),
        ]));
        let mut encoder = Encoder::new(&data, "orders", &[]).unwrap();
        let sums = Decimal128Array::from(vec![Some(-125), None]).with_precision_and_scale(9, 2).unwrap();
        let texts = || repeated("x", 2);
        let columns = vec![
            texts(),
            texts(),
            texts(),
            texts(),
            texts(),
            Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef,
            Arc::new(sums),
        ];
        let rows = RecordBatch::try_new(with_meta(&data), columns).unwrap();
        encoder.push(&rows).unwrap();
        let bytes = encoder.finish().unwrap();

        let file = SerializedFileReader::new(bytes.clone()).unwrap();
        let footer = file.metadata().file_metadata();
        let keys: Vec<&str> = footer.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(keys, ["parquet.avro.schema", "writer.model.name"]);
        let sum = footer.schema_descr().column(6);
        assert_eq!((sum.physical_type(), sum.type_length()), (Physical::FIXED_LEN_BYTE_ARRAY, 4));
        assert_eq!(footer.schema_descr().root_schema().get_fields().len(), 7);

        let back: Vec<RecordBatch> =
            decode(bytes.clone(), "f", with_meta(&data)).unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(back, [rows]);
        // As the table has become since.
        let wider = Arc::new(Schema::new(vec![
            Field::new("new", DataType::Utf8, true),
            Field::new("id", DataType::Int64, true),
        ]));
        let back = decode(bytes, "f", wider).unwrap().next().unwrap().unwrap();
        assert_eq!(back.column(0).null_count(), 2);
        assert_eq!(back.column(1).as_primitive::<Int64Type>().values(), &[1, 2]);
    }
}
