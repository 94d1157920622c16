//! Rows of a parquet file, by the record reader of the `parquet` crate. Snappy is the only codec compiled in: it is
//! what the hub's files are written with.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;

use super::{DataFile, Row, shortened};
use crate::task::TaskError;

const COLUMNS: [&str; 2] = ["question", "answer"];

pub(super) fn read(file: &DataFile) -> Result<Vec<Row>, TaskError> {
    // The `parquet` crate checks most of what it reads and panics on some of the rest (of 40,000 files with damaged
    // bytes, one): to the user that is a damaged file like any other.
    std::panic::catch_unwind(|| read_rows(file))
        .unwrap_or_else(|_| Err(broken(file, "its pages contradict themselves")))
}

fn read_rows(file: &DataFile) -> Result<Vec<Row>, TaskError> {
    let broken = |error: ParquetError| broken(file, &error.to_string());
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(&file.bytes)).map_err(broken)?;
    check_columns(&reader, file)?;
    let projection = projection(reader.metadata().file_metadata().schema(), &file.label)?;
    let rows = reader.get_row_iter(Some(projection)).map_err(broken)?;
    let mut result = Vec::new();
    for (number, row) in rows.enumerate() {
        let row = row.map_err(broken)?;
        let place = format!("row {number} of {}", file.label);
        let [question, answer] = COLUMNS.map(|column| {
            let field = row.get_column_iter().find(|(name, _)| *name == column).map(|(_, field)| field);
            text(field, column, &place)
        });
        result.push(Row { question: question?, answer: answer?, place });
    }
    Ok(result)
}

fn text(field: Option<&Field>, column: &str, place: &str) -> Result<Option<String>, TaskError> {
    match field {
        None | Some(Field::Null) => Ok(None),
        Some(Field::Str(text)) => Ok(Some(text.clone())),
        Some(Field::Bytes(bytes)) if std::str::from_utf8(bytes.data()).is_ok() => {
            Ok(Some(String::from_utf8_lossy(bytes.data()).into_owned()))
        }
        Some(_) => Err(TaskError::invalid(
            format!("{place} has a `{column}` that is no text"),
            format!("write the column `{column}` as UTF-8 strings"),
        )),
    }
}

/// The schema with the two columns alone: others may hold anything, in any codec.
fn projection(schema: &Type, label: &str) -> Result<Type, TaskError> {
    let fields = schema.get_fields();
    let find = |column: &str| {
        fields.iter().find(|field| field.name() == column).map(Arc::clone).ok_or_else(|| {
            let present = fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
            TaskError::invalid(
                format!("{label} has no column `{column}`"),
                format!("a dataset needs the columns `question` and `answer`; this file has: {present}"),
            )
        })
    };
    let columns = COLUMNS.into_iter().map(find).collect::<Result<Vec<_>, _>>()?;
    Type::group_type_builder(schema.name()).with_fields(columns).build().map_err(|error| {
        TaskError::invalid(
            format!("{label} has a schema that cannot be read: {}", shortened(&error.to_string())),
            "write the file again",
        )
    })
}

/// What the footer says of the columns must fit the file, and their codec must be known: the `parquet` crate panics on
/// an offset below zero.
fn check_columns(reader: &SerializedFileReader<Bytes>, file: &DataFile) -> Result<(), TaskError> {
    let length = file.bytes.len() as i64;
    let columns = reader.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
    for column in columns.filter(|column| column.column_path().parts().first().is_some_and(|p| COLUMNS.contains(&&**p)))
    {
        let name = column.column_path().string();
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let fits = start >= 0
            && column.compressed_size() >= 0
            && start.checked_add(column.compressed_size()).is_some_and(|end| end <= length);
        if !fits {
            return Err(broken(file, &format!("the column `{name}` lies outside the file")));
        }
        if !matches!(column.compression(), Compression::UNCOMPRESSED | Compression::SNAPPY) {
            let codec = column.compression();
            return Err(TaskError::invalid(
                format!(
                    "{}: the column `{name}` is compressed with {codec}, which this program cannot read",
                    file.label
                ),
                "write the file with Snappy or without compression, or give it as jsonl",
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
