//! Extraction rules: regular expressions over a completion, faithful to lm-evaluation-harness, and our own `numeric`.

use std::cell::OnceCell;
use std::ops::Range;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{normalize, numeric};

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
    /// The text after the last `####`, trimmed; all of it where there is none.
    #[serde(rename = "after ####")]
    AfterMark,
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
    /// number after the reference's last `####`. `src/score/numeric.rs` says precisely how it reads.
    pub fn numeric(name: &str) -> Self {
        Self { name: name.to_owned(), extractor: Extractor::Numeric }
    }

    /// What the rule does, in words: they change whenever its declaration does.
    pub fn in_words(&self) -> String {
        match &self.extractor {
            Extractor::Pattern { regex, take, reference } => {
                let take = if *take == Take::First { "first" } else { "last" };
                let reference = match reference {
                    Reference::Full => "the full answer",
                    Reference::AfterMark => "what follows ####",
                };
                format!("the {take} match of /{regex}/ against {reference}")
            }
            Extractor::Numeric => "the extractor numeric".to_owned(),
        }
    }

    fn extract(&self, completion: &str) -> Option<Range<usize>> {
        match &self.extractor {
            Extractor::Pattern { regex, take, .. } => extract_pattern(regex, *take, completion),
            Extractor::Numeric => numeric::extract(completion),
        }
    }

    fn is_correct(&self, value: &str, references: &References) -> bool {
        match &self.extractor {
            Extractor::Pattern { reference, .. } => normalize(value) == references.normalized(*reference),
            Extractor::Numeric => numeric::equal(value, references.after_mark()),
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

/// The forms of one answer, each made when first asked for.
struct References<'a> {
    answer: &'a str,
    full: OnceCell<String>,
    after_mark: OnceCell<String>,
}

impl References<'_> {
    fn after_mark(&self) -> &str {
        self.answer.rsplit("####").next().unwrap_or(self.answer).trim()
    }

    fn normalized(&self, reference: Reference) -> &str {
        match reference {
            Reference::Full => self.full.get_or_init(|| normalize(self.answer)),
            Reference::AfterMark => self.after_mark.get_or_init(|| normalize(self.after_mark())),
        }
    }
}

/// Applies every rule to a completion. `answer` is the dataset's full answer field (GSM8K's `… #### N`).
pub fn score(rules: &[Rule], completion: &str, answer: &str) -> Vec<Extraction> {
    let references = References { answer, full: OnceCell::new(), after_mark: OnceCell::new() };
    let apply = |rule: &Rule| {
        let span = rule.extract(completion);
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
    fn look_around_is_refused_with_the_reason() {
        let error = Rule::pattern("r", "(?<=a)b", Take::First, Reference::Full).unwrap_err();
        assert!(error.to_string().contains("look-around"), "{error}");
    }
}
