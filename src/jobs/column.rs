//! One variant's engine with the journal behind it: opened once, asked for completions, all at once or some after others, and closed.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Instant;

use super::each::End;
use super::remaining::Remaining;
use super::thoughts::thought_marks;
use super::writer::{Emitted, Missing, Score, Writer};
use super::{Event, JobContext, JobError, OnGpuFailure, PlaceboPlan, Prepared, Progress, Target, Variant, gpu_failure};
use crate::engine::{
    Engine, EngineError, EngineInfo, Event as EngineEvent, GenerateOptions, Precision, Request, Sampling, Work,
};
use crate::random::split_mix;
use crate::record::{
    DeviceMemory, FailedRequest, GenerationPlan, Journal, MemoryScope, RecordError, RunFolder, Session,
    StoredCompletion, VariantName, peak_memory, read_journal, reset_peak_memory, utc_now,
};
use crate::system::ProcessorClock;

/// What every variant's generation reads.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    /// What is run.
    pub(super) target: &'a Target,
    /// Sampling and limits.
    pub(super) generation: &'a GenerationPlan,
    /// Keep every token's logit margin.
    pub(super) margins: bool,
    /// What the rules make of a completion.
    pub(super) score: &'a Score<'a>,
    /// Variants that should not matter, with what they change.
    pub(super) placebos: &'a [PlaceboPlan],
    /// In row order.
    pub(super) prepared: &'a [Prepared],
    /// Where completions go.
    pub(super) folder: &'a RunFolder,
}

/// A variant's engine, and where its completions go.
pub(super) struct Column<'a> {
    task: &'a Task<'a>,
    variant: &'a Variant,
    engine: Box<dyn Engine>,
    journal: Journal,
    /// Those before this one.
    sessions: Vec<Session>,
    session: Session,
    scope: MemoryScope,
    busy: ProcessorClock,
    tally: Tally,
}

/// What a session has come to so far.
#[derive(Default)]
struct Tally {
    done_before: usize,
    done_now: usize,
    output_tokens: u64,
    /// Of generating, until the engine had emitted its last completion.
    seconds: f64,
    /// Until the writer was through.
    written_seconds: f64,
    most_cache_bytes: u64,
    /// That the devices used while the engine generated.
    joules: Option<f64>,
    failed: Vec<FailedRequest>,
}

impl<'a> Column<'a> {
    /// Opens the engine and begins a session behind a journal of so many completions; the inner error is the engine's own, which leaves
    /// other variants alone.
    pub(super) fn open(
        task: &'a Task<'a>,
        variant: &'a Variant,
        journal: Journal,
        done_before: usize,
        context: &mut JobContext,
    ) -> Result<Result<Self, EngineError>, JobError> {
        let name = &variant.name;
        let scope = reset_peak_memory();
        let busy = ProcessorClock::now();
        (context.emit)(Event::Loading { variant: name.clone(), repetition: 1, repetitions: 1 });
        let engine = match (context.open_engine)(variant, task.target) {
            Ok(engine) => engine,
            Err(error) => return Ok(Err(error)),
        };
        (context.emit)(Event::Loaded { variant: name.clone(), engine: engine.info().clone(), first_token: None });
        let sessions = task.folder.sessions(name)?;
        if let Some(first) = sessions.first() {
            same_engine(task.folder.path(), name, &first.engine, engine.info())?;
        }
        let session = begin_session(task.folder, name, &sessions, engine.info())?;
        let tally = Tally { done_before, ..Tally::default() };
        Ok(Ok(Self { task, variant, engine, journal, sessions, session, scope, busy, tally }))
    }

