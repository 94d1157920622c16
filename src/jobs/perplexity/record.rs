//! The results of `evalsuite perplexity`, with everything needed to believe them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::EngineInfo;
use crate::record::{Invocation, Machine, RecordError, TargetPlan, VariantName, read_json, write_json};
use crate::score::{Estimate, Exponential};

/// The version of a perplexity's file; raised when a field changes its meaning.
pub const PERPLEXITY_FORMAT: u32 = 1;

/// How well each variant of a model predicts a text, and how far it diverges from the reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PerplexityRecord {
    /// [`PERPLEXITY_FORMAT`].
    pub perplexity_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine.
    pub machine: Machine,
    /// CPU threads.
    pub threads: usize,
    /// The model, and what stands beside it.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// The text.
    pub text: TextPlan,
    /// How the text was cut.
    pub windows: WindowPlan,
    /// The engine asked for: `auto`, `cpu`, …
    pub engine: String,
    /// Whether every window went through every variant.
    pub complete: bool,
    /// What the user was told.
    pub notes: Vec<String>,
    /// One a variant, the ground truth first unless the user named another reference.
    pub dtypes: Vec<DtypePerplexity>,
}

/// A text's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPlan {
    /// For tables.
    pub name: String,
    /// `bundled`, a path, or a hub address with commit.
    pub source: String,
    /// Of the file.
    pub sha256: String,
    /// Of all that was tokenised.
    pub text_sha256: String,
    /// Rows of a dataset, or a run's answers; `None` for a plain text.
    pub rows: Option<usize>,
    /// How it becomes documents.
    pub reading: Reading,
    /// Of a run's answers: whose they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_of: Option<VariantName>,
    /// The token that stands before the text, or before each row; `None` where the tokenizer puts none there.
    pub bos: Option<String>,
    /// Length of all that was tokenised.
    pub bytes: usize,
    /// Its length in tokens, BOS included.
    pub tokens: usize,
}

/// How a text becomes documents, which are read each by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// A plain text is one document, all of it scored but the first token.
    #[default]
    Plain,
    /// Rows are joined to one such document: question, line break, answer; a blank line between rows.
    Joined,
    /// Each row is a document: the question through the model's chat template, then the answer, which alone is scored.
    Chat,
    /// Each of a run's answers is a document: the prompt as the run had it, then the answer's own tokens, which alone are scored.
    Answers,
}

/// The sliding window. Window i of a text, or of a row, holds the tokens from i · stride on, `window` of them at most;
/// it scores those that no window before it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowPlan {
    /// Tokens in a window.
    pub window: usize,
    /// Tokens from a window's begin to the next one's.
    pub stride: usize,
    /// Windows.
    pub count: usize,
    /// Windows that went through every variant.
    pub done: usize,
    /// Tokens before a scored token at least, but for the first window.
    pub least_context: usize,
    /// What the user limited the text to.
    pub limit_tokens: Option<usize>,
    /// Tokens that the windows cover: the text's, or the limit.
    pub tokens: usize,
    /// Observations that the standard errors are taken over: windows of a text, rows read by themselves, questions answered.
    pub blocks: usize,
    /// Tokens scored by the windows that are done.
    pub scored_tokens: usize,
    /// Bytes of text that these tokens stand for.
    pub scored_bytes: usize,
}

/// What one variant makes of the text. `None` means that nothing was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DtypePerplexity {
    /// Which.
    pub dtype: VariantName,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// Its engine.
    pub engine: Option<EngineInfo>,
    /// Seconds in the engine, over all windows that are done.
    pub seconds: Option<f64>,
    /// Mean negative log-probability of a scored token, in nats.
    pub nats_per_token: Option<Estimate>,
    /// exp(nats per token).
    pub perplexity: Option<Exponential>,
    /// Nats of all scored tokens / ln 2 / the bytes that they stand for.
    pub bits_per_byte: Option<Estimate>,
    /// Against the reference, which is f32 unless the user named another, on the same tokens; `None` for the reference itself and where
    /// the run has none.
    #[serde(rename = "against_f32")]
    pub against: Option<Divergence>,
}

