//! What the replicas' threads share with the one that waits for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::dispatch::{Dispatch, Orders};
use crate::{Capacity, EngineError, Event, Request};

/// As long as a step waits for news while replicas have room: a request that comes meanwhile must not wait for a long step of others.
const PATIENCE: Duration = Duration::from_millis(1);

/// The requests of all replicas, what came of them, and who waits for what.
#[derive(Debug)]
pub(super) struct Shared {
    /// What messages call each replica.
    names: Vec<String>,
    state: Mutex<State>,
    /// Something came of a step.
    news: Condvar,
    /// A replica has something to do, by its number.
    orders: Vec<Condvar>,
}

#[derive(Debug)]
struct State {
    dispatch: Dispatch,
    brought: Brought,
    /// Steps that were brought, as one.
    stepped: bool,
    new_tokens: u64,
    /// As the last step of each replica said.
    cache_bytes: Vec<Option<u64>>,
    /// Counts how often everything was dropped: what a step brings that began before is nobody's.
    era: u64,
    /// Replicas whose engines are in use elsewhere.
    paused: Vec<bool>,
    closed: bool,
}

/// What came of steps since this was last asked.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// With tickets in the place of ids; of steps one at most, the last.
    pub(super) events: Vec<Event>,
    /// A replica's own failure, with which every request has been dropped.
    pub(super) failure: Option<EngineError>,
}

/// A replica between two steps.
#[derive(Debug)]
pub(super) struct Report {
    /// When its orders were taken.
    pub(super) era: u64,
    /// What its engine has room for.
    pub(super) capacity: Capacity,
    /// Its engine's own failure.
    pub(super) failure: Option<EngineError>,
}

impl Shared {
    /// Of replicas with these names.
    pub(super) fn new(dispatch: Dispatch, names: Vec<String>) -> Self {
        let replicas = names.len();
        let state = State {
            dispatch,
            brought: Brought::default(),
            stepped: false,
            new_tokens: 0,
            cache_bytes: vec![None; replicas],
            era: 0,
            paused: vec![false; replicas],
            closed: false,
        };
        let orders = (0..replicas).map(|_| Condvar::new()).collect();
        Self { names, state: Mutex::new(state), news: Condvar::new(), orders }
    }

    /// Puts a request at the end of the queue; its ticket. No replica gets it before [`Shared::wait`].
    pub(super) fn push(&self, request: Request) -> usize {
        self.lock().dispatch.push(request)
    }

    /// Drops a request that has not ended; with the `last` of all, whatever was brought for others.
    pub(super) fn cancel(&self, ticket: usize, last: bool) {
        let mut state = self.lock();
        if let Some(replica) = state.dispatch.cancel(ticket) {
            self.orders[replica].notify_one();
        }
        if last {
            state.forget();
        }
    }

    /// Slots that are free, of all replicas, and tokens of the KV cache on average.
    pub(super) fn free(&self) -> (usize, Option<usize>) {
        self.lock().dispatch.free()
    }

    /// Requests that no replica has been given.
    pub(super) fn waiting(&self) -> usize {
        self.lock().dispatch.waiting()
    }

