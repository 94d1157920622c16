//! Extraction rules: regular expressions over a completion, faithful to lm-evaluation-harness, and our own `numeric` and `boxed`.

use std::cell::OnceCell;
use std::ops::Range;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{boxed, normalize, numeric, plain, thought};

/// Which match counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The first.
    First,
    /// The last.
    Last,
}

/// What of a dataset's answer a rule compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// The full answer.
    #[serde(rename = "full")]
    Full,
    /// The reference value, under the name that GSM8K gives it: the text after the last `####`.
    #[serde(rename = "after ####")]
    AfterMark,
    /// The reference value: what the task's reference rule finds in the answer.
    #[serde(rename = "value")]
    Value,
}

impl Reference {
    /// As a protocol file writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::AfterMark => "after ####",
            Self::Value => "value",
        }
    }
}

/// What a completion is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The dataset's full answer.
    pub full: &'a str,
    /// The part of it that counts.
    pub value: &'a str,
}

/// A full answer in GSM8K's form: what counts follows the last `####`, and is all of it where there is none.
impl<'a> From<&'a str> for Answer<'a> {
    fn from(full: &'a str) -> Self {
        Self { full, value: full.rsplit("####").next().unwrap_or(full).trim() }
    }
}

impl<'a> From<&'a String> for Answer<'a> {
    fn from(full: &'a String) -> Self {
        Self::from(full.as_str())
    }
}

/// A rule as a protocol file declares it, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `strict`, `flexible`, …
    pub name: String,
    extractor: Extractor,
}

#[derive(Debug, Clone)]
enum Extractor {
    Pattern { regex: Regex, take: Take, reference: Reference },
    Numeric,
    Boxed,
}

/// A rule that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RuleError(pub String);

/// What one rule made of one completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extraction {
    /// The rule's name.
    pub rule: String,
    /// What was extracted; `None` where nothing matched (lm-evaluation-harness prints `[invalid]`).
    pub value: Option<String>,
    /// Byte offsets of the extracted value in the completion.
    pub span: Option<[usize; 2]>,
    /// Whether it equals the reference after normalisation.
    pub correct: bool,
}

impl Rule {
    /// A regular expression (syntax of the `regex` crate, which has no look-around and no back-references). Of the
    /// match that counts, the first group that is not empty is the value, trimmed; without groups the whole match is.
    /// It is right when it and the reference are equal strings after [`normalize`].
    pub fn pattern(name: &str, pattern: &str, take: Take, reference: Reference) -> Result<Self, RuleError> {
        let regex = Regex::new(pattern).map_err(|error| RuleError(error.to_string()))?;
        Ok(Self { name: name.to_owned(), extractor: Extractor::Pattern { regex, take, reference } })
    }

    /// The suite's own extractor: the number that a reader would call the answer, compared by exact value with the
    /// reference value. `src/score/numeric.rs` says precisely how it reads.
    pub fn numeric(name: &str) -> Self {
        Self { name: name.to_owned(), extractor: Extractor::Numeric }
    }

    /// Whether it compares numbers and looks for them anywhere in a text.
    pub const fn reads_numbers(&self) -> bool {
        matches!(self.extractor, Extractor::Numeric)
    }

    /// What stands in the last `\boxed{…}`, compared by exact value with the reference value. `src/score/boxed.rs` says precisely how
    /// it reads.
    pub fn boxed(name: &str) -> Self {
        Self { name: name.to_owned(), extractor: Extractor::Boxed }
    }

    /// What a pattern is compared with; extractors compare values.
    pub fn reference(&self) -> Option<Reference> {
        match &self.extractor {
            Extractor::Pattern { reference, .. } => Some(*reference),
            Extractor::Numeric | Extractor::Boxed => None,
        }
    }

    /// What the rule does, in words: they change whenever its declaration does.
    pub fn in_words(&self) -> String {
        match &self.extractor {
            Extractor::Pattern { regex, take, reference } => {
                let take = if *take == Take::First { "first" } else { "last" };
                let reference = match reference {
                    Reference::Full => "the full answer",
                    Reference::AfterMark => "what follows ####",
                    Reference::Value => "the reference value",
                };
                format!("the {take} match of /{regex}/ against {reference}")
            }
            Extractor::Numeric => format!("the extractor numeric, version {}", numeric::VERSION),
            Extractor::Boxed => format!("the extractor boxed, version {}", boxed::VERSION),
        }
    }

    fn extract(&self, completion: &str) -> Option<Range<usize>> {
        match &self.extractor {
            Extractor::Pattern { regex, take, .. } => extract_pattern(regex, *take, completion),
            Extractor::Numeric => numeric::extract(completion),
            Extractor::Boxed => boxed::extract(completion),
        }
    }

    fn is_correct(&self, value: &str, references: &References) -> bool {
        match &self.extractor {
            Extractor::Pattern { reference, .. } => normalize(value) == references.normalized(*reference),
            Extractor::Numeric => numeric::equal(value, references.answer.value),
            Extractor::Boxed => {
                boxed::number(value).is_some_and(|value| plain::whole_number(references.answer.value) == Some(value))
            }
        }
    }
}

