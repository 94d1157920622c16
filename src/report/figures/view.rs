//! What the templates see of figures: tables, charts, and where the numbers come from, as text that is ready to print.

use serde::Serialize;

use super::chart::{chart, colour};
use super::measured::{FIGURES_FORMAT, FigurePart, Figures, MeasuredFigure, RecordFacts};
use super::scale::distinct;
use crate::bundled::TEMPLATES;
use crate::record::utc_now;
use crate::report::render::{cell, render_by};
use crate::report::words::{digits, nothing, seconds_in_words};
use crate::report::{Format, ReportError};
use crate::score::Spread;
use crate::text::bytes;

/// Columns of a terminal that a table may take, and what stands between two of its own.
const WIDTH: usize = 80;
const GAP: usize = 2;

/// The column behind a figure's that has the least and the largest of its repetitions.
const RANGE: &str = "min–max";

/// Figures as text in a format.
pub fn render_figures(figures: &Figures, format: &Format) -> Result<String, ReportError> {
    render_by("figures", &FiguresView::new(figures), format)
}

/// The variables of the templates of figures.
#[derive(Debug, Clone, Serialize)]
pub struct FiguresView {
    /// The version of evalsuite that made the report.
    pub evalsuite: &'static str,
    /// When, UTC.
    pub made: String,
    /// What was measured: the models' names.
    pub title: String,
    /// Where the numbers come from.
    pub records: Vec<RecordFacts>,
    /// Every table, whole.
    pub tables: Vec<TableView>,
    /// Those without the details, none wider than a terminal.
    pub narrow_tables: Vec<TableView>,
    /// A chart of each part that has points.
    pub charts: Vec<ChartView>,
    /// `vLLM 0.24.0 f16: peers.json (an H200, 2026-11-30)`, one a series measured elsewhere.
    pub elsewhere: Vec<String>,
    /// `after f16: why it did not finish`.
    pub failures: Vec<String>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Names in the tables, and what they mean.
    pub words: Vec<(String, String)>,
    /// `report.css`
    pub style: &'static str,
    /// All figures as JSON text.
    pub json: String,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableView {
    /// `Sweep of batch`
    pub title: String,
    /// What its part is.
    pub description: String,
    /// The first columns, which hold words.
    pub words: usize,
    /// The columns' names.
    pub head: Vec<String>,
    /// Cells.
    pub rows: Vec<Vec<String>>,
    /// Every repetition's figures, which stand side by side in another table.
    pub is_detail: bool,
}

/// One chart.
#[derive(Debug, Clone, Serialize)]
pub struct ChartView {
    /// `Sweep of batch`
    pub title: String,
    /// What its part is.
    pub description: String,
    /// The chart.
    pub svg: String,
    /// What its curves are.
    pub legend: Vec<LegendView>,
}

/// One curve's name.
#[derive(Debug, Clone, Serialize)]
pub struct LegendView {
    /// `f16`
    pub label: String,
    /// In CSS.
    pub colour: String,
    /// Whether it was measured elsewhere.
    pub is_elsewhere: bool,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Document<'a> {
    kind: &'static str,
    format: u32,
    evalsuite: &'static str,
    made: &'a str,
    #[serde(flatten)]
    figures: &'a Figures,
}

impl FiguresView {
    /// Of figures.
    pub fn new(figures: &Figures) -> Result<Self, serde_json::Error> {
        let (evalsuite, made) = (env!("CARGO_PKG_VERSION"), utc_now());
        let document = Document { kind: "figures", format: FIGURES_FORMAT, evalsuite, made: &made, figures };
        let json = serde_json::to_string_pretty(&document)?;
        let parts = figures.parts.iter().enumerate();
        let tables: Vec<TableView> = parts.clone().flat_map(|(index, part)| tables(figures, index, part)).collect();
        let mut subjects: Vec<&str> = figures.records.iter().map(|record| record.subject.as_str()).collect();
        subjects.dedup();
        let series = || figures.series.iter().enumerate();
        Ok(Self {
            evalsuite,
            made,
            title: subjects.join(", "),
            records: figures.records.clone(),
            narrow_tables: tables.iter().filter(|table| !table.is_detail).flat_map(narrow).collect(),
            tables,
            charts: parts
                .flat_map(|(index, part)| {
                    let names = std::iter::once(&part.headline).chain(&part.charted);
                    names.filter_map(move |name| chart_view(figures, index, part, name))
                })
                .collect(),
            elsewhere: series()
                .filter_map(|(index, one)| {
                    let note = one.note.as_ref().map_or_else(String::new, |note| format!("; {note}"));
                    let engine = &one.engine;
                    Some(format!("{}: {engine}, from {}{note}", figures.label(index), one.elsewhere.as_ref()?))
                })
                .collect(),
            failures: series()
                .filter_map(|(index, one)| Some(format!("{}: {}", figures.label(index), one.failure.as_ref()?)))
                .collect(),
            notes: figures.notes.clone(),
            words: figures.words.clone(),
            style: TEMPLATES.iter().find(|(name, _)| *name == "report.css").map_or("", |(_, text)| *text),
            json,
        })
    }
}

fn chart_view(figures: &Figures, index: usize, part: &FigurePart, name: &str) -> Option<ChartView> {
    let is_shown = |series: &usize| {
        let of_series = |figure: &MeasuredFigure| figure.series == *series && figure.name == name;
        figures.figures.iter().any(|figure| figure.part == index && of_series(figure))
    };
    let legend = |series: usize| LegendView {
        label: figures.label(series),
        colour: colour(series),
        is_elsewhere: figures.series[series].elsewhere.is_some(),
    };
    Some(ChartView {
        title: if part.charted.is_empty() { part.title.clone() } else { format!("{}: {name}", part.title) },
        description: part.description.clone(),
        svg: chart(figures, index, part, name)?,
        legend: figures.in_order().filter(is_shown).map(legend).collect(),
    })
}

/// A part's figures, with what looks them up.
struct Part<'a> {
    figures: Vec<&'a MeasuredFigure>,
    /// Name and unit of each kind, in the order in which they come.
    kinds: Vec<(&'a str, &'static str)>,
}