/// One variant against the reference, token by token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// KL(reference ‖ this), nats a token.
    pub kl: Spread,
    /// Share of tokens before which both have the same most probable token, as a fraction of 1.
    pub same_best: Estimate,
    /// Log-probability of the text's token, this less the reference's, nats: negative where this one predicts worse.
    pub log_probability_change: Estimate,
    /// Perplexity of this one / of the reference, with the error of the paired difference.
    pub perplexity_ratio: Exponential,
    /// Perplexity of this one less the reference's, with the error of the paired difference; `None` in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity_difference: Option<Estimate>,
    /// Pearson's correlation of the tokens' log-probabilities in both; `None` where they do not vary, and in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<f64>,
    /// Probability of the text's token, this less the reference's; `None` in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability_change: Option<ProbabilityChange>,
    /// Of a greedy run's answers: where this variant would have gone otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub departures: Option<Departures>,
    /// The tokens with the largest divergence, the largest first.
    pub worst: Vec<WorstToken>,
}

/// How a series is spread. Quantiles are interpolated linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean, with its standard error.
    pub mean: Estimate,
    /// The smallest; this and the next four are `None` in earlier records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// 0.1 % are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p0_1: Option<f64>,
    /// 1 % are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p1: Option<f64>,
    /// 5 % are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p5: Option<f64>,
    /// 10 % are below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p10: Option<f64>,
    /// Half are below it.
    pub median: f64,
    /// 90 % are below it.
    pub p90: f64,
    /// 95 % are below it.
    pub p95: f64,
    /// 99 % are below it.
    pub p99: f64,
    /// 99.9 % are below it.
    pub p99_9: f64,
    /// The largest.
    pub maximum: f64,
}

/// How the probability of the text's token changes, in fractions of 1. Quantiles are interpolated linearly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbabilityChange {
    /// Mean, with its standard error: negative where this variant believes less in the text.
    pub mean: Estimate,
    /// Root of the mean square.
    pub root_mean_square: Estimate,
    /// The largest loss.
    pub minimum: f64,
    /// 0.1 % are below it.
    pub p0_1: f64,
    /// 1 % are below it.
    pub p1: f64,
    /// 5 % are below it.
    pub p5: f64,
    /// 10 % are below it.
    pub p10: f64,
    /// 25 % are below it.
    pub p25: f64,
    /// Half are below it.
    pub median: f64,
    /// 75 % are below it.
    pub p75: f64,
    /// 90 % are below it.
    pub p90: f64,
    /// 95 % are below it.
    pub p95: f64,
    /// 99 % are below it.
    pub p99: f64,
    /// 99.9 % are below it.
    pub p99_9: f64,
    /// The largest gain.
    pub maximum: f64,
}

/// Which of the reference's own answers a variant would not have written, and from where on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departures {
    /// Answers that were read.
    pub answers: usize,
    /// The share of them in which the variant's most probable token is another one somewhere, as a fraction of 1.
    pub share: Estimate,
    /// Up to this margin a departure is a near-tie, nats.
    pub near_tie_nats: f64,
    /// The first such place of each of them, in the order of the answers.
    pub list: Vec<Departure>,
}

/// The first token of an answer in whose place a variant would have written another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    /// Where.
    #[serde(flatten)]
    pub at: AnswerToken,
    /// How much more probable the reference finds the answer's token than this variant's choice: the difference of log-probabilities, nats.
    pub margin: f64,
    /// The margin is so small that the rounding of sixteen bits may decide; else the departure is real.
    pub is_near_tie: bool,
    /// The text before it.
    pub context: String,
    /// The answer's token.
    pub token: String,
    /// The most probable token of this variant.
    pub this: String,
}

/// A token of a run's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerToken {
    /// Row of the dataset.
    pub sample: usize,
    /// 0 for the first answer to it.
    pub repeat: usize,
    /// The answer's tokens before it.
    pub tokens_before: usize,
}

/// A token at which two variants disagree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorstToken {
    /// Its place among the text's tokens, from 0, BOS counted.
    pub position: usize,
    /// Its place in its answer, where a run's answers were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerToken>,
    /// KL(reference ‖ this) before it, nats.
    pub kl: f64,
    /// The text before it.
    pub context: String,
    /// The token itself.
    pub token: String,
    /// What the reference makes of it.
    #[serde(rename = "f32")]
    pub reference: Opinion,
    /// What this variant makes of it.
    pub this: Opinion,
}

/// What a variant thinks of one token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Opinion {
    /// The token that it expects most.
    pub best: String,
    /// How probable that is, as a fraction of 1.
    pub best_probability: f64,
    /// How probable the text's token is.
    pub token_probability: f64,
}

impl PerplexityRecord {
    /// Writes a record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// Reads a record; `None` where the file holds JSON of another kind.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.perplexity, PERPLEXITY_FORMAT, "perplexity")
    }
}