fn extract_pattern(regex: &Regex, take: Take, text: &str) -> Option<Range<usize>> {
    // Groups cost several times what a match costs: they are asked for at the one match that counts.
    let start = match take {
        Take::First => regex.find(text)?.start(),
        Take::Last => regex.find_iter(text).last()?.start(),
    };
    let captures = regex.captures_at(text, start)?;
    let groups = usize::from(captures.len() > 1);
    let value = captures.iter().skip(groups).flatten().find(|group| !group.is_empty())?;
    let trimmed = value.as_str().trim();
    let start = value.end() - value.as_str().trim_start().len();
    (!trimmed.is_empty()).then(|| start..start + trimmed.len())
}

/// One answer, its two forms normalised when first asked for.
struct References<'a> {
    answer: Answer<'a>,
    full: OnceCell<String>,
    value: OnceCell<String>,
}

impl References<'_> {
    fn normalized(&self, reference: Reference) -> &str {
        match reference {
            Reference::Full => self.full.get_or_init(|| normalize(self.answer.full)),
            Reference::AfterMark | Reference::Value => self.value.get_or_init(|| normalize(self.answer.value)),
        }
    }
}

/// Applies every rule to a completion; what stands between thinking marks is not read. A plain text as `answer` is a full answer in
/// GSM8K's form (`… #### N`).
pub fn score<'a>(rules: &[Rule], completion: &str, answer: impl Into<Answer<'a>>) -> Vec<Extraction> {
    let references = References { answer: answer.into(), full: OnceCell::new(), value: OnceCell::new() };
    let start = thought::answer_start(completion);
    let apply = |rule: &Rule| {
        let span = start.and_then(|start| {
            let span = rule.extract(&completion[start..])?;
            Some(start + span.start..start + span.end)
        });
        let value = span.clone().and_then(|span| completion.get(span));
        Extraction {
            rule: rule.name.clone(),
            value: value.map(str::to_owned),
            span: span.map(|span| [span.start, span.end]),
            correct: value.is_some_and(|value| rule.is_correct(value, &references)),
        }
    };
    rules.iter().map(apply).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, take: Take) -> Rule {
        Rule::pattern("r", pattern, take, Reference::Full).unwrap()
    }

    fn value(pattern: &str, take: Take, text: &str) -> Option<String> {
        score(&[rule(pattern, take)], text, "#### 1")[0].value.clone()
    }

    #[test]
    fn the_match_that_counts_is_the_first_or_the_last() {
        assert_eq!(value(r"#### (\d+)", Take::First, "#### 1 #### 2").as_deref(), Some("1"));
        assert_eq!(value(r"#### (\d+)", Take::Last, "#### 1 #### 2").as_deref(), Some("2"));
        assert_eq!(value(r"#### (\d+)", Take::Last, "none"), None);
    }

    #[test]
    fn the_first_group_that_is_not_empty_is_the_value_trimmed() {
        assert_eq!(value(r"()(a*)( b )", Take::First, " b ").as_deref(), Some("b"));
        assert_eq!(value(r"( )", Take::First, "a b"), None);
        assert_eq!(value(r"a.", Take::Last, "ab ac").as_deref(), Some("ac"));
    }

    #[test]
    fn the_span_is_that_of_the_value() {
        let text = "é: the answer is  18 !";
        let extraction = &score(&[rule(r"is(\s+\d+\s)", Take::First)], text, "x #### 18")[0];
        let [start, end] = extraction.span.unwrap();
        assert_eq!(&text[start..end], "18");
        assert!(extraction.correct);
    }

    #[test]
    fn the_last_match_keeps_sight_of_what_stands_before_it() {
        assert_eq!(value(r"\b(\d+)\b", Take::Last, "a1 22 b33").as_deref(), Some("22"));
    }

    #[test]
    fn the_reference_is_the_full_answer_or_what_follows_the_mark() {
        let rules = [Reference::Full, Reference::AfterMark]
            .map(|reference| Rule::pattern("r", "(.+)", Take::First, reference).unwrap());
        assert!(score(&rules, "1,234.", "so\n#### 1234").iter().all(|e| e.correct));
        // No space behind the mark: the full answer keeps everything, as it does in lm-evaluation-harness.
        assert_eq!(score(&rules, "7", "so\n####7").iter().map(|e| e.correct).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_tasks_reference_value_is_what_counts() {
        let rules = [
            Rule::pattern("value", r"(\S+)$", Take::Last, Reference::Value).unwrap(),
            Rule::pattern("mark", r"(\S+)$", Take::Last, Reference::AfterMark).unwrap(),
            Rule::numeric("numeric"),
            Rule::boxed("boxed"),
        ];
        let answer = Answer { full: "It is \\boxed{\\frac{1}{2}}.", value: "0.5" };
        let right = |text: &str| score(&rules, text, answer).iter().map(|one| one.correct).collect::<Vec<_>>();
        assert_eq!(right("#### 0.5"), [true, true, true, false]);
        assert_eq!(right("so \\boxed{\\frac{2}{4}}"), [false, false, true, true]);
        assert_eq!(right("\\boxed{x}, the answer is 0.50"), [false, false, true, false]);
    }

    #[test]
    fn look_around_is_refused_with_the_reason() {
        let error = Rule::pattern("r", "(?<=a)b", Take::First, Reference::Full).unwrap_err();
        assert!(error.to_string().contains("look-around"), "{error}");
    }
}