impl<'a> Part<'a> {
    fn new(figures: &'a Figures, index: usize) -> Self {
        let figures: Vec<&MeasuredFigure> = figures.figures.iter().filter(|figure| figure.part == index).collect();
        let mut kinds = Vec::new();
        for figure in &figures {
            if !kinds.contains(&(figure.name.as_str(), figure.unit)) {
                kinds.push((figure.name.as_str(), figure.unit));
            }
        }
        Self { figures, kinds }
    }

    fn find(&self, series: usize, at: Option<f64>, name: &str) -> Option<&'a MeasuredFigure> {
        let is_it = |figure: &&&MeasuredFigure| (figure.series, figure.at) == (series, at) && figure.name == name;
        self.figures.iter().find(is_it).copied()
    }

    fn has(&self, series: usize, at: Option<f64>) -> bool {
        self.figures.iter().any(|figure| (figure.series, figure.at) == (series, at))
    }

    fn repeated(&self, name: &str) -> bool {
        self.figures.iter().any(|figure| figure.name == name && figure.spread.n > 1)
    }
}

fn tables(figures: &Figures, index: usize, part: &FigurePart) -> Vec<TableView> {
    let measured = Part::new(figures, index);
    if measured.figures.is_empty() {
        return Vec::new();
    }
    let table = |words, head, rows, is_detail| TableView {
        title: part.title.clone(),
        description: part.description.clone(),
        words,
        head,
        rows,
        is_detail,
    };
    let Some(axis) = &part.axis else {
        let (head, rows) = by_series(figures, &measured);
        return vec![table(2, head, rows, false)];
    };
    let points = distinct(measured.figures.iter().filter_map(|figure| figure.at));
    let series: Vec<usize> = figures
        .in_order()
        .filter(|series| points.iter().any(|at| measured.find(*series, Some(*at), &part.headline).is_some()))
        .collect();
    let head = std::iter::once(cell(axis)).chain(series.iter().map(|series| cell(&figures.label(*series))));
    let row = |at: &f64| {
        let figures = series.iter().map(|series| shown(measured.find(*series, Some(*at), &part.headline)));
        std::iter::once(at.to_string()).chain(figures).collect()
    };
    let (detail_head, detail_rows) = by_point(figures, part, &measured, &points);
    vec![table(0, head.collect(), points.iter().map(row).collect(), false), table(2, detail_head, detail_rows, true)]
}

/// A row a series, a column a figure, beside those that were repeated the least and the largest.
fn by_series(figures: &Figures, part: &Part) -> (Vec<String>, Vec<Vec<String>>) {
    let mut head = vec![String::new(), "engine".to_owned()];
    for (name, unit) in &part.kinds {
        head.push(named(name, unit));
        if part.repeated(name) {
            head.push(RANGE.to_owned());
        }
    }
    let row = |series: usize| {
        let mut cells = vec![cell(&figures.label(series)), cell(short_engine(&figures.series[series].engine))];
        for (name, _) in &part.kinds {
            let found = part.find(series, None, name);
            cells.push(shown(found));
            if part.repeated(name) {
                cells.push(ends(found));
            }
        }
        cells
    };
    (head, figures.in_order().filter(|series| part.has(*series, None)).map(row).collect())
}

