//! Templates to text, with filters of our own: `columns` aligns a block, `wrap` breaks lines, `paint`
//! colours a word, `mark` a diff; and a filter for every kind of number.

use console::{Alignment, Style, measure_text_width, pad_str};
use serde::Serialize;
use tera::{Kwargs, State, Tera, TeraResult, Value};

use super::diff_lines::mark;
use super::words::{nothing, p_value, percent, points, seconds_in_words, thousands};
use super::{BenchContext, Context, Format, PerplexityContext, QualityContext, ReportError};
use crate::bundled::TEMPLATES;
use crate::record::{BenchRecord, PerplexityRecord, QualityRecord, Record};
use crate::text::bytes;

/// A record as text in a format.
pub fn render(record: &Record, format: &Format) -> Result<String, ReportError> {
    render_by("table", &Context::new(record), format)
}

/// A perplexity as text in a format, with this many of the worst tokens of each precision.
pub fn render_perplexity(record: &PerplexityRecord, format: &Format, worst: usize) -> Result<String, ReportError> {
    render_by("perplexity", &PerplexityContext::new(record, worst), format)
}

/// A benchmark as text in a format.
pub fn render_bench(record: &BenchRecord, format: &Format) -> Result<String, ReportError> {
    render_by("bench", &BenchContext::new(record), format)
}

/// A quality run as text in a format, with the word diffs of at most `diffs` answers a model; a page shows all.
pub fn render_quality(record: &QualityRecord, format: &Format, diffs: usize) -> Result<String, ReportError> {
    render_by("quality", &QualityContext::new(record, diffs), format)
}

/// By the templates of this name, or by the user's.
fn render_by(
    templates: &str,
    context: &Result<impl Serialize, serde_json::Error>,
    format: &Format,
) -> Result<String, ReportError> {
    let file = |extension: &str| format!("{templates}.{extension}");
    let (name, template) = match format {
        Format::Terminal { .. } => bundled(file("txt")),
        Format::Markdown => bundled(file("md")),
        Format::Json => bundled(file("json")),
        Format::Html => bundled(file("html")),
        Format::Custom { name, template } => (name.clone(), template.as_str()),
    };
    if template.is_empty() {
        return Err(ReportError {
            what: format!("there is no template {name} for this record"),
            hint: "choose another `--format`; `evalsuite report RUN --format html` makes a page of a gsm8k run"
                .to_owned(),
        });
    }
    let colour = *format == Format::Terminal { colour: true };
    let origin = format!("templates/{templates}.md");
    let context = context.as_ref().map_err(|error| ReportError::fault(&name, error))?;
    engine(colour).render(&name, template, &origin, context)
}

/// Tera with the filters of our own; it colours words only where it is told to.
pub(super) struct TemplateEngine(Tera);

pub(super) fn engine(colour: bool) -> TemplateEngine {
    let mut tera = Tera::default();
    tera.register_filter("columns", |block: &str, arguments: Kwargs, _: &State| -> TeraResult<String> {
        Ok(columns(block, arguments.get("words")?.unwrap_or(1)))
    });
    tera.register_filter("wrap", |text: &str, arguments: Kwargs, _: &State| -> TeraResult<String> {
        Ok(wrap(text, arguments.get("indent")?.unwrap_or(0), arguments.get("column")?.unwrap_or(0)))
    });
    tera.register_filter("paint", move |text: &str, arguments: Kwargs, _: &State| paint(text, &arguments, colour));
    tera.register_filter("mark", move |text: &str, arguments: Kwargs, _: &State| -> TeraResult<String> {
        Ok(mark(text, arguments.must_get("change")?, colour))
    });
    for (name, words) in NUMBERS {
        tera.register_filter(name, move |value: &Value, _: Kwargs, _: &State| -> TeraResult<String> {
            Ok(value.as_f64().map_or_else(nothing, words))
        });
    }
    tera.register_filter("cell", |text: &str, _: Kwargs, _: &State| -> TeraResult<String> { Ok(cell(text)) });
    TemplateEngine(tera)
}

type InWords = fn(f64) -> String;

