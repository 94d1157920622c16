//! One level: requests sent as it says, and what came of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::served::{Answered, LoadRequest, Measured, Served};
use super::{LevelPlan, RequestRecord, RequestScore};
use crate::engine::EngineError;
use crate::jobs::JobError;
use crate::openai::start_runtime;

/// What a level is driven by.
#[derive(Clone)]
pub(in crate::jobs) struct Level {
    pub(in crate::jobs) plan: LevelPlan,
    /// Of all levels.
    pub(in crate::jobs) index: usize,
    /// Requests at most.
    pub(in crate::jobs) requests: usize,
    /// Nothing is sent later.
    pub(in crate::jobs) duration_seconds: f64,
    pub(in crate::jobs) seed: u64,
    pub(in crate::jobs) served: Arc<Served>,
    pub(in crate::jobs) source: Arc<dyn Source>,
}

/// Where a level's requests come from.
pub(in crate::jobs) trait Source: Send + Sync {
    /// The `number`th request of a level.
    fn request(&self, level: usize, number: usize) -> LoadRequest;

    /// What an answer to the `number`th request is worth, where that is known.
    fn score(&self, number: usize, answer: Answered) -> Option<RequestScore> {
        let _ = (number, answer);
        None
    }

    /// When each is sent, in seconds since the level began, where they say so themselves.
    fn times(&self) -> Option<&[f64]> {
        None
    }
}

/// Requests that are given one by one; every level has the same.
impl Source for Vec<LoadRequest> {
    fn request(&self, _: usize, number: usize) -> LoadRequest {
        self[number].clone()
    }
}

/// What came of a level.
#[derive(Debug, Default)]
pub(in crate::jobs) struct Driven {
    /// In the order of sending.
    pub(in crate::jobs) requests: Vec<RequestRecord>,
    /// Between chunks of all answers, seconds.
    pub(in crate::jobs) gaps: Vec<f32>,
    /// In flight when the user broke off: neither answered nor failed.
    pub(in crate::jobs) abandoned: usize,
}

/// How often whoever waits looks whether the user has broken off.
const LOOK: Duration = Duration::from_millis(100);

/// What every sender shares.
struct Shared {
    level: Level,
    begin: Instant,
    sent: AtomicUsize,
    stop: AtomicBool,
}

/// What came of a request, by its number.
type Came = (usize, Result<Measured, EngineError>);

/// Threads that wait for an engine of ours, one a request in flight.
const MOST_WAITING: usize = 16_384;

/// What sends requests and reads answers.
pub(in crate::jobs) fn start() -> Result<Runtime, JobError> {
    Ok(start_runtime(Builder::new_multi_thread().max_blocking_threads(MOST_WAITING).thread_name("load"))?)
}

