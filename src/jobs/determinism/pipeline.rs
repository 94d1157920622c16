//! Every stage: load → render → first pass → further passes → record → report.

use std::time::Instant;

use super::DeterminismJob;
use super::arm::{Answer, Arm, Floor, Key};
use super::drive::{Told, drive};
use super::record::{DETERMINISM_FORMAT, DeterminismPlan, DeterminismRecord, VariantFloor};
use super::view::render_determinism;
use crate::engine::{Completion, EngineError, Request};
use crate::hub::Hub;
use crate::jobs::column::requests;
use crate::jobs::each::{End, each_variant};
use crate::jobs::eval::{EvalInputs, prepare};
use crate::jobs::thoughts::{take_thought, thought_marks};
use crate::jobs::{Event, Failures, JobContext, JobError, Prepared, Progress, Variant, check_destination};
use crate::random::split_mix;
use crate::record::{Machine, utc_now};
use crate::score::score;

/// Batch sizes; the last pass has all prompts at once.
const BATCHES: [usize; 3] = [1, 8, 32];

/// How a job ended.
#[derive(Debug)]
pub struct DeterminismFinished {
    /// What moved, with the report of it in the job's format; `None` where the user broke off: a pass is compared with the first one of
    /// the same engine, so nothing of it is kept.
    pub results: Option<(DeterminismRecord, String)>,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Runs a job.
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
    let notes = [inputs.notes.clone(), inputs.checkpoints.notes.clone(), variants.notes(), prompt_notes].concat();
    for note in &notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let batches = BATCHES.into_iter().filter(|batch| *batch < prepared.len()).chain([prepared.len()]).collect();
    let plan = DeterminismPlan { batches, asked: inputs.plan(asked, &variants, prepared.len())? };
    let passes = Passes { job, inputs: &inputs, prepared: &prepared, plan: &plan };
    let mut found = Vec::new();
    let (interrupted, failures) = each_variant(&variants, context, |variant, context| {
        let (floor, end) = passes.variant(variant, context);
        found.push(floor);
        Ok(end)
    })?;
    if interrupted {
        return Ok(DeterminismFinished { results: None, failures });
    }
    let record = DeterminismRecord {
        determinism_format: DETERMINISM_FORMAT,
        finished: utc_now(),
        machine: Machine::detect(),
        notes,
        rule: inputs.protocol.headline.clone(),
        variants: found,
        plan,
    };
    let report = render_determinism(&record, &asked.format)?;
    Ok(DeterminismFinished { results: Some((record, report)), failures })
}

struct Passes<'a> {
    job: &'a DeterminismJob,
    inputs: &'a EvalInputs,
    prepared: &'a [Prepared],
    plan: &'a DeterminismPlan,
}

impl Passes<'_> {
    /// All passes of a variant, as far as they came.
    fn variant(&self, variant: &Variant, context: &mut JobContext) -> (VariantFloor, End) {
        let name = &variant.name;
        let mut found = VariantFloor {
            variant: name.clone(),
            engine: None,
            failure: None,
            right: 0,
            arms: Vec::new(),
            floor: None,
        };
        let ended = self.passes(variant, &mut found, context);
        (context.emit)(Event::Ended(name.clone()));
        let end = match ended {
            Ok(true) => End::Complete,
            Ok(false) => End::Interrupted,
            Err(error) => {
                found.failure = Some(error.to_string());
                End::Failed(error.into())
            }
        };
        found.floor = Floor::of(&found.arms);
        (found, end)
    }

    /// Whether all passes were made.
    fn passes(
        &self,
        variant: &Variant,
        found: &mut VariantFloor,
        context: &mut JobContext,
    ) -> Result<bool, EngineError> {
        (context.emit)(Event::Loading { variant: variant.name.clone(), repetition: 1, repetitions: 1 });
        let mut engine = (context.open_engine)(variant, &self.job.asked.target)?;
        let info = engine.info().clone();
        (context.emit)(Event::Loaded { variant: variant.name.clone(), engine: info.clone(), first_token: None });
        found.engine = Some(info);
        let keys: Vec<Key> = self.prepared.iter().map(|one| (one.sample, one.cluster.clone())).collect();
        let passes: Vec<(usize, bool)> =
            self.plan.batches.iter().flat_map(|batch| [(*batch, false), (*batch, true)]).collect();
        let (mut first, all) = (Vec::new(), passes.len() * self.prepared.len());
        let begun = Instant::now();
        for (pass, (batch, shuffled)) in passes.into_iter().enumerate() {
            let order = self.order(pass, shuffled);
            let (emit, before) = (&mut context.emit, pass * self.prepared.len());
            let mut told = |told: Told| {
                let done = match told {
                    Told::Note(note) => return emit(Event::Note(format!("{}: {note}", variant.name))),
                    Told::Done(done) => done,
                };
                emit(Event::Progress(Progress {
                    variant: variant.name.clone(),
                    part: Some("determinism"),
                    completed: before + done,
                    completed_now: before + done,
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
                first = answers;
            } else {
                found.arms.push(Arm::of(&keys, (&first, &answers), (batch, shuffled), seconds));
            }
        }
        Ok(true)
    }

    /// The places of the prompts in the order that they go in.
    fn order(&self, pass: usize, shuffled: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.prepared.len()).collect();
        if shuffled {
            let seed = split_mix(self.plan.asked.generation.seed ^ split_mix(pass as u64));
            order.sort_by_cached_key(|place| split_mix(seed ^ *place as u64));
        }
        order
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
