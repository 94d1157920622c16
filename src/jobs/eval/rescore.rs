//! Rescore: stored generations under another protocol's rules, without an engine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{EVAL_FORMAT, EvalPlan, EvalRecord, Measured, ProtocolPlan, summarise};
use crate::hub::Hub;
use crate::jobs::JobError;
use crate::record::{Machine, Outcome, RunFolder, utc_now};
use crate::score::{Rule, score};
use crate::task::{Dataset, DatasetSpec, Protocol};

/// Scores a run folder's completions by `protocol`'s rules; writes and returns `rescore-<protocol>.json`.
pub fn rescore(run: &Path, protocol: &str, hub: &Hub) -> Result<(EvalRecord, PathBuf), JobError> {
    let plan = RunFolder::read_plan::<EvalPlan>(run)?;
    let protocol = Protocol::open(protocol)?;
    let answers = answers(&plan, hub)?;
    let mut measured = Vec::new();
    for dtype in &plan.dtypes {
        let mut outcomes = RunFolder::read_outcomes(run, *dtype)?;
        rescore_outcomes(&mut outcomes, &protocol.rules, &answers)?;
        measured.push(Measured {
            dtype: *dtype,
            outcomes,
            sessions: RunFolder::read_sessions(run, *dtype)?,
            failure: None,
        });
    }
    if measured.iter().all(|one| one.outcomes.is_empty()) {
        return Err(JobError::invalid(
            format!("there is no completion in {}", run.display()),
            "finish the run first: give its command with `--resume`",
        ));
    }
    let generated = format!(
        "generated under protocol {} (version {}), scored by the rules of {} (version {})",
        plan.protocol.name, plan.protocol.version, protocol.name, protocol.version
    );
    let asked = plan.completions_per_dtype();
    let unfinished = measured.iter().filter(|one| one.outcomes.len() < asked);
    let unfinished = unfinished.map(|one| format!("{} of {asked} completions in {}", one.outcomes.len(), one.dtype));
    let unfinished: Vec<String> = unfinished.collect();
    let not_all = (!unfinished.is_empty()).then(|| format!("the run has not finished: {}", unfinished.join(", ")));
    let rules: Vec<String> = protocol.rules.iter().map(|rule| rule.name.clone()).collect();
    let record = EvalRecord {
        format: EVAL_FORMAT,
        ground_truth: plan.ground_truth(),
        generated_under: Some(plan.protocol.clone()),
        finished: utc_now(),
        machine: Machine::detect(),
        complete: not_all.is_none(),
        answers_sha256: None,
        notes: std::iter::once(generated).chain(not_all).collect(),
        dtypes: summarise(&measured, &rules),
        plan: EvalPlan {
            protocol: ProtocolPlan {
                name: protocol.name.clone(),
                version: protocol.version,
                sha256: protocol.sha256.clone(),
                ..plan.protocol
            },
            ..plan
        },
    };
    let path = run.join(format!("rescore-{}.json", protocol.name));
    record.write(&path)?;
    Ok((record, path))
}

/// The dataset's answers by row, from the very file that the run read.
fn answers(plan: &EvalPlan, hub: &Hub) -> Result<HashMap<usize, String>, JobError> {
    let dataset = Dataset::open(
        &DatasetSpec {
            source: plan.dataset.requested.clone(),
            split: plan.dataset.split.clone(),
            revision: plan.dataset.revision.clone(),
            sha256: None,
        },
        hub,
    )?;
    if dataset.sha256 != plan.dataset.sha256 {
        return Err(JobError::invalid(
            format!(
                "the problems have changed since the run: {} has sha256 {}, the run read {}",
                dataset.source, dataset.sha256, plan.dataset.sha256
            ),
            "put the file back that the run read, or run again on the new one",
        ));
    }
    Ok(dataset.samples.into_iter().map(|sample| (sample.index, sample.answer)).collect())
}

fn rescore_outcomes(
    outcomes: &mut [Outcome],
    rules: &[Rule],
    answers: &HashMap<usize, String>,
) -> Result<(), JobError> {
    outcomes.par_iter_mut().try_for_each(|outcome| {
        let Some(answer) = answers.get(&outcome.sample) else {
            return Err(JobError::invalid(
                format!("the journal has a completion of sample {}, the dataset has no such row", outcome.sample),
                "the journal was changed; start a new run",
            ));
        };
        outcome.scores = score(rules, &outcome.text, answer);
        Ok(())
    })
}
