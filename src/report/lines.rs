//! CSV of records that are no runs of questions: one line a figure, whatever the record measured.

use super::ReportError;
use crate::score::statistics::Proportion;
use crate::score::{Estimate, Exponential, Ratio};
use crate::shown::csv_cell;

const HEADER: [&str; 10] =
    ["record", "variant", "part", "figure", "value", "standard_error", "low", "high", "n", "text"];

/// A figure of a record. What was not measured has no value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FigureLine {
    /// `awq`; empty of a record of none.
    pub variant: String,
    /// Of what: a layer, a pass, a check; empty of the whole.
    pub part: String,
    /// `KL, nats a token`, with the unit where it has one.
    pub figure: &'static str,
    /// In that unit.
    pub value: Option<f64>,
    /// Of the value.
    pub standard_error: Option<f64>,
    /// The 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// What it was taken over.
    pub n: Option<usize>,
    /// What is no number.
    pub text: String,
}

/// Lines of one part of a variant, as they are added.
#[derive(Debug, Default)]
pub struct FigureLines {
    variant: String,
    part: String,
    all: Vec<FigureLine>,
}

impl FigureLines {
    /// What follows is of this part of this variant.
    pub fn of(&mut self, variant: &str, part: impl Into<String>) -> &mut Self {
        (self.variant, self.part) = (variant.to_owned(), part.into());
        self
    }

    fn push(&mut self, line: FigureLine) -> &mut Self {
        self.all.push(FigureLine { variant: self.variant.clone(), part: self.part.clone(), ..line });
        self
    }

    /// A number.
    pub fn number(&mut self, figure: &'static str, value: Option<f64>) -> &mut Self {
        self.push(FigureLine { figure, value, ..FigureLine::default() })
    }

    /// A number of things.
    pub fn count(&mut self, figure: &'static str, count: usize, n: Option<usize>) -> &mut Self {
        self.push(FigureLine { figure, value: Some(count as f64), n, ..FigureLine::default() })
    }

    /// Words.
    pub fn text(&mut self, figure: &'static str, text: &str) -> &mut Self {
        self.push(FigureLine { figure, text: text.to_owned(), ..FigureLine::default() })
    }

    /// A mean.
    pub fn estimate(&mut self, figure: &'static str, mean: Option<Estimate>) -> &mut Self {
        let standard_error = mean.and_then(|mean| mean.standard_error);
        self.push(FigureLine { figure, value: mean.map(|mean| mean.value), standard_error, ..FigureLine::default() })
    }

    /// e to the power of a mean.
    pub fn exponential(&mut self, figure: &'static str, of: Option<Exponential>) -> &mut Self {
        self.push(FigureLine {
            figure,
            value: of.map(|of| of.value),
            standard_error: of.and_then(|of| of.standard_error),
            interval: of.and_then(|of| of.low.zip(of.high)),
            ..FigureLine::default()
        })
    }

    /// A share, as a fraction of 1.
    pub fn share(&mut self, figure: &'static str, share: Option<Proportion>) -> &mut Self {
        self.push(FigureLine {
            figure,
            value: share.as_ref().map(|share| share.value),
            interval: share.as_ref().map(|share| (share.low, share.high)),
            n: share.as_ref().map(|share| share.n),
            ..FigureLine::default()
        })
    }

    /// A ratio.
    pub fn ratio(&mut self, figure: &'static str, ratio: Option<Ratio>) -> &mut Self {
        self.push(FigureLine {
            figure,
            value: ratio.map(|ratio| ratio.value),
            interval: ratio.map(|ratio| (ratio.low, ratio.high)),
            ..FigureLine::default()
        })
    }

    /// All that were added.
    pub fn done(self) -> Vec<FigureLine> {
        self.all
    }
}

/// The figures of records, each by its name. What is not known is an empty cell; a cell that a spreadsheet would take for a formula has a
/// quote before it, unless it is to be `raw`.
pub fn lines_csv(records: &[(String, Vec<FigureLine>)], raw: bool) -> Result<String, ReportError> {
    let fault = |error: &dyn std::fmt::Display| ReportError::fault("CSV", error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).map_err(|error| fault(&error))?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for (name, line) in records.iter().flat_map(|(name, lines)| lines.iter().map(move |line| (name, line))) {
        let cells = [
            name.clone(),
            line.variant.clone(),
            line.part.clone(),
            line.figure.to_owned(),
            number(line.value),
            number(line.standard_error),
            number(line.interval.map(|(low, _)| low)),
            number(line.interval.map(|(_, high)| high)),
            line.n.map_or_else(String::new, |n| n.to_string()),
            line.text.clone(),
        ];
        let cells = cells.into_iter().map(|cell| if raw { cell } else { csv_cell(&cell).into_owned() });
        writer.write_record(cells).map_err(|error| fault(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| fault(&error))?;
    String::from_utf8(bytes).map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::statistics::wilson;

    #[test]
    fn a_figure_is_a_line_and_what_is_not_known_an_empty_cell() {
        let mut lines = FigureLines::default();
        lines.of("awq", "batch 8").share("moved", wilson(1, 4)).count("lost", 2, Some(4)).number("seconds", None);
        lines.of("", "").text("seen", "=1+1, \"two\"");
        let share = wilson(1, 4).unwrap();
        let lines = [("a".to_owned(), lines.done())];
        let written = |text: &str| {
            format!(
                "record,variant,part,figure,value,standard_error,low,high,n,text\n\
                 a,awq,batch 8,moved,0.25,,{},{},4,\na,awq,batch 8,lost,2,,,,4,\na,awq,batch 8,seconds,,,,,,\n\
                 a,,,seen,,,,,,\"{text}=1+1, \"\"two\"\"\"\n",
                share.low, share.high
            )
        };
        assert_eq!((lines_csv(&lines, false).unwrap(), lines_csv(&lines, true).unwrap()), (written("'"), written("")));
    }
}
