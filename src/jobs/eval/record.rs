//! `record.json`: a run's results with everything needed to believe them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Cost, EvalPlan, Finding, PlaceboRecord, ProtocolPlan, UntilRecord};
use crate::fault::Fault;
use crate::record::{
    DeviceMemory, Machine, PeakMemory, REMAKE, RecordError, Session, VariantName, Versions, read_checked, write_json,
};
use crate::score::statistics::{Paired, Proportion};
use crate::score::{Ratio, Repeats};

/// The version of `record.json`; raised when a field changes its meaning.
/// 2: intervals of differences are Tango's; in 1 they were drawn, and are computed anew from the counts when one is read.
pub const EVAL_FORMAT: u32 = 2;

/// A run's results and provenance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRecord {
    /// [`EVAL_FORMAT`].
    pub format: u32,
    /// What was asked for, with every hash.
    pub plan: EvalPlan,
    /// Of rescored answers: the protocol that they were made with. `plan.protocol` then names whose rules scored them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_under: Option<ProtocolPlan>,
    /// The variant that holds the model's weights as they were trained: f32, or none where f32 is not in the run or the
    /// files hold quantised weights.
    #[serde(default)]
    pub ground_truth: Option<VariantName>,
    /// When it ended, UTC.
    pub finished: String,
    /// The machine of the last session.
    pub machine: Machine,
    /// Whether every variant has every completion.
    pub complete: bool,
    /// SHA-256 of `answers.jsonl`.
    pub answers_sha256: Option<String>,
    /// What the user was told before and during the run.
    pub notes: Vec<String>,
    /// The rule of verdict, gate and first table: the protocol's headline, or what `--rule` named. `None` in records of before there was
    /// a choice: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headline: Option<String>,
    /// What an hour of the machine costs, in the user's own unit, where the user says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
    /// Of a run that `--until` ended: what it showed. Left out where all questions were to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UntilRecord>,
    /// What each variant changes beyond the run's placebos, by rule; left out of a run without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placebos: Vec<PlaceboRecord>,
    /// What is implausible about the results.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// One a variant, in the plan's order.
    pub dtypes: Vec<DtypeRecord>,
}

/// What one variant achieved. `None` means that nothing was measured, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DtypeRecord {
    /// Which.
    pub dtype: VariantName,
    /// Why it did not finish, if it did not.
    pub failure: Option<String>,
    /// Completions; with repeats, every repeat of every sample counts.
    pub n: usize,
    /// Completions whose text is not empty.
    pub answered: usize,
    /// Completions that a limit of tokens or the context cut off.
    pub cut: usize,
    /// What was thought before answers; left out where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thoughts: Option<ThoughtRecord>,
    /// Who counted its tokens, in a sentence, where a server made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted: Option<String>,
    /// One a rule, in the protocol's order.
    pub rules: Vec<RuleRecord>,
    /// How long the answers are; `None` where tokens are unknown, and in records of before it was kept.
    #[serde(default)]
    pub lengths: Option<Lengths>,
    /// Tokens fed, over all completions; `None` where the target does not tell.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated, over all completions; `None` where the target does not tell.
    pub output_tokens: Option<u64>,
    /// Wall time of generating, over all sessions, prompts included.
    pub generate_seconds: Option<f64>,
    /// `output_tokens / generate_seconds`.
    pub output_tokens_per_second: Option<f64>,
    /// Joules that the devices used while it generated, over all sessions; left out where nothing measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Wall time of the first session's loading.
    pub load_seconds: Option<f64>,
    /// The highest of all sessions.
    pub peak_memory: Option<PeakMemory>,
    /// On a GPU: that of the session which needed most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<DeviceMemory>,
    /// Each opening of an engine.
    pub sessions: Vec<Session>,
}

/// What one variant's completions thought: kept with them, and never scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThoughtRecord {
    /// Completions that hold a thought.
    pub completions: usize,
    /// Of these, such as never ended it: they have no answer.
    pub unfinished: usize,
    /// Tokens of thoughts, a part of the output tokens; `None` where the target does not tell.
    pub tokens: Option<u64>,
}

/// What one rule made of one variant's completions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// The rule.
    pub rule: String,
    /// Completions in which it found a value.
    pub extracted: usize,
    /// Of these, those from answers that were cut off: what they say last need not be their answer.
    #[serde(default)]
    pub extracted_from_cut: usize,
    /// Of the right ones, those from answers that were cut off.
    #[serde(default)]
    pub correct_from_cut: usize,
    /// Right ones, of n, with Wilson's interval, which takes answers to one question together, or to the questions of one cluster of the
    /// task (records of before that was told took them as independent).
    pub accuracy: Option<Proportion>,
    /// Against the reference, which is f32 unless the plan names another, on the completions that both have; `None` for the reference
    /// itself and where the run has none.
    #[serde(rename = "against_f32")]
    pub against: Option<Paired>,
    /// With several answers a question: what they show together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<Repeats>,
    /// What its right answers cost; `None` where nothing is right, and in records of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// Output tokens of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// Mean output tokens of an answer.
    pub mean_output_tokens: f64,
    /// Against the reference's answers to the same questions, paired; `None` for the reference itself and where the run has none.
    pub ratio: Option<Ratio>,
}

