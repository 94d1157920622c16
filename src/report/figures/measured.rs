//! What was measured, of which records, with every figure's spread.

use serde::Serialize;

use crate::score::Spread;

/// The version of their JSON; raised when a key changes its meaning.
pub const FIGURES_FORMAT: u32 = 1;

/// The measurements of one record, or of several that were [joined](Figures::join).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Where they come from.
    pub records: Vec<RecordFacts>,
    /// What was measured: each gives a row or a column, and a curve.
    pub series: Vec<Series>,
    /// What was measured of it.
    pub parts: Vec<FigurePart>,
    /// Every figure.
    pub figures: Vec<MeasuredFigure>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// Names in the tables, and what they mean.
    pub words: Vec<(String, String)>,
}

/// A record in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordFacts {
    /// What tells it from the others: its file's name.
    pub name: String,
    /// What was measured: the model's name.
    pub subject: String,
    /// `model` and what it is, and so on.
    pub facts: Vec<(String, String)>,
}

/// One engine in one variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Series {
    /// Index of its record; `None` where it was measured elsewhere.
    pub record: Option<usize>,
    /// `f16`
    pub variant: String,
    /// Name and version.
    pub engine: String,
    /// Where a series measured elsewhere comes from.
    pub elsewhere: Option<String>,
    /// Of a series measured elsewhere.
    pub note: Option<String>,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
}

/// One part of a measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FigurePart {
    /// `sweep batch`
    pub name: String,
    /// `Sweep of batch`
    pub title: String,
    /// `n requests at once of 128 prompt and 64 output tokens`
    pub description: String,
    /// What its points stand for, where it has points: `n`.
    pub axis: Option<String>,
    /// Name of the figure that stands side by side, and in the first chart.
    pub headline: String,
    /// Names of others that have charts of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub charted: Vec<String>,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MeasuredFigure {
    /// Index of its series.
    pub series: usize,
    /// Index of its part.
    pub part: usize,
    /// The point, where its part has points.
    pub at: Option<f64>,
    /// `tokens/s`
    pub name: String,
    /// `s`, `ms`, `bytes`; empty where the name says it.
    pub unit: &'static str,
    /// Its repetitions.
    #[serde(flatten)]
    pub spread: Spread,
}

impl Figures {
    /// Adds what a further record measured. Equal parts are one part, and equal series measured elsewhere one series.
    pub fn join(&mut self, other: Self) {
        let records = self.records.len();
        let parts: Vec<usize> = other.parts.into_iter().map(|part| self.add_part(part)).collect();
        let moved = |series: Series| Series { record: series.record.map(|record| record + records), ..series };
        let series: Vec<usize> = other.series.into_iter().map(|one| self.add_series(moved(one))).collect();
        for figure in other.figures {
            self.add(MeasuredFigure { series: series[figure.series], part: parts[figure.part], ..figure });
        }
        self.records.extend(other.records);
        add_new(&mut self.notes, other.notes);
        add_new(&mut self.words, other.words);
    }

    /// The index of a part, which is added where it is not there.
    pub fn add_part(&mut self, part: FigurePart) -> usize {
        index_of(&mut self.parts, part)
    }

    /// The index of a series, which is added where it is not there. One of a record always is.
    pub fn add_series(&mut self, series: Series) -> usize {
        if series.elsewhere.is_some() {
            return index_of(&mut self.series, series);
        }
        self.series.push(series);
        self.series.len() - 1
    }

    /// Adds a figure, but for one that is there already: several records may show the same one of others.
    pub fn add(&mut self, figure: MeasuredFigure) {
        let is_it = |other: &MeasuredFigure| {
            (other.series, other.part, other.at) == (figure.series, figure.part, figure.at) && other.name == figure.name
        };
        if !self.figures.iter().any(is_it) {
            self.figures.push(figure);
        }
    }

    /// The series as tables have them: the records' own, then those measured elsewhere.
    pub fn in_order(&self) -> impl Iterator<Item = usize> + use<> {
        let (own, others): (Vec<usize>, Vec<usize>) =
            (0..self.series.len()).partition(|series| self.series[*series].elsewhere.is_none());
        own.into_iter().chain(others)
    }

    /// What tables call a series: `f16`; of several records `after f16`; elsewhere `vLLM 0.24.0 f16`.
    pub fn label(&self, series: usize) -> String {
        let Series { record, variant, engine, .. } = &self.series[series];
        match record {
            None => format!("{} {variant}", engine.split([',', '(']).next().unwrap_or_default().trim()),
            Some(record) if self.records.len() > 1 => format!("{} {variant}", self.records[*record].name),
            Some(_) => variant.clone(),
        }
    }
}

fn add_new<T: PartialEq>(list: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !list.contains(&one) {
            list.push(one);
        }
    }
}

fn index_of<T: PartialEq>(list: &mut Vec<T>, one: T) -> usize {
    list.iter().position(|own| *own == one).unwrap_or_else(|| {
        list.push(one);
        list.len() - 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(name: &str, description: &str, speed: f64) -> Figures {
        let series = |record: Option<usize>, elsewhere: Option<&str>| Series {
            record,
            variant: "f16".to_owned(),
            engine: if record.is_some() { "cpu 1" } else { "Peer 2.0 (fast), tuned" }.to_owned(),
            elsewhere: elsewhere.map(str::to_owned),
            note: None,
            failure: None,
        };
        let figure = |series: usize, value: f64| MeasuredFigure {
            series,
            part: 0,
            at: None,
            name: "tokens/s".to_owned(),
            unit: "",
            spread: Spread::single(value),
        };
        Figures {
            records: vec![RecordFacts { name: name.to_owned(), subject: "m".to_owned(), facts: Vec::new() }],
            series: vec![series(Some(0), None), series(None, Some("p.json"))],
            parts: vec![FigurePart {
                name: "many".to_owned(),
                title: "Many".to_owned(),
                description: description.to_owned(),
                axis: None,
                headline: "tokens/s".to_owned(),
                charted: Vec::new(),
            }],
            figures: vec![figure(0, speed), figure(1, 7.0)],
            notes: vec!["note".to_owned()],
            words: vec![("w".to_owned(), "word".to_owned())],
        }
    }

    #[test]
    fn records_are_joined_and_what_is_theirs_alike_is_there_once() {
        let mut all = figures("one", "500", 1.0);
        assert_eq!((all.label(0), all.label(1)), ("f16".to_owned(), "Peer 2.0 f16".to_owned()));
        all.join(figures("two", "500", 2.0));
        all.join(figures("three", "8", 3.0));
        let labels: Vec<String> = (0..all.series.len()).map(|series| all.label(series)).collect();
        assert_eq!(labels, ["one f16", "Peer 2.0 f16", "two f16", "three f16"]);
        assert_eq!(all.in_order().collect::<Vec<_>>(), [0, 2, 3, 1]);
        assert_eq!(all.parts.len(), 2, "other requests are another part");
        let values: Vec<_> = all.figures.iter().map(|f| (f.series, f.part, f.spread.median)).collect();
        // The others' figure is one where it is of the same requests.
        assert_eq!(values, [(0, 0, 1.0), (1, 0, 7.0), (2, 0, 2.0), (3, 1, 3.0), (1, 1, 7.0)]);
        assert_eq!((all.notes.len(), all.words.len()), (1, 1));
    }
}
