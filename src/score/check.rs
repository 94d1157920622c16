//! Checks that a prompt declares on its own answer: text in, verdict out.

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::fault::Fault;

/// A check, compiled.
#[derive(Debug, Clone)]
pub struct Check {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    ValidJson,
    JsonEquals(Value),
    Contains(String),
    Excludes(String),
    Regex(Regex),
    NotRegex(Regex),
    Equals(String),
    Count(Unit, Bound, usize),
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Sentences,
    Words,
    Lines,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    AtMost,
    Exactly,
}

/// What a check said of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The check in words.
    pub check: String,
    /// Whether the answer passed.
    pub passed: bool,
    /// What was found instead, where that says more than the answer itself: `3 sentences`.
    pub found: Option<String>,
}

impl Check {
    /// The names of checks, as a prompt file writes them, with what each takes.
    pub const NAMES: [&str; 11] = [
        "valid_json",
        "json_equals",
        "contains",
        "excludes",
        "regex",
        "not_regex",
        "equals",
        "max_sentences",
        "max_words",
        "words",
        "lines",
    ];

    /// A check by name, with its argument as a prompt file gives it. White space around an answer never counts.
    ///
    /// - `valid_json` (`true`): the whole answer is one JSON value.
    /// - `json_equals` (JSON, as text or as a value): it is this value; the order of keys is free.
    /// - `contains`, `excludes` (text): it holds, or does not hold, this text; case counts.
    /// - `regex`, `not_regex` (pattern of the `regex` crate): the pattern matches somewhere in it, or nowhere.
    /// - `equals` (text): it is this text.
    /// - `max_sentences` (number): sentences as Unicode's text segmentation (UAX #29) cuts them, at most; a line break
    ///   ends one, and an abbreviation before a capital letter (`Dr. No`) does too.
    /// - `max_words`, `words` (number): runs without white space that hold a letter or a digit, at most or exactly.
    /// - `lines` (number): lines that are not blank, exactly.
    pub fn new(name: &str, argument: &Value) -> Result<Self, Fault> {
        let rule = match name {
            "valid_json" if *argument == Value::Bool(true) => Rule::ValidJson,
            "valid_json" => return Err(mistyped(name, "true", argument)),
            "json_equals" => Rule::JsonEquals(json(argument)?),
            "contains" => Rule::Contains(text(name, argument)?),
            "excludes" => Rule::Excludes(text(name, argument)?),
            "regex" => Rule::Regex(pattern(name, argument)?),
            "not_regex" => Rule::NotRegex(pattern(name, argument)?),
            "equals" => Rule::Equals(text(name, argument)?.trim().to_owned()),
            "max_sentences" => Rule::Count(Unit::Sentences, Bound::AtMost, number(name, argument)?),
            "max_words" => Rule::Count(Unit::Words, Bound::AtMost, number(name, argument)?),
            "words" => Rule::Count(Unit::Words, Bound::Exactly, number(name, argument)?),
            "lines" => Rule::Count(Unit::Lines, Bound::Exactly, number(name, argument)?),
            other => {
                return Err(Fault::new(
                    format!("there is no check `{other}`"),
                    format!("the checks are {}", Self::NAMES.join(", ")),
                ));
            }
        };
        Ok(Self { rule })
    }

    /// The check in words: `at most 2 sentences`.
    pub fn in_words(&self) -> String {
        match &self.rule {
            Rule::ValidJson => "valid JSON".to_owned(),
            Rule::JsonEquals(value) => format!("the JSON value {value}"),
            Rule::Contains(text) => format!("contains {text:?}"),
            Rule::Excludes(text) => format!("does not contain {text:?}"),
            Rule::Regex(regex) => format!("matches /{regex}/"),
            Rule::NotRegex(regex) => format!("does not match /{regex}/"),
            Rule::Equals(text) => format!("equals {text:?}"),
            Rule::Count(unit, bound, limit) => {
                let bound = if *bound == Bound::AtMost { "at most " } else { "" };
                format!("{bound}{}", unit.in_words(*limit))
            }
        }
    }