impl DtypeRecord {
    /// The memory of its first table: on a GPU the device's, else the process's peak.
    pub fn memory_bytes(&self) -> Option<u64> {
        let device = self.device_memory.as_ref().map(DeviceMemory::needed_bytes);
        device.or_else(|| self.peak_memory.map(|peak| peak.bytes))
    }

    /// Answers that a limit cut off; `None` where the answers were made elsewhere, by no engine of ours, which does not tell.
    pub fn known_cut(&self) -> Option<usize> {
        (self.n > 0 && !self.sessions.is_empty()).then_some(self.cut)
    }

    /// What a rule made of it.
    pub fn rule(&self, name: &str) -> Option<&RuleRecord> {
        self.rules.iter().find(|rule| rule.rule == name)
    }
}

impl EvalRecord {
    /// Reads a record; one of a newer format is refused.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let bytes = read_checked(path, REMAKE)?;
        let invalid = |error: serde_json::Error| {
            RecordError::invalid(
                format!("{}: not a record of a run: {error}", path.display()),
                "the file was changed, or another version of evalsuite wrote it; run again, or use that version",
            )
        };
        let Version { format } = serde_json::from_slice(&bytes)
            .map_err(|error| other_kind(path, &bytes).unwrap_or_else(|| invalid(error)))?;
        if !(1..=EVAL_FORMAT).contains(&format) {
            return Err(RecordError::invalid(
                format!("{}: format {format}, but this evalsuite reads formats up to {EVAL_FORMAT}", path.display()),
                "use the version of evalsuite that wrote it (the field `plan.evalsuite`)",
            ));
        }
        let mut record: Self = serde_json::from_slice(&bytes).map_err(invalid)?;
        if format == 1 {
            record.format = EVAL_FORMAT;
            for against in
                record.dtypes.iter_mut().flat_map(|dtype| &mut dtype.rules).filter_map(|rule| rule.against.as_mut())
            {
                let Paired { both_right, lost, gained, both_wrong, .. } = *against;
                *against = Paired::of_counts(both_right, lost, gained, both_wrong).unwrap_or(*against);
            }
        }
        Ok(record)
    }

    /// Writes a record, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), RecordError> {
        write_json(path, self)
    }

    /// The rules, in the protocol's order.
    pub fn rules(&self) -> Vec<&str> {
        self.dtypes.first().map_or_else(Vec::new, |dtype| dtype.rules.iter().map(|rule| rule.rule.as_str()).collect())
    }

    /// The rule that decides.
    pub fn headline(&self) -> &str {
        self.headline.as_deref().or_else(|| self.rules().first().copied()).unwrap_or_default()
    }

    /// Refuses what is none of its rules.
    pub fn check_rule(&self, rule: &str) -> Result<(), Fault> {
        let rules = self.rules();
        if rules.contains(&rule) { Ok(()) } else { Err(Fault::unknown("rule", rule, &rules)) }
    }

    /// Makes another of its rules the headline.
    pub fn set_headline(&mut self, rule: &str) -> Result<(), Fault> {
        self.check_rule(rule)?;
        self.headline = Some(rule.to_owned());
        Ok(())
    }
}

/// Names a record of another kind.
fn other_kind(path: &Path, bytes: &[u8]) -> Option<RecordError> {
    let Versions { bench, blame, determinism, load, perplexity, probe, quality } =
        serde_json::from_slice(bytes).ok()?;
    let kinds = [
        (quality, "quality run"),
        (bench, "benchmark"),
        (blame, "blame"),
        (load, "load test"),
        (perplexity, "perplexity"),
        (probe, "probe"),
        (determinism, "determinism"),
    ];
    let (_, what) = kinds.into_iter().find(|(version, _)| version.is_some())?;
    Some(RecordError::invalid(
        format!("{}: the record of a {what}, not of a run on questions with answers", path.display()),
        "show it with `evalsuite show`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_kind_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for (field, what) in [
            ("quality_format", "quality run"),
            ("blame_format", "blame"),
            ("bench_format", "benchmark"),
            ("load_format", "load test"),
            ("perplexity_format", "perplexity"),
            ("probe_format", "probe"),
            ("determinism_format", "determinism"),
        ] {
            std::fs::write(&path, format!("{{\"{field}\": 1}}")).unwrap();
            let message = EvalRecord::read(&path).unwrap_err().to_string();
            assert!(
                message.contains(&format!("the record of a {what}")) && message.contains("hint: show it"),
                "{message}"
            );
        }
    }
}
