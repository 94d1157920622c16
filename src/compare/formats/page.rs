//! The page: one HTML file with its style, its script and all its data inside.

use super::{Report, ReportFormat};
use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::compare::comparison::Comparison;
use crate::compare::samples::{Questions, ReferenceTokens, divergence_of};
use crate::compare::source::{Source, sources};
use crate::files::sha256;
use crate::jobs::eval::StoredRun;
use crate::record::StoredCompletion;
use crate::report::ReportError;
use crate::report::Templates;
use crate::shown::outgoing;

/// Browsers show a page of some 50 MB; an answer with its question takes half a kilobyte.
const MOST_ANSWERS: usize = 100_000;

/// `--format html`.
#[derive(Debug)]
pub(super) struct Html;

impl ReportFormat for Html {
    fn name(&self) -> &'static str {
        "html"
    }

    fn description(&self) -> &'static str {
        "one self-contained page with every sample"
    }

    fn most_answers(&self) -> usize {
        MOST_ANSWERS
    }

    fn render(&self, report: &Report) -> Result<String, ReportError> {
        page(report.comparison, report.runs, report.templates)
    }
}

/// What the page's template sees: the comparison, and the parts that are put in as they are.
#[derive(Serialize)]
struct Variables<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    /// `report.css`
    style: String,
    /// `charts.js` and `report.js`
    script: String,
    /// The hash of [`Data`], in whose place the data stands in the page: a template's engine would copy it several times.
    data: String,
    /// Answers that the page does not show, for they are too many; 0 where it shows all.
    answers_left_out: usize,
}

/// What the page's script reads.
#[derive(Serialize)]
struct Data<'a> {
    comparison: &'a Comparison,
    groups: Vec<Group<'a>>,
}

/// Rows that answered the same questions by the same protocol.
#[derive(Serialize)]
struct Group<'a> {
    /// Indices of the comparison's rows.
    rows: Vec<usize>,
    /// Of each run in the group, the text that all its prompts begin with: (run, text).
    beginnings: Vec<(usize, &'a str)>,
    samples: Vec<Sample<'a>>,
}

/// One sample and repeat.
#[derive(Serialize)]
struct Sample<'a> {
    /// Row of the dataset.
    i: usize,
    /// Repeat.
    k: usize,
    /// Question; `null` where the run folder holds none.
    q: Option<&'a str>,
    /// The dataset's answer.
    a: Option<&'a str>,
    /// What follows the common beginning in each run's prompt, in the order of `beginnings`.
    p: Vec<Option<&'a str>>,
    /// One a row of the group.
    c: Vec<Option<Answer<'a>>>,
}

/// One row's answer: text, why it ended, output tokens (`null` where they are not known), tokens before it leaves its reference, and of each rule of the
/// comparison (value, begin, end, right), the places in UTF-16 units as scripts count.
type Answer<'a> = (&'a str, &'static str, Option<usize>, Option<usize>, Vec<Option<Reading<'a>>>);
type Reading<'a> = (Option<&'a str>, usize, usize, bool);

fn page(comparison: &Comparison, runs: &[StoredRun], templates: &Templates) -> Result<String, ReportError> {
    let sources = sources(runs);
    let answers: usize = runs.iter().flat_map(|run| &run.record.dtypes).map(|dtype| dtype.n).sum();
    let answers_left_out = answers.saturating_sub(runs.iter().map(StoredRun::answers).sum());
    let data = Data { comparison, groups: groups(comparison, runs, &sources, answers_left_out == 0) };
    let json = serde_json::to_string(&data).map_err(|error| ReportError::fault("the page's data", &error));
    // Within a string of JSON `<` may be written so, and nowhere else can one stand: no `</script>`, no `<!--`.
    let json = outgoing(&json?, false).replace('<', "\\u003c");
    let place = sha256(json.as_bytes());
    let variables = Variables {
        comparison,
        style: templates.text("report.css"),
        script: templates.text("charts.js") + &templates.text("report.js"),
        data: place.clone(),
        answers_left_out,
    };
    Ok(templates.fill("report.html", &variables, false)?.replace(&place, &json))
}

