//! Rows of a parquet file, by the record reader of the `parquet` crate, in every codec but LZO.

use std::io::BufReader;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{ChunkReader, FileReader, Length, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{self, Field};
use parquet::schema::types::Type;

use super::container;
use super::data_file::{DataFile, shortened};
use super::row::{Cell, Row, no_column};
use crate::fault::caught;
use crate::files::{Blob, BlobReader};
use crate::task::TaskError;

/// The rows one after the other, `columns` of each.
pub(super) fn read<'a>(
    file: &'a DataFile,
    columns: Vec<&'a str>,
) -> Result<impl Iterator<Item = Result<Row, TaskError>> + 'a, TaskError> {
    // The `parquet` crate checks most of what it reads and panics on some of the rest (of 40,000 files with damaged
    // bytes, one): to the user that is a damaged file like any other.
    let torn = || broken(file, "its pages contradict themselves");
    let mut rows = caught(|| rows(file, &columns)).unwrap_or_else(|| Err(torn()))?.enumerate();
    Ok(std::iter::from_fn(move || {
        let (number, row) = match caught(|| rows.next()) {
            Some(next) => next?,
            None => return Some(Err(torn())),
        };
        let cells = |row: &record::Row| {
            let cell = |column: &&str| {
                let field = row.get_column_iter().find(|(name, _)| name == column).map(|(_, field)| field);
                field.and_then(cell)
            };
            columns.iter().map(cell).collect()
        };
        let row = row.map(|row| Row { place: format!("row {number} of {}", file.label), cells: cells(&row) });
        Some(row.map_err(|error| broken(file, &error.to_string())))
    }))
}

/// A page at a time: what the reader holds does not depend on the number of rows.
fn rows(file: &DataFile, columns: &[&str]) -> Result<RowIter<'static>, TaskError> {
    let broken = |error: ParquetError| broken(file, &error.to_string());
    let chunks = Chunks(container::parquet(file)?);
    let length = chunks.len();
    let reader = SerializedFileReader::new(chunks).map_err(broken)?;
    check_columns(&reader, file, columns, length)?;
    let projection = projection(reader.metadata().file_metadata().schema(), &file.label, columns)?;
    RowIter::from_file_into(Box::new(reader)).project(Some(projection)).map_err(broken)
}

/// A file as the `parquet` crate asks for its parts.
struct Chunks(Arc<Blob>);

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.len().unwrap_or(0)
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<BlobReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(BlobReader { blob: Arc::clone(&self.0), offset: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are not in the file")));
        }
        Ok(self.0.read_at(start, length)?.into())
    }
}

fn cell(field: &Field) -> Option<Cell> {
    Some(match field {
        Field::Null => return None,
        Field::Str(text) => Cell::Text(text.clone()),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::Text(text.to_owned()),
            Err(_) => Cell::Other("bytes that are no UTF-8".to_owned()),
        },
        other if is_number(other) => Cell::number(&other.to_string()),
        other => Cell::Other(other.to_string()),
    })
}

/// Whether a field is a number, which the `parquet` crate writes exactly: a float by its shortest decimal writing.
fn is_number(field: &Field) -> bool {
    match field {
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_)
        | Field::Decimal(_) => true,
        Field::Float16(value) => value.is_finite(),
        Field::Float(value) => value.is_finite(),
        Field::Double(value) => value.is_finite(),
        _ => false,
    }
}

/// The schema with the wanted columns alone: others may hold anything, in any codec.
fn projection(schema: &Type, label: &str, columns: &[&str]) -> Result<Type, TaskError> {
    let fields = schema.get_fields();
    let find = |column: &&str| {
        fields.iter().find(|field| field.name() == *column).map(Arc::clone).ok_or_else(|| {
            let present: Vec<&str> = fields.iter().map(|field| field.name()).collect();
            no_column(label, column, &present)
        })
    };
    let mut wanted = columns.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let columns = wanted.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(|error| {
        TaskError::invalid(
            format!("{label} has a schema that cannot be read: {}", shortened(&error.to_string())),
            "write the file again",
        )
    })
}

/// What the footer says of the columns must fit the file, and their codec must be known: the `parquet` crate panics on
/// an offset below zero.
fn check_columns(
    reader: &SerializedFileReader<Chunks>,
    file: &DataFile,
    wanted: &[&str],
    length: u64,
) -> Result<(), TaskError> {
    let length = length as i64;
    let columns = reader.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in
        columns.filter(|column| column.column_path().parts().first().is_some_and(|p| wanted.contains(&p.as_str())))
    {
        let name = column.column_path().string();
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let fits = start >= 0
            && column.compressed_size() >= 0
            && start.checked_add(column.compressed_size()).is_some_and(|end| end <= length);
        if !fits {
            return Err(broken(file, &format!("the column `{name}` lies outside the file")));
        }
        if matches!(column.compression(), Compression::LZO) {
            let codec = column.compression();
            return Err(TaskError::invalid(
                format!(
                    "{}: the column `{name}` is compressed with {codec}, which this program cannot read",
                    file.label
                ),
                "write the file with zstd, Snappy or without compression, or give it as jsonl",
            ));
        }
    }
    Ok(())
}

fn broken(file: &DataFile, reason: &str) -> TaskError {
    TaskError::invalid(
        format!("{} is no whole parquet file: {}", file.label, shortened(reason)),
        "the file is truncated or damaged, or it is no parquet: fetch or write it again",
    )
}
