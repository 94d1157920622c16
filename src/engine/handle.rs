//! An engine on a thread of its own, shared by any number of callers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Capacity, Completion, Engine, EngineError, EngineInfo, Event, Limits, Request, Token};

/// How an engine is shared.
#[derive(Debug, Clone, Copy, Default)]
pub struct HandleOptions {
    /// Requests that may wait beside those that the engine works on at once ([`EngineInfo::batch`]); one more is refused.
    /// `None`: any number.
    pub max_queued: Option<usize>,
}

/// How an engine's thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// After everything that was submitted has ended.
    Drain,
    /// After the step that is being computed; whoever waits gets an error.
    Now,
}

/// A shared engine. Clones are handles of the same one; its thread ends with [`EngineHandle::shutdown`], or when all handles and all
/// streams are gone.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    shared: Arc<Shared>,
    commands: Sender<Command>,
}

#[derive(Debug)]
struct Shared {
    info: EngineInfo,
    limits: Limits,
    /// Requests at a time, running and waiting.
    max_open: usize,
    /// Requests that have not ended.
    open: AtomicUsize,
    /// Number of the next request in the engine.
    next: AtomicUsize,
    closed: AtomicBool,
    /// As it was after the last step.
    capacity: Mutex<Capacity>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a stream yields for its request.
#[derive(Debug)]
pub enum Update {
    /// One more token, where the request streams.
    Token(Token),
    /// It ended. Nothing follows.
    Completed(Completion),
    /// It could not be completed. Nothing follows.
    Failed(EngineError),
}

/// Takes a request's updates on the engine's thread, and must not wait there; false once nobody minds any more, which cancels the request.
pub type UpdateSink = Box<dyn FnMut(Update) -> bool + Send>;

/// A request in the engine. Dropping it cancels the request, unless that has ended.
#[derive(Debug)]
pub struct Ticket {
    /// Its number in the engine.
    number: usize,
    commands: Sender<Command>,
    ended: bool,
}

/// What becomes of one request, as it happens. Dropping it cancels the request.
#[derive(Debug)]
pub struct RequestStream {
    ticket: Ticket,
    updates: Receiver<Update>,
}

enum Command {
    Submit(Request, Caller),
    Cancel(usize),
    Shutdown(Shutdown),
}

/// Who waits for a request.
struct Caller {
    /// The request's id in the caller's eyes.
    id: usize,
    updates: UpdateSink,
    submitted: Instant,
    /// Seconds from there until the engine had it.
    delay: f64,
}

impl EngineHandle {
    /// Moves an engine without requests to a thread of its own.
    pub fn spawn(engine: Box<dyn Engine>, options: HandleOptions) -> Result<Self, EngineError> {
        let (commands, received) = channel();
        let info = engine.info().clone();
        let shared = Arc::new(Shared {
            max_open: options.max_queued.map_or(usize::MAX, |queued| queued.saturating_add(info.batch)),
            limits: engine.limits(),
            open: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            capacity: Mutex::new(engine.capacity()),
            thread: Mutex::new(None),
            info,
        });
        let of_thread = Arc::clone(&shared);
        let serve =
            move || Server { engine, shared: of_thread, callers: HashMap::new(), drains: false }.serve(&received);
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(serve);
        let thread = thread.map_err(|error| EngineError::no_thread(&error))?;
        *locked(&shared.thread) = Some(thread);
        Ok(Self { shared, commands })
    }

    /// What the engine is.
    pub fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    /// What a request may be at most.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// What was free after the last step; what was submitted since is not in it.
    pub fn capacity(&self) -> Capacity {
        *locked(&self.shared.capacity)
    }

    /// Submits a request; its id is the caller's own affair. One that the engine cannot work on, one too many and one that comes after
    /// [`EngineHandle::shutdown`] are refused at once. Never waits for the engine.
    pub fn submit(&self, request: Request) -> Result<RequestStream, EngineError> {
        let (updates, received) = channel();
        let ticket = self.submit_to(request, Box::new(move |update| updates.send(update).is_ok()))?;
        Ok(RequestStream { ticket, updates: received })
    }

    /// The same for a caller that does not wait on a thread of its own: `updates` is called with each.
    pub fn submit_to(&self, mut request: Request, updates: UpdateSink) -> Result<Ticket, EngineError> {
        self.shared.limits.check(&request)?;
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(shut_down(request.id));
        }
        self.shared.enter()?;
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let caller = Caller { id: request.id, updates, submitted: Instant::now(), delay: 0.0 };
        request.id = number;
        self.commands.send(Command::Submit(request, caller)).map_err(|_| thread_ended())?;
        Ok(Ticket { number, commands: self.commands.clone(), ended: false })
    }

    /// Ends the engine's thread and waits for that. Nothing can be submitted any more.
    pub fn shutdown(&self, how: Shutdown) -> Result<(), EngineError> {
        self.shared.closed.store(true, Ordering::Release);
        let _ = self.commands.send(Command::Shutdown(how)); // an ended thread needs no telling
        let thread = locked(&self.shared.thread).take();
        thread.map_or(Ok(()), |thread| thread.join().map_err(|_| thread_ended()))
    }
}

impl Shared {
    /// Counts one request more, unless that is one too many.
    fn enter(&self) -> Result<(), EngineError> {
        let counted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < self.max_open).then_some(open + 1));
        counted.map(|_| ()).map_err(|open| {
            EngineError::busy(
                format!("the engine's queue is full: {open} requests are open, {} at most", self.max_open),
                "try again when some have ended, or let more requests wait",
            )
        })
    }
}

