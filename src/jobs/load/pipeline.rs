//! The file that knows every stage: load → send, level by level → record → report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tokio::runtime::Runtime;

use super::cache::watch;
use super::prompts::Prompts;
use super::questions::Questions;
use super::{
    Distribution, LOAD_FORMAT, LevelFigures, LevelPlan, LevelRecord, LoadJob, LoadPlan, LoadRecord, RequestRecord, Slo,
    VariantLoad, load_peers, render_load, timeline,
};
use crate::engine::{EngineHandle, EngineInfo, HandleOptions};
use crate::hub::Hub;
use crate::jobs::each::{End, each_variant};
use crate::jobs::requests::{Driven, Level, Served, Source as _, drive, start};
use crate::jobs::{Event, Failures, JobContext, JobError, Model, Progress, Variant, check_destination};
use crate::record::{Invocation, Machine, TargetPlan, VariantName, utc_now};

/// How a load test ended.
#[derive(Debug)]
pub struct LoadFinished {
    /// What was measured.
    pub record: LoadRecord,
    /// The report of it in the job's format.
    pub report: String,
    /// Variants that did not finish, and why.
    pub failures: Failures,
}

/// Runs a job.
pub fn execute(job: &LoadJob, hub: &Hub, context: &mut JobContext) -> Result<LoadFinished, JobError> {
    check_destination(job.out.as_deref(), "load.json")?;
    job.target.check_devices()?;
    let invocation = Invocation::now(&job.command);
    let mut notes = Vec::new();
    let (prompts, checkpoints) = Prompts::open(job, hub, &mut notes)?;
    let prompts = Arc::new(prompts);
    let variants = checkpoints.variants(&job.target, &job.command)?;
    notes.extend(checkpoints.notes.iter().cloned());
    notes.extend(variants.notes());
    let model = variants.model_name();
    let peers = job.vs.as_deref().map(|path| load_peers(path, model)).transpose()?.unwrap_or_default();
    if let Some(path) =
        job.vs.as_deref().filter(|_| !peers.iter().any(|peer| job.levels.iter().any(|it| peer.at(it).is_some())))
    {
        notes.push(format!("{} has no load test of {model} at these levels", path.display()));
    }
    for note in &notes {
        (context.emit)(Event::Note(note.clone()));
    }
    let plan = plan(job, &prompts);
    let mut told = Told { target: variants.plan()?, prompts: prompts.in_words(), notes };
    let mut all = Vec::new();
    let (interrupted, failures) = each_variant(&variants, context, |variant, context| {
        let mut load = VariantLoad { dtype: variant.name.clone(), engine: None, failure: None, levels: Vec::new() };
        let end = run_variant(job, variant, &prompts, &mut load, &mut told, context);
        let end = end.unwrap_or_else(End::Failed);
        if let End::Failed(error) = &end {
            load.failure = Some(error.to_string());
        }
        all.push(load);
        Ok(end)
    })?;
    let Told { target, prompts: in_words, mut notes } = told;
    let plan = LoadPlan { prompts: in_words, ..plan };
    notes.extend(findings(&all, &job.slo));
    let record = LoadRecord {
        load_format: LOAD_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        target,
        plan,
        complete: !interrupted && failures.is_empty(),
        interrupted,
        notes,
        variants: all,
        peers,
    };
    let report = render_load(&record, &job.format)?;
    Ok(LoadFinished { record, report, failures })
}

fn plan(job: &LoadJob, prompts: &Prompts) -> LoadPlan {
    LoadPlan {
        levels: job.levels.clone(),
        requests: prompts.count().or(job.requests),
        duration_seconds: job.duration_seconds,
        prompts: prompts.in_words(),
        prompts_sha256: prompts.sha256.clone(),
        max_tokens: prompts.questions().map_or(job.max_tokens, Questions::max_tokens),
        exact_lengths: job.prompts.are_exact(),
        warm_up: job.warm_up,
        slo: job.slo,
        seed: job.seed,
        decoding: "greedy".to_owned(),
    }
}

/// What is learnt while variants run.
struct Told {
    /// With what endpoints are really sent.
    target: TargetPlan,
    /// The prompts in words.
    prompts: String,
    notes: Vec<String>,
}

