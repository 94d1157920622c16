//! A replica's thread: it works on what it is given, step by step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::dispatch::{Given, Orders};
use super::shared::{Report, Shared};
use crate::{Engine, Event};

/// A replica.
pub(super) struct Worker {
    /// Its number.
    pub(super) replica: usize,
    pub(super) engine: Arc<Mutex<Box<dyn Engine>>>,
    pub(super) shared: Arc<Shared>,
    /// Seconds from the submission of each request until the engine had it, by ticket.
    pub(super) delays: HashMap<usize, f64>,
}

impl Worker {
    /// Works until the replicas are closed.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _departure = Departure { replica: self.replica, shared: Arc::clone(&shared) };
        let mut events = Vec::new();
        while let Some((orders, era)) = shared.orders(self.replica) {
            let report = self.work(orders, era, &mut events);
            shared.report(self.replica, &mut events, report);
        }
    }

    /// Heeds the orders and does a step.
    fn work(&mut self, Orders { cancelled, given }: Orders, era: u64, events: &mut Vec<Event>) -> Report {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        for ticket in cancelled {
            engine.cancel(ticket);
            self.delays.remove(&ticket);
        }
        for Given { request, submitted, .. } in given {
            let ticket = request.id;
            match engine.submit(request) {
                Ok(()) => {
                    self.delays.insert(ticket, submitted.elapsed().as_secs_f64());
                }
                Err(error) => events.push(Event::Failed { request: ticket, error }),
            }
        }
        let failure = if engine.capacity().is_idle() { None } else { engine.step(events).err() };
        let capacity = engine.capacity();
        drop(engine);
        for event in &mut *events {
            match event {
                Event::Token(token) => token.seconds += self.delays.get(&token.request).unwrap_or(&0.0),
                Event::Completed(completion) => {
                    completion.timings.queued_seconds += self.delays.remove(&completion.request).unwrap_or_default();
                }
                Event::Failed { request, .. } => {
                    self.delays.remove(request);
                }
                Event::Note(_) | Event::Step { .. } => (),
            }
        }
        if failure.is_some() {
            self.delays.clear();
        }
        Report { era, capacity, failure }
    }
}

/// Tells the others if the thread ends in a panic.
struct Departure {
    replica: usize,
    shared: Arc<Shared>,
}

impl Drop for Departure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.give_up(self.replica);
        }
    }
}
