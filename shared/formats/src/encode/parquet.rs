//! Parquet: a unit is a row group.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::{BrotliLevel, Compression as Codec, Encoding, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use weir_command::Compression;

use crate::{ConvertError, Sink};

pub(crate) struct Parquet {
    schema: SchemaRef,
    properties: WriterProperties,
    factory: ArrowRowGroupWriterFactory,
}

pub(crate) struct RowGroup<'a> {
    schema: &'a SchemaRef,
    columns: Vec<ArrowColumnWriter>,
    rows: u64,
}

pub(crate) struct File {
    writer: SerializedFileWriter<Counted>,
}

fn failed(error: ParquetError) -> ConvertError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(own) => ConvertError::Io(*own),
            Err(other) => ConvertError::Internal(format!("Parquet: {other}")),
        },
        ParquetError::NYI(what) => ConvertError::data("the output", format!("Parquet can't hold this: {what}")),
        other => ConvertError::Internal(format!("Parquet: {other}")),
    }
}

impl Parquet {
    pub(crate) fn new(compression: Compression, schema: &SchemaRef, unique: &[String]) -> Result<Self, ConvertError> {
        let codec = match compression {
            Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(3).map_err(failed)?),
            Compression::Gzip => Codec::GZIP(GzipLevel::default()),
            Compression::Lz4 => Codec::LZ4_RAW,
            Compression::Brotli => Codec::BROTLI(BrotliLevel::try_new(4).map_err(failed)?),
            Compression::None => Codec::UNCOMPRESSED,
            _ => Codec::SNAPPY,
        };
        let mut properties = WriterProperties::builder()
            .set_compression(codec)
            .set_created_by("weir".to_owned())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(64));
        for field in schema.fields().iter().filter(|field| unique.contains(field.name())) {
            // A dictionary of values that hardly repeat is work for nothing (reference: 13–20 % faster and smaller).
            let path = ColumnPath::from(field.name().as_str());
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            if matches!(field.data_type(), DataType::Int64 | DataType::Date32 | DataType::Timestamp(..)) {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        let properties = properties.build();
        let options = ArrowWriterOptions::new().with_properties(properties.clone());
        let probe = ArrowWriter::try_new_with_options(io::sink(), Arc::clone(schema), options).map_err(failed)?;
        let (_, factory) = probe.into_serialized_writer().map_err(failed)?;
        Ok(Self { schema: Arc::clone(schema), properties, factory })
    }

    pub(crate) fn begin(&self) -> Result<RowGroup<'_>, ConvertError> {
        let columns = self.factory.create_column_writers(0).map_err(failed)?;
        Ok(RowGroup { schema: &self.schema, columns, rows: 0 })
    }

    pub(crate) fn open(&self, sink: Box<dyn Sink>) -> Result<File, ConvertError> {
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone());
        let sink = Counted { sink, count: Arc::default() };
        let writer = ArrowWriter::try_new_with_options(sink, Arc::clone(&self.schema), options).map_err(failed)?;
        let (writer, _) = writer.into_serialized_writer().map_err(failed)?;
        Ok(File { writer })
    }
}

impl RowGroup<'_> {
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> Result<(), ConvertError> {
        self.rows += batch.num_rows() as u64;
        let mut writers = self.columns.iter_mut();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, array).map_err(failed)? {
                let writer =
                    writers.next().ok_or_else(|| ConvertError::Internal("Parquet: too many leaves".to_owned()))?;
                writer.write(&leaf).map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(u64, Vec<ArrowColumnChunk>), ConvertError> {
        let columns: Result<Vec<_>, _> = self.columns.into_iter().map(ArrowColumnWriter::close).collect();
        Ok((self.rows, columns.map_err(failed)?))
    }
}

impl File {
    pub(crate) fn append(&mut self, columns: Vec<ArrowColumnChunk>) -> Result<(), ConvertError> {
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in columns {
            column.append_to_row_group(&mut group).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }

    pub(crate) fn written(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    pub(crate) fn finish(self) -> Result<u64, ConvertError> {
        let counter = self.writer.inner().count();
        let sink = self.writer.into_inner().map_err(failed)?;
        sink.sink.finish()?;
        Ok(counter.load(Ordering::Relaxed))
    }
}

/// Counts what goes through, because the writer can say how much it wrote only until it is finished.
struct Counted {
    sink: Box<dyn Sink>,
    count: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(bytes)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