    /// The engine, for a look at its speed.
    pub(super) fn engine(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    /// Requests that the engine advances at once.
    pub(super) fn batch(&self) -> usize {
        self.engine.info().batch
    }

    /// Peaks of memory are the whole process's: other engines are open beside this one.
    pub(super) const fn is_not_alone(&mut self) {
        self.scope = MemoryScope::Process;
    }

    /// Generates these completions, of which the journal has none. `remaining` tells how long that takes, where it is known. Where a GPU fails
    /// and the user wants so, the CPU goes on.
    pub(super) fn generate(
        &mut self,
        missing: &[Missing],
        remaining: Option<Remaining>,
        context: &mut JobContext,
    ) -> Result<End, JobError> {
        let end = self.generate_here(missing, remaining, context)?;
        let End::Failed(JobError::Engine(error)) = end else { return Ok(end) };
        let falls_back = self.task.target.on_gpu_failure == OnGpuFailure::Cpu;
        if !falls_back || !gpu_failure::is_one(self.engine.info(), &error) {
            return Ok(End::Failed(error.into()));
        }
        let journal = RunFolder::journal_path(self.task.folder.path(), &self.variant.name);
        let stored = read_journal(&journal)?.values;
        let answered: HashSet<(usize, usize)> = stored.iter().map(|one| (one.sample, one.repeat)).collect();
        let unanswered = |one: &&Missing| !answered.contains(&(one.prepared.sample, one.repeat));
        let left: Vec<Missing> = missing.iter().filter(unanswered).copied().collect();
        if let Err(error) = self.go_on_with_cpu(&error, left.len(), context)? {
            return Ok(End::Failed(error.into()));
        }
        self.generate_here(&left, None, context)
    }

    /// Ends the session of an engine that failed, and begins one on the CPU; the inner error is that engine's own.
    fn go_on_with_cpu(
        &mut self,
        failure: &EngineError,
        left: usize,
        context: &mut JobContext,
    ) -> Result<Result<(), EngineError>, JobError> {
        let name = &self.variant.name;
        let why = failure.to_string();
        let why = why.lines().next().unwrap_or_default();
        (context.emit)(Event::Note(format!(
            "{name}: {why}; the CPU goes on with {left} requests, which the record says"
        )));
        self.sessions.push(self.measured());
        self.tally = Tally { done_before: self.tally.done_before + self.tally.done_now, ..Tally::default() };
        let target = self.task.target.on_cpu();
        (context.emit)(Event::Loading { variant: name.clone(), repetition: 1, repetitions: 1 });
        self.engine = match (context.open_engine)(self.variant, &target) {
            Ok(engine) => engine,
            Err(error) => {
                // The failed engine's session is the last, and stands already.
                self.session = self.sessions.pop().unwrap_or_else(|| self.session.clone());
                return Ok(Err(error));
            }
        };
        (context.emit)(Event::Loaded { variant: name.clone(), engine: self.engine.info().clone(), first_token: None });
        self.session = begin_session(self.task.folder, name, &self.sessions, self.engine.info())?;
        self.busy = ProcessorClock::now();
        Ok(Ok(()))
    }

    fn generate_here(
        &mut self,
        missing: &[Missing],
        remaining: Option<Remaining>,
        context: &mut JobContext,
    ) -> Result<End, JobError> {
        let mut generation = Generation {
            task: self.task,
            variant: &self.variant.name,
            missing,
            begun: Instant::now(),
            tally: &mut self.tally,
            running: 0,
            cache_bytes: None,
            remaining,
        };
        let writer = Writer {
            missing,
            score: self.task.score,
            thoughts: thought_marks(self.task.generation.think_end.as_deref()),
            journal: &mut self.journal,
            session: self.sessions.len(),
            seconds_before: generation.tally.seconds,
        };
        let Ran { end, generate_seconds, joules, written_seconds, written } =
            generation.run_beside(writer, self.engine.as_mut(), context)?;
        self.tally.joules = joules.map(|joules| self.tally.joules.unwrap_or_default() + joules);
        self.tally.seconds += generate_seconds;
        self.tally.written_seconds += written_seconds;
        written.map(|()| end)
    }

    /// Writes down what the session came to, and lets the engine go.
    pub(super) fn close(self, context: &mut JobContext) -> Result<(), JobError> {
        let closed = self.write_session();
        (context.emit)(Event::Ended(self.variant.name.clone()));
        closed
    }

    /// The session as it was until now.
    fn measured(&self) -> Session {
        let Self { engine, session, scope, busy, tally, .. } = self;
        Session {
            generate_seconds: Some(tally.seconds),
            written_seconds: Some(tally.written_seconds),
            others_busy: busy.others_since(),
            // An endpoint's memory is elsewhere.
            peak_memory: if engine.info().dtype.is_some() { peak_memory(*scope) } else { None },
            joules: tally.joules,
            failed: tally.failed.clone(),
            device_memory: DeviceMemory::of(engine.info(), tally.most_cache_bytes),
            ..session.clone()
        }
    }

    fn write_session(&self) -> Result<(), JobError> {
        let all = [&self.sessions[..], &[self.measured()]].concat();
        Ok(self.task.folder.write_sessions(&self.variant.name, &all)?)
    }
}

/// What a variant's journal lacks, by sample and repeat. What it has, `done`, must belong to these very prompts.
pub(super) fn missing<'a>(
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

/// Adds a session to those that there are.
fn begin_session(
    folder: &RunFolder,
    variant: &VariantName,
    sessions: &[Session],
    engine: &EngineInfo,
) -> Result<Session, JobError> {
    let begun = Session {
        started: utc_now(),
        engine: engine.clone(),
        threads: rayon::current_num_threads(),
        generate_seconds: None,
        written_seconds: None,
        others_busy: None,
        peak_memory: None,
        device_memory: None,
        joules: None,
        failed: Vec::new(),
    };
    folder.write_sessions(variant, &[sessions, std::slice::from_ref(&begun)].concat())?;
    Ok(begun)
}

/// Refuses to go on with what another engine began at `place`.
pub(super) fn same_engine(
    place: &Path,
    variant: &VariantName,
    first: &EngineInfo,
    engine: &EngineInfo,
) -> Result<(), RecordError> {
    if first.computes_like(engine) {
        return Ok(());
    }
    let in_words = |info: &EngineInfo| {
        let on = info.arithmetic.as_ref().map(|what| format!(" on {what}")).unwrap_or_default();
        format!("{} {}{on}", info.name, info.version)
    };
    Err(RecordError::invalid(
        format!(
            "the {variant} run in {} was begun by the engine {} and would go on with {}",
            place.display(),
            in_words(first),
            in_words(engine)
        ),
        format!(
            "give `--engine {}` on such a machine, or leave `--resume` out for a new run: one run is one arithmetic",
            first.name
        ),
    ))
}

/// One engine's way through the missing completions.
struct Generation<'a> {
    task: &'a Task<'a>,
    variant: &'a VariantName,
    missing: &'a [Missing<'a>],
    begun: Instant,
    tally: &'a mut Tally,
    running: usize,
    cache_bytes: Option<u64>,
    remaining: Option<Remaining>,
}