    /// Whether an answer passes.
    pub fn verdict(&self, answer: &str) -> Verdict {
        let answer = answer.trim();
        let (passed, found) = match &self.rule {
            Rule::ValidJson => match serde_json::from_str::<Value>(answer) {
                Ok(_) => (true, None),
                Err(error) => (false, Some(error.to_string())),
            },
            Rule::JsonEquals(expected) => match serde_json::from_str::<Value>(answer) {
                Ok(value) => (value == *expected, (value != *expected).then(|| value.to_string())),
                Err(error) => (false, Some(error.to_string())),
            },
            Rule::Contains(text) => (answer.contains(text.as_str()), None),
            Rule::Excludes(text) => (!answer.contains(text.as_str()), None),
            Rule::Regex(regex) => (regex.is_match(answer), None),
            Rule::NotRegex(regex) => match regex.find(answer) {
                Some(found) => (false, Some(format!("{:?}", found.as_str()))),
                None => (true, None),
            },
            Rule::Equals(text) => (answer == text, None),
            Rule::Count(unit, bound, limit) => {
                let count = unit.count(answer);
                let passed = if *bound == Bound::AtMost { count <= *limit } else { count == *limit };
                (passed, (!passed).then(|| unit.in_words(count)))
            }
        };
        Verdict { check: self.in_words(), passed, found }
    }
}

impl Unit {
    fn count(self, answer: &str) -> usize {
        match self {
            Self::Sentences => answer.unicode_sentences().count(),
            Self::Words => answer.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count(),
            Self::Lines => answer.lines().filter(|line| !line.trim().is_empty()).count(),
        }
    }

    fn in_words(self, count: usize) -> String {
        let unit = match self {
            Self::Sentences => "sentence",
            Self::Words => "word",
            Self::Lines => "line",
        };
        format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
    }
}

fn mistyped(name: &str, wanted: &str, argument: &Value) -> Fault {
    Fault::new(format!("the check `{name}` is {argument}"), format!("`{name}` takes {wanted}, or is left out"))
}

fn text(name: &str, argument: &Value) -> Result<String, Fault> {
    let text = argument.as_str().filter(|text| !text.trim().is_empty());
    Ok(text.ok_or_else(|| mistyped(name, "a text that is not blank", argument))?.to_owned())
}

fn number(name: &str, argument: &Value) -> Result<usize, Fault> {
    let number = argument.as_u64().filter(|number| *number > 0).and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| mistyped(name, "a whole number of 1 or more", argument))
}

fn pattern(name: &str, argument: &Value) -> Result<Regex, Fault> {
    Regex::new(&text(name, argument)?).map_err(|error| {
        Fault::new(
            format!("the check `{name}` cannot be used: {error}"),
            "write a regular expression of the `regex` crate: no look-around and no back-references",
        )
    })
}

