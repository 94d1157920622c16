//! Requests through an engine with so many in it at a time.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::{Completion, Engine, EngineError, Event, Request};

/// What happens meanwhile.
pub(super) enum Told {
    /// So many requests have been answered.
    Done(usize),
    /// What the engine says of itself, such as that a server was asked again.
    Note(String),
}

/// The completions by request, which are numbered from 0; `None` where the user broke off. The next request goes in as one ends.
pub(super) fn drive(
    engine: &mut dyn Engine,
    requests: Vec<Request>,
    batch: usize,
    interrupted: &AtomicBool,
    tell: &mut dyn FnMut(Told),
) -> Result<Option<Vec<Completion>>, EngineError> {
    let all = requests.len();
    let (mut waiting, mut events, mut running) = (requests.into_iter(), Vec::new(), 0);
    let mut done: Vec<Completion> = Vec::with_capacity(all);
    let mut failed = None;
    while done.len() < all {
        for request in waiting.by_ref().take(batch.saturating_sub(running)) {
            engine.submit(request)?;
            running += 1;
        }
        engine.step(&mut events)?;
        for event in events.drain(..) {
            match event {
                Event::Completed(completion) => {
                    running -= 1;
                    done.push(completion);
                    tell(Told::Done(done.len()));
                }
                Event::Failed { error, .. } => failed = failed.or(Some(error)),
                Event::Note(note) => tell(Told::Note(note)),
                Event::Token(_) | Event::Step { .. } => {}
            }
        }
        let broken = interrupted.load(Ordering::Relaxed);
        if broken || failed.is_some() {
            (0..all).for_each(|request| {
                engine.cancel(request);
            });
            return failed.map_or(Ok(None), Err);
        }
    }
    done.sort_unstable_by_key(|completion| completion.request);
    Ok(Some(done))
}