fn run_variant(
    job: &LoadJob,
    variant: &Variant,
    prompts: &Arc<Prompts>,
    load: &mut VariantLoad,
    told: &mut Told,
    context: &mut JobContext,
) -> Result<End, JobError> {
    let runtime = start()?;
    (context.emit)(Event::Loading { variant: variant.name.clone(), repetition: 1, repetitions: 1 });
    let (mut served, engine) = serve(job, variant, context)?;
    (context.emit)(Event::Loaded { variant: variant.name.clone(), engine: engine.clone(), first_token: None });
    load.engine = Some(engine);
    // What a server refuses is learnt before anything is measured: a load test sends nothing again in silence.
    let (text, first) = (prompts.as_text(), usize::MAX >> 33);
    let first_text = text.as_ref().map(|text| text.request(first, 0));
    let settled = served.settle(&prompts.request(first, 0), first_text.as_ref(), &runtime)?;
    for note in settled.notes {
        (context.emit)(Event::Note(note.clone()));
        told.notes.push(note);
    }
    let prompts = match text.filter(|_| settled.as_text) {
        Some(text) => Arc::new(text),
        None => Arc::clone(prompts),
    };
    if let Some(sent_as) = prompts.sent_as()
        && told.target.set_prompts_sent_as(&variant.name, sent_as)
    {
        told.prompts = prompts.in_words();
    }
    let served = Arc::new(served);
    for (index, plan) in job.levels.iter().enumerate() {
        let level = Level {
            plan: *plan,
            index,
            requests: prompts.count().or(job.requests).unwrap_or(usize::MAX),
            duration_seconds: job.duration_seconds.unwrap_or(f64::INFINITY),
            seed: job.seed,
            served: Arc::clone(&served),
            source: Arc::clone(&prompts) as _,
        };
        warm_up(job, &level, &runtime, context)?;
        let mut record = run_level(&level, variant, &runtime, job, context)?;
        record.score = prompts.questions().map(|questions| {
            let idle = load.levels.first().map(|idle: &LevelRecord| &*idle.requests);
            questions.level(&record.requests, record.figures.seconds, &job.slo, idle)
        });
        load.levels.push(record);
        if context.interrupted.load(Ordering::Relaxed) {
            runtime.shutdown_background();
            return Ok(End::Interrupted);
        }
    }
    Ok(End::Complete)
}

fn serve(job: &LoadJob, variant: &Variant, context: &mut JobContext) -> Result<(Served, EngineInfo), JobError> {
    if let Model::Endpoint(endpoint) = &variant.model {
        return Ok((Served::endpoint(endpoint)?, endpoint.info()));
    }
    let engine = (context.open_engine)(variant, &job.target)?;
    let info = engine.info().clone();
    Ok((Served::Engine(EngineHandle::spawn(engine, HandleOptions::default())?), info))
}

/// Requests that open connections and fill caches, as many at once as the level has users, and are not counted.
fn warm_up(job: &LoadJob, level: &Level, runtime: &Runtime, context: &mut JobContext) -> Result<(), JobError> {
    if job.warm_up == 0 {
        return Ok(());
    }
    let users = match level.plan {
        LevelPlan::Users { users } => users.min(job.warm_up),
        LevelPlan::Rate { .. } | LevelPlan::Trace => job.warm_up.min(16),
    };
    let level = Level {
        plan: LevelPlan::Users { users },
        // Other prompts than the level's.
        index: level.index + job.levels.len(),
        requests: job.warm_up,
        duration_seconds: f64::INFINITY,
        ..level.clone()
    };
    drive(&level, runtime, context.interrupted, &mut |_, _| ()).map(|_| ())
}

fn run_level(
    level: &Level,
    variant: &Variant,
    runtime: &Runtime,
    job: &LoadJob,
    context: &mut JobContext,
) -> Result<LevelRecord, JobError> {
    let (started, begun) = (utc_now(), Instant::now());
    let ended = AtomicBool::new(false);
    let total = if level.requests == usize::MAX { 0 } else { level.requests };
    let emit = &mut *context.emit;
    let interrupted = context.interrupted;
    let (driven, cache) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&level.served, runtime, &ended));
        let driven = drive(level, runtime, interrupted, &mut |sent, over| {
            emit(Event::Progress(progress(&variant.name, sent, over, total, begun.elapsed().as_secs_f64())));
        });
        ended.store(true, Ordering::Relaxed);
        let cache = watching.join().unwrap_or_default();
        driven.map(|driven| (driven, cache))
    })?;
    (context.emit)(Event::Ended(variant.name.clone()));
    let Driven { requests, gaps, abandoned } = driven;
    if abandoned > 0 {
        (context.emit)(Event::Note(format!("{abandoned} requests were in flight and are counted nowhere")));
    }
    Ok(LevelRecord {
        level: level.plan,
        started,
        figures: LevelFigures::of(&level.plan, &requests, &job.slo),
        score: None,
        chunk_gaps: Distribution::of(gaps.into_iter().map(f64::from)),
        timeline: timeline(&requests),
        cache,
        requests,
    })
}

fn progress(variant: &VariantName, sent: usize, over: usize, total: usize, seconds: f64) -> Progress {
    let left = total.saturating_sub(over) as f64;
    Progress {
        variant: variant.clone(),
        part: Some("load"),
        completed: over,
        completed_now: over,
        total: total.max(sent),
        running: sent.saturating_sub(over),
        cache_bytes: None,
        output_tokens: 0,
        expected_tokens: None,
        seconds,
        remaining_seconds: (over > 0 && total > 0).then(|| seconds / over as f64 * left),
    }
}

/// The client's own delay, from which a figure is no longer the server's.
const LAG_SECONDS: f64 = 1e-3;

