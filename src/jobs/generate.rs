//! Generate: one variant after the other through an engine, every completion to the journal's writer as it ends.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use super::context::Failures;
use super::each::{End, each_variant};
use super::estimate::Ahead;
use super::remaining::Remaining;
use super::thoughts::thought_marks;
use super::writer::{Emitted, Missing, Score, Writer};
use super::{Event, JobContext, JobError, Prepared, Progress, Target, Variant, Variants};
use crate::engine::{Engine, EngineError, EngineInfo, Event as EngineEvent, GenerateOptions, Request, Sampling, Work};
use crate::random::split_mix;
use crate::record::{
    DeviceMemory, FailedRequest, GenerationPlan, RecordError, RunFolder, Session, StoredCompletion, VariantName,
    peak_memory, reset_peak_memory, utc_now,
};
use crate::system::ProcessorClock;

/// What every variant's generation reads.
pub(super) struct Task<'a> {
    /// What is run.
    pub(super) target: &'a Target,
    /// Sampling and limits.
    pub(super) generation: &'a GenerationPlan,
    /// Keep every token's logit margin.
    pub(super) margins: bool,
    /// What the rules make of a completion.
    pub(super) score: &'a Score<'a>,
    /// In row order.
    pub(super) prepared: &'a [Prepared],
    /// Where completions go.
    pub(super) folder: &'a RunFolder,
}

/// Generates what every variant's journal lacks: whether the user broke off, and which variants failed.
pub(super) fn generate(
    task: &Task,
    variants: &Variants,
    context: &mut JobContext,
) -> Result<(bool, Failures), JobError> {
    each_variant(variants, context, |variant, context| generate_variant(task, variants, variant, context))
}

fn generate_variant(
    task: &Task,
    variants: &Variants,
    variant: &Variant,
    context: &mut JobContext,
) -> Result<End, JobError> {
    let name = &variant.name;
    let (mut journal, done) = task.folder.journal(name)?;
    let missing = missing(task, &done, name)?;
    if missing.is_empty() {
        return Ok(End::Complete);
    }
    let scope = reset_peak_memory();
    let busy = ProcessorClock::now();
    (context.emit)(Event::Loading { variant: name.clone(), repetition: 1, repetitions: 1 });
    let mut engine = match (context.open_engine)(variant, task.target) {
        Ok(engine) => engine,
        Err(error) => return Ok(End::Failed(error.into())),
    };
    (context.emit)(Event::Loaded { variant: name.clone(), engine: engine.info().clone(), first_token: None });
    let (mut sessions, begun) = begin_session(task.folder, name, engine.info())?;
    let Task { generation, prepared, folder, .. } = *task;
    let ahead = Ahead { generation, prepared, folder, variants, variant, missing: &missing };
    let lengths = ahead.lengths()?;
    if let Some(estimate) = ahead.estimate(&lengths, engine.as_mut(), context.interrupted)? {
        (context.emit)(Event::Estimate(estimate));
    }
    let mut generation = Generation {
        task,
        variant: name,
        missing: &missing,
        begun: Instant::now(),
        done_before: done.len(),
        done_now: 0,
        output_tokens: 0,
        running: 0,
        cache_bytes: None,
        most_cache_bytes: 0,
        failed: Vec::new(),
        remaining: Remaining::new(lengths, missing.len()),
    };
    let writer = Writer {
        missing: &missing,
        score: task.score,
        thoughts: thought_marks(task.generation.think_end.as_deref()),
        journal: &mut journal,
        session: sessions.len(),
    };
    let ran = generation.run_beside(writer, engine.as_mut(), context)?;
    let measured = Session {
        generate_seconds: Some(ran.generate_seconds),
        written_seconds: Some(ran.written_seconds),
        others_busy: busy.others_since(),
        // An endpoint's memory is elsewhere.
        peak_memory: if engine.info().dtype.is_some() { peak_memory(scope) } else { None },
        failed: std::mem::take(&mut generation.failed),
        device_memory: DeviceMemory::of(engine.info(), generation.most_cache_bytes),
        ..begun
    };
    sessions.push(measured);
    let closed = task.folder.write_sessions(name, &sessions);
    (context.emit)(Event::Ended(name.clone()));
    // A full disk fails both; of the two, the journal is what the user's answers are in.
    ran.written.and(closed.map_err(JobError::from))?;
    Ok(ran.end)
}

