//! Every stage: load → render → first pass → further passes, each kept as it ends → record → report.

use std::time::Instant;

use super::DeterminismJob;
use super::drive::{Told, drive};
use super::pass::{Answer, Floor, Key, Pass};
use super::progress::{earlier, progress_path};
use super::record::{DETERMINISM_FORMAT, DeterminismPlan, DeterminismRecord, VariantFloor};
use super::view::render_determinism;
use crate::engine::{Completion, Request};
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::column::{requests, same_engine};
use crate::jobs::each::{End, each_variant};
use crate::jobs::eval::{EvalInputs, prepare};
use crate::jobs::thoughts::{take_thought, thought_marks};
use crate::jobs::{Event, Failures, JobContext, JobError, Prepared, Progress, Variant, check_destination};
use crate::random::split_mix;
use crate::record::{Machine, RecordError, utc_now};
use crate::score::score;

/// Batch sizes; the last pass has all prompts at once.
const BATCHES: [usize; 3] = [1, 8, 32];

/// How a job ended.
#[derive(Debug)]
pub struct DeterminismFinished {
    /// What moved, with the report of it in the job's format; `None` where nothing could be held against a first pass.
    pub results: Option<(DeterminismRecord, String)>,
    /// The user broke off.
    pub interrupted: bool,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Runs a job. Every pass is kept at [`super::progress_path`] as it ends, until all are made.
pub fn execute(job: &DeterminismJob, hub: &Hub, context: &mut JobContext) -> Result<DeterminismFinished, JobError> {
    check_destination(job.out.as_deref(), "determinism.json")?;
    let asked = &job.asked;
    asked.target.check_devices()?;
    let inputs = EvalInputs::load(asked, hub)?;
    let (prepared, prompt_notes) = prepare(&inputs, asked)?;
    if prepared.len() < 2 {
        return Err(JobError::invalid("one prompt has no batch to depend on", "raise `--limit`"));
    }
    let variants = inputs.variants(asked)?;
    let mut notes = [inputs.notes.clone(), inputs.checkpoints.notes.clone(), variants.notes(), prompt_notes].concat();
    let batches = BATCHES.into_iter().filter(|batch| *batch < prepared.len()).chain([prepared.len()]).collect();
    let hashes: Vec<&str> = prepared.iter().map(|one| one.prompt_sha256.as_str()).collect();
    let plan = DeterminismPlan {
        batches,
        prompts_sha256: sha256(hashes.concat().as_bytes()),
        asked: inputs.plan(asked, &variants, prepared.len())?,
    };
    let mut found = earlier(job, &plan, prepared.len())?;
    if job.resume {
        notes.push(
            "passes were made by more than one process: what differs between processes is among what moves".to_owned(),
        );
    }
    for note in &notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let passes = Passes { job, inputs: &inputs, prepared: &prepared, plan: &plan };
    let record = |variants: &[VariantFloor]| passes.record(&notes, variants);
    let progress = job.out.as_deref().map(progress_path);
    let (interrupted, failures) = each_variant(&variants, context, |variant, context| {
        let at = found.iter().position(|one| one.variant == variant.name).unwrap_or_else(|| {
            found.push(VariantFloor::new(variant.name.clone()));
            found.len() - 1
        });
        let own = VariantFloor { failure: None, ..found[at].clone() };
        let mut keep = |own: &VariantFloor| {
            own.clone_into(&mut found[at]);
            let is_begun = found.iter().any(VariantFloor::is_begun);
            progress.as_deref().filter(|_| is_begun).map_or(Ok(()), |path| record(&found).write(path))
        };
        passes.variant(variant, own, &mut keep, context)
    })?;
    let record = record(&found);
    if let Some(path) = progress.filter(|path| record.complete && path.exists()) {
        std::fs::remove_file(&path).map_err(RecordError::io("remove", &path))?;
    }
    if record.variants.iter().all(|one| one.passes.is_empty() && one.failure.is_none()) {
        return Ok(DeterminismFinished { results: None, interrupted, failures });
    }
    let report = render_determinism(&record, &asked.format)?;
    Ok(DeterminismFinished { results: Some((record, report)), interrupted, failures })
}

struct Passes<'a> {
    job: &'a DeterminismJob,
    inputs: &'a EvalInputs,
    prepared: &'a [Prepared],
    plan: &'a DeterminismPlan,
}

/// Writes down what a variant has done so far.
type Keep<'a> = dyn FnMut(&VariantFloor) -> Result<(), RecordError> + 'a;

