//! Requests spread over endpoints: each goes to whichever has a free place, and is asked again after a passing failure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::client::Client;
use super::failure::{Cause, RequestError};
use super::reply::Reply;
use super::request::{GenerationRequest, Refused};
use super::retry::{ATTEMPTS, wait};
use crate::random::split_mix;

/// One endpoint among others.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) client: Client,
    /// What its model is asked for as.
    pub(super) model: String,
    /// What it takes none of.
    refused: Mutex<Refused>,
    /// Passing failures since the last answer.
    failing: AtomicU32,
}

/// A request on its way.
#[derive(Debug)]
struct Task {
    number: usize,
    request: GenerationRequest,
    /// Resolves when the request is cancelled.
    cancelled: oneshot::Receiver<()>,
    failed: u32,
    submitted: Instant,
}

/// What became of a request, and what was learnt on the way.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An endpoint works on it.
    Began,
    /// It is answered.
    Answered {
        number: usize,
        reply: Box<Reply>,
        /// Seconds from submission until the endpoint that answered it was asked.
        queued_seconds: f64,
    },
    /// It failed for good.
    Failed { number: usize, error: RequestError },
    /// It is sent again in another form; what the user should know, where that is new.
    Adapted(Option<String>),
    /// It failed, and is sent again later.
    Again { error: RequestError, note: String },
}

/// Sends requests and gathers what comes of them.
#[derive(Debug)]
pub(super) struct Spread {
    tasks: UnboundedSender<Task>,
    outcomes: Receiver<Outcome>,
    /// Dropped last: its threads work for the others.
    _runtime: Runtime,
}

/// Why a request has no answer.
enum Unanswered {
    /// It can be asked in another form; what the user should know, where that is new.
    Adapted(Option<String>),
    Failed(RequestError),
}

/// How long a place rests after a failure that every request would meet.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What every worker shares.
#[derive(Clone)]
struct Shared {
    waiting: Arc<tokio::sync::Mutex<UnboundedReceiver<Task>>>,
    again: UnboundedSender<Task>,
    outcomes: Sender<Outcome>,
}

impl Endpoint {
    pub(super) fn new(client: Client, model: String) -> Self {
        Self { client, model, refused: Mutex::default(), failing: AtomicU32::new(0) }
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, request: &GenerationRequest) -> Result<Reply, Unanswered> {
        let body = request.body(&self.model, &self.refused());
        let asked = self.client.generate(request.api(), Bytes::from(body.to_string()), request.stream).await;
        asked.map_err(|error| {
            let mut refused = self.refused();
            // Others that were under way have taught it already: the same body would be another one now.
            if error.is_refusal() && request.body(&self.model, &refused) != body {
                return Unanswered::Adapted(None);
            }
            match refused.learn_from(&error, &body) {
                Some(note) => Unanswered::Adapted(Some(note)),
                None => Unanswered::Failed(error),
            }
        })
    }
}

impl Spread {
    /// Starts `places` workers for each endpoint.
    pub(super) fn start(runtime: Runtime, endpoints: Vec<Arc<Endpoint>>, places: usize) -> Self {
        let (tasks, waiting) = unbounded_channel();
        let (sender, outcomes) = channel();
        let shared =
            Shared { waiting: Arc::new(tokio::sync::Mutex::new(waiting)), again: tasks.clone(), outcomes: sender };
        for endpoint in endpoints {
            for _ in 0..places {
                runtime.spawn(work(Arc::clone(&endpoint), shared.clone()));
            }
        }
        Self { tasks, outcomes, _runtime: runtime }
    }

    /// Takes a request; what it returns cancels it when dropped.
    pub(super) fn submit(&self, number: usize, request: GenerationRequest) -> oneshot::Sender<()> {
        let (cancel, cancelled) = oneshot::channel();
        // The workers live as long as the runtime.
        let _ = self.tasks.send(Task { number, request, cancelled, failed: 0, submitted: Instant::now() });
        cancel
    }

    /// The next outcome, if one comes in time.
    pub(super) fn next(&self, timeout: Duration) -> Option<Outcome> {
        self.outcomes.recv_timeout(timeout).ok()
    }
}

/// One place of an endpoint: a request at a time, as long as there are some.
async fn work(endpoint: Arc<Endpoint>, shared: Shared) {
    loop {
        let task = shared.waiting.lock().await.recv().await;
        let Some(mut task) = task else { return };
        if task.cancelled.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            continue;
        }
        let _ = shared.outcomes.send(Outcome::Began);
        let queued_seconds = task.submitted.elapsed().as_secs_f64();
        let answer = {
            let ask = std::pin::pin!(endpoint.ask(&task.request));
            match select(ask, &mut task.cancelled).await {
                Either::Left((answer, _)) => answer,
                Either::Right(_) => continue, // cancelled: its connection ends here
            }
        };
        match answer {
            Ok(reply) => {
                endpoint.failing.store(0, Ordering::Relaxed);
                let outcome = Outcome::Answered { number: task.number, reply: Box::new(reply), queued_seconds };
                let _ = shared.outcomes.send(outcome);
            }
            Err(Unanswered::Adapted(note)) => {
                let _ = shared.outcomes.send(Outcome::Adapted(note));
                let _ = shared.again.send(task);
            }
            Err(Unanswered::Failed(error)) => failed(&endpoint, &shared, task, error).await,
        }
    }
}

/// Puts a request back that may be answered later, by this endpoint or another, and leaves this one alone for as long.
async fn failed(endpoint: &Endpoint, shared: &Shared, mut task: Task, error: RequestError) {
    task.failed += 1;
    if !error.is_passing() || task.failed >= ATTEMPTS {
        let meets_every_request = error.meets_every_request();
        let _ = shared.outcomes.send(Outcome::Failed { number: task.number, error });
        if meets_every_request {
            // Whoever gathers outcomes ends the run meanwhile; nobody is asked for what will be refused.
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
        return;
    }
    let failing = endpoint.failing.fetch_add(1, Ordering::Relaxed) + 1;
    let random = split_mix(task.number as u64 ^ u64::from(task.failed) << 40) as f64 / u64::MAX as f64;
    let pause = wait(task.failed, &error, random);
    let note = format!(
        "a request failed ({error}) and is sent again in {:.1} s, the {} time of {}",
        pause.as_secs_f64(),
        ordinal(task.failed + 1),
        ATTEMPTS
    );
    let _ = shared.outcomes.send(Outcome::Again { error: error.clone(), note });
    let again = shared.again.clone();
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        let _ = again.send(task);
    });
    // A server that is down, or asks to be left alone, gets nothing from this place meanwhile; other endpoints take what waits.
    let whole_server = error.retry_after.is_some() || matches!(error.cause, Cause::Connect | Cause::Status(429 | 503));
    if whole_server {
        tokio::time::sleep(wait(failing.min(ATTEMPTS), &error, random)).await;
    }
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals() {
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 21, 103].map(ordinal),
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "21st", "103rd"]
        );
    }
}