/// What the journal lacks, by sample and repeat. What it has must belong to these very prompts.
fn missing<'a>(
    task: &Task<'a>,
    done: &[StoredCompletion],
    variant: &VariantName,
) -> Result<Vec<Missing<'a>>, JobError> {
    let repeats = task.generation.repeats;
    let mut seen = HashSet::new();
    for stored in done {
        let position = task.prepared.binary_search_by_key(&stored.sample, |prepared| prepared.sample);
        let prepared = position.ok().and_then(|position| task.prepared.get(position));
        let belongs = prepared.is_some_and(|prepared| prepared.prompt_sha256 == stored.prompt_sha256);
        // Journals of earlier versions do not name them.
        let has_other_tokens = |prepared: &Prepared| {
            stored.prompt_ids_sha256.is_some() && stored.prompt_ids_sha256 != prepared.prompt_ids_sha256
        };
        if belongs && prepared.is_some_and(has_other_tokens) {
            return Err(RecordError::invalid(
                format!(
                    "{}: the prompt of sample {} has other tokens now than when the {variant} journal was begun",
                    task.folder.path().display(),
                    stored.sample
                ),
                "the model's tokenizer, or the version of evalsuite, is another one; go on with those of before, or start a new run",
            )
            .into());
        }
        if !belongs || stored.repeat >= repeats || !seen.insert((stored.sample, stored.repeat)) {
            return Err(RecordError::invalid(
                format!(
                    "{}: the {variant} journal's completion of sample {}, repeat {} is not one of this run, or is there \
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

/// Adds a session to the folder, unless its engine is another than the run began with: those before it, and it.
fn begin_session(
    folder: &RunFolder,
    variant: &VariantName,
    engine: &EngineInfo,
) -> Result<(Vec<Session>, Session), JobError> {
    let sessions = folder.sessions(variant)?;
    // What a run does not note, as those of earlier versions, cannot differ.
    let differs = |first: &EngineInfo| {
        (&first.name, &first.version) != (&engine.name, &engine.version)
            || first.arithmetic.is_some() && first.arithmetic != engine.arithmetic
    };
    if let Some(first) = sessions.first().map(|session| &session.engine).filter(|first| differs(first)) {
        let in_words = |info: &EngineInfo| {
            let on = info.arithmetic.as_ref().map(|what| format!(" on {what}")).unwrap_or_default();
            format!("{} {}{on}", info.name, info.version)
        };
        return Err(RecordError::invalid(
            format!(
                "the {variant} run in {} was begun by the engine {} and would go on with {}",
                folder.path().display(),
                in_words(first),
                in_words(engine)
            ),
            format!(
                "give `--engine {}` on such a machine, or leave `--resume` out for a new run: one run is one arithmetic",
                first.name
            ),
        )
        .into());
    }
    let begun = Session {
        started: utc_now(),
        engine: engine.clone(),
        threads: rayon::current_num_threads(),
        generate_seconds: None,
        written_seconds: None,
        others_busy: None,
        peak_memory: None,
        device_memory: None,
        failed: Vec::new(),
    };
    folder.write_sessions(variant, &[&sessions[..], std::slice::from_ref(&begun)].concat())?;
    Ok((sessions, begun))
}

/// One engine's way through the missing completions.
struct Generation<'a> {
    task: &'a Task<'a>,
    variant: &'a VariantName,
    missing: &'a [Missing<'a>],
    begun: Instant,
    done_before: usize,
    done_now: usize,
    output_tokens: u64,
    running: usize,
    cache_bytes: Option<u64>,
    most_cache_bytes: u64,
    failed: Vec<FailedRequest>,
    remaining: Remaining,
}

/// How an engine ended.
struct Ran {
    end: End,
    /// Until it had emitted its last completion.
    generate_seconds: f64,
    /// Until the writer was through.
    written_seconds: f64,
    /// Whether everything that was emitted is on the disk.
    written: Result<(), JobError>,
}

impl Generation<'_> {
    /// Runs the engine with the writer beside it. The writer is through with all that was emitted, whatever ended the engine.
    fn run_beside(
        &mut self,
        writer: Writer,
        engine: &mut dyn Engine,
        context: &mut JobContext,
    ) -> Result<Ran, JobError> {
        // Without a bound, for the job is one: its record will read all its completions back at once.
        let (sender, emitted) = channel();
        thread::scope(|scope| {
            let writer = thread::Builder::new().spawn_scoped(scope, move || writer.run(&emitted)).map_err(|error| {
                JobError::invalid(
                    format!("cannot start the thread that writes the journal: {error}"),
                    "end other programs, or raise the limit of threads (`ulimit -u`)",
                )
            })?;
            let end = self.run(engine, context, sender, &|| writer.is_finished());
            let generate_seconds = self.begun.elapsed().as_secs_f64();
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Ran { end, generate_seconds, written_seconds: self.begun.elapsed().as_secs_f64(), written })
        })
    }

    /// Runs the engine until it is done, the user breaks off, or there is nobody left to write its completions down.
    fn run(
        &mut self,
        engine: &mut dyn Engine,
        context: &mut JobContext,
        sender: Sender<Emitted>,
        writer_ended: &dyn Fn() -> bool,
    ) -> End {
        let result = engine.run(requests(self.task, self.missing), &mut |event| {
            match event {
                EngineEvent::Step { running, new_tokens, cache_bytes } => {
                    self.running = running;
                    self.output_tokens += new_tokens;
                    self.cache_bytes = cache_bytes;
                    self.remaining.step(running, new_tokens, self.begun.elapsed().as_secs_f64());
                    self.most_cache_bytes = self.most_cache_bytes.max(cache_bytes.unwrap_or_default());
                }
                EngineEvent::Completed(completion) => {
                    self.done_now += 1;
                    let tokens =
                        completion.server.map_or(Some(completion.token_ids.len()), |counts| counts.output_tokens);
                    self.remaining.complete(completion.request, tokens.unwrap_or_default());
                    // Refused only after the writer's end, and that is asked for below.
                    let _ = sender.send(Emitted { completion, at_seconds: self.begun.elapsed().as_secs_f64() });
                }
                EngineEvent::Note(note) => (context.emit)(Event::Note(format!("{}: {note}", self.variant))),
                EngineEvent::Failed { request, error } => self.fail(request, &error),
                EngineEvent::Token(_) => (), // not asked for
            }
            (context.emit)(Event::Progress(self.progress()));
            if writer_ended() || context.interrupted.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        // The writer takes this as the end.
        drop(sender);
        if let Err(error) = result {
            return End::Failed(error.into());
        }
        if self.done_now == self.missing.len() {
            return End::Complete;
        }
        if context.interrupted.load(Ordering::Relaxed) {
            return End::Interrupted;
        }
        let info = engine.info();
        let (name, version, done, all) = (&info.name, &info.version, self.done_now, self.missing.len());
        let error = EngineError::failed(
            format!("the engine {name} {version} ended after {done} of {all} requests without saying why"),
            "give the same command with `--resume`; if it happens again, another `--engine`",
        );
        End::Failed(error.into())
    }

    fn fail(&mut self, request: usize, error: &EngineError) {
        let Some(Missing { prepared, repeat }) = self.missing.get(request) else { return };
        let why = error.to_string();
        let why = why.split("\nhint: ").next().unwrap_or_default().to_owned();
        self.failed.push(FailedRequest { sample: prepared.sample, repeat: *repeat, why });
    }

    fn progress(&self) -> Progress {
        Progress {
            variant: self.variant.clone(),
            part: None,
            completed: self.done_before + self.done_now,
            completed_now: self.done_now,
            total: self.done_before + self.missing.len(),
            running: self.running,
            cache_bytes: self.cache_bytes,
            output_tokens: self.output_tokens,
            expected_tokens: None,
            seconds: self.begun.elapsed().as_secs_f64(),
            remaining_seconds: self.remaining.seconds(),
        }
    }
}

/// One request a missing completion; its id is the position in the list.
fn requests(task: &Task, missing: &[Missing]) -> Vec<Request> {
    let generation = task.generation;
    let stop_strings: Arc<[String]> = generation.stop_strings.iter().cloned().collect();
    let thoughts = Arc::new(thought_marks(generation.think_end.as_deref()));
    let request = |(id, one): (usize, &Missing)| Request {
        id,
        prompt: Arc::clone(&one.prepared.prompt),
        work: Work::Generate(GenerateOptions {
            max_tokens: generation.max_tokens,
            stop_strings: Arc::clone(&stop_strings),
            thoughts: Arc::clone(&thoughts),
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