impl Passes<'_> {
    /// What is known so far. The first pass's answers are left out where nothing will be held against them any more.
    fn record(&self, notes: &[String], variants: &[VariantFloor]) -> DeterminismRecord {
        let mut record = DeterminismRecord {
            determinism_format: DETERMINISM_FORMAT,
            finished: utc_now(),
            machine: Machine::detect(),
            notes: notes.to_vec(),
            rule: self.inputs.protocol.headline.clone(),
            complete: false,
            variants: variants.to_vec(),
            plan: self.plan.clone(),
        };
        let is_whole: Vec<bool> = variants.iter().map(|one| record.is_whole(one)).collect();
        record.complete = variants.len() == self.plan.asked.dtypes.len() && is_whole.iter().all(|whole| *whole);
        for (one, _) in record.variants.iter_mut().zip(is_whole).filter(|(_, is_whole)| *is_whole) {
            one.first = Vec::new();
        }
        record
    }

    /// The passes of a variant that are missing, as far as they came.
    fn variant(
        &self,
        variant: &Variant,
        mut found: VariantFloor,
        keep: &mut Keep,
        context: &mut JobContext,
    ) -> Result<End, JobError> {
        let name = &variant.name;
        if found.passes.len() + 1 == self.plan.passes().len() {
            return Ok(End::Complete);
        }
        let ended = self.passes(variant, &mut found, keep, context);
        (context.emit)(Event::Ended(name.clone()));
        match ended {
            Ok(true) => Ok(End::Complete),
            Ok(false) => Ok(End::Interrupted),
            Err(error @ JobError::Engine(_)) => {
                found.failure = Some(error.to_string());
                keep(&found)?;
                Ok(End::Failed(error))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether all passes were made.
    fn passes(
        &self,
        variant: &Variant,
        found: &mut VariantFloor,
        keep: &mut Keep,
        context: &mut JobContext,
    ) -> Result<bool, JobError> {
        (context.emit)(Event::Loading { variant: variant.name.clone(), repetition: 1, repetitions: 1 });
        let mut engine = (context.open_engine)(variant, &self.job.asked.target)?;
        let info = engine.info().clone();
        (context.emit)(Event::Loaded { variant: variant.name.clone(), engine: info.clone(), first_token: None });
        if let (Some(first), Some(out)) = (&found.engine, &self.job.out) {
            same_engine(&progress_path(out), &variant.name, first, &info)?;
        }
        found.engine = Some(info);
        let keys: Vec<Key> = self.prepared.iter().map(|one| (one.sample, one.cluster.clone())).collect();
        let passes = self.plan.passes();
        let all = passes.len() * self.prepared.len();
        let done = if found.first.is_empty() { 0 } else { found.passes.len() + 1 };
        let begun = Instant::now();
        for (pass, (batch, shuffled)) in passes.into_iter().enumerate().skip(done) {
            let order = order(self.prepared.len(), shuffled.then_some((self.plan.asked.generation.seed, pass)));
            let (emit, before) = (&mut context.emit, pass * self.prepared.len());
            let mut told = |told: Told| {
                let done_now = match told {
                    Told::Note(note) => return emit(Event::Note(format!("{}: {note}", variant.name))),
                    Told::Done(done_now) => done_now,
                };
                emit(Event::Progress(Progress {
                    variant: variant.name.clone(),
                    part: Some("determinism"),
                    completed: before + done_now,
                    completed_now: before + done_now - done * self.prepared.len(),
                    total: all,
                    running: 0,
                    cache_bytes: None,
                    output_tokens: 0,
                    expected_tokens: None,
                    seconds: begun.elapsed().as_secs_f64(),
                    remaining_seconds: None,
                }));
            };
            let at = Instant::now();
            let requests = self.requests(&order);
            let Some(completions) = drive(engine.as_mut(), requests, batch, context.interrupted, &mut told)? else {
                return Ok(false);
            };
            let seconds = at.elapsed().as_secs_f64();
            let answers = self.answers(&order, completions);
            if pass == 0 {
                found.right = answers.iter().filter(|answer| answer.right).count();
                found.first = answers;
            } else {
                found.passes.push(Pass::of(&keys, (&found.first, &answers), (batch, shuffled), seconds));
                found.floor = Floor::of(&found.passes);
            }
            keep(found)?;
        }
        Ok(true)
    }

    fn requests(&self, order: &[usize]) -> Vec<Request> {
        requests(&self.plan.asked.generation, false, order.iter().map(|place| (&self.prepared[*place], 0)))
    }

    /// By place of the prompt.
    fn answers(&self, order: &[usize], completions: Vec<Completion>) -> Vec<Answer> {
        let mut placed: Vec<(usize, Answer)> =
            order.iter().copied().zip(completions).map(|(place, one)| (place, self.answer(place, one))).collect();
        placed.sort_by_key(|(place, _)| *place);
        placed.into_iter().map(|(_, answer)| answer).collect()
    }

    fn answer(&self, place: usize, completion: Completion) -> Answer {
        let prepared = &self.prepared[place];
        let Completion { mut text, mut finish, token_ids, server, .. } = completion;
        if server.is_some() {
            let marks = thought_marks(self.plan.asked.generation.think_end.as_deref());
            take_thought(&marks, &prepared.prompt.text, &mut text, &mut finish);
        }
        let protocol = &self.inputs.protocol;
        let scores = score(&protocol.rules, &text, prepared.expected());
        let by_rule = scores.into_iter().find(|one| one.rule == protocol.headline);
        let has_ids = server.is_none() || !token_ids.is_empty();
        Answer {
            text,
            token_ids: has_ids.then_some(token_ids),
            right: by_rule.as_ref().is_some_and(|one| one.correct),
            value: by_rule.and_then(|one| one.value),
        }
    }
}

/// The places of so many prompts in the order that they go in: by seed and pass where they are shuffled.
fn order(prompts: usize, shuffled: Option<(u64, usize)>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..prompts).collect();
    if let Some((seed, pass)) = shuffled {
        let seed = split_mix(seed ^ split_mix(pass as u64));
        order.sort_by_cached_key(|place| split_mix(seed ^ *place as u64));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shuffled_pass_has_an_order_of_its_own() {
        assert_eq!(order(4, None), [0, 1, 2, 3]);
        let orders = [(7, 1), (7, 3), (8, 1)].map(|by| order(40, Some(by)));
        for (index, order) in orders.iter().enumerate() {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert!(!order.is_sorted() && sorted.into_iter().eq(0..40), "{order:?}");
            assert!(!orders[..index].contains(order));
        }
    }
}
