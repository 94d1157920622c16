//! Templates to text, with filters of our own: `columns` aligns a block, `wrap` breaks lines, `paint`
//! colours a word, `mark` a diff; and a filter for every kind of number.

use console::{Alignment, Style, measure_text_width, pad_str};
use serde::{Deserialize, Serialize};
use tera::{Kwargs, State, Tera, TeraResult, Value};

use super::diff_lines::{mark, wrap_text};
use super::words::{nothing, p_value, percent, points, seconds_in_words, thousands};
use super::{Format, ReportError};
use crate::bundled::TEMPLATES;
use crate::sandbox::{self, Sandbox};
use crate::shown::{html, markdown, markdown_code, markdown_fenced, plain};
use crate::text::bytes;

/// By the templates of this name, or by the user's.
pub(crate) fn render_by(
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
        return Err(ReportError::new(
            format!("there is no template {name} for this record"),
            "choose another `--format`; `evalsuite report RUN --format html` makes a page of a gsm8k run",
        ));
    }
    let colour = *format == Format::Terminal { colour: true };
    let origin = format!("templates/{templates}.md");
    let context = context.as_ref().map_err(|error| ReportError::fault(&name, error))?;
    fill(colour, &name, template, &origin, context)
}

/// Tera with this program's filters; they colour words only if `colour` was set.
fn engine(colour: bool) -> Tera {
    let mut tera = Tera::default();
    tera.autoescape_on([".html", ".htm", ".xml", ".md"]);
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
    tera.register_filter("code", |text: &str, _: Kwargs, _: &State| -> TeraResult<String> { Ok(markdown_code(text)) });
    tera.register_filter("fenced", |text: &str, _: Kwargs, _: &State| -> TeraResult<String> {
        Ok(markdown_fenced(text))
    });
    tera
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
pub(super) fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

/// The job of [`template_answer`].
pub(crate) const TEMPLATE_JOB: &str = "report-template";

/// What a child is asked to fill in; without variables, only to parse.
#[derive(Serialize, Deserialize)]
struct Filling {
    colour: bool,
    name: String,
    template: String,
    variables: Option<serde_json::Value>,
}

/// Fills in `template`, which messages call `name`; `origin` is the one to start from. A name that ends in `.html` escapes what is put
/// into it, as Markdown does where it ends in `.md`; everywhere others' text is text alone ([`crate::shown`]). A template that is not of
/// this program is filled in by a child process, for tera bounds neither memory nor stack.
pub(super) fn fill(
    colour: bool,
    name: &str,
    template: &str,
    origin: &str,
    variables: &impl Serialize,
) -> Result<String, ReportError> {
    let variables = serde_json::to_value(variables).map_err(|error| fault(name, origin, &error))?;
    let filling = Filling { colour, name: name.to_owned(), template: template.to_owned(), variables: Some(variables) };
    let ours = TEMPLATES.iter().any(|(_, text)| *text == template);
    let text = if ours { answer(filling) } else { ask(filling) };
    text.map_err(|error| fault(name, origin, &error))
}

fn ask(filling: Filling) -> Result<String, String> {
    if !sandbox::is_available() {
        return answer(filling);
    }
    Sandbox::new(TEMPLATE_JOB).ask(&filling).unwrap_or_else(|broken| Err(broken.to_string()))
}

/// What a child answers.
pub(crate) fn template_answer(request: &[u8]) -> Vec<u8> {
    let filling = serde_json::from_slice(request).map_err(|error| error.to_string());
    serde_json::to_vec(&filling.and_then(answer)).unwrap_or_default()
}

fn answer(filling: Filling) -> Result<String, String> {
    let mut tera = engine(filling.colour);
    let ending = filling.name.rsplit_once('.').map_or("", |(_, ending)| ending);
    let (is_markdown, is_json) = (ending == "md", ending == "json");
    tera.set_escape_fn(if is_markdown {
        |text, to| to.write_all(markdown(text).as_bytes())
    } else {
        |text, to| to.write_all(html(text).as_bytes())
    });
    tera.add_raw_template(&filling.name, &filling.template).map_err(|error| error.to_string())?;
    let Some(variables) = filling.variables else { return Ok(String::new()) };
    // JSON keeps its values; elsewhere columns are measured, and colours put in, after this.
    let shown = if is_json { variables } else { plain_values(variables) };
    let variables = tera::Context::from_serialize(&shown).map_err(|error| error.to_string())?;
    tera.render(&filling.name, &variables).map_err(|error| error.to_string())
}

/// Every text in it by [`plain`].
fn plain_values(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(plain(&text)),
        Value::Array(values) => values.into_iter().map(plain_values).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (plain(&name), plain_values(value))).collect(),
        other => other,
    }
}

