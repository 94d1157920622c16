//! A run against a stored one: is it still as good, is it still as fast?

use std::collections::HashMap;
use std::fmt::Display;

use serde::Serialize;

use super::divergence::same_answers;
use super::pairs::paired_by_sample;
use crate::jobs::eval::{Clusters, DEFAULT_MARGIN_POINTS, DtypeRecord, EvalPlan, StoredRun, questions, unreadable};
use crate::record::{RunPlan as _, StoredCompletion, VariantName};
use crate::report::ReportError;
use crate::report::words::points;
use crate::score::statistics::Paired;

/// What a run must keep of its baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Percentage points of accuracy that may be lost.
    pub margin_points: f64,
    /// The least tokens/s, as a multiple of the baseline's; `None` gates on no speed.
    pub min_speed_ratio: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { margin_points: DEFAULT_MARGIN_POINTS, min_speed_ratio: None }
    }
}

/// What came of holding runs against a baseline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// The baseline's folder.
    pub baseline: String,
    /// Percentage points of accuracy that may be lost.
    pub margin_points: f64,
    /// The least tokens/s, as a multiple of the baseline's.
    pub min_speed_ratio: Option<f64>,
    /// Every check passed.
    pub passed: bool,
    /// One a run, variant and subject.
    pub checks: Vec<GateCheck>,
    /// What else differs from the baseline, and what could not be compared.
    pub notes: Vec<String>,
}

/// One check of one variant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateCheck {
    /// Index of the run.
    pub run: usize,
    /// The variant.
    pub dtype: VariantName,
    /// What was checked.
    pub subject: GateSubject,
    /// Whether it holds.
    pub passed: bool,
    /// A sentence with the figures.
    pub message: String,
    /// Accuracy: this run against the baseline under the headline rule, paired by sample.
    pub paired: Option<Paired>,
    /// Accuracy: Tango's 95 % interval of the difference, fractions of 1.
    pub interval: Option<(f64, f64)>,
    /// Speed: tokens/s as a multiple of the baseline's.
    pub speed_ratio: Option<f64>,
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GateSubject {
    /// Not worse by more than the margin.
    Accuracy,
    /// Not slower than the ratio allows.
    Speed,
}

impl GateSubject {
    /// As in the JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Speed => "speed",
        }
    }
}

impl Gate {
    /// Holds runs against a baseline, variant by variant. Runs on other problems or by another protocol are refused,
    /// and so are runs that share no precision with it.
    pub fn new(runs: &[StoredRun], baseline: &StoredRun, limits: Limits) -> Result<Self, ReportError> {
        let of_run = |(index, run)| RunChecks::new((index, runs.len()), run, baseline, limits);
        Ok(Self::of(runs.iter().enumerate().map(of_run).collect::<Result<_, _>>()?, baseline, limits))
    }

    /// What came of holding each run against a baseline, one after the other.
    pub fn of(runs: Vec<RunChecks>, baseline: &StoredRun, limits: Limits) -> Self {
        let (checks, notes): (Vec<_>, Vec<_>) = runs.into_iter().map(|run| (run.checks, run.notes)).unzip();
        let checks = checks.concat();
        Self {
            baseline: baseline.path.display().to_string(),
            margin_points: limits.margin_points,
            min_speed_ratio: limits.min_speed_ratio,
            passed: checks.iter().all(|check| check.passed),
            checks,
            notes: notes.concat(),
        }
    }

    /// The failed checks' messages, one a line.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.checks.iter().filter(|check| !check.passed).map(|check| check.message.as_str())
    }
}

/// What came of holding one run against a baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct RunChecks {
    checks: Vec<GateCheck>,
    notes: Vec<String>,
}

