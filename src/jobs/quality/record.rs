//! The results of `evalsuite quality`: every prompt with its answers, and how far each is from the reference's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::{Batching, Finish};
use crate::record::{
    GenerationPlan, Invocation, Machine, RecordError, RunPlan, Session, TargetPlan, VariantName, read_json, write_json,
};
use crate::score::statistics::Proportion;
use crate::score::{TextAgreement, Verdict};

/// The version of a quality record; raised when a field changes its meaning.
pub const QUALITY_FORMAT: u32 = 1;

/// Answers to a prompt set, compared column by column: a column is a variant, or what an import calls one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRecord {
    /// [`QUALITY_FORMAT`].
    pub quality_format: u32,
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine of the last session.
    pub machine: Machine,
    /// Where the answers come from.
    pub origin: Origin,
    /// The prompts, where they are known.
    pub prompts: Option<PromptSetPlan>,
    /// Whether every column has every answer.
    pub complete: bool,
    /// SHA-256 of `answers.jsonl`.
    pub answers_sha256: Option<String>,
    /// What the user was told before and during the run.
    pub notes: Vec<String>,
    /// One, or one a model of the import.
    pub models: Vec<ModelQuality>,
}

/// Where answers come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An engine of ours.
    Run(Box<QualityPlan>),
    /// A file of answers made elsewhere.
    Import(ImportPlan),
}

/// What decides every answer of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityPlan {
    /// Who ran it, and since when.
    #[serde(flatten)]
    pub invocation: Invocation,
    /// The model, and what stands beside it.
    #[serde(flatten)]
    pub target: TargetPlan,
    /// The prompts.
    pub prompts: PromptSetPlan,
    /// Whether prompts went through the model's chat template.
    pub chat: bool,
    /// Greedy, with the limits.
    pub generation: GenerationPlan,
    /// The engine asked for: `auto`, `cpu`, …
    pub engine: String,
    /// Requests that advance together at most, if the user said so.
    pub batch: Option<usize>,
    /// Whether tokens may depend on the batch.
    #[serde(default)]
    pub batching: Batching,
    /// Variants, the reference first.
    pub dtypes: Vec<VariantName>,
}

impl RunPlan for QualityPlan {
    fn command(&self) -> &[String] {
        &self.invocation.command
    }
}

/// A prompt set's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSetPlan {
    /// For tables.
    pub name: String,
    /// `bundled`, or a path.
    pub source: String,
    /// The set's version, where its file gives one.
    pub version: Option<u32>,
    /// Of its file's text.
    pub sha256: String,
    /// What the system message says.
    pub system: Option<String>,
    /// Prompts in the file.
    pub count: usize,
    /// Prompts that are asked.
    pub chosen: usize,
    /// Which: `all`, or ids and kinds.
    pub selection: String,
}

/// An imported file's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportPlan {
    /// The file.
    pub source: String,
    /// Of the file.
    pub sha256: String,
    /// The column that counts as the truth.
    pub ground_truth: String,
}

/// A model's answers to all prompts, in all columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelQuality {
    /// The model.
    pub model: String,
    /// The column that the others are compared with.
    pub reference: String,
    /// Whether that is the ground truth: f32 of weights as they were trained, or what an import names so.
    pub is_ground_truth: bool,
    /// One a column, the reference first.
    pub columns: Vec<ColumnQuality>,
    /// One a prompt, in the set's order.
    pub prompts: Vec<PromptQuality>,
}

/// What one column achieved. `None` means that nothing was measured, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnQuality {
    /// `f32`, or the import's name for it.
    pub column: String,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// Answers.
    pub answers: usize,
    /// Answers that a limit of tokens or the context cut off.
    pub cut: Option<usize>,
    /// Checks passed, of all that the answered prompts declare; Wilson's interval takes them as independent.
    pub checks: Option<Proportion>,
    /// Prompts whose every check passed, of those that declare one.
    pub prompts_passed: Option<Proportion>,
    /// Against the reference; `None` for the reference itself.
    pub against: Option<Closeness>,
    /// One a kind of prompt, in the set's order.
    pub kinds: Vec<KindQuality>,
    /// Each opening of an engine.
    pub sessions: Vec<Session>,
}