impl Ticket {
    /// Cancels the request: what it holds in the engine is free after the step that is being computed, and nothing more follows.
    pub fn cancel(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let _ = self.commands.send(Command::Cancel(self.number)); // an ended thread has no requests
        }
    }

    /// Says that the request has ended, which the ticket cannot know: nothing is left to be cancelled.
    pub fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl RequestStream {
    /// The next update; waits for it. `None` behind the end.
    pub fn next_update(&mut self) -> Option<Update> {
        if self.ticket.ended {
            return None;
        }
        let update = self.updates.recv().unwrap_or_else(|_| Update::Failed(thread_ended()));
        Some(self.note(update))
    }

    /// The same, but waits no longer than this.
    pub fn poll_update(&mut self, timeout: Duration) -> Poll<Option<Update>> {
        if self.ticket.ended {
            return Poll::Ready(None);
        }
        let update = match self.updates.recv_timeout(timeout) {
            Ok(update) => update,
            Err(RecvTimeoutError::Timeout) => return Poll::Pending,
            Err(RecvTimeoutError::Disconnected) => Update::Failed(thread_ended()),
        };
        Poll::Ready(Some(self.note(update)))
    }

    /// Waits for the completion, past all tokens.
    pub fn wait(mut self) -> Result<Completion, EngineError> {
        loop {
            match self.next_update() {
                Some(Update::Token(_)) => (),
                Some(Update::Completed(completion)) => return Ok(completion),
                Some(Update::Failed(error)) => return Err(error),
                None => return Err(EngineError::invalid("the request was cancelled", "submit it again")),
            }
        }
    }

    /// Cancels the request, as [`Ticket::cancel`] does.
    pub fn cancel(&mut self) {
        self.ticket.cancel();
    }

    fn note(&mut self, update: Update) -> Update {
        self.ticket.ended = !matches!(update, Update::Token(_));
        update
    }
}

impl Iterator for RequestStream {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        self.next_update()
    }
}

/// The engine's thread.
struct Server {
    engine: Box<dyn Engine>,
    shared: Arc<Shared>,
    /// By the request's number in the engine.
    callers: HashMap<usize, Caller>,
    drains: bool,
}

impl Server {
    fn serve(mut self, commands: &Receiver<Command>) {
        let mut events = Vec::new();
        while self.receive(commands) {
            let stepped = self.engine.step(&mut events);
            for event in events.drain(..) {
                self.emit(event);
            }
            let failure = stepped.err().or_else(|| {
                let is_lost = self.engine.capacity().is_idle() && !self.callers.is_empty();
                is_lost.then(EngineError::lost_requests)
            });
            if let Some(error) = failure {
                self.fail_all(|_| error.repeated());
            }
            *locked(&self.shared.capacity) = self.engine.capacity();
        }
    }

    /// Takes all commands there are, and waits for one where nothing is to be done. Whether to go on.
    fn receive(&mut self, commands: &Receiver<Command>) -> bool {
        loop {
            if self.drains && self.callers.is_empty() {
                return false;
            }
            let command = if self.callers.is_empty() {
                *locked(&self.shared.capacity) = self.engine.capacity();
                let Ok(command) = commands.recv() else { return false };
                command
            } else {
                match commands.try_recv() {
                    Ok(command) => command,
                    // Without handles and streams nobody waits: each of these has sent its cancellation.
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => return true,
                }
            };
            match command {
                Command::Submit(request, caller) => self.submit(request, caller),
                Command::Cancel(number) => self.cancel(number),
                Command::Shutdown(Shutdown::Drain) => self.drains = true,
                Command::Shutdown(Shutdown::Now) => {
                    self.fail_all(shut_down);
                    return false;
                }
            }
        }
    }

    fn submit(&mut self, request: Request, mut caller: Caller) {
        let number = request.id;
        let submitted = if self.drains { Err(shut_down(caller.id)) } else { self.engine.submit(request) };
        caller.delay = caller.submitted.elapsed().as_secs_f64();
        self.callers.insert(number, caller);
        if let Err(error) = submitted {
            self.end(number, Update::Failed(error));
        }
    }

    fn cancel(&mut self, number: usize) {
        self.engine.cancel(number);
        if self.callers.remove(&number).is_some() {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn emit(&mut self, event: Event) {
        match event {
            Event::Token(mut token) => {
                let number = token.request;
                let Some(caller) = self.callers.get_mut(&number) else { return };
                token.request = caller.id;
                token.seconds += caller.delay;
                if !(caller.updates)(Update::Token(token)) {
                    self.cancel(number);
                }
            }
            Event::Completed(mut completion) => {
                let number = completion.request;
                let Some(caller) = self.callers.get(&number) else { return };
                completion.request = caller.id;
                completion.timings.queued_seconds += caller.delay;
                self.end(number, Update::Completed(completion));
            }
            Event::Failed { request, error } => self.end(request, Update::Failed(error)),
            Event::Note(_) | Event::Step { .. } => (),
        }
    }

    /// Sends the last update of a request.
    fn end(&mut self, number: usize, update: Update) {
        if let Some(mut caller) = self.callers.remove(&number) {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            let _ = (caller.updates)(update); // a caller that is gone does not mind
        }
    }

    /// Fails every open request; `error` takes the caller's own id.
    fn fail_all(&mut self, error: impl Fn(usize) -> EngineError) {
        let waiting: Vec<(usize, usize)> = self.callers.iter().map(|(number, caller)| (*number, caller.id)).collect();
        for (number, id) in waiting {
            self.engine.cancel(number);
            self.end(number, Update::Failed(error(id)));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shut_down(id: usize) -> EngineError {
    EngineError::failed(
        format!("request {id}: the engine has been shut down"),
        "start it again, and submit the request anew",
    )
}

fn thread_ended() -> EngineError {
    EngineError::failed(
        "the engine's thread has ended",
        "it was shut down, or failed with a message above: start it again, and submit the request anew",
    )
}
