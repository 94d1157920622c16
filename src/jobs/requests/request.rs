//! What came of one request.

use serde::{Deserialize, Serialize};

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// When it was sent, since the level began.
    pub sent_seconds: f64,
    /// How much later than planned.
    #[serde(default)]
    pub lag_seconds: f64,
    /// Sent to first token.
    pub ttft_seconds: Option<f64>,
    /// Sent to last token.
    pub latency_seconds: Option<f64>,
    /// Of the prompt, as the server counts them.
    pub prompt_tokens: Option<usize>,
    /// Of the answer: by ids, usage or the model's tokenizer, never by chunks.
    pub output_tokens: Option<usize>,
    /// Tokens that the answer had to have, where that is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_tokens: Option<usize>,
    /// Tokens that the prompt was made to have, where that is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_prompt_tokens: Option<usize>,
    /// What became of the question that it asked, where answers are scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<RequestScore>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same in a word to be counted by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Sent to failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_after_seconds: Option<f64>,
    /// Whether it met a connection that the server had closed, and went out on a new one; times count from the first sending.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resent: bool,
}

/// An answer, scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestScore {
    /// Row of the dataset.
    pub sample: usize,
    /// What the rule found in it.
    pub value: Option<String>,
    /// Whether that is right.
    pub correct: bool,
    /// Whether the limit of tokens or the context cut it off.
    pub cut: bool,
}

impl RequestRecord {
    /// (latency − TTFT) / (output tokens − 1), seconds.
    pub fn itl_seconds(&self) -> Option<f64> {
        let gaps = self.output_tokens?.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some((self.latency_seconds? - self.ttft_seconds?) / gaps as f64)
    }

    /// Whether its answer has another number of tokens than it had to have. What nobody counts has.
    pub fn is_of_another_length(&self) -> bool {
        self.error.is_none() && self.asked_tokens.is_some() && self.asked_tokens != self.output_tokens
    }

    /// Whether the server counts other tokens in the prompt than it was made of; not where it does not count.
    pub fn has_another_prompt(&self) -> bool {
        self.asked_prompt_tokens.zip(self.prompt_tokens).is_some_and(|(asked, counted)| asked != counted)
    }

    /// When it was over, since the level began.
    pub fn ended_seconds(&self) -> f64 {
        self.sent_seconds + self.latency_seconds.or(self.failed_after_seconds).unwrap_or_default()
    }
}