/// What a reader must know to believe the figures.
fn findings(variants: &[VariantLoad], slo: &Slo) -> Vec<String> {
    let mut notes = Vec::new();
    for (variant, level) in variants.iter().flat_map(|one| one.levels.iter().map(move |level| (&one.dtype, level))) {
        let figures = &level.figures;
        let place = format!("{variant}, {}", level.level);
        if let Some(lag) = figures.lag.filter(|lag| lag.p99 > LAG_SECONDS) {
            notes.push(format!(
                "{place}: requests were sent up to {:.1} ms late (99 %: {:.1} ms): this client or its machine was too slow for the rate",
                lag.max * 1e3,
                lag.p99 * 1e3
            ));
        }
        let resent = level.requests.iter().filter(|one| one.resent).count();
        if resent > 0 {
            notes.push(format!(
                "{place}: {resent} requests met a connection that the server had closed without a word, and went out on a new one; their times \
                 count from the first"
            ));
        }
        if figures.wrong_lengths > 0 {
            notes.push(format!(
                "{place}: {} of {} answers have another number of tokens than asked for: the server does not heed `ignore_eos`",
                figures.wrong_lengths, figures.completed
            ));
        }
        let others: Vec<&RequestRecord> = level.requests.iter().filter(|one| one.has_another_prompt()).collect();
        if let Some(first) = others.first() {
            notes.push(format!(
                "{place}: {} of {} prompts have another number of tokens by the server's count than asked for, the first {} for {}",
                others.len(),
                figures.completed,
                first.prompt_tokens.unwrap_or_default(),
                first.asked_prompt_tokens.unwrap_or_default()
            ));
        }
        if figures.completed > 0 && figures.output_tokens_per_second.is_none() {
            notes.push(format!(
                "{place}: nobody counts the tokens: the server sends no usage, and no tokenizer is known (`--tokenizer`)"
            ));
        }
        if let LevelPlan::Users { users } = level.level
            && figures.most_in_flight < users
        {
            notes.push(format!(
                "{place}: {} requests were in flight at most: give more `--requests`",
                figures.most_in_flight
            ));
        }
        if !slo.is_none() && figures.ttft.is_none() && slo.ttft.is_some() && figures.completed > 0 {
            notes.push(format!("{place}: no time to a first token is known, so that no answer keeps its limit"));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::load::Arrivals;

    /// A level whose requests were sent so late, in seconds.
    fn notes(plan: LevelPlan, late: &[f64]) -> Vec<String> {
        let request = |late: &f64| RequestRecord {
            lag_seconds: *late,
            ttft_seconds: Some(0.1),
            latency_seconds: Some(1.0),
            output_tokens: Some(4),
            ..RequestRecord::default()
        };
        let requests: Vec<RequestRecord> = late.iter().map(request).collect();
        let level = LevelRecord {
            level: plan,
            started: String::new(),
            figures: LevelFigures::of(&plan, &requests, &Slo::default()),
            score: None,
            chunk_gaps: None,
            timeline: Vec::new(),
            cache: Vec::new(),
            requests,
        };
        let dtype = VariantName::parse("served").unwrap();
        findings(&[VariantLoad { dtype, engine: None, failure: None, levels: vec![level] }], &Slo::default())
    }

    #[test]
    fn a_late_client_is_told_where_one_in_a_hundred_is_late_by_a_millisecond() {
        let rate = LevelPlan::Rate { rate: 5.0, arrivals: Arrivals::Constant };
        let late = |share: usize, seconds: f64| [vec![seconds; share], vec![0.0; 1000 - share]].concat();
        assert_eq!(notes(rate, &late(5, 0.5)), Vec::<String>::new(), "five in a thousand");
        assert_eq!(notes(rate, &late(20, 0.0009)), Vec::<String>::new());
        let told = notes(rate, &late(20, 0.0011));
        assert!(told.len() == 1 && told[0].contains("sent up to 1.1 ms late (99 %: 1.1 ms)"), "{told:?}");
        // Users wait for their answers: nothing was planned.
        let told = notes(LevelPlan::Users { users: 20 }, &late(20, 0.5)[..20]);
        assert!(told.iter().all(|note| !note.contains("late")), "{told:?}");
    }

    #[test]
    fn what_is_left_takes_as_long_a_request_as_what_is_over() {
        let of = |sent, over, total| progress(&VariantName::parse("served").unwrap(), sent, over, total, 8.0);
        let some = of(6, 4, 10);
        assert_eq!((some.remaining_seconds, some.running, some.completed, some.total), (Some(12.0), 2, 4, 10));
        assert_eq!((of(6, 4, 0).remaining_seconds, of(6, 4, 0).total, of(1, 0, 10).remaining_seconds), (None, 6, None));
    }

    #[test]
    fn fewer_requests_in_flight_than_users_are_told() {
        let told = notes(LevelPlan::Users { users: 3 }, &[0.0; 2]);
        assert!(told.len() == 1 && told[0].contains("2 requests were in flight at most"), "{told:?}");
        assert_eq!(notes(LevelPlan::Users { users: 2 }, &[0.0; 2]), Vec::<String>::new());
    }
}
