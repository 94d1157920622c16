//! Completions made elsewhere, as a file of JSON lines: `question`, `reference` or a GSM8K `answer`, `completion`, and optionally `id`
//! and `variant`.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::files::{read_text, sha256};
use crate::jobs::JobError;
use crate::record::VariantName;
use crate::task::Sample;
use crate::text::nearest;

const HINT: &str = "each line is a JSON object with `question`, `reference` (or a GSM8K `answer`) and `completion`, and optionally `id` and \
                    `variant`";
const FIELDS: [&str; 6] = ["question", "reference", "answer", "completion", "id", "variant"];
/// What rows without a `variant` are of.
const ONLY_VARIANT: &str = "completions";

/// A file's completions by question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Completions {
    /// Every question once, in the order of its first row.
    pub(super) samples: Vec<Sample>,
    /// Their ids, where the file has them.
    pub(super) ids: Vec<Option<String>>,
    /// The variants in the order of their first rows.
    pub(super) variants: Vec<(VariantName, Vec<Completion>)>,
    /// Of the file.
    pub(super) sha256: String,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Completion {
    /// Index of the question.
    pub(super) sample: usize,
    /// 0 for the first of its question and variant.
    pub(super) repeat: usize,
    /// What the model said.
    pub(super) text: String,
}

/// What tells a question from the others: its id; without one its text and reference, and how many like it its variant had before.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Id(String),
    Text(String, String, usize),
}

impl Completions {
    /// Reads a file; an error names file, line and field.
    pub(super) fn read(path: &Path) -> Result<Self, JobError> {
        let text = read_text(path).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "check the path of the file".to_owned(),
                io::ErrorKind::InvalidData => "write it as UTF-8 text".to_owned(),
                _ => format!("name a file that can be read: {HINT}"),
            };
            JobError::invalid(format!("cannot read the completions in {}: {error}", path.display()), hint)
        })?;
        let (samples, ids, variants) = grouped(&text).map_err(|(line, fault)| {
            JobError::invalid(format!("{}:{line}: {}", path.display(), fault.what), fault.hint)
        })?;
        if samples.is_empty() {
            return Err(JobError::invalid(format!("{}: there is no completion in it", path.display()), HINT));
        }
        Ok(Self { samples, ids, variants, sha256: sha256(text.as_bytes()) })
    }

    /// Over questions and references, which completions of several files may share.
    pub(super) fn questions_sha256(&self) -> String {
        let line = |(sample, id): (&Sample, &Option<String>)| {
            json!([id, sample.question, sample.answer, sample.reference]).to_string() + "\n"
        };
        sha256(self.samples.iter().zip(&self.ids).map(line).collect::<String>().as_bytes())
    }

    /// The most completions that a variant has of a question.
    pub(super) fn repeats(&self) -> usize {
        self.variants.iter().flat_map(|(_, rows)| rows).map(|row| row.repeat + 1).max().unwrap_or(1)
    }
}

type Grouped = (Vec<Sample>, Vec<Option<String>>, Vec<(VariantName, Vec<Completion>)>);

/// The rows by question and variant; a fault comes with its line, from 1.
fn grouped(text: &str) -> Result<Grouped, (usize, Fault)> {
    let (mut samples, mut ids) = (Vec::<Sample>::new(), Vec::new());
    let mut variants: Vec<(VariantName, Vec<Completion>)> = Vec::new();
    let mut known: HashMap<Key, (usize, usize)> = HashMap::new();
    let mut alike: HashMap<(usize, String, String), usize> = HashMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = index + 1;
        let row = row(line).map_err(|fault| (line_number, fault))?;
        let variant = variants.iter().position(|(name, _)| *name == row.variant).unwrap_or_else(|| {
            variants.push((row.variant.clone(), Vec::new()));
            variants.len() - 1
        });
        let key = if let Some(id) = &row.id {
            Key::Id(id.clone())
        } else {
            let before = alike.entry((variant, row.question.clone(), row.reference.clone())).or_default();
            *before += 1;
            Key::Text(row.question.clone(), row.reference.clone(), *before)
        };
        let (sample, first_line) = *known.entry(key).or_insert_with(|| {
            samples.push(Sample {
                index: samples.len(),
                question: row.question.clone(),
                answer: row.answer.clone(),
                reference: row.reference.clone(),
                cluster: None,
            });
            ids.push(row.id.clone());
            (samples.len() - 1, line_number)
        });
        let asked = &samples[sample];
        let fields = [("question", &asked.question, &row.question), ("reference", &asked.reference, &row.reference)];
        if let Some((field, ..)) = fields.iter().find(|(_, asked, own)| asked != own) {
            let id = row.id.unwrap_or_default();
            let what = format!("`{field}` of the id {id:?} is another than in line {first_line}");
            return Err((line_number, Fault::new(what, "an id stands for one question: give each its own")));
        }
        let rows = &mut variants[variant].1;
        let repeat = rows.iter().filter(|one| one.sample == sample).count();
        rows.push(Completion { sample, repeat, text: row.completion });
    }
    Ok((samples, ids, variants))
}

