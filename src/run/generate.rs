//! Generate and score: one precision after the other through an engine, every completion into the journal as it ends.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{Event, Prepared, Progress, RunError, Surroundings};
use crate::engine::model::ModelSource;
use crate::engine::{
    Completion, Dtype, Engine, EngineInfo, Event as EngineEvent, GenerateOptions, OpenOptions, Request, Sampling, Work,
};
use crate::random::split_mix;
use crate::record::{
    GenerationPlan, Journal, MemoryScope, RecordError, RunFolder, Session, StoredCompletion, peak_memory,
    reset_peak_memory, utc_now,
};
use crate::score::Extraction;

/// How one precision ended.
pub(super) enum End {
    /// Every completion is there.
    Complete,
    /// The user broke off; what is done is kept.
    Interrupted,
    /// Its engine failed; what is done is kept.
    Failed(RunError),
}

/// What every precision's generation reads.
pub(super) struct Task<'a> {
    /// How each precision's engine is opened; the precision in it is put in its place.
    pub(super) open: OpenOptions,
    /// Sampling and limits.
    pub(super) generation: &'a GenerationPlan,
    /// Keep every token's logit margin.
    pub(super) margins: bool,
    /// The files that a precision is loaded from.
    pub(super) model_in: &'a dyn Fn(Dtype) -> Arc<ModelSource>,
    /// What the rules make of a completion's text, given the sample's answer.
    pub(super) score: &'a dyn Fn(&str, &str) -> Vec<Extraction>,
    /// In row order.
    pub(super) prepared: &'a [Prepared],
    /// Where completions go.
    pub(super) folder: &'a RunFolder,
}

/// A completion that is still missing.
#[derive(Clone, Copy)]
struct Missing<'a> {
    prepared: &'a Prepared,
    repeat: usize,
}

/// Generates what a precision's journal lacks.
pub(super) fn generate(task: &Task, dtype: Dtype, surroundings: &mut Surroundings) -> Result<End, RunError> {
    let (mut journal, done) = task.folder.journal(dtype)?;
    let missing = missing(task, &done, dtype)?;
    if missing.is_empty() {
        return Ok(End::Complete);
    }
    let scope = reset_peak_memory();
    (surroundings.tell)(Event::Loading(dtype));
    let mut engine = match (surroundings.open_engine)(&(task.model_in)(dtype), &OpenOptions { dtype, ..task.open }) {
        Ok(engine) => engine,
        Err(error) => return Ok(End::Failed(error.into())),
    };
    (surroundings.tell)(Event::Loaded(engine.info().clone()));
    let sessions = begin_session(task.folder, dtype, engine.info())?;
    let mut session = Generation {
        task,
        dtype,
        missing: &missing,
        journal: &mut journal,
        session: sessions.len() - 1,
        begun: Instant::now(),
        done_before: done.len(),
        done_now: 0,
        output_tokens: 0,
        running: 0,
    };
    let ended = session.run(engine.as_mut(), surroundings);
    let generate_seconds = session.begun.elapsed().as_secs_f64();
    journal.sync()?;
    end_session(task.folder, dtype, sessions, generate_seconds, scope)?;
    (surroundings.tell)(Event::Ended(dtype));
    ended
}

/// What the journal lacks, by sample and repeat. What it has must belong to these very prompts.
fn missing<'a>(task: &Task<'a>, done: &[StoredCompletion], dtype: Dtype) -> Result<Vec<Missing<'a>>, RunError> {
    let repeats = task.generation.repeats;
    let mut seen = HashSet::new();
    for stored in done {
        let position = task.prepared.binary_search_by_key(&stored.sample, |prepared| prepared.sample);
        let prepared = position.ok().and_then(|position| task.prepared.get(position));
        let belongs = prepared.is_some_and(|prepared| prepared.prompt_sha256 == stored.prompt_sha256);
        if !belongs || stored.repeat >= repeats || !seen.insert((stored.sample, stored.repeat)) {
            return Err(RecordError::invalid(
                format!(
                    "{}: the {dtype} journal's completion of sample {}, repeat {} is not one of this run, or is there \
                     twice",
                    task.folder.path().display(),
                    stored.sample,
                    stored.repeat
                ),
                "the journal or a prompt was changed; start a new run",
            )
            .into());
        }
    }
    let all = task.prepared.iter().flat_map(|prepared| (0..repeats).map(move |repeat| Missing { prepared, repeat }));
    Ok(all.filter(|one| !seen.contains(&(one.prepared.sample, one.repeat))).collect())
}

/// Adds a session to the folder, unless its engine is another than the run began with.
fn begin_session(folder: &RunFolder, dtype: Dtype, engine: &EngineInfo) -> Result<Vec<Session>, RunError> {
    let mut sessions = folder.sessions(dtype)?;
    if let Some(first) = sessions.first()
        && (&first.engine.name, &first.engine.version) != (&engine.name, &engine.version)
    {
        return Err(RecordError::invalid(
            format!(
                "the {dtype} run in {} was begun by the engine {} {} and would go on with {} {}",
                folder.path().display(),
                first.engine.name,
                first.engine.version,
                engine.name,
                engine.version
            ),
            format!("give `--engine {}`, or leave `--resume` out for a new run", first.engine.name),
        )
        .into());
    }
    sessions.push(Session {
        started: utc_now(),
        engine: engine.clone(),
        threads: rayon::current_num_threads(),
        generate_seconds: None,
        peak_memory: None,
    });
    folder.write_sessions(dtype, &sessions)?;
    Ok(sessions)
}

