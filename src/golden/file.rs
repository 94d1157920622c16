//! The golden file itself. One output takes one line, so that a change shows as the lines of the outputs that changed.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Recipe;
use crate::engine::Finish;
use crate::files::read_text;
use crate::jobs::JobError;
use crate::record::{GenerationPlan, VariantName};
use crate::score::Verdict;
use crate::task::Tier;

/// The version of golden files; raised when a field changes its meaning.
pub const GOLDEN_FORMAT: u32 = 1;

/// The suite of a golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// A prompt set.
    Quality,
    /// A dataset under a protocol.
    Gsm8k,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Quality, Self::Gsm8k];

    /// The name on the command line, in paths and in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Gsm8k => "gsm8k",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }
}

/// What one variant of one model gave in one suite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// [`GOLDEN_FORMAT`].
    pub golden_format: u32,
    /// Which suite.
    pub suite: Suite,
    /// The model's name.
    pub model: String,
    /// The variant.
    pub dtype: VariantName,
    /// How strictly outputs are held that choose no tier of their own.
    pub tier: Tier,
    /// For outputs of the tier `statistical`: how many percentage points may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin_points: Option<f64>,
    /// How to reproduce the outputs.
    pub recipe: Recipe,
    /// What decides the outputs.
    pub inputs: Inputs,
    /// When, how and where they were made.
    pub provenance: Provenance,
    /// In a pending file: the differences that the check found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Note>,
    /// In the suite's order.
    pub outputs: Vec<Output>,
}

/// Everything that decides an output. Files are identified by hash, not by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// The model.
    pub model: FileHash,
    /// Its AWQ form, where awq runs from files of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awq: Option<FileHash>,
    /// The further checkpoint that the outputs are of, where they are not the model's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<FileHash>,
    /// The problems.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<DatasetInput>,
    /// The prompt set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptsInput>,
    /// Prompt format and scoring rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolInput>,
    /// Whether prompts went through the model's chat template.
    pub chat: bool,
    /// Sampling, seed and limits.
    pub generation: GenerationPlan,
}

/// A model's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Over every file that decides an answer.
    pub sha256: String,
    /// The storage format of their tensors.
    pub stored_as: String,
}

/// A dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetInput {
    /// Its name.
    pub name: String,
    /// The split.
    pub split: String,
    /// Of the file.
    pub sha256: String,
}

/// A prompt set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptsInput {
    /// Its name.
    pub name: String,
    /// Its version, where the file gives one.
    pub version: Option<u32>,
    /// Of the file.
    pub sha256: String,
}

/// A protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtocolInput {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Of its file.
    pub sha256: String,
    /// Of the worked examples, where there are any.
    pub fewshot_sha256: Option<String>,
    /// The rule that says whether an answer is right; `None` in golden files of versions that did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// Its extraction rules; empty if the outputs come from a run folder whose protocol has changed since.
    pub rules: Vec<RuleInput>,
}

/// An extraction rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleInput {
    /// Its name.
    pub rule: String,
    /// What it does, in words.
    pub extracts: String,
}

/// When, how and where outputs were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// UTC.
    pub date: String,
    /// A command that gives these outputs.
    pub command: String,
    /// The version of evalsuite.
    pub evalsuite: String,
    /// Name and version of the engine.
    pub engine: String,
    /// What it ran on.
    pub device: String,
}

/// A difference that a check found: in one output, alike in several, or in the whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The output's id; `None` for the whole file, and for several outputs.
    pub id: Option<String>,
    /// The ids of the outputs that changed alike, where they are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// What changed.
    pub what: String,
}

/// The output to one prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The prompt's id, or the dataset's row.
    pub id: String,
    /// The prompt's own tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// The rendered prompt; `None` from run folders of versions that did not store prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// SHA-256 of the rendered prompt.
    pub prompt_sha256: String,
    /// SHA-256 of the prompt's token ids; `None` in golden files of versions that did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_ids_sha256: Option<String>,
    /// Every generated token, the ending one included.
    pub token_ids: Vec<u32>,
    /// Their text, up to a stop string.
    pub text: String,
    /// Why generation ended.
    pub finish: Finish,
    /// The value that each rule of the protocol extracted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Scored>,
    /// The verdict of each check of the prompt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Verdict>,
}

impl Output {
    /// Correct under `rule` (`None`: the protocol's first), or all checks passed; `None` without score by it and check.
    pub fn is_good(&self, rule: Option<&str>) -> Option<bool> {
        let score = self.scores.iter().find(|score| rule.is_none_or(|rule| score.rule == rule));
        match (score, self.checks.is_empty()) {
            (Some(score), _) => Some(score.correct),
            (None, false) => Some(self.checks.iter().all(|verdict| verdict.passed)),
            (None, true) => None,
        }
    }
}

/// The value that one rule extracted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scored {
    /// The rule.
    pub rule: String,
    /// The value; `None` if nothing matched.
    pub value: Option<String>,
    /// Whether the value is correct.
    pub correct: bool,
}

impl Golden {
    /// The rule that says whether an answer is right, where the file names it.
    pub fn headline(&self) -> Option<&str> {
        self.inputs.protocol.as_ref()?.headline.as_deref()
    }

    /// The tier of an output.
    pub fn tier_of(&self, output: &Output) -> Tier {
        output.tier.unwrap_or(self.tier)
    }

    /// Reads a golden file; one of a newer format is refused.
    pub fn read(path: &Path) -> Result<Self, JobError> {
        #[derive(Deserialize)]
        struct Version {
            golden_format: Option<u32>,
        }
        let text = read_text(path).map_err(|error| {
            let hint = "check the path and its permissions; golden files lie in `--golden DIR`, ./golden by default";
            JobError::invalid(format!("cannot read {}: {error}", path.display()), hint)
        })?;
        let damaged = |error: &serde_json::Error| {
            JobError::invalid(
                format!("{}:{}: not a golden file: {error}", path.display(), error.line()),
                "restore the file from version control, or delete it and make it anew with `evalsuite golden accept`",
            )
        };
        let version: Version = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        match version.golden_format {
            Some(GOLDEN_FORMAT) => serde_json::from_str(&text).map_err(|error| damaged(&error)),
            Some(format) => Err(JobError::invalid(
                format!("{}: golden format {format}, but this evalsuite reads {GOLDEN_FORMAT}", path.display()),
                "use the version of evalsuite that wrote it (the field `provenance.evalsuite`), or accept it anew",
            )),
            None => Err(JobError::invalid(
                format!("{}:1: not a golden file: there is no `golden_format`", path.display()),
                "move the file out of the folder of golden files, or restore it from version control",
            )),
        }
    }

    /// The file's text.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let head = serde_json::to_string_pretty(&Self { outputs: Vec::new(), ..self.clone() })?;
        let head = head.strip_suffix("[]\n}").unwrap_or(&head);
        let lines = self.outputs.iter().map(|output| Ok(format!("    {}", serde_json::to_string(output)?)));
        let lines = lines.collect::<Result<Vec<String>, serde_json::Error>>()?.join(",\n");
        Ok(format!("{head}[\n{lines}\n  ]\n}}\n"))
    }
}