/// A column against the reference, over the prompts that both answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closeness {
    /// Answers equal to the reference's, byte for byte.
    pub exact: Proportion,
    /// Mean normalised Levenshtein similarity.
    pub levenshtein: f64,
    /// Mean Jaro-Winkler similarity.
    pub jaro_winkler: f64,
    /// Mean token agreement; `None` where tokens are not known.
    pub token_agreement: Option<f64>,
    /// Median index of the first differing token, over the answers that differ.
    pub median_divergence: Option<f64>,
    /// Median of the reference's logit margin there.
    pub median_margin: Option<f64>,
    /// Characters of all answers / characters of all the reference's.
    pub length_ratio: Option<f64>,
    /// Checks that the reference passed and this column failed.
    pub checks_lost: usize,
    /// Checks that the reference failed and this column passed.
    pub checks_gained: usize,
}

/// What one column achieved on one kind of prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindQuality {
    /// `copying`, …
    pub kind: String,
    /// Answers.
    pub answers: usize,
    /// Answers equal to the reference's; `None` for the reference itself.
    pub exact: Option<usize>,
    /// Checks declared.
    pub checks: usize,
    /// Checks passed.
    pub checks_passed: usize,
}

/// A prompt and its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptQuality {
    /// Its id in the set.
    pub id: String,
    /// Its kind.
    pub kind: Option<String>,
    /// What the user says; `None` where an import comes without its prompts.
    pub text: Option<String>,
    /// The checks that it declares, in words.
    pub checks: Vec<String>,
    /// What the model read, special tokens written out.
    pub rendered: Option<String>,
    /// SHA-256 of that.
    pub prompt_sha256: Option<String>,
    /// SHA-256 of its token ids; `None` where the target does not tell them, and in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ids_sha256: Option<String>,
    /// Its length in tokens.
    pub prompt_tokens: Option<usize>,
    /// One a column, the reference's first; a column that failed before this prompt has none.
    pub answers: Vec<Answer>,
}

/// One column's answer to one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The column.
    pub column: String,
    /// The answer.
    pub text: String,
    /// Its tokens, the ending one included.
    pub token_ids: Option<Vec<u32>>,
    /// How far each token's best logit lay above the second best.
    pub margins: Option<Vec<f32>>,
    /// Why it ended.
    pub finish: Option<Finish>,
    /// What every check said, in the order of [`PromptQuality::checks`].
    pub verdicts: Vec<Verdict>,
    /// Against the reference's answer; `None` for the reference itself.
    pub against: Option<AnswerCloseness>,
}

impl Answer {
    /// Checks that it passed.
    pub fn passed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| verdict.passed).count()
    }
}

/// One answer against the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerCloseness {
    /// Of the texts.
    #[serde(flatten)]
    pub text: TextAgreement,
    /// Of the tokens, where they are known.
    pub token_agreement: Option<f64>,
    /// Where the tokens part, if they do.
    pub first_divergence: Option<FirstDivergence>,
}

/// The first token that is another than the reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstDivergence {
    /// Its index among the answer's tokens, from 0.
    pub index: usize,
    /// The reference's token; `None` where its answer had ended.
    pub reference: Option<ShownToken>,
    /// This column's token; `None` where its answer had ended.
    pub token: Option<ShownToken>,
    /// How far the reference's best logit lay above its second best there: a near tie is easily tipped.
    pub reference_margin: Option<f32>,
    /// The same of this column.
    pub margin: Option<f32>,
}

/// A token by number and spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownToken {
    /// Its number.
    pub id: u32,
    /// Its text, or its name in the vocabulary.
    pub text: String,
}

impl QualityRecord {
    /// Reads a record; `None` where the file is a record of something else. One of a newer format is refused.
    pub fn read(path: &Path) -> Result<Option<Self>, RecordError> {
        read_json(path, |versions| versions.quality, QUALITY_FORMAT, "quality run")
    }

    /// Writes a record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }
}