impl RunChecks {
    /// Of the run with this index, of so many.
    pub fn new(
        (index, of): (usize, usize),
        run: &StoredRun,
        baseline: &StoredRun,
        limits: Limits,
    ) -> Result<Self, ReportError> {
        refuse_unrelated(run, baseline)?;
        let (mut checks, mut notes) = (Vec::new(), differences(run, baseline));
        // Of several runs each says which it is.
        let prefix = if of > 1 { format!("{} ", run.path.display()) } else { String::new() };
        for record in &run.record.dtypes {
            match baseline.record.dtypes.iter().find(|stored| stored.dtype == record.dtype) {
                Some(stored) => {
                    let own = check(index, (run, record), (baseline, stored), limits)?;
                    checks.extend(
                        own.into_iter().map(|check| GateCheck { message: prefix.clone() + &check.message, ..check }),
                    );
                }
                None => notes.push(format!("{}: not in the baseline, so not checked", record.dtype)),
            }
        }
        for stored in &baseline.record.dtypes {
            if run.record.dtypes.iter().all(|record| record.dtype != stored.dtype) {
                notes.push(format!("{}: only in the baseline, so not checked", stored.dtype));
            }
        }
        if checks.is_empty() {
            return Err(no_shared_precision(run.path.display(), baseline));
        }
        Ok(Self { checks, notes })
    }
}

/// Why a run, as it is called here, cannot be held against a baseline.
pub(crate) fn refusal(run: impl Display, baseline: &StoredRun, why: &str, hint: &str) -> ReportError {
    ReportError::new(format!("{run} cannot be held against the baseline {}: {why}", baseline.path.display()), hint)
}

/// Without a precision in common nothing can be paired.
pub(crate) fn no_shared_precision(run: impl Display, baseline: &StoredRun) -> ReportError {
    refusal(run, baseline, "they share no precision", "give both runs the same `--dtype`")
}

fn refuse_unrelated(run: &StoredRun, baseline: &StoredRun) -> Result<(), ReportError> {
    let (own, stored) = (&run.record.plan, &baseline.record.plan);
    let task = |plan: &EvalPlan| plan.task.as_ref().map(|task| task.sha256.clone());
    if task(own) != task(stored) {
        return Err(refusal(
            run.path.display(),
            baseline,
            &format!("its task is {}, the baseline's {}", own.title(), stored.title()),
            "run both as the same task, by the same task file: make a new baseline, or give the baseline's task to `eval`",
        ));
    }
    let hashes = [
        ("dataset", &own.dataset.name, &own.dataset.sha256, &stored.dataset.name, &stored.dataset.sha256),
        ("protocol", &own.protocol.name, &own.protocol.sha256, &stored.protocol.name, &stored.protocol.sha256),
    ];
    for (what, name, sha256, stored_name, stored_sha256) in hashes {
        if sha256 != stored_sha256 {
            return Err(refusal(
                run.path.display(),
                baseline,
                &format!(
                    "its {what} is {name} (sha256 {sha256}), the baseline's {stored_name} (sha256 {stored_sha256})"
                ),
                &format!("run both on the same {what}: make a new baseline, or give the baseline's `--{what}`"),
            ));
        }
    }
    let generated_under = |run: &StoredRun| {
        let record = &run.record;
        record.generated_under.as_ref().unwrap_or(&record.plan.protocol).clone()
    };
    let (own, stored) = (generated_under(run), generated_under(baseline));
    if own.sha256 != stored.sha256 {
        return Err(refusal(
            run.path.display(),
            baseline,
            &format!("its answers were generated under {}, the baseline's under {}", own.name, stored.name),
            "hold answers against answers to the same prompts: rescore neither, or both",
        ));
    }
    Ok(())
}

