//! A test double of an engine, and what tests do to it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, Event, Finish, Request, Timings, Token, Work,
};

use crate::scripted;

/// How long anything may take that must not take forever.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Calls until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}: never");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A test double, and said so: gives every request a token a step, and notes whose it was. Its step may be made to wait, fail, panic
/// or lose what it has.
pub(crate) struct Double {
    info: EngineInfo,
    slots: usize,
    queue: Vec<Request>,
    running: Vec<(Request, usize)>,
    strings: Arc<Strings>,
}

/// What a test does to a double, and learns of it.
#[derive(Default)]
pub(crate) struct Strings {
    pub(crate) waits: AtomicBool,
    pub(crate) fails: AtomicBool,
    pub(crate) panics: AtomicBool,
    pub(crate) loses: AtomicBool,
    pub(crate) gone: AtomicBool,
    pub(crate) steps: AtomicUsize,
    /// What the first token of each prompt was, in the order in which they came.
    pub(crate) taken: Mutex<Vec<u32>>,
}

impl Double {
    /// One that works on `slots` requests at once.
    pub(crate) fn boxed(slots: usize, strings: &Arc<Strings>) -> Box<dyn Engine> {
        let info = EngineInfo { batch: slots, ..scripted::engine(Dtype::F32, "1").info().clone() };
        Box::new(Self { info, slots, queue: Vec::new(), running: Vec::new(), strings: Arc::clone(strings) })
    }
}

impl Engine for Double {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.strings.taken.lock().unwrap().push(request.prompt.token_ids[0]);
        self.queue.push(request);
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.strings.steps.fetch_add(1, Ordering::Relaxed);
        while self.strings.waits.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_micros(200));
        assert!(!self.strings.panics.load(Ordering::Relaxed), "as the test wants it");
        if self.strings.loses.swap(false, Ordering::Relaxed) {
            self.running.clear();
            self.queue.clear();
            return Ok(());
        }
        if self.strings.fails.swap(false, Ordering::Relaxed) {
            self.running.clear();
            self.queue.clear();
            return Err(EngineError::failed("the device fell over", "pick it up"));
        }
        let admitted = self.queue.len().min(self.slots - self.running.len());
        self.running.extend(self.queue.drain(..admitted).map(|request| (request, 0)));
        let new_tokens = self.running.len() as u64;
        self.running.retain_mut(|(request, count)| {
            let Work::Generate(options) = &request.work else { return false };
            if options.stream {
                let token = Token {
                    request: request.id,
                    index: *count,
                    token: 7,
                    detail: None,
                    top_tokens: Vec::new(),
                    seconds: 0.0,
                };
                events.push(Event::Token(token));
            }
            *count += 1;
            if *count < options.max_tokens {
                return true;
            }
            events.push(Event::Completed(Completion {
                request: request.id,
                token_ids: vec![7; *count],
                text: String::new(),
                thought: None,
                finish: Finish::Length,
                details: Vec::new(),
                top_tokens: Vec::new(),
                timings: Timings::default(),
                cached_tokens: 0,
                server: None,
            }));
            false
        });
        events.push(Event::Step { running: self.running.len(), new_tokens, cache_bytes: None });
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        let before = self.running.len() + self.queue.len();
        self.queue.retain(|waiting| waiting.id != request);
        self.running.retain(|(running, _)| running.id != request);
        self.running.len() + self.queue.len() < before
    }

    fn capacity(&self) -> Capacity {
        Capacity {
            running: self.running.len(),
            queued: self.queue.len(),
            free_slots: self.slots - self.running.len(),
            free_tokens: None,
        }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.strings.gone.store(true, Ordering::Relaxed);
    }
}
