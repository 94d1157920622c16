//! Rows of a parquet file, by the record reader of the `parquet` crate, in every codec but LZO.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::data_file::{DataFile, shortened};
use super::row::{Cell, Row, no_column};
use crate::fault::caught;
use crate::task::TaskError;

pub(super) fn read(file: &DataFile, columns: &[&str]) -> Result<Vec<Row>, TaskError> {
    // The `parquet` crate checks most of what it reads and panics on some of the rest (of 40,000 files with damaged
    // bytes, one): to the user that is a damaged file like any other.
    caught(|| read_rows(file, columns)).unwrap_or_else(|| Err(broken(file, "its pages contradict themselves")))
}

fn read_rows(file: &DataFile, columns: &[&str]) -> Result<Vec<Row>, TaskError> {
    let broken = |error: ParquetError| broken(file, &error.to_string());
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(&file.bytes)).map_err(broken)?;
    check_columns(&reader, file, columns)?;
    let projection = projection(reader.metadata().file_metadata().schema(), &file.label, columns)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(broken)?;
    let mut result = Vec::new();
    for (number, row) in rows.enumerate() {
        let row = row.map_err(broken)?;
        let place = format!("row {number} of {}", file.label);
        let cells = columns.iter().map(|column| {
            let field = row.get_column_iter().find(|(name, _)| name == column).map(|(_, field)| field);
            field.and_then(cell)
        });
        result.push(Row { cells: cells.collect(), place });
    }
    Ok(result)
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
fn check_columns(reader: &SerializedFileReader<Bytes>, file: &DataFile, wanted: &[&str]) -> Result<(), TaskError> {
    let length = file.bytes.len() as i64;
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
