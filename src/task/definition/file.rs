//! Reads and checks a task's TOML text. `docs/tasks.md` tells every key.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;

use super::reference::{ReferencePlace, ReferenceRule};
use super::{FewshotSource, Layout, Task};
use crate::fault::Fault;
use crate::task::TaskError;
use crate::task::toml_text::TomlText;

const KEYS: &[&str] =
    &["title", "description", "licence", "protocol", "variants", "source", "columns", "reference", "fewshot"];
const TABLES: &[(&str, &[&str])] = &[
    ("source", &["dataset", "revision", "split"]),
    ("columns", &["question", "answer", "cluster", "header"]),
    ("reference", &["rule", "mark", "pattern", "type", "not_a_number"]),
    ("fewshot", &["dataset", "split"]),
];
const KEYS_TOLD: &str = "docs/tasks.md tells every key; datasets/tasks/ has examples";

#[derive(Deserialize)]
struct TaskFile {
    title: Spanned<String>,
    description: String,
    licence: String,
    protocol: String,
    source: SourceTable,
    columns: ColumnsTable,
    reference: Spanned<ReferenceTable>,
    fewshot: Option<FewshotTable>,
}

#[derive(Deserialize)]
struct SourceTable {
    dataset: Spanned<String>,
    revision: Option<String>,
    split: Option<String>,
}

#[derive(Deserialize)]
struct ColumnsTable {
    question: Spanned<Names>,
    answer: Spanned<String>,
    cluster: Option<Spanned<String>>,
    header: Option<Spanned<Vec<String>>>,
}

/// One column, or several whose texts are joined.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct ReferenceTable {
    rule: RuleName,
    mark: Option<String>,
    pattern: Option<Spanned<String>>,
    r#type: ValueType,
    not_a_number: Option<NotANumber>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RuleName {
    Whole,
    After,
    Boxed,
    Pattern,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ValueType {
    Number,
    Text,
}

#[derive(Deserialize, PartialEq)]
enum NotANumber {
    #[serde(rename = "refuse")]
    Refuse,
    #[serde(rename = "leave out")]
    LeaveOut,
}

#[derive(Deserialize)]
struct FewshotTable {
    dataset: Option<String>,
    split: String,
}

/// The variants of a file, as (name, title); none where it has none or cannot be read.
pub(super) fn variants(text: &str) -> Vec<(String, String)> {
    #[derive(Deserialize)]
    struct Variants {
        #[serde(default)]
        variants: toml::Table,
    }
    let table = toml::from_str(text).map_or_else(|_| toml::Table::new(), |Variants { variants }| variants);
    table.into_iter().map(|(name, title)| (name, title.as_str().unwrap_or_default().to_owned())).collect()
}

/// Compiles a task from its text. `label` names it in messages, `stem` is the file's name; of a file with variants, `variant` is the
/// one that is meant.
pub(super) fn parse(label: &str, stem: &str, text: &str, variant: Option<&str>) -> Result<Task, TaskError> {
    let written = TomlText { kind: "task", label, text, keys_told: KEYS_TOLD };
    written.check_keys(KEYS, TABLES)?;
    let sha256 = crate::files::sha256(text.as_bytes());
    let (name, text) = of_variant(&written, stem, variant)?;
    // Placeholders stand within strings, so the variant's text has the same lines.
    let checks = Checks(TomlText { text: &text, ..written });
    let file: TaskFile = toml::from_str(&text).map_err(|error| checks.0.syntax(&error))?;
    for (key, value) in [("title", &file.title), ("dataset", &file.source.dataset), ("answer", &file.columns.answer)] {
        checks.not_blank(key, &value.span(), value.get_ref())?;
    }
    Ok(Task {
        name,
        title: file.title.into_inner(),
        description: file.description,
        licence: file.licence,
        file: None,
        sha256,
        dataset: file.source.dataset.into_inner(),
        revision: file.source.revision.unwrap_or_else(|| crate::hub::DEFAULT_REVISION.to_owned()),
        split: file.source.split.unwrap_or_else(|| "test".to_owned()),
        protocol: file.protocol,
        fewshot: file.fewshot.map(|table| FewshotSource { dataset: table.dataset, split: table.split }),
        layout: checks.layout(file.columns, &file.reference)?,
    })
}

/// The task's name, and its text with the variant in the placeholders' places.
fn of_variant(written: &TomlText, stem: &str, variant: Option<&str>) -> Result<(String, String), TaskError> {
    let known = variants(written.text);
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let Some(variant) = variant else {
        if let Some(first) = names.first() {
            return Err(TaskError::invalid(
                format!("task {}: it has variants, and none is named", written.label),
                format!("write `{stem}-{first}`, or another of: {}", names.join(", ")),
            ));
        }
        return Ok((stem.to_owned(), written.text.to_owned()));
    };
    let Some((name, title)) = known.iter().find(|(name, _)| name == variant) else {
        let Fault { what, hint } = Fault::unknown("variant", variant, &names);
        return Err(TaskError::invalid(format!("task {}: {what}", written.label), hint));
    };
    let text = written.text.replace("{variant}", name).replace("{variant_title}", title);
    Ok((format!("{stem}-{name}"), text))
}

/// A task's text, whose values are checked beyond what TOML asks.
struct Checks<'a>(TomlText<'a>);