/// One line, read.
struct Row {
    id: Option<String>,
    question: String,
    answer: String,
    reference: String,
    completion: String,
    variant: VariantName,
}

/// What is wrong with a line, which is a text of its own to the parser: every line would be its line 1.
fn in_line(error: &serde_json::Error) -> String {
    let (text, column) = (error.to_string(), error.column());
    let what = text.split(" at line ").next().unwrap_or(&text);
    if column > 0 { format!("{what} at column {column}") } else { what.to_owned() }
}

fn row(line: &str) -> Result<Row, Fault> {
    let object: Map<String, Value> = serde_json::from_str(line)
        .map_err(|error| Fault::new(format!("not a JSON object: {}", in_line(&error)), HINT))?;
    let text = |field: &str| match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) if !["question", "completion"].contains(&field) => Ok(Some(number.to_string())),
        Some(other) => Err(Fault::new(format!("`{field}` is no text: {other}"), HINT)),
    };
    let needed = |field: &str| {
        text(field)?.ok_or_else(|| {
            let strangers = object.keys().map(String::as_str).filter(|key| !FIELDS.contains(key));
            let near = nearest(field, strangers).map(|near| format!("; `{near}` is none of these"));
            Fault::new(format!("`{field}` is missing"), format!("{HINT}{}", near.unwrap_or_default()))
        })
    };
    let sample = match (text("answer")?, text("reference")?) {
        (Some(answer), None) => Sample::new(0, String::new(), answer),
        (None, None) => return Err(needed("reference").map_or_else(|fault| fault, |text| Fault::new(text, HINT))),
        (answer, Some(reference)) => Sample {
            answer: answer.unwrap_or_else(|| reference.clone()),
            reference,
            ..Sample::new(0, String::new(), String::new())
        },
    };
    let variant = text("variant")?.unwrap_or_else(|| ONLY_VARIANT.to_owned());
    Ok(Row {
        id: text("id")?,
        question: needed("question")?,
        completion: needed("completion")?,
        variant: VariantName::parse(&variant).map_err(|why| {
            let hint = "name a variant by up to 24 letters, digits, `.`, `_` and `-`, such as f16 or g128";
            Fault::new(format!("`variant` {variant:?} is no name of one: {why}"), hint)
        })?,
        answer: sample.answer,
        reference: sample.reference,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Completions, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Completions::read(file.path())
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    fn rows(completions: &Completions) -> Vec<(&str, usize, usize, &str)> {
        let rows = completions.variants.iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row)));
        rows.map(|(name, row)| (name.as_str(), row.sample, row.repeat, row.text.as_str())).collect()
    }

    #[test]
    fn rows_are_grouped_by_question_and_variant() {
        let read = read(
            r#"{"question": "q", "reference": 4, "completion": "a", "variant": "f32"}
{"question": "r", "answer": "so #### 5", "completion": "b", "variant": "f32"}

{"question": "r", "answer": "so #### 5", "completion": "c", "variant": "f16"}
{"question": "q", "reference": "4", "completion": "d", "variant": "f16"}
{"question": "q", "reference": "4", "completion": "e", "variant": "f16"}
"#,
        )
        .unwrap();
        // Without ids every line of a variant is a question of its own: the second q of f16 is another one.
        let all = [("f32", 0, 0, "a"), ("f32", 1, 0, "b"), ("f16", 1, 0, "c"), ("f16", 0, 0, "d"), ("f16", 2, 0, "e")];
        assert_eq!(rows(&read), all);
        let of = |sample: usize| (read.samples[sample].answer.as_str(), read.samples[sample].reference.as_str());
        assert_eq!((of(0), of(1), of(2)), (("4", "4"), ("so #### 5", "5"), ("4", "4")));
        assert_eq!(read.repeats(), 1);
    }

    #[test]
    fn a_reference_goes_before_the_answer_beside_it() {
        let read = read(r#"{"question": "q", "answer": "so #### 5", "reference": "6", "completion": "a"}"#).unwrap();
        assert_eq!((read.samples[0].answer.as_str(), read.samples[0].reference.as_str()), ("so #### 5", "6"));
    }

    #[test]
    fn an_id_that_comes_again_is_a_repeat() {
        let line = |id: &str, completion: &str| {
            format!("{{\"id\": {id}, \"question\": \"q\", \"reference\": \"4\", \"completion\": \"{completion}\"}}\n")
        };
        let lines = [line("7", "a"), line("\"7\"", "b"), line("8", "c")];
        let read = read(&lines.concat()).unwrap();
        let all = [("completions", 0, 0, "a"), ("completions", 0, 1, "b"), ("completions", 1, 0, "c")];
        assert_eq!(rows(&read), all);
        assert_eq!((read.ids.clone(), read.repeats()), (vec![Some("7".to_owned()), Some("8".to_owned())], 2));
    }

    #[test]
    fn the_questions_hash_is_that_of_questions_and_references_alone() {
        let hash = |text: &str| read(text).unwrap().questions_sha256();
        let one = hash(r#"{"question": "q", "reference": "4", "completion": "a"}"#);
        assert_eq!(one, hash(r#"{"completion": "b", "question": "q", "reference": 4, "variant": "f16"}"#));
        assert_ne!(one, hash(r#"{"question": "q", "reference": "5", "completion": "a"}"#));
        assert_ne!(one, hash(r#"{"question": "r", "reference": "4", "completion": "a"}"#));
    }

    #[test]
    fn a_bad_line_is_refused_by_file_line_and_field() {
        let good = r#"{"id": "a", "question": "q", "reference": "4", "completion": "c"}"#;
        for (bad, part) in [
            ("{", "FILE:2: not a JSON object"),
            ("[]", "FILE:2: not a JSON object: invalid type: sequence, expected a map\n"),
            (r#"{"question": "q", "reference"#, "FILE:2: not a JSON object: EOF while parsing a string at column 28"),
            (r#"{"reference": "4", "completion": "c"}"#, "FILE:2: `question` is missing"),
            (r#"{"question": "q", "completion": "c"}"#, "FILE:2: `reference` is missing"),
            (r#"{"question": "q", "reference": "4", "completon": "c"}"#, "`completon` is none of these"),
            (r#"{"question": "q", "reference": "4", "completion": null}"#, "FILE:2: `completion` is missing"),
            (r#"{"question": 3, "reference": "4", "completion": "c"}"#, "FILE:2: `question` is no text: 3"),
            (r#"{"question": "q", "reference": ["4"], "completion": "c"}"#, "FILE:2: `reference` is no text"),
            (
                r#"{"question": "q", "reference": "4", "completion": "c", "variant": "a b"}"#,
                "FILE:2: `variant` \"a b\"",
            ),
            (r#"{"id": "a", "question": "r", "reference": "4", "completion": "c"}"#, "another than in line 1"),
            (
                r#"{"id": "a", "question": "q", "reference": "5", "completion": "c"}"#,
                "FILE:2: `reference` of the id \"a\"",
            ),
        ] {
            let error = read(&format!("{good}\n{bad}\n")).unwrap_err();
            assert!(error.contains(part) && error.contains("\nhint: "), "{bad}: {error}");
        }
        assert!(read("\n").unwrap_err().contains("FILE: there is no completion in it"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_what_would_help() {
        let folder = tempfile::tempdir().unwrap();
        let hint =
            |path: &Path| Completions::read(path).unwrap_err().to_string().split_once("hint: ").unwrap().1.to_owned();
        assert_eq!(hint(&folder.path().join("nowhere.jsonl")), "check the path of the file");
        assert!(hint(folder.path()).starts_with("name a file that can be read: each line is a JSON object"));
        let bytes = folder.path().join("bytes.jsonl");
        std::fs::write(&bytes, [0xff, 0xfe]).unwrap();
        assert_eq!(hint(&bytes), "write it as UTF-8 text");
    }
}
