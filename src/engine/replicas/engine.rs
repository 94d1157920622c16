//! Replicas as one engine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::dispatch::Dispatch;
use super::shared::{Brought, Shared};
use super::worker::Worker;
use crate::batch::duplicate;
use crate::{Capacity, Engine, EngineError, EngineInfo, Event, Limits, LoadTimes, Logits, Request, Text};

/// One of several engines of the same model.
pub struct Replica {
    /// What messages call it: `GPU 1`.
    pub name: String,
    /// It, without requests.
    pub engine: Box<dyn Engine>,
}

/// Engines of the same model with one queue, each on a thread of its own.
pub struct Replicas {
    info: EngineInfo,
    limits: Limits,
    /// By number. A thread holds the lock while it works.
    engines: Vec<Arc<Mutex<Box<dyn Engine>>>>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Tickets of the open requests by id, and the other way round.
    tickets: HashMap<usize, usize>,
    ids: HashMap<usize, usize>,
    /// The replica that has read the last texts.
    reading: usize,
}

impl Replicas {
    /// Starts a thread for each. They must be of one kind: else it would matter who answers. `device` names all devices; they were ready
    /// within `seconds`.
    pub fn new(replicas: Vec<Replica>, device: String, seconds: f64) -> Result<Self, EngineError> {
        let info = joint_info(&replicas, device, seconds)?;
        let limits = joint_limits(&replicas);
        let names = replicas.iter().map(|replica| replica.name.clone()).collect();
        let dispatch = Dispatch::new(limits, replicas.iter().map(|replica| replica.engine.capacity()));
        let shared = Arc::new(Shared::new(dispatch, names));
        let mut all = Self {
            info,
            limits,
            engines: Vec::new(),
            shared,
            threads: Vec::new(),
            tickets: HashMap::new(),
            ids: HashMap::new(),
            reading: 0,
        };
        for Replica { name, engine } in replicas {
            all.start(&name, engine)?;
        }
        Ok(all)
    }

    fn start(&mut self, name: &str, engine: Box<dyn Engine>) -> Result<(), EngineError> {
        let engine = Arc::new(Mutex::new(engine));
        let worker = Worker {
            replica: self.engines.len(),
            engine: Arc::clone(&engine),
            shared: Arc::clone(&self.shared),
            delays: HashMap::new(),
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(|| worker.run());
        let thread = thread.map_err(|error| EngineError::no_thread(&error).of(name))?;
        self.engines.push(engine);
        self.threads.push(thread);
        Ok(())
    }

    /// The id of an open request; it is free again where the request has ended.
    fn id(&mut self, ticket: usize, ended: bool) -> Option<usize> {
        if !ended {
            return self.ids.get(&ticket).copied();
        }
        let id = self.ids.remove(&ticket)?;
        self.tickets.remove(&id);
        Some(id)
    }

    /// The event in the words of whoever submitted the request; `None` where that has been cancelled.
    fn told(&mut self, event: Event) -> Option<Event> {
        Some(match event {
            Event::Token(mut token) => {
                token.request = self.id(token.request, false)?;
                Event::Token(token)
            }
            Event::Completed(mut completion) => {
                completion.request = self.id(completion.request, true)?;
                Event::Completed(completion)
            }
            Event::Failed { request, error } => Event::Failed { request: self.id(request, true)?, error },
            Event::Note(_) | Event::Step { .. } => event,
        })
    }
}

impl Engine for Replicas {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Waits for the steps that they are in.
    fn joules(&self) -> Option<f64> {
        self.engines.iter().map(|engine| engine.lock().ok()?.joules()).sum()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.limits.check(&request)?;
        let id = request.id;
        if self.tickets.contains_key(&id) {
            return Err(duplicate(id));
        }
        let ticket = self.shared.push(request);
        self.tickets.insert(id, ticket);
        self.ids.insert(ticket, id);
        Ok(())
    }

    /// Waits for a step of any replica; where one has room for more, no longer than a millisecond.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let Brought { events: brought, failure } = self.shared.wait();
        for event in brought {
            events.extend(self.told(event));
        }
        failure.map_or(Ok(()), |failure| {
            self.tickets.clear();
            self.ids.clear();
            Err(failure)
        })
    }

    fn cancel(&mut self, request: usize) -> bool {
        let Some(ticket) = self.tickets.remove(&request) else { return false };
        self.ids.remove(&ticket);
        self.shared.cancel(ticket, self.ids.is_empty());
        true
    }