/// Runs a level; `tell` hears how many requests were sent and how many are over.
pub(in crate::jobs) fn drive(
    level: &Level,
    runtime: &Runtime,
    interrupted: &AtomicBool,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Driven, JobError> {
    let (sender, measured) = channel();
    let shared = Arc::new(Shared {
        level: level.clone(),
        begin: Instant::now(),
        sent: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let scheduler = match level.plan {
        LevelPlan::Users { users } => {
            (0..users).for_each(|_| drop(runtime.spawn(user(Arc::clone(&shared), sender.clone()))));
            None
        }
        LevelPlan::Rate { rate, arrivals } => {
            let times = arrivals.times(rate, level.requests, level.seed ^ level.index as u64);
            Some(schedule(&shared, times, runtime, sender.clone())?)
        }
        LevelPlan::Trace => {
            let times = level.source.times().map(<[f64]>::to_vec).unwrap_or_default();
            Some(schedule(&shared, times, runtime, sender.clone())?)
        }
    };
    drop(sender);
    let mut driven = gather(&measured, &shared, interrupted, tell)?;
    shared.stop.store(true, Ordering::Relaxed);
    if let Some(scheduler) = scheduler {
        let _ = scheduler.join();
    }
    driven.abandoned = shared.sent.load(Ordering::Relaxed).saturating_sub(driven.requests.len());
    driven.requests.sort_by(|a, b| a.sent_seconds.total_cmp(&b.sent_seconds));
    Ok(driven)
}

fn gather(
    measured: &Receiver<Came>,
    shared: &Shared,
    interrupted: &AtomicBool,
    tell: &mut dyn FnMut(usize, usize),
) -> Result<Driven, JobError> {
    let mut driven = Driven::default();
    let mut told = Instant::now();
    loop {
        match measured.recv_timeout(LOOK) {
            Ok((number, measured)) => {
                let Measured { mut record, gaps, answer } = measured?;
                // Here, and not where answers come: scoring delays nobody.
                record.score = answer.and_then(|answer| shared.level.source.score(number, answer));
                driven.requests.push(record);
                driven.gaps.extend(gaps);
            }
            Err(RecvTimeoutError::Timeout) => (),
            Err(RecvTimeoutError::Disconnected) => return Ok(driven),
        }
        if told.elapsed() >= LOOK {
            told = Instant::now();
            tell(shared.sent.load(Ordering::Relaxed), driven.requests.len());
        }
        if interrupted.load(Ordering::Relaxed) {
            return Ok(driven);
        }
    }
}

/// One user, who asks again as soon as there is an answer.
async fn user(shared: Arc<Shared>, sender: Sender<Came>) {
    let level = &shared.level;
    loop {
        let over = shared.begin.elapsed().as_secs_f64() >= level.duration_seconds;
        if over || shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let taken = shared
            .sent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |sent| (sent < level.requests).then_some(sent + 1));
        let Ok(number) = taken else { return };
        let measured = match level.served.ready(&level.source.request(level.index, number), number) {
            Ok(ready) => {
                let sent_seconds = shared.begin.elapsed().as_secs_f64();
                let mut measured = level.served.send(ready).await;
                measured.record.sent_seconds = sent_seconds;
                Ok(measured)
            }
            Err(error) => Err(error),
        };
        if sender.send((number, measured)).is_err() {
            return;
        }
    }
}

/// A thread that sends each request at its moment, whatever has become of those before it.
fn schedule(
    shared: &Arc<Shared>,
    times: Vec<f64>,
    runtime: &Runtime,
    sender: Sender<Came>,
) -> Result<thread::JoinHandle<()>, JobError> {
    let (shared, runtime) = (Arc::clone(shared), runtime.handle().clone());
    let work = move || {
        let level = &shared.level;
        for (number, at) in times.into_iter().enumerate().take_while(|(_, at)| *at < level.duration_seconds) {
            // Made before its moment, so that making it delays nothing.
            let ready = level.served.ready(&level.source.request(level.index, number), number);
            if !sleep_until(&shared, at) {
                return;
            }
            shared.sent.fetch_add(1, Ordering::Relaxed);
            let (task, sender) = (Arc::clone(&shared), sender.clone());
            runtime.spawn(async move {
                let measured = match ready {
                    Ok(ready) => {
                        // When it really goes out, the runtime's own delay included.
                        let sent_seconds = task.begin.elapsed().as_secs_f64();
                        let mut measured = task.level.served.send(ready).await;
                        measured.record.sent_seconds = sent_seconds;
                        measured.record.lag_seconds = sent_seconds - at;
                        Ok(measured)
                    }
                    Err(error) => Err(error),
                };
                let _ = sender.send((number, measured)); // whoever has broken off gathers no more
            });
        }
    };
    thread::Builder::new().name("arrivals".to_owned()).spawn(work).map_err(|error| {
        JobError::invalid(
            format!("cannot start the thread that sends requests: {error}"),
            "end other programs, or raise the limit of threads (`ulimit -u`)",
        )
    })
}

/// Whether the moment came before the user broke off.
fn sleep_until(shared: &Shared, at: f64) -> bool {
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = at - shared.begin.elapsed().as_secs_f64();
        if left <= 0.0 {
            return true;
        }
        thread::sleep(Duration::from_secs_f64(left).min(LOOK));
    }
}
