//! A run as one parquet file: a row an answer. Scores are two columns a rule, `RULE_value` and `RULE_correct`.

use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use super::file::fault;
use super::rows::ExportedRow;
use crate::jobs::JobError;

/// A column's name and its cell of every row.
struct Column<'a> {
    name: String,
    cells: Cells<'a>,
}

enum Cells<'a> {
    Text(Vec<Option<&'a str>>),
    Whole(Vec<Option<i64>>),
    Number(Vec<Option<f64>>),
    Flag(Vec<Option<bool>>),
    /// Token ids.
    List(Vec<Option<&'a [u32]>>),
}

/// The bytes of the file. `rules` are in the order of their columns.
pub(super) fn write(rows: &[ExportedRow], rules: &[&str]) -> Result<Vec<u8>, JobError> {
    write_columns(&columns(rows, rules)).map_err(|error| fault(&error))
}

fn columns<'a>(rows: &'a [ExportedRow<'a>], rules: &[&str]) -> Vec<Column<'a>> {
    let text = |name: &str, cell: &dyn Fn(&'a ExportedRow<'a>) -> Option<&'a str>| Column {
        name: name.to_owned(),
        cells: Cells::Text(rows.iter().map(cell).collect()),
    };
    let whole = |name: &str, cell: &dyn Fn(&ExportedRow) -> Option<usize>| Column {
        name: name.to_owned(),
        cells: Cells::Whole(rows.iter().map(|row| cell(row).map(|count| count as i64)).collect()),
    };
    let number = |name: &str, cell: &dyn Fn(&ExportedRow) -> Option<f64>| Column {
        name: name.to_owned(),
        cells: Cells::Number(rows.iter().map(cell).collect()),
    };
    let mut columns = vec![
        text("model", &|row| Some(row.model)),
        text("variant", &|row| Some(row.variant)),
        text("task", &|row| Some(row.task)),
        text("protocol", &|row| Some(row.protocol)),
        whole("sample", &|row| Some(row.sample)),
        text("id", &|row| row.id),
        whole("repeat", &|row| Some(row.repeat)),
        text("question", &|row| row.question),
        text("answer", &|row| row.answer),
        text("reference", &|row| row.reference),
        text("cluster", &|row| row.cluster),
        text("prompt", &|row| row.prompt),
        text("text", &|row| Some(row.text)),
        text("thought", &|row| row.thought),
        text("finish", &|row| Some(row.finish)),
        whole("prompt_tokens", &|row| row.prompt_tokens),
        whole("output_tokens", &|row| row.output_tokens),
        Column { name: "token_ids".to_owned(), cells: Cells::List(rows.iter().map(|row| row.token_ids).collect()) },
        number("first_token_seconds", &|row| row.first_token_seconds),
        number("total_seconds", &|row| row.total_seconds),
    ];
    for rule in rules {
        let score = |row: &'a ExportedRow<'a>, field: &str| row.scores.get(*rule).and_then(|score| score.get(field));
        let correct = rows.iter().map(|row| score(row, "correct").and_then(Value::as_bool)).collect();
        columns.push(text(&format!("{rule}_value"), &|row| score(row, "value").and_then(Value::as_str)));
        columns.push(Column { name: format!("{rule}_correct"), cells: Cells::Flag(correct) });
    }
    columns
}

fn write_columns(columns: &[Column]) -> Result<Vec<u8>, ParquetError> {
    let fields: Vec<TypePtr> = columns.iter().map(field).collect::<Result<_, _>>()?;
    let schema = Type::group_type_builder("answers").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    for column in columns {
        write_cells(&mut group, &column.cells)?;
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let name = column.name.as_str();
    let plain = |physical: PhysicalType, converted: ConvertedType| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        builder.with_converted_type(converted).build()
    };
    let made = match column.cells {
        Cells::Text(_) => plain(PhysicalType::BYTE_ARRAY, ConvertedType::UTF8),
        Cells::Whole(_) => plain(PhysicalType::INT64, ConvertedType::NONE),
        Cells::Number(_) => plain(PhysicalType::DOUBLE, ConvertedType::NONE),
        Cells::Flag(_) => plain(PhysicalType::BOOLEAN, ConvertedType::NONE),
        Cells::List(_) => {
            let element = Type::primitive_type_builder("element", PhysicalType::INT32);
            let element = element.with_repetition(Repetition::REQUIRED).build()?;
            let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
            let list = list.with_fields(vec![Arc::new(element)]).build()?;
            Type::group_type_builder(name)
                .with_repetition(Repetition::OPTIONAL)
                .with_logical_type(Some(LogicalType::List))
                .with_converted_type(ConvertedType::LIST)
                .with_fields(vec![Arc::new(list)])
                .build()
        }
    };
    made.map(Arc::new)
}

fn write_cells(group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, cells: &Cells) -> Result<(), ParquetError> {
    match cells {
        Cells::Text(cells) => write_optional::<ByteArrayType, _>(group, cells, |text| ByteArray::from(*text)),
        Cells::Whole(cells) => write_optional::<Int64Type, _>(group, cells, |count| *count),
        Cells::Number(cells) => write_optional::<DoubleType, _>(group, cells, |number| *number),
        Cells::Flag(cells) => write_optional::<BoolType, _>(group, cells, |flag| *flag),
        Cells::List(cells) => {
            let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            for cell in cells {
                // 0 is no list, 1 an empty one, 2 an element; repetition 1 is a further element of the same list.
                let elements = cell.map_or(0, <[u32]>::len);
                let depth = if elements > 0 { 2 } else { i16::from(cell.is_some()) };
                definitions.extend(std::iter::repeat_n(depth, elements.max(1)));
                repetitions.push(0);
                repetitions.extend(std::iter::repeat_n(1, elements.saturating_sub(1)));
                values.extend(cell.unwrap_or_default().iter().map(|id| *id as i32));
            }
            write_column::<Int32Type>(group, &values, &definitions, Some(&repetitions))
        }
    }
}

fn write_optional<T: DataType, C>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    cells: &[Option<C>],
    value: impl Fn(&C) -> T::T,
) -> Result<(), ParquetError> {
    let values: Vec<T::T> = cells.iter().flatten().map(value).collect();
    let definitions: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    write_column::<T>(group, &values, &definitions, None)
}

fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
    definitions: &[i16],
    repetitions: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("a column without a writer".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, Some(definitions), repetitions)?;
    column.close()
}