fn end_session(
    folder: &RunFolder,
    dtype: Dtype,
    mut sessions: Vec<Session>,
    generate_seconds: f64,
    scope: MemoryScope,
) -> Result<(), RunError> {
    if let Some(session) = sessions.last_mut() {
        session.generate_seconds = Some(generate_seconds);
        session.peak_memory = peak_memory(scope);
    }
    Ok(folder.write_sessions(dtype, &sessions)?)
}

/// One engine's way through the missing completions.
struct Generation<'a> {
    task: &'a Task<'a>,
    dtype: Dtype,
    missing: &'a [Missing<'a>],
    journal: &'a mut Journal,
    session: usize,
    begun: Instant,
    done_before: usize,
    done_now: usize,
    output_tokens: u64,
    running: usize,
}

impl Generation<'_> {
    fn run(&mut self, engine: &mut dyn Engine, surroundings: &mut Surroundings) -> Result<End, RunError> {
        let requests = requests(self.task, self.missing);
        let mut broken: Option<RunError> = None;
        let result = engine.run(requests, &mut |event| {
            if let Err(error) = self.take(event) {
                broken = Some(error);
                return ControlFlow::Break(());
            }
            (surroundings.tell)(Event::Progress(self.progress()));
            if surroundings.interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Some(error) = broken {
            return Err(error);
        }
        if let Err(error) = result {
            return Ok(End::Failed(error.into()));
        }
        if self.done_now == self.missing.len() {
            return Ok(End::Complete);
        }
        if surroundings.interrupted.load(Ordering::Relaxed) {
            return Ok(End::Interrupted);
        }
        let info = engine.info();
        Ok(End::Failed(
            crate::engine::EngineError::failed(
                format!(
                    "the engine {} {} ended after {} of {} requests without saying why",
                    info.name,
                    info.version,
                    self.done_now,
                    self.missing.len()
                ),
                "give the same command with `--resume`; if it happens again, another `--engine`",
            )
            .into(),
        ))
    }

    fn take(&mut self, event: EngineEvent) -> Result<(), RunError> {
        match event {
            EngineEvent::Step { running, output_tokens } => {
                self.running = running;
                self.output_tokens = output_tokens;
                self.journal.sync()?;
            }
            EngineEvent::Completed(completion) => {
                let stored = self.store(completion)?;
                self.journal.append(&stored)?;
                self.done_now += 1;
            }
        }
        Ok(())
    }

    fn store(&self, completion: Completion) -> Result<StoredCompletion, RunError> {
        let Some(Missing { prepared, repeat }) = self.missing.get(completion.request) else {
            return Err(crate::engine::EngineError::failed(
                format!("the engine completed request {}, which it was never given", completion.request),
                "this is a fault of the engine; choose another with `--engine`",
            )
            .into());
        };
        Ok(StoredCompletion {
            sample: prepared.sample,
            repeat: *repeat,
            prompt_sha256: prepared.prompt_sha256.clone(),
            prompt_tokens: prepared.prompt.token_ids.len(),
            scores: (self.task.score)(&completion.text, &prepared.answer),
            margins: completion.details.iter().map(|detail| detail.margin).collect(),
            token_ids: completion.token_ids,
            text: completion.text,
            finish: completion.finish,
            timings: completion.timings,
            session: self.session,
            at_seconds: self.begun.elapsed().as_secs_f64(),
        })
    }

    fn progress(&self) -> Progress {
        Progress {
            dtype: self.dtype,
            completed: self.done_before + self.done_now,
            completed_now: self.done_now,
            total: self.done_before + self.missing.len(),
            running: self.running,
            output_tokens: self.output_tokens,
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }
}

/// One request a missing completion; its id is the position in the list.
fn requests(task: &Task, missing: &[Missing]) -> Vec<Request> {
    let generation = task.generation;
    let stop_strings: Arc<[String]> = generation.stop_strings.iter().cloned().collect();
    let request = |(id, one): (usize, &Missing)| Request {
        id,
        prompt: Arc::clone(&one.prepared.prompt),
        work: Work::Generate(GenerateOptions {
            max_tokens: generation.max_tokens,
            stop_strings: Arc::clone(&stop_strings),
            sampling: Sampling {
                temperature: generation.temperature,
                top_p: generation.top_p,
                top_k: generation.top_k,
                seed: request_seed(generation.seed, one.prepared.sample, one.repeat),
            },
            details: task.margins,
            ..GenerateOptions::default()
        }),
    };
    missing.iter().enumerate().map(request).collect()
}

/// A request's seed: by row and repeat, so that neither `--limit` nor the order of work changes an answer.
fn request_seed(seed: u64, sample: usize, repeat: usize) -> u64 {
    split_mix(split_mix(split_mix(seed) ^ sample as u64) ^ repeat as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_of_a_run_has_its_own_seed() {
        let seeds: HashSet<u64> =
            (0..2000).flat_map(|sample| (0..8).map(move |repeat| request_seed(0, sample, repeat))).collect();
        assert_eq!(seeds.len(), 16_000);
        assert_ne!(request_seed(0, 1, 0), request_seed(1, 1, 0));
    }
}
