//! The file that knows every stage: open → settle → checks → precision → record → report.

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Builder;

use super::against;
use super::ask::Asker;
use super::check::{Found, Unasked, Verdict};
use super::checks::CHECKS;
use super::job::EndpointProbeJob;
use super::precision::PrecisionFinding;
use super::record::{CheckRecord, EndpointProbeRecord, PROBE_FORMAT, ProbedEndpoint};
use super::view::render_endpoint_probe;
use crate::engine::model::ModelSource;
use crate::fault::Fault;
use crate::hub::Hub;
use crate::jobs::{Endpoint, Event, JobContext, JobError, Model, Progress, check_destination};
use crate::openai::{Api, Cause, Client, Refused, start_runtime};
use crate::record::{Invocation, Machine, VariantName, utc_now};

/// How a probe ended.
#[derive(Debug)]
pub struct EndpointProbeFinished {
    /// What was found.
    pub record: EndpointProbeRecord,
    /// The report of it in the job's format.
    pub report: String,
}

/// The checks that `--only` knows.
pub fn check_names() -> Vec<&'static str> {
    CHECKS.iter().map(|check| check.name).chain([against::NAME]).collect()
}

/// Runs a job.
pub fn execute(job: &EndpointProbeJob, hub: &Hub, context: &mut JobContext) -> Result<EndpointProbeFinished, JobError> {
    check_destination(job.out.as_deref(), "probe.json")?;
    check_only(job)?;
    let invocation = Invocation::now(&job.command);
    let source = job.model.as_ref().map(|spec| ModelSource::open(spec, hub).map(Arc::new)).transpose()?;
    let own = source.as_ref().map(|source| (Arc::clone(&source.tokenizer), source.source.clone()));
    let endpoint = Endpoint::open(std::slice::from_ref(&job.address), &job.settings, own, hub)?;
    let mut asker = open(job, &endpoint, context)?;
    settle(&mut asker, job)?;
    let begun = Instant::now();
    let chosen = |name: &str| job.only.is_empty() || job.only.iter().any(|only| only == name);
    let total = check_names().into_iter().filter(|name| chosen(name)).count();
    let mut checks = Vec::new();
    for check in CHECKS.iter().filter(|check| chosen(check.name)) {
        asker.check = check.name;
        let found = if asker.is_interrupted() { Err(interrupted()) } else { (check.run)(&mut asker) };
        checks.push(record(check.name, check.asks, found));
        (context.emit)(Event::Progress(progress(checks.len(), total, begun.elapsed().as_secs_f64())?));
    }
    let mut precision = None;
    if chosen(against::NAME) {
        asker.check = against::NAME;
        let found = held(&mut asker, source.as_ref(), &mut precision);
        checks.push(record(against::NAME, against::ASKS, found));
        (context.emit)(Event::Progress(progress(checks.len(), total, begun.elapsed().as_secs_f64())?));
    }
    (context.emit)(Event::Ended(variant()?));
    let record = EndpointProbeRecord {
        probe_format: PROBE_FORMAT,
        invocation,
        finished: utc_now(),
        machine: Machine::detect(),
        endpoint: probed(&asker, &endpoint),
        reference: source.map(|source| Model::from(source).plan()).transpose()?,
        interrupted: asker.is_interrupted(),
        notes: asker.notes,
        checks,
        precision,
        exchanges: asker.exchanges,
    };
    let report = render_endpoint_probe(&record, &job.format)?;
    Ok(EndpointProbeFinished { record, report })
}

fn check_only(job: &EndpointProbeJob) -> Result<(), JobError> {
    let known = check_names();
    match job.only.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(Fault::unknown("check", name, &known).into()),
        None => Ok(()),
    }
}

fn open<'a>(job: &EndpointProbeJob, endpoint: &Endpoint, context: &JobContext<'a>) -> Result<Asker<'a>, JobError> {
    let runtime = start_runtime(Builder::new_multi_thread().worker_threads(2).thread_name("probe"))?;
    let client = Client::new(job.address.clone(), job.settings.client.clone())?;
    Ok(Asker {
        runtime,
        client,
        model: endpoint.name.clone(),
        named: job.settings.model.clone(),
        api: job.settings.api.unwrap_or(Api::Completions),
        tokenizer: endpoint.options.tokenizer.clone(),
        context_tokens: endpoint.context_tokens,
        server: None,
        extra: job.settings.extra.clone(),
        timeout: job.settings.client.timeout,
        interrupted: context.interrupted,
        refused: Refused::default(),
        check: "settle",
        exchanges: Vec::new(),
        notes: Vec::new(),
    })
}

/// Finds the route that answers, and learns what the server refuses, before anything is judged.
fn settle(asker: &mut Asker, job: &EndpointProbeJob) -> Result<(), JobError> {
    let mut answer = asker.ask(&asker.greedy("Hello", 1));
    let no_route = |cause: Cause| matches!(cause, Cause::Status(400 | 404 | 405 | 422 | 501));
    if answer.as_ref().is_err_and(|error| no_route(error.cause)) && job.settings.api.is_none() {
        asker.api = Api::Chat;
        answer = asker.ask(&asker.greedy("Hello", 1));
        asker.notes.push("the server continues no text (/completions): it is asked by chats".to_owned());
    }
    let Err(error) = answer else { return Ok(()) };
    Err(JobError::invalid(
        format!("{} does not answer the simplest request: {error}", job.address),
        "look at the server's log; `--api chat`, `--served-model NAME` and `--api-key-env NAME` change what is asked",
    ))
}

fn held(
    asker: &mut Asker,
    source: Option<&Arc<ModelSource>>,
    precision: &mut Option<PrecisionFinding>,
) -> Result<Found, Unasked> {
    let source = source.ok_or_else(|| Unasked::because("the model is not here: give --model with its files"))?;
    if asker.is_interrupted() {
        return Err(interrupted());
    }
    let finding = against::held_against(asker, source)?;
    let found = against::found(&finding);
    *precision = Some(finding);
    Ok(found)
}

fn interrupted() -> Unasked {
    Unasked::because("interrupted")
}

fn record(name: &str, asks: &str, found: Result<Found, Unasked>) -> CheckRecord {
    let found = found.unwrap_or_else(|Unasked(why)| Found { verdict: Verdict::NotAsked, seen: why, means: "" });
    CheckRecord {
        name: name.to_owned(),
        asks: asks.to_owned(),
        verdict: found.verdict,
        seen: found.seen,
        means: found.means.to_owned(),
    }
}

fn probed(asker: &Asker, endpoint: &Endpoint) -> ProbedEndpoint {
    ProbedEndpoint {
        address: endpoint.addresses(),
        model: asker.model.clone(),
        api: asker.api.name().to_owned(),
        software: asker.server.as_ref().map_or("unknown".to_owned(), crate::openai::ServerInfo::software_in_words),
        context_tokens: asker.context_tokens,
        tokenizer: endpoint.tokenizer_source.clone(),
    }
}

fn variant() -> Result<VariantName, JobError> {
    VariantName::parse("endpoint").map_err(|why| JobError::invalid(why, "this is a fault of evalsuite"))
}

fn progress(done: usize, total: usize, seconds: f64) -> Result<Progress, JobError> {
    Ok(Progress {
        variant: variant()?,
        part: Some("probe"),
        completed: done,
        completed_now: done,
        total,
        running: 0,
        cache_bytes: None,
        output_tokens: 0,
        expected_tokens: None,
        seconds,
        remaining_seconds: None,
    })
}
