//! CSV: one line a figure.

use super::measured::Figures;
use crate::report::ReportError;
use crate::shown::csv_cell;

const HEADER: [&str; 16] = [
    "series",
    "record",
    "variant",
    "engine",
    "elsewhere",
    "part",
    "description",
    "at",
    "figure",
    "unit",
    "n",
    "median",
    "minimum",
    "maximum",
    "mean",
    "deviation",
];

/// A line a figure: medians, ends and means of its repetitions. What is not known is an empty cell; a cell that a spreadsheet would take for
/// a formula has a quote before it, unless it is to be `raw`.
pub fn csv(figures: &Figures, raw: bool) -> Result<String, ReportError> {
    let fault = |error: &dyn std::fmt::Display| ReportError::fault("CSV", error);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).map_err(|error| fault(&error))?;
    for figure in &figures.figures {
        let (series, part, spread) = (&figures.series[figure.series], &figures.parts[figure.part], &figure.spread);
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let record = series.record.map_or("", |record| figures.records[record].name.as_str());
        let cells = [
            figures.label(figure.series),
            record.to_owned(),
            series.variant.clone(),
            series.engine.clone(),
            series.elsewhere.clone().unwrap_or_default(),
            part.name.clone(),
            part.description.clone(),
            number(figure.at),
            figure.name.clone(),
            figure.unit.to_owned(),
            spread.n.to_string(),
            number(Some(spread.median)),
            number(Some(spread.minimum)),
            number(Some(spread.maximum)),
            number(Some(spread.mean)),
            number(spread.deviation),
        ];
        let cells = cells.into_iter().map(|cell| if raw { cell } else { csv_cell(&cell).into_owned() });
        writer.write_record(cells).map_err(|error| fault(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| fault(&error))?;
    String::from_utf8(bytes).map_err(|error| fault(&error))
}