/// A row a point and series, every figure.
fn by_point(figures: &Figures, part: &FigurePart, measured: &Part, points: &[f64]) -> (Vec<String>, Vec<Vec<String>>) {
    let headline = &part.headline;
    let others: Vec<_> = measured.kinds.iter().filter(|(name, _)| name != headline).collect();
    let axis = part.axis.as_deref().unwrap_or_default();
    let head =
        [cell(axis), String::new(), headline.clone(), RANGE.to_owned(), "mean ± sd".to_owned(), "times".to_owned()];
    let head = head.into_iter().chain(others.iter().map(|(name, unit)| named(name, unit))).collect();
    let rows = points.iter().flat_map(|at| {
        let row = |series: usize| {
            let found = measured.find(series, Some(*at), headline);
            let first = [
                at.to_string(),
                cell(&figures.label(series)),
                shown(found),
                ends(found),
                found.map_or_else(nothing, |figure| mean(&figure.spread)),
                found.map_or_else(nothing, |figure| figure.spread.n.to_string()),
            ];
            let others = others.iter().map(|(name, _)| shown(measured.find(series, Some(*at), name)));
            first.into_iter().chain(others).collect()
        };
        figures.in_order().filter(|series| measured.has(*series, Some(*at))).map(row).collect::<Vec<_>>()
    });
    (head, rows.collect())
}

/// `load, s`
fn named(name: &str, unit: &str) -> String {
    if unit.is_empty() || unit == "bytes" { name.to_owned() } else { format!("{name}, {unit}") }
}

fn short_engine(engine: &str) -> &str {
    engine.split([',', '(']).next().unwrap_or_default().trim()
}

fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "s" => seconds_in_words(value),
        "bytes" => bytes(value as u64),
        _ => digits(value),
    }
}

fn shown(figure: Option<&MeasuredFigure>) -> String {
    figure.map_or_else(nothing, |figure| in_unit(figure.spread.median, figure.unit))
}

fn ends(figure: Option<&MeasuredFigure>) -> String {
    figure.filter(|figure| figure.spread.n > 1).map_or_else(nothing, |figure| {
        format!("{}–{}", in_unit(figure.spread.minimum, figure.unit), in_unit(figure.spread.maximum, figure.unit))
    })
}

/// Of one repetition no deviation is known.
fn mean(spread: &Spread) -> String {
    spread.deviation.map_or_else(nothing, |deviation| format!("{} ± {}", digits(spread.mean), digits(deviation)))
}

/// The table cut between columns, the first ones before each piece, so that a terminal has room for each.
fn narrow(table: &TableView) -> Vec<TableView> {
    let kept = table.words.max(1).min(table.head.len());
    let width = |column: usize| {
        let cells = table.rows.iter().map(|row| row[column].chars().count());
        cells.chain([table.head[column].chars().count()]).max().unwrap_or_default()
    };
    let first: usize = (0..kept).map(|column| width(column) + GAP).sum();
    let mut pieces: Vec<Vec<usize>> = Vec::new();
    let mut taken = 0;
    let mut column = kept;
    while column < table.head.len() {
        // A range stands beside its figure.
        let end = if table.head.get(column + 1).is_some_and(|name| name == RANGE) { column + 2 } else { column + 1 };
        let wide: usize = (column..end).map(|column| width(column) + GAP).sum();
        match pieces.last_mut() {
            Some(piece) if taken + wide <= WIDTH + GAP => {
                taken += wide;
                piece.extend(column..end);
            }
            _ => {
                taken = first + wide;
                pieces.push((column..end).collect());
            }
        }
        column = end;
    }
    let piece = |columns: Vec<usize>| {
        let all: Vec<usize> = (0..kept).chain(columns).collect();
        let cut = |row: &Vec<String>| all.iter().map(|column| row[*column].clone()).collect();
        TableView { head: cut(&table.head), rows: table.rows.iter().map(cut).collect(), ..table.clone() }
    };
    let mut tables: Vec<TableView> = pieces.into_iter().map(piece).collect();
    // What goes on needs no title of its own.
    for table in tables.iter_mut().skip(1) {
        table.title.clear();
        table.description.clear();
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(labels: usize) -> TableView {
        let head = std::iter::once("n".to_owned()).chain((0..labels).map(|label| format!("record-number-{label} f16")));
        TableView {
            title: "T".to_owned(),
            description: "d".to_owned(),
            words: 0,
            head: head.collect(),
            rows: vec![(0..=labels).map(|column| column.to_string()).collect()],
            is_detail: false,
        }
    }

    #[test]
    fn a_wide_table_becomes_several_with_the_same_first_column() {
        let wide = |table: &TableView| table.head.iter().map(|name| name.chars().count() + 2).sum::<usize>() - 2;
        let pieces = narrow(&table(9));
        assert_eq!(pieces.iter().map(|piece| piece.head.len() - 1).collect::<Vec<_>>(), [3, 3, 3]);
        assert!(pieces.iter().all(|piece| wide(piece) <= 80 && piece.head[0] == "n"));
        assert_eq!(pieces[1].rows[0], ["0", "4", "5", "6"]);
        // A range is never parted from its figure.
        let mut ranges = table(4);
        ranges.head[4] = "min–max".to_owned();
        ranges.rows[0][4] = "7".repeat(20);
        assert_eq!(narrow(&ranges).iter().map(|piece| piece.head.len() - 1).collect::<Vec<_>>(), [2, 2]);
        let titles: Vec<&str> = pieces.iter().map(|piece| piece.title.as_str()).collect();
        assert_eq!((titles, narrow(&table(3))), (vec!["T", "", ""], vec![table(3)]));
    }
}