fn fault(name: &str, origin: &str, error: &dyn std::fmt::Display) -> ReportError {
    ReportError::new(
        format!("template {name}: {error}"),
        format!("templates are tera's; start from a copy of {origin}, whose variables are all there are"),
    )
}

/// Refuses an invalid template before anything is computed for it.
pub(crate) fn check_template(name: &str, template: &str) -> Result<(), ReportError> {
    let filling = Filling { colour: false, name: name.to_owned(), template: template.to_owned(), variables: None };
    ask(filling).map(|_| ()).map_err(|error| fault(name, "one in templates/", &error))
}

fn bundled(name: String) -> (String, &'static str) {
    let text = TEMPLATES.iter().find(|(file, _)| *file == name).map_or("", |(_, text)| *text);
    (name, text)
}

/// Aligns lines of cells divided by `|`: a column is as wide as its widest cell; the first `words` columns stand left,
/// the rest are numbers and stand right. Blank lines are dropped. What is wider than a terminal is narrowed where words
/// stand, and a row then takes several lines.
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
    narrow(&mut widths, words);
    rows.iter().flat_map(|row| lines_of(row, &widths, words)).collect::<Vec<_>>().join("\n")
}

/// Between two columns.
const GAP: &str = "  ";

/// Takes from the widest of the columns of words until a line fits, or until a word would hardly fit in any of them.
fn narrow(widths: &mut [usize], words: usize) {
    const LEAST: usize = 8;
    let line = |widths: &[usize]| {
        let shown = widths.iter().filter(|width| **width > 0);
        shown.map(|width| width + GAP.len()).sum::<usize>().saturating_sub(GAP.len())
    };
    let words = words.min(widths.len());
    while line(widths) > WIDTH {
        let Some(widest) = widths[..words].iter_mut().max().filter(|width| **width > LEAST) else { return };
        *widest -= 1;
    }
}

fn lines_of(row: &[&str], widths: &[usize], words: usize) -> Vec<String> {
    let fold = |(cell, width): (&&str, &usize)| {
        if measure_text_width(cell) <= *width { vec![(*cell).to_owned()] } else { wrap_text(cell, *width) }
    };
    let cells: Vec<Vec<String>> = row.iter().zip(widths).map(fold).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or_default();
    let line = |line: usize| {
        // A column that is empty everywhere takes no room.
        let cells = cells.iter().zip(widths).enumerate().filter(|(_, (_, width))| **width > 0);
        let cells = cells.map(|(column, (cell, width))| {
            let side = if column < words { Alignment::Left } else { Alignment::Right };
            pad_str(cell.get(line).map_or("", |cell| cell.trim_end()), *width, side, None).into_owned()
        });
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// Columns of a terminal that a line may take.
const WIDTH: usize = 80;

/// Breaks a text that begins in this column between words, so that no line is wider than a terminal; all lines but the
/// first are indented. The text's own line breaks stay, and a word that is longer than a line, such as a path, stays whole.
fn wrap(text: &str, indent: usize, column: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut begins = true;
        for word in paragraph.split_whitespace() {
            let before = if lines.len() == 1 { column } else { 0 };
            match lines.last_mut() {
                Some(line) if !begins && before + measure_text_width(line) + 1 + measure_text_width(word) <= WIDTH => {
                    line.push(' ');
                    line.push_str(word);
                }
                Some(_) => lines.push(format!("{}{word}", " ".repeat(indent))),
                None => lines.push(word.to_owned()),
            }
            begins = false;
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
        assert_eq!(wrap("error\nhint: none", 2, 0), "error\n  hint: none");
    }

    #[test]
    fn a_table_wider_than_a_terminal_is_narrowed_where_words_stand() {
        let block = format!("engine|source|n\nfast engine|{}|1,319\nslow|here|7", "four ".repeat(30));
        let table = columns(&block, 2);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert_eq!((table.matches("four").count(), table.lines().count()), (30, 5), "{table}");
        assert!(table.contains("\nslow         here ") && table.ends_with("      7"), "{table}");
        let path = "a-path-that-is-longer-than-a-terminal-".repeat(3);
        let table = columns(&format!("{path}|1"), 1);
        assert_eq!(table.replace(['\n', ' '], "").replace('1', ""), path);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert_eq!(columns(&format!("a|{}", "7".repeat(90)), 1).len(), 93, "numbers are never broken");
    }

    #[test]
    fn colours_do_not_move_a_column() {
        let red = Style::new().red().force_styling(true).apply_to("-5.0").to_string();
        let aligned = columns(&format!("a|b|delta\na|b|{red}"), 2);
        assert_eq!(console::strip_ansi_codes(&aligned), "a  b  delta\na  b   -5.0");
    }
}