fn groups<'a>(
    comparison: &Comparison,
    runs: &'a [StoredRun],
    sources: &[Source<'a>],
    has_samples: bool,
) -> Vec<Group<'a>> {
    let mut rows_of: Vec<Vec<usize>> = Vec::new();
    for row in 0..sources.len() {
        match rows_of.iter_mut().find(|rows| sources[rows[0]].questions() == sources[row].questions()) {
            Some(rows) => rows.push(row),
            None => rows_of.push(vec![row]),
        }
    }
    let group = |rows| {
        if has_samples {
            group(comparison, runs, sources, rows)
        } else {
            Group { rows, beginnings: Vec::new(), samples: Vec::new() }
        }
    };
    rows_of.into_iter().map(group).collect()
}

/// A row's completions by (sample, repeat), and what they are held against.
type Column<'a> = (HashMap<(usize, usize), &'a StoredCompletion>, ReferenceTokens<'a>);

fn group<'a>(comparison: &Comparison, runs: &'a [StoredRun], sources: &[Source<'a>], rows: Vec<usize>) -> Group<'a> {
    let mut members: Vec<usize> = rows.iter().map(|row| sources[*row].run).collect();
    members.dedup();
    let prompts: Vec<(usize, &str, Questions)> =
        members.iter().map(|run| (*run, common_beginning(&runs[*run]), Questions::new(&runs[*run]))).collect();
    let columns: Vec<Column> = rows
        .iter()
        .map(|row| {
            let completions = sources[*row].completions().iter().map(|one| ((one.sample, one.repeat), one));
            (completions.collect(), divergence_of(comparison, sources, *row))
        })
        .collect();
    let mut keys = BTreeSet::new();
    for (completions, _) in &columns {
        keys.extend(completions.keys().copied());
    }
    let sample = |(i, k): (usize, usize)| {
        let question = prompts.iter().find_map(|(_, _, questions)| questions.of(i));
        let rest = |(_, beginning, questions): &(usize, &'a str, Questions<'a>)| {
            questions.of(i).and_then(|sample| sample.prompt.strip_prefix(beginning))
        };
        Sample {
            i,
            k,
            q: question.map(|sample| sample.question.as_str()),
            a: question.map(|sample| sample.answer.as_str()),
            p: prompts.iter().map(rest).collect(),
            c: columns
                .iter()
                .map(|(completions, reference)| Some(answer(comparison, completions.get(&(i, k))?, reference)))
                .collect(),
        }
    };
    Group {
        samples: keys.into_iter().map(sample).collect(),
        beginnings: prompts.iter().map(|(run, beginning, _)| (*run, *beginning)).collect(),
        rows,
    }
}

fn answer<'a>(comparison: &Comparison, one: &'a StoredCompletion, reference: &ReferenceTokens) -> Answer<'a> {
    let readings = comparison.rules.iter().map(|rule| {
        let score = one.scores.iter().find(|score| score.rule == *rule)?;
        // A span that is none of this text's is not marked.
        let [begin, end] = score.span.unwrap_or_default();
        let (begin, end) = (utf16(&one.text, begin), utf16(&one.text, end));
        Some((score.value.as_deref(), begin, end.max(begin), score.correct))
    });
    (&one.text, one.finish.name(), one.output_tokens(), reference.of(one), readings.collect())
}

/// UTF-16 units before a byte offset; 0 where no character begins there.
fn utf16(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(0, |before| before.encode_utf16().count())
}

/// What all prompts of a run begin with, in whole characters; nothing where there is only one.
fn common_beginning(run: &StoredRun) -> &str {
    let Some(first) = run.samples.first().filter(|_| run.samples.len() > 1) else { return "" };
    let shared = |length: usize, prompt: &str| {
        first.prompt.as_bytes()[..length].iter().zip(prompt.as_bytes()).take_while(|(a, b)| a == b).count()
    };
    let mut length = run.samples.iter().fold(first.prompt.len(), |length, sample| shared(length, &sample.prompt));
    while !first.prompt.is_char_boundary(length) {
        length -= 1;
    }
    &first.prompt[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_as_scripts_count() {
        let text = "é𝄞5";
        assert_eq!([utf16(text, 0), utf16(text, 2), utf16(text, 6), utf16(text, 7)], [0, 1, 3, 4]);
        assert_eq!([utf16(text, 1), utf16(text, 99)], [0, 0]);
    }
}