/// Filters from a number to words; whatever is no number was not measured.
const NUMBERS: [(&str, InWords); 8] = [
    ("percent", percent),
    ("points", points),
    ("count", |value| thousands(value as u64)),
    ("memory", |value| bytes(value as u64)),
    ("seconds", seconds_in_words),
    ("speed", |value| format!("{value:.1}")),
    ("ratio", |value| format!("{value:.2}")),
    ("p_value", p_value),
];

/// Free text in a cell of a table, in Markdown or between our own bars: on one line, without a bar.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

impl TemplateEngine {
    /// Fills in `template`, which messages call `name`; `origin` is the one to start from. A name that ends in `.html`
    /// escapes what is put into it.
    pub(super) fn render(
        mut self,
        name: &str,
        template: &str,
        origin: &str,
        context: &impl Serialize,
    ) -> Result<String, ReportError> {
        let fault = |error: &dyn std::fmt::Display| ReportError {
            what: format!("template {name}: {error}"),
            hint: format!("templates are tera's; start from a copy of {origin}, whose variables are all there are"),
        };
        let variables = tera::Context::from_serialize(context).map_err(|error| fault(&error))?;
        self.0.add_raw_template(name, template).map_err(|error| fault(&error))?;
        self.0.render(name, &variables).map_err(|error| fault(&error))
    }
}

fn bundled(name: String) -> (String, &'static str) {
    let text = TEMPLATES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| *text);
    (name, text)
}

/// Aligns lines of cells divided by `|`: a column is as wide as its widest cell; the first `words` columns stand left,
/// the rest are numbers and stand right. Blank lines are dropped.
fn columns(block: &str, words: usize) -> String {
    let rows: Vec<Vec<&str>> = block
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let mut widths = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = measure_text_width(cell).max(*width);
        }
    }
    let line = |row: &Vec<&str>| {
        // A column that is empty everywhere takes no room.
        let cells = row.iter().zip(&widths).enumerate().filter(|(_, (_, width))| **width > 0);
        let cells = cells.map(|(column, (cell, width))| {
            let side = if column < words { Alignment::Left } else { Alignment::Right };
            pad_str(cell, *width, side, None).into_owned()
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Columns of a terminal that a line may take.
const WIDTH: usize = 80;

/// Breaks a text that begins in this column between words, so that no line is wider than a terminal; all lines but the
/// first are indented.
fn wrap(text: &str, indent: usize, column: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let before = if lines.len() == 1 { column } else { 0 };
        match lines.last_mut() {
            Some(line) if before + measure_text_width(line) + 1 + measure_text_width(word) <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("{}{word}", " ".repeat(indent))),
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// `{{ word | paint(style="red.bold") }}`, in console's dotted notation; plain unless the terminal wants colours.
fn paint(text: &str, arguments: &Kwargs, colour: bool) -> TeraResult<String> {
    let style = Style::from_dotted_str(arguments.must_get("style")?);
    Ok(if colour { style.force_styling(true).apply_to(text).to_string() } else { text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_words_left_and_numbers_right() {
        let block = "\n  dtype | rule | n\n\nf32 | strict | 1,319\nbf16||7\n";
        assert_eq!(columns(block, 2), "dtype  rule        n\nf32    strict  1,319\nbf16               7");
        assert_eq!(columns("|a|b\n|1|2", 2), "a  b\n1  2");
    }

    #[test]
    fn long_lines_break_between_words() {
        let wrapped = wrap(&"four ".repeat(30), 2, 0);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!((lines.len(), lines[0].len(), lines[1].len()), (2, 79, 2 + 14 * 5 - 1));
        assert!(lines[1].starts_with("  four"), "{wrapped}");
        assert_eq!(wrap(&"four ".repeat(30), 2, 9).lines().next().map(str::len), Some(69));
        assert_eq!(wrap("", 2, 0), "");
    }

    #[test]
    fn colours_do_not_move_a_column() {
        let red = Style::new().red().force_styling(true).apply_to("-5.0").to_string();
        let aligned = columns(&format!("a|b|delta\na|b|{red}"), 2);
        assert_eq!(console::strip_ansi_codes(&aligned), "a  b  delta\na  b   -5.0");
    }
}