/// What else decides answers and is not the same: named, not refused, for it may be what is being compared.
fn differences(run: &StoredRun, baseline: &StoredRun) -> Vec<String> {
    let of_plans = |own: &EvalPlan, stored: &EvalPlan| stored.differences(own).unwrap_or_default();
    let plans = of_plans(&run.record.plan, &baseline.record.plan);
    let mut notes: Vec<String> = plans
        .iter()
        .filter(|difference| difference.field != "dtypes")
        .map(|difference| shortened(&difference.to_string()))
        .collect();
    notes.extend(other_prompts(run, baseline));
    if run.record.machine.cpu != baseline.record.machine.cpu {
        let (was, is) = (&baseline.record.machine.cpu, &run.record.machine.cpu);
        notes.push(format!("machine: was {was}, is {is}; speeds do not compare"));
    }
    notes
}

/// Prompts that both runs have and that are not the same, as text or as tokens: what a template or a tokenizer changed.
fn other_prompts(run: &StoredRun, baseline: &StoredRun) -> Option<String> {
    let both = run.completions.iter().map(|(variant, own)| (own, completions(baseline, variant)));
    let (own, stored) = both.into_iter().find(|(_, stored)| !stored.is_empty())?;
    let stored: HashMap<(usize, usize), &StoredCompletion> =
        stored.iter().map(|one| ((one.sample, one.repeat), one)).collect();
    let pairs: Vec<_> = own.iter().filter_map(|one| Some((stored.get(&(one.sample, one.repeat))?, one))).collect();
    let texts = pairs.iter().filter(|(was, is)| was.prompt_sha256 != is.prompt_sha256).count();
    let tokens = pairs.iter().filter(|(was, is)| {
        was.prompt_ids_sha256.as_ref().zip(is.prompt_ids_sha256.as_ref()).is_some_and(|(was, is)| was != is)
    });
    match (texts, tokens.count(), pairs.len()) {
        (0, 0, _) => None,
        (0, tokens, n) => {
            Some(format!("prompts: {tokens} of {n} have the baseline's text and other tokens: another tokenizer"))
        }
        (texts, _, n) => Some(format!("prompts: {texts} of {n} have another text than the baseline's")),
    }
}

/// Enough of a difference to know it by: whole plans may stand in it.
fn shortened(text: &str) -> String {
    const LENGTH: usize = 120;
    if text.chars().count() <= LENGTH { text.to_owned() } else { text.chars().take(LENGTH).chain(['…']).collect() }
}

fn check(
    index: usize,
    (run, own): (&StoredRun, &DtypeRecord),
    (baseline, stored): (&StoredRun, &DtypeRecord),
    limits: Limits,
) -> Result<Vec<GateCheck>, ReportError> {
    let blank = GateCheck {
        run: index,
        dtype: own.dtype.clone(),
        subject: GateSubject::Accuracy,
        passed: false,
        message: String::new(),
        paired: None,
        interval: None,
        speed_ratio: None,
    };
    if let Some(failure) = &own.failure {
        let why = failure.lines().next().unwrap_or_default();
        return Ok(vec![GateCheck { message: format!("{}: did not finish: {why}", own.dtype), ..blank }]);
    }
    let rule = run.record.headline();
    if let Some(why) =
        unreadable(own, rule).or_else(|| unreadable(stored, rule).map(|why| format!("the baseline's {why}")))
    {
        return Ok(vec![GateCheck { message: why, ..blank }]);
    }
    let (answers, stored_answers) = (completions(run, &own.dtype), completions(baseline, &own.dtype));
    let Some(paired) = paired_by_sample(stored_answers, answers, rule, &Clusters::new(&baseline.samples)) else {
        return Err(refusal(
            run.path.display(),
            baseline,
            &format!("in {} they share no question", own.dtype),
            "run both on the same `--samples`",
        ));
    };
    let tells_tokens = stored_answers.iter().chain(answers).all(|one| one.token_ids.is_some());
    let how = if tells_tokens { "token for token" } else { "text for text" };
    let identical = same_answers(stored_answers, answers).then_some(how);
    let mut checks = vec![accuracy(&blank, paired, identical, limits)];
    if let Some(least) = limits.min_speed_ratio {
        checks.push(speed(&blank, own.output_tokens_per_second, stored.output_tokens_per_second, least));
    }
    Ok(checks)
}

