//! A finding: something about a run's results that a careful reader would stop at, with value, threshold and remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::VariantName;
use crate::report::grouped;

/// What is implausible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Many answers were cut off by a limit.
    CutAnswers,
    /// The headline rule finds no value in many answers.
    FewExtracted,
    /// Two rules disagree about accuracy.
    RulesApart,
    /// No answer differs between two precisions.
    NoAnswerDiffers,
    /// Accuracy is what guessing gives.
    GuessingLevel,
    /// Answers repeat themselves.
    Loops,
    /// Answers are much longer or shorter than the reference's.
    LengthsApart,
    /// Many questions have the same reference answer.
    RepeatedReference,
    /// The reference gives the same answer to different questions.
    RepeatedAnswers,
    /// Other programs used the machine.
    BusyMachine,
    /// The time that speed is computed from leaves out work.
    UncountedTime,
    /// f32 computes with quantised weights.
    NoGroundTruth,
    /// A variant's answers are not all of one engine.
    SeveralEngines,
}

impl FindingKind {
    /// As in JSON: `cut-answers`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CutAnswers => "cut-answers",
            Self::FewExtracted => "few-extracted",
            Self::RulesApart => "rules-apart",
            Self::NoAnswerDiffers => "no-answer-differs",
            Self::GuessingLevel => "guessing-level",
            Self::Loops => "loops",
            Self::LengthsApart => "lengths-apart",
            Self::RepeatedReference => "repeated-reference",
            Self::RepeatedAnswers => "repeated-answers",
            Self::BusyMachine => "busy-machine",
            Self::UncountedTime => "uncounted-time",
            Self::NoGroundTruth => "no-ground-truth",
            Self::SeveralEngines => "several-engines",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The variant that it is about; `None` where it is about the run.
    pub variant: Option<VariantName>,
    /// What was found, with its figures: a whole sentence without a full stop.
    pub what: String,
    /// The value that was held against the threshold.
    pub value: f64,
    /// What it must not pass.
    pub threshold: f64,
    /// What to do about it.
    pub remedy: String,
}

/// `awq: 710 of 1,319 answers were cut …; raise --max-tokens`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(variant) = &self.variant {
            write!(f, "{variant}: ")?;
        }
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// Findings as sentences; variants of which the same is found share one.
pub(crate) fn sentences(findings: &[Finding]) -> Vec<String> {
    let sentence = |group: Vec<&Finding>| {
        let names: Vec<&str> =
            group.iter().filter_map(|finding| finding.variant.as_ref()).map(VariantName::as_str).collect();
        let about = if names.is_empty() { String::new() } else { format!("{}: ", names.join(", ")) };
        format!("{about}{}; {}", group[0].what, group[0].remedy)
    };
    let groups = grouped(findings, |one, other| (one.kind, &one.what) == (other.kind, &other.what));
    groups.into_iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_which_the_same_is_found_share_a_sentence() {
        let finding = |variant: &str, what: &str| Finding {
            kind: FindingKind::CutAnswers,
            variant: Some(VariantName::parse(variant).unwrap()),
            what: what.to_owned(),
            value: 0.5,
            threshold: 0.05,
            remedy: "raise it".to_owned(),
        };
        let all = [finding("f32", "34 were cut"), finding("f16", "34 were cut"), finding("awq", "35 were cut")];
        assert_eq!(sentences(&all), ["f32, f16: 34 were cut; raise it", "awq: 35 were cut; raise it"]);
        assert_eq!(all[2].to_string(), "awq: 35 were cut; raise it");
        assert_eq!(serde_json::to_value(FindingKind::CutAnswers).unwrap(), FindingKind::CutAnswers.name());
    }
}