/// JSON given as text, so that TOML can give what it has no word for (`null`), or as the value itself.
fn json(argument: &Value) -> Result<Value, Fault> {
    match argument {
        Value::String(text) => serde_json::from_str(text).map_err(|error| {
            Fault::new(
                format!("the check `json_equals` is no JSON: {error}"),
                "give the expected JSON as text, such as '{\"a\": 1}'",
            )
        }),
        value => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// (name, argument, answers that pass, answers that fail)
    type Case = (&'static str, Value, &'static [&'static str], &'static [&'static str]);

    fn cases() -> Vec<Case> {
        vec![
            ("valid_json", json!(true), &[" {\"a\": [1, null]}\n", "3"], &["{a: 1}", "```json\n{}\n```", "{} {}", ""]),
            ("json_equals", json!("{\"a\": 1, \"b\": null}"), &["{\"b\":null,\"a\":1}"], &["{\"a\": 1}", "a", "[]"]),
            ("json_equals", json!([1, "x"]), &["[1, \"x\"]"], &["[\"x\", 1]", "[1, \"x\"", "[1, \"x\", 2]"]),
            ("contains", json!("Oslo"), &["It is Oslo."], &["It is OSLO.", "Os lo", ""]),
            ("excludes", json!("sorry"), &["No.", ""], &["I am sorry."]),
            ("regex", json!(r"(?i)\b17\b"), &["17 sheep", "So: 17."], &["170", "x17", ""]),
            ("not_regex", json!("[A-Z]"), &["lower", ""], &["lower Case"]),
            ("equals", json!("B-7\n"), &["B-7", " B-7 \n"], &["b-7", "B-7.", ""]),
            ("max_sentences", json!(2), &["One. Two!", "It is 3.5 m. Good", ""], &["One. Two. Three.", "A\nb\nc"]),
            ("max_words", json!(3), &["one two three", "one — two", ""], &["one two three four"]),
            ("words", json!(3), &["one, two - three"], &["one two", "a b c d", ""]),
            ("lines", json!(2), &["a\n\nb\n", "a\r\nb"], &["a", "a\nb\nc", ""]),
        ]
    }

    #[test]
    fn every_kind_of_check_passes_what_is_right_and_fails_what_is_wrong() {
        for (name, argument, right, wrong) in cases() {
            let check = Check::new(name, &argument).unwrap();
            for (answers, expected) in [(right, true), (wrong, false)] {
                for answer in answers {
                    let verdict = check.verdict(answer);
                    assert_eq!(verdict.passed, expected, "{name} {argument}: {answer:?}: {verdict:?}");
                    assert_eq!(verdict.check, check.in_words());
                }
            }
        }
        let tested: Vec<&str> = cases().iter().map(|case| case.0).collect();
        assert!(Check::NAMES.iter().all(|name| tested.contains(name)), "a kind of check is not tested");
    }

    #[test]
    fn a_failed_check_says_what_it_found() {
        let found = |name, argument: Value, answer| Check::new(name, &argument).unwrap().verdict(answer).found;
        assert_eq!(found("max_sentences", json!(1), "One. Two."), Some("2 sentences".to_owned()));
        assert_eq!(found("words", json!(2), "One"), Some("1 word".to_owned()));
        assert_eq!(found("not_regex", json!("[A-Z]+"), "so IT is"), Some("\"IT\"".to_owned()));
        assert!(found("valid_json", json!(true), "{").unwrap().contains("line 1"));
        assert_eq!(found("json_equals", json!("[1]"), "[ 2 ]"), Some("[2]".to_owned()));
        assert_eq!(found("max_words", json!(2), "One"), None);
    }

    #[test]
    fn checks_in_words() {
        let words = |name, argument: Value| Check::new(name, &argument).unwrap().in_words();
        assert_eq!(words("max_sentences", json!(2)), "at most 2 sentences");
        assert_eq!(words("lines", json!(1)), "1 line");
        assert_eq!(words("contains", json!("a \"b\"")), "contains \"a \\\"b\\\"\"");
        assert_eq!(words("json_equals", json!("{\"a\":1}")), "the JSON value {\"a\":1}");
    }

    #[test]
    fn what_is_no_check_has_a_hint() {
        for (name, argument, part) in [
            ("contians", json!("x"), "contains"),
            ("valid_json", json!(false), "takes true"),
            ("contains", json!(3), "a text"),
            ("equals", json!(" "), "not blank"),
            ("max_words", json!(0), "1 or more"),
            ("max_words", json!(-3), "1 or more"),
            ("regex", json!("("), "no look-around"),
            ("json_equals", json!("{"), "the expected JSON"),
        ] {
            let message = Check::new(name, &argument).unwrap_err().to_string();
            assert!(message.contains("hint: ") && message.contains(part), "{message}");
        }
    }
}