fn completions<'a>(run: &'a StoredRun, variant: &VariantName) -> &'a [StoredCompletion] {
    run.completions.iter().find(|(own, _)| own == variant).map_or(&[], |(_, completions)| completions)
}

/// Non-inferior where the whole interval lies above −margin; answers that are the same to the last token are the same. `identical` says
/// how they are the same, if they are.
fn accuracy(blank: &GateCheck, paired: Paired, identical: Option<&str>, limits: Limits) -> GateCheck {
    let Limits { margin_points, .. } = limits;
    let interval = (paired.difference_low, paired.difference_high);
    let kept = interval.0 * 100.0 > -margin_points;
    let passed = kept || identical.is_some();
    let n = questions(&paired);
    let figures = format!(
        "accuracy {} points on {n} ({} lost, {} gained), 95 % interval [{}, {}]",
        points(paired.difference),
        paired.lost,
        paired.gained,
        points(interval.0),
        points(interval.1)
    );
    let dtype = &blank.dtype;
    let message = if let Some(how) = identical {
        format!("{dtype}: every answer is the baseline's, {how}, on {n}")
    } else if kept {
        format!("{dtype}: {figures}, above the margin of -{margin_points:.1}")
    } else if paired.lost <= paired.gained {
        format!(
            "{dtype}: {figures}, reaches below the margin of -{margin_points:.1}: nothing was lost on balance, but {n} \
             are too few to show it; give more, or a `--margin` above {:.1}",
            -interval.0 * 100.0
        )
    } else {
        format!("{dtype}: {figures}, reaches below the margin of -{margin_points:.1}")
    };
    GateCheck { passed, message, paired: Some(paired), interval: Some(interval), ..blank.clone() }
}

fn speed(blank: &GateCheck, own: Option<f64>, stored: Option<f64>, least: f64) -> GateCheck {
    let dtype = &blank.dtype;
    let ratio = own.zip(stored).map(|(own, stored)| own / stored);
    let message = match (own.zip(stored), ratio) {
        (Some((own, stored)), Some(ratio)) => {
            let relation = if ratio >= least { "at least" } else { "below" };
            format!("{dtype}: {own:.1} tokens/s against {stored:.1}, a ratio of {ratio:.3}, {relation} {least}")
        }
        _ => format!("{dtype}: no speed was measured, so {least} of the baseline's is not shown"),
    };
    let passed = ratio.is_some_and(|ratio| ratio >= least);
    GateCheck { subject: GateSubject::Speed, passed, message, speed_ratio: ratio, ..blank.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Precision;

    fn blank() -> GateCheck {
        GateCheck {
            run: 0,
            dtype: Precision::F16.into(),
            subject: GateSubject::Accuracy,
            passed: false,
            message: String::new(),
            paired: None,
            interval: None,
            speed_ratio: None,
        }
    }

    #[test]
    fn a_speed_of_just_the_least_ratio_passes() {
        assert!(speed(&blank(), Some(50.0), Some(100.0), 0.5).passed);
        assert!(!speed(&blank(), Some(49.9), Some(100.0), 0.5).passed);
        assert!(!speed(&blank(), None, Some(100.0), 0.5).passed);
    }

    #[test]
    fn too_few_questions_pass_no_gate_though_nothing_was_lost() {
        let few = Paired::of_counts(3, 0, 1, 0).unwrap();
        let check = accuracy(&blank(), few, None, Limits::default());
        assert!(!check.passed && check.message.contains("are too few to show it"), "{}", check.message);
        assert!(accuracy(&blank(), few, Some("token for token"), Limits::default()).passed);
        assert!(accuracy(&blank(), Paired::of_counts(1000, 0, 1, 0).unwrap(), None, Limits::default()).passed);
    }
}