impl Checks<'_> {
    fn not_blank(&self, key: &str, span: &Range<usize>, value: &str) -> Result<(), TaskError> {
        if value.trim().is_empty() {
            return Err(self.0.error(span, &format!("`{key}` is empty"), format!("give `{key}` a value")));
        }
        Ok(())
    }

    fn layout(&self, columns: ColumnsTable, reference: &Spanned<ReferenceTable>) -> Result<Layout, TaskError> {
        let span = columns.question.span();
        let question = match columns.question.into_inner() {
            Names::One(name) => vec![name],
            Names::Several(names) => names,
        };
        if question.is_empty() || question.iter().any(|name| name.trim().is_empty()) {
            return Err(self.0.error(
                &span,
                "`question` names no column",
                "give a column's name, or a list of several whose texts are joined by a space",
            ));
        }
        let layout = Layout {
            question,
            answer: columns.answer.into_inner(),
            cluster: columns.cluster.map(Spanned::into_inner),
            header: columns.header.as_ref().map(|header| header.get_ref().clone()).unwrap_or_default(),
            reference: self.reference(reference)?,
        };
        if let Some(header) = columns.header
            && let Some(missing) =
                layout.columns().into_iter().find(|column| !layout.header.iter().any(|h| h == column))
        {
            return Err(self.0.error(
                &header.span(),
                &format!("`header` has no column `{missing}`"),
                "name every column of the file in its order",
            ));
        }
        Ok(layout)
    }

    fn reference(&self, table: &Spanned<ReferenceTable>) -> Result<ReferenceRule, TaskError> {
        let ReferenceTable { rule, mark, pattern, r#type, not_a_number } = table.get_ref();
        let place = match (rule, mark, pattern) {
            (RuleName::Whole, None, None) => ReferencePlace::Whole,
            (RuleName::Boxed, None, None) => ReferencePlace::Boxed,
            (RuleName::After, Some(mark), None) if !mark.trim().is_empty() => ReferencePlace::After(mark.clone()),
            (RuleName::Pattern, None, Some(pattern)) => {
                let regex = regex::Regex::new(pattern.get_ref()).map_err(|error| {
                    let what = format!("the pattern cannot be used: {error}");
                    self.0.error(&pattern.span(), &what, "write a regular expression of the `regex` crate")
                })?;
                ReferencePlace::Pattern(regex)
            }
            _ => {
                return Err(self.0.error(
                    &table.span(),
                    "`[reference]` lacks a key of its rule or has one of another's",
                    "`rule = \"after\"` goes with `mark`, `rule = \"pattern\"` with `pattern`, `whole` and `boxed` with neither",
                ));
            }
        };
        let is_number = *r#type == ValueType::Number;
        if not_a_number.is_some() && !is_number {
            return Err(self.0.error(
                &table.span(),
                "`not_a_number` has no use where the type is text",
                "leave it out, or write `type = \"number\"`",
            ));
        }
        Ok(ReferenceRule { place, is_number, leaves_out: *not_a_number == Some(NotANumber::LeaveOut) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"title = "Sums"
description = "d"
licence = "MIT"
protocol = "stepwise"

[source]
dataset = "some/sums"
split = "dev"

[columns]
question = ["body", "ask"]
answer = "sum"
cluster = "page"

[reference]
rule = "whole"
type = "number"
not_a_number = "leave out"

[fewshot]
dataset = "some/more"
split = "train"
"#;

    fn message(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let message = parse("sums.toml", "sums", &GOOD.replacen(from, to, 1), None).unwrap_err().to_string();
        assert!(message.contains("\nhint: ") && message.contains("sums.toml"), "{message}");
        message
    }

    #[test]
    fn every_key_is_read() {
        let task = parse("sums.toml", "sums", GOOD, None).unwrap();
        assert_eq!((task.name.as_str(), task.title.as_str(), task.protocol.as_str()), ("sums", "Sums", "stepwise"));
        assert_eq!((task.dataset.as_str(), task.split.as_str(), task.revision.as_str()), ("some/sums", "dev", "main"));
        assert_eq!(task.layout.columns(), ["body", "ask", "sum", "page"]);
        assert_eq!(task.sha256, crate::files::sha256(GOOD.as_bytes()));
        let fewshot = FewshotSource { dataset: Some("some/more".to_owned()), split: "train".to_owned() };
        assert_eq!(task.fewshot, Some(fewshot));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_the_nearest() {
        assert!(
            message("licence =", "license =").contains("line 3: unknown key `license`\nhint: did you mean `licence`")
        );
        assert!(message("cluster =", "clutser =").contains("line 13: unknown key `clutser`"));
        assert!(message("title = \"Sums\"", "title = \" \"").contains("line 1: `title` is empty"));
        assert!(message("\"whole\"", "\"all\"").contains("line 16: unknown variant `all`"));
        assert!(message("\"whole\"", "\"after\"").contains("lacks a key of its rule"));
        assert!(message("rule = \"whole\"", "rule = \"pattern\"\npattern = \"(\"").contains("line 17: the pattern"));
        assert!(message("type = \"number\"", "type = \"text\"").contains("`not_a_number` has no use"));
        assert!(message("\"leave out\"", "\"drop\"").contains("line 18: unknown variant `drop`"));
        assert!(message("[\"body\", \"ask\"]", "[]").contains("line 11: `question` names no column"));
        assert!(
            message("cluster = \"page\"", "header = [\"body\", \"ask\"]")
                .contains("line 13: `header` has no column `sum`")
        );
        assert!(message("dataset = \"some/sums\"\n", "").contains("missing field `dataset`"));
        assert!(message("licence = \"MIT\"", "licence \"MIT\"").contains("line 3"));
    }

    #[test]
    fn the_documentation_tells_every_key_and_its_example_is_sound() {
        let page = include_str!("../../../docs/tasks.md");
        let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        parse("page.toml", "page", example, None).unwrap();
        let keys = KEYS.iter().chain(TABLES.iter().flat_map(|(_, keys)| *keys));
        for key in keys {
            let told = [format!("{key} = "), format!("[{key}]"), format!("`{key}`")];
            assert!(told.iter().any(|told| page.contains(told)), "docs/tasks.md says nothing of `{key}`");
        }
    }

    #[test]
    fn variants_are_put_where_their_placeholders_stand() {
        let text =
            GOOD.replace("\"some/sums\"", "\"some/sums:{variant}.tsv\"").replace("Sums", "Sums in {variant_title}")
                + "\n[variants]\nde = \"German\"\nfr = \"French\"\n";
        let open = |variant| parse("sums.toml", "sums", &text, variant);
        let german = open(Some("de")).unwrap();
        assert_eq!((german.name.as_str(), german.title.as_str()), ("sums-de", "Sums in German"));
        assert_eq!(german.dataset, "some/sums:de.tsv");
        assert_eq!(german.sha256, crate::files::sha256(text.as_bytes()));
        assert!(open(Some("fx")).unwrap_err().to_string().contains("unknown variant `fx`"));
        assert!(open(None).unwrap_err().to_string().contains("write `sums-de`"));
        assert!(parse("s", "s", GOOD, Some("de")).unwrap_err().to_string().contains("unknown variant `de`"));
    }
}