    /// Gives replicas what they have room for, and waits for what comes of anything.
    pub(super) fn wait(&self) -> Brought {
        let mut state = self.lock();
        self.route(&mut state);
        while state.brought.is_empty() && !state.stepped && !state.dispatch.is_dead() {
            if state.dispatch.has_room() {
                let waited = self.news.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                break;
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.take(&self.orders)
    }

    /// What a replica is to do before its next step, and when this was said; waits until there is something to do. `None`: nothing any more.
    pub(super) fn orders(&self, replica: usize) -> Option<(Orders, u64)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if !state.paused[replica] && state.dispatch.has_work(replica) {
                let era = state.era;
                return Some((state.dispatch.take(replica), era));
            }
            state = self.orders[replica].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes what came of a replica's step, and gives it and others more to do.
    pub(super) fn report(&self, replica: usize, events: &mut Vec<Event>, report: Report) {
        let mut state = self.lock();
        if let Some(failure) = state.bring(replica, events, report) {
            state.brought.failure.get_or_insert(failure.of(&self.names[replica]));
        }
        self.route(&mut state);
        self.news.notify_one();
    }

    /// A replica's thread has ended, and its requests with it.
    pub(super) fn give_up(&self, replica: usize) {
        let mut state = self.lock();
        state.dispatch.give_up(replica);
        state.brought.failure.get_or_insert(self.ended(replica));
        self.news.notify_one();
    }

    /// Keeps a replica's thread from beginning another step, or lets it go on.
    pub(super) fn pause(&self, replica: usize, pause: bool) {
        self.lock().paused[replica] = pause;
        self.orders[replica].notify_one();
    }

    /// The replica that answers soonest; `None` where all are gone.
    pub(super) fn quietest(&self) -> Option<usize> {
        self.lock().dispatch.quietest()
    }

    /// Ends all threads after the steps that are being computed.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.orders.iter().for_each(Condvar::notify_all);
    }

    /// What is said of a replica whose thread has ended.
    pub(super) fn ended(&self, replica: usize) -> EngineError {
        let error = EngineError::failed(
            "the engine's thread has ended",
            "it failed with a message above: report it, and start the program again",
        );
        error.of(&self.names[replica])
    }

    fn route(&self, state: &mut State) {
        state.dispatch.route(|replica| self.orders[replica].notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes what a step brought; the failure, if there is one that concerns anybody.
    fn bring(&mut self, replica: usize, events: &mut Vec<Event>, report: Report) -> Option<EngineError> {
        let Report { era, capacity, failure } = report;
        let ended = events.iter().filter_map(|event| match event {
            Event::Completed(completion) => Some(completion.request),
            Event::Failed { request, .. } => Some(*request),
            Event::Token(_) | Event::Note(_) | Event::Step { .. } => None,
        });
        let is_whole = self.dispatch.report(replica, capacity, ended);
        let is_wanted = era == self.era;
        for event in events.drain(..) {
            match event {
                Event::Step { new_tokens, cache_bytes, .. } => {
                    self.stepped |= is_wanted;
                    self.new_tokens += if is_wanted { new_tokens } else { 0 };
                    self.cache_bytes[replica] = cache_bytes;
                }
                event if is_wanted => self.brought.events.push(event),
                _ => (),
            }
        }
        if capacity.is_idle() {
            self.cache_bytes[replica] = self.cache_bytes[replica].map(|_| 0);
        }
        failure.or_else(|| (!is_whole).then(EngineError::lost_requests)).filter(|_| is_wanted)
    }

    /// Drops what was brought: nobody waits for it.
    fn forget(&mut self) {
        self.brought = Brought::default();
        (self.stepped, self.new_tokens) = (false, 0);
        self.era += 1;
    }

    /// Hands out what was brought. A failure drops every request.
    fn take(&mut self, orders: &[Condvar]) -> Brought {
        let mut brought = std::mem::take(&mut self.brought);
        if self.stepped {
            let known: Vec<u64> = self.cache_bytes.iter().copied().flatten().collect();
            let cache_bytes = (!known.is_empty()).then(|| known.iter().sum());
            brought.events.push(Event::Step {
                running: self.dispatch.running(),
                new_tokens: std::mem::take(&mut self.new_tokens),
                cache_bytes,
            });
            self.stepped = false;
        }
        if brought.failure.is_none() && self.dispatch.is_dead() {
            brought.failure = Some(EngineError::failed(
                "the threads of all devices have ended",
                "they failed with messages above: start the program again",
            ));
        }
        if brought.failure.is_some() {
            self.dispatch.clear();
            self.forget();
            orders.iter().for_each(Condvar::notify_one);
        }
        brought
    }
}

impl Brought {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.failure.is_none()
    }
}