    fn capacity(&self) -> Capacity {
        let (free_slots, free_tokens) = self.shared.free();
        let queued = self.shared.waiting();
        Capacity { running: self.ids.len() - queued, queued, free_slots, free_tokens }
    }

    fn reading_tokens(&self) -> usize {
        self.engines.first().and_then(|engine| engine.lock().ok()).map_or(0, |engine| engine.reading_tokens())
    }

    /// On one replica, between two of its steps.
    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        self.reading = self.shared.quietest().unwrap_or_default();
        let _pause = Pause::new(&self.shared, self.reading);
        let mut engine = self.engines[self.reading].lock().map_err(|_| self.shared.ended(self.reading))?;
        engine.read(texts)
    }

    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        let _pause = Pause::new(&self.shared, self.reading);
        let mut engine = self.engines[self.reading].lock().map_err(|_| self.shared.ended(self.reading))?;
        let logits = engine.read_logits(rows)?.to_host()?.into_owned();
        Ok(Logits::Host(Cow::Owned(logits)))
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.shared.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // one that panicked has said so
        }
    }
}

/// Keeps a replica's thread from beginning a step for as long as this lives.
struct Pause<'a> {
    shared: &'a Shared,
    replica: usize,
}

impl<'a> Pause<'a> {
    fn new(shared: &'a Shared, replica: usize) -> Self {
        shared.pause(replica, true);
        Self { shared, replica }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.shared.pause(self.replica, false);
    }
}

/// Of all replicas: memory and requests in total, the shortest context.
fn joint_info(replicas: &[Replica], device: String, seconds: f64) -> Result<EngineInfo, EngineError> {
    let Some(first) = replicas.first() else {
        return Err(EngineError::invalid("an engine on no device", "name one by `--device`"));
    };
    let own = first.engine.info();
    let facts = |Replica { name, engine }: &Replica| {
        let EngineInfo { name: kind, version, dtype, context_tokens, arithmetic, .. } = engine.info();
        let dtype = dtype.map(|dtype| dtype.to_string()).unwrap_or_default();
        let arithmetic = arithmetic.clone().unwrap_or_default();
        (name.clone(), format!("{kind} {version} {dtype}, context {context_tokens}, {arithmetic}"))
    };
    check_alike(&replicas.iter().map(facts).collect::<Vec<_>>())?;
    let infos = || replicas.iter().map(|replica| replica.engine.info());
    let read_seconds = infos().map(|info| info.load.read_seconds).fold(0.0, f64::max);
    Ok(EngineInfo {
        name: own.name.clone(),
        version: own.version.clone(),
        device,
        dtype: own.dtype,
        context_tokens: own.context_tokens,
        batch: infos().map(|info| info.batch).sum(),
        load: LoadTimes { read_seconds, prepare_seconds: (seconds - read_seconds).max(0.0), total_seconds: seconds },
        weight_bytes: infos().map(|info| info.weight_bytes).sum(),
        device_bytes: infos().map(|info| info.device_bytes).sum(),
        cache_bytes: infos().map(|info| info.cache_bytes).sum(),
        arithmetic: own.arithmetic.clone(),
    })
}

/// What may be asked of any replica.
fn joint_limits(replicas: &[Replica]) -> Limits {
    let all = || replicas.iter().map(|replica| replica.engine.limits());
    Limits {
        vocabulary: all().map(|limits| limits.vocabulary).min().unwrap_or_default(),
        context_tokens: all().map(|limits| limits.context_tokens).min().unwrap_or_default(),
        cache_tokens: all().filter_map(|limits| limits.cache_tokens).min(),
        block_tokens: all().map(|limits| limits.block_tokens).max().unwrap_or(1),
    }
}

/// Refuses replicas that would not answer alike: of each its name, and what decides its answers.
pub(crate) fn check_alike(replicas: &[(String, String)]) -> Result<(), EngineError> {
    let Some(((first, its), others)) = replicas.split_first() else { return Ok(()) };
    match others.iter().find(|(_, other)| other != its) {
        None => Ok(()),
        Some((name, other)) => Err(EngineError::invalid(
            format!("{first} ({its}) and {name} ({other}) would not answer alike"),
            "name GPUs of one kind by `--device`, or one alone: an answer may not depend on who gives it",
        )),
    }
}
