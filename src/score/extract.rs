//! Extraction rules: regular expressions over a completion, faithful to lm-evaluation-harness.

use serde::{Deserialize, Serialize};

/// Which match counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Take {
    /// The first.
    First,
    /// The last.
    Last,
}

/// A rule as a protocol file declares it, compiled. (Fields beyond these are private to this module.)
#[derive(Debug, Clone)]
pub struct Rule {
    /// `strict`, `flexible`, …
    pub name: String,
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

/// Applies every rule to a completion. `answer` is the dataset's full answer field (GSM8K's `… #### N`).
pub fn score(rules: &[Rule], completion: &str, answer: &str) -> Vec<Extraction> {
    let _ = (rules, completion, answer);
    todo!()
}