/// How an engine ended.
struct Ran {
    end: End,
    /// Until it had emitted its last completion.
    generate_seconds: f64,
    /// That its devices used in these seconds, where they are counted.
    joules: Option<f64>,
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
            // The first look at the counter may start the driver's library: before the clock.
            let joules = engine.joules();
            self.begun = Instant::now();
            let end = self.run(engine, context, sender, &|| writer.is_finished());
            let generate_seconds = self.begun.elapsed().as_secs_f64();
            let joules = engine.joules().zip(joules).map(|(after, before)| after - before);
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(Ran { end, generate_seconds, joules, written_seconds: self.begun.elapsed().as_secs_f64(), written })
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
        let earlier = self.tally.done_now;
        let mut answered = vec![false; self.missing.len()];
        let completions = self.missing.iter().map(|one| (one.prepared, one.repeat));
        let requests = requests(self.task.generation, self.task.margins, completions);
        let result = engine.run(requests, &mut |event| {
            match event {
                EngineEvent::Step { running, new_tokens, cache_bytes } => {
                    self.running = running;
                    self.tally.output_tokens += new_tokens;
                    self.cache_bytes = cache_bytes;
                    if let Some(remaining) = &mut self.remaining {
                        remaining.step(running, new_tokens, self.begun.elapsed().as_secs_f64());
                    }
                    let most = &mut self.tally.most_cache_bytes;
                    *most = (*most).max(cache_bytes.unwrap_or_default());
                }
                EngineEvent::Completed(completion) => {
                    self.tally.done_now += 1;
                    if let Some(answered) = answered.get_mut(completion.request) {
                        *answered = true;
                    }
                    let tokens =
                        completion.server.map_or(Some(completion.token_ids.len()), |counts| counts.output_tokens);
                    if let Some(remaining) = &mut self.remaining {
                        remaining.complete(completion.request, tokens.unwrap_or_default());
                    }
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
            return End::Failed(self.located(error, engine.info(), &answered).into());
        }
        let done = self.tally.done_now - earlier;
        if done == self.missing.len() {
            return End::Complete;
        }
        if context.interrupted.load(Ordering::Relaxed) {
            return End::Interrupted;
        }
        let info = engine.info();
        let (name, version, all) = (&info.name, &info.version, self.missing.len());
        let error = EngineError::failed(
            format!("the engine {name} {version} ended after {done} of {all} requests without saying why"),
            "give the same command with `--resume`; if it happens again, another `--engine`",
        );
        End::Failed(error.into())
    }

    /// A GPU's failure, which is a step's, with the requests that it was computing; any other as it is.
    fn located(&self, error: EngineError, engine: &EngineInfo, answered: &[bool]) -> EngineError {
        if !gpu_failure::is_one(engine, &error) {
            return if engine.dtype == Some(Precision::F32) { error.in_f32() } else { error };
        }
        let mut open = self.missing.iter().zip(answered).filter(|(_, answered)| !**answered).map(|(one, _)| one);
        let Some(first) = open.next() else { return error };
        let (done, all, others) =
            (self.missing.len() - open.count() - 1, self.missing.len(), self.running.saturating_sub(1));
        let beside = if others > 0 { format!(" and {others} beside it") } else { String::new() };
        let repeat = if first.repeat > 0 { format!(", repeat {}", first.repeat) } else { String::new() };
        error.of(&format!("after {done} of {all} answers, at sample {}{repeat}{beside}", first.prepared.sample))
    }

    fn fail(&mut self, request: usize, error: &EngineError) {
        let Some(Missing { prepared, repeat }) = self.missing.get(request) else { return };
        let why = error.to_string();
        let why = why.split("\nhint: ").next().unwrap_or_default().to_owned();
        self.tally.failed.push(FailedRequest { sample: prepared.sample, repeat: *repeat, why });
    }

    fn progress(&self) -> Progress {
        Progress {
            variant: self.variant.clone(),
            part: None,
            completed: self.tally.done_before + self.tally.done_now,
            completed_now: self.tally.done_now,
            total: self.task.prepared.len() * self.task.generation.repeats,
            running: self.running,
            cache_bytes: self.cache_bytes,
            output_tokens: self.tally.output_tokens,
            expected_tokens: None,
            seconds: self.tally.seconds + self.begun.elapsed().as_secs_f64(),
            remaining_seconds: self.remaining.as_ref().and_then(Remaining::seconds),
        }
    }
}

/// One request a completion, of a prompt and a repeat; its id is the position in the list. `details` asks for every token's margin.
pub(super) fn requests<'a>(
    generation: &GenerationPlan,
    details: bool,
    completions: impl Iterator<Item = (&'a Prepared, usize)>,
) -> Vec<Request> {
    let stop_strings: Arc<[String]> = generation.stop_strings.iter().cloned().collect();
    let thoughts = Arc::new(thought_marks(generation.think_end.as_deref()));
    let request = |(id, (prepared, repeat)): (usize, (&Prepared, usize))| Request {
        id,
        prompt: Arc::clone(&prepared.prompt),
        work: Work::Generate(GenerateOptions {
            max_tokens: generation.max_tokens,
            stop_strings: Arc::clone(&stop_strings),
            thoughts: Arc::clone(&thoughts),
            sampling: Sampling {
                temperature: generation.temperature,
                top_p: generation.top_p,
                top_k: generation.top_k,
                seed: request_seed(generation.seed, prepared.sample, repeat),
            },
            details,
            ..GenerateOptions::default()
        }),
    };
    completions.enumerate().map(request).collect()
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
