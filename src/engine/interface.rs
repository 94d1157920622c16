//! The interface of every engine: [`Engine`], and the events that it emits.

use std::ops::{ControlFlow, Range};

use super::EngineError;
use super::api::{Completion, EngineInfo, Request, TokenDetail, TopToken, Work};
use super::logits::Logits;
use super::model::ModelSource;
use super::reading::{LayerReading, READ_ROWS, Text};

/// What an engine emits for its requests, and for each step.
#[derive(Debug)]
pub enum Event {
    /// A request that streams ([`super::GenerateOptions::stream`]) has one more token. Never after its completion.
    Token(Token),
    /// A request ended.
    Completed(Completion),
    /// A request could not be completed; the others go on.
    Failed {
        /// [`Request::id`].
        request: usize,
        /// Why, and the way out.
        error: EngineError,
    },
    /// What the user should know.
    Note(String),
    /// One step is done, and what ended in it has been emitted.
    Step {
        /// Requests that are being worked on.
        running: usize,
        /// Tokens generated in this step.
        new_tokens: u64,
        /// Bytes that keys and values of these requests take or may still take, where the engine knows.
        cache_bytes: Option<u64>,
    },
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// [`Request::id`].
    pub request: usize,
    /// 0 for the first.
    pub index: usize,
    /// Its id.
    pub token: u32,
    /// Log probability and margin, where details were requested.
    pub detail: Option<TokenDetail>,
    /// The most probable tokens, where they were requested.
    pub top_tokens: Vec<TopToken>,
    /// Seconds since the request was submitted.
    pub seconds: f64,
}

/// What is free in an engine now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Requests that are being worked on.
    pub running: usize,
    /// Requests that wait.
    pub queued: usize,
    /// Requests that could be worked on beside those.
    pub free_slots: usize,
    /// Tokens of the KV cache that no running request has reserved; what only the prefix cache keeps counts as free. `None` where
    /// the cache has no fixed size. Of an engine on several devices the mean, as [`Limits::cache_tokens`] are one device's.
    pub free_tokens: Option<usize>,
}

impl Capacity {
    /// Whether no request is in the engine.
    pub const fn is_idle(&self) -> bool {
        self.running == 0 && self.queued == 0
    }
}

/// What a request may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Token ids are below this.
    pub vocabulary: usize,
    /// Longest prompt plus output, in tokens.
    pub context_tokens: usize,
    /// Tokens that the whole KV cache holds, on the smallest of several devices; `None` where it has no fixed size.
    pub cache_tokens: Option<usize>,
    /// Tokens of a block of the KV cache: a request reserves whole blocks. 1 where there are none.
    pub block_tokens: usize,
}

impl Limits {
    /// Refuses what the engine cannot work on: an empty prompt, a token beyond the vocabulary, more tokens than the context or the
    /// whole cache holds.
    pub fn check(&self, request: &Request) -> Result<(), EngineError> {
        let (ids, id) = (&request.prompt.token_ids, request.id);
        if ids.is_empty() {
            return Err(EngineError::invalid(
                format!("request {id} has an empty prompt"),
                "a model continues at least one token: check the protocol's template",
            ));
        }
        let continuation: &[u32] =
            if let Work::Score { continuation, .. } = &request.work { continuation } else { &[] };
        if let Some(token) = ids.iter().chain(continuation).find(|token| **token as usize >= self.vocabulary) {
            return Err(EngineError::invalid(
                format!("request {id} holds token {token}, but the vocabulary ends at {}", self.vocabulary),
                "tokenizer and weights belong to different models: fetch both from one place",
            ));
        }
        let length = ids.len() + continuation.len();
        if length >= self.context_tokens + usize::from(!continuation.is_empty()) {
            return Err(EngineError::invalid(
                format!("request {id} has {length} tokens, but the model's context holds {}", self.context_tokens),
                "shorten the prompt or take fewer few-shot examples",
            ));
        }
        self.check_cache(&format!("request {id}"), request.max_total_tokens(self.context_tokens))
    }

    /// The same of texts that are to be read.
    pub(crate) fn check_texts(&self, texts: &[Text]) -> Result<(), EngineError> {
        texts.iter().try_for_each(|text| self.check(&Request::scoring(0, text.tokens, text.from)))
    }

    /// Tokens of the KV cache that a request reserves.
    pub fn reserved_tokens(&self, request: &Request) -> usize {
        request.max_total_tokens(self.context_tokens).next_multiple_of(self.block_tokens.max(1))
    }

    /// Refuses what does not fit the KV cache even alone; `what` may come to so many tokens.
    pub fn check_cache(&self, what: &str, tokens: usize) -> Result<(), EngineError> {
        let Some(room) = self.cache_tokens.filter(|room| tokens > *room) else { return Ok(()) };
        Err(EngineError::invalid(
            format!(
                "{what} may come to {tokens} tokens; beside this model, the device has room for the KV cache of {room}"
            ),
            "ask for fewer tokens (`--max-tokens`, `--window`), shorten the prompts, end other programs on the device, or run \
             with `--engine cpu`",
        ))
    }
}

/// Whatever completes requests: a CPU, a GPU, a server. Requests join with [`Engine::submit`] and leave when they end or with
/// [`Engine::cancel`], at any time between two calls of [`Engine::step`]. Several threads share one through
/// [`super::EngineHandle`].
pub trait Engine: Send {
    /// What it is and how it was loaded.
    fn info(&self) -> &EngineInfo;

    /// Joules that its devices have used up to now, since a moment that stays the same: two readings tell what was used between them,
    /// by whatever ran there. `None` where nothing measures it.
    fn joules(&self) -> Option<f64> {
        None
    }

    /// What a request may be at most. [`Engine::submit`] refuses what lies beyond.
    fn limits(&self) -> Limits {
        Limits {
            vocabulary: usize::MAX,
            context_tokens: self.info().context_tokens,
            cache_tokens: None,
            block_tokens: 1,
        }
    }

    /// Takes a request into the queue. One that cannot be worked on, or whose id belongs to a request that is here already, is
    /// refused, and nothing else changes.
    fn submit(&mut self, request: Request) -> Result<(), EngineError>;

    /// Does the next piece of work on all requests, and adds what came of it to `events`. What ended is emitted once, and its id is
    /// free again. Without requests it does nothing. An error is the engine's own: it has dropped every request, none of which
    /// gets an event any more, and takes new ones.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError>;

    /// Drops a request, for which nothing is emitted any more; what it held is free for the next step. Whether it was there: an id
    /// that was never submitted, or has ended, is none.
    fn cancel(&mut self, request: usize) -> bool;

    /// What is free. Takes constant time.
    fn capacity(&self) -> Capacity;

    /// Works through `requests`, in any order, and calls `sink` as each ends. `sink` may break off the run: what has
    /// ended has been emitted, the rest is dropped, and the result is `Ok`. A request that is refused or fails ends the run, and so
    /// `sink` sees no [`Event::Failed`]; an engine whose requests fail each for itself, as a server's do, hands them to `sink`, goes on
    /// and ends in an error that sums them up.
    fn run(
        &mut self,
        requests: Vec<Request>,
        sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        run(self, requests, sink)
    }

    /// Tokens of texts that one call of [`Engine::read`] is best given; a single text may be longer.
    fn reading_tokens(&self) -> usize {
        0
    }

    /// Reads texts, each in an empty context, and keeps what the logits are computed from that predict each one's tokens from
    /// [`Text::from`] on: rows numbered through all texts, in the order of their tokens, until others are read. Nothing that grows
    /// with the vocabulary is kept. Requests that are being worked on wait meanwhile.
    fn read(&mut self, texts: &[Text]) -> Result<(), EngineError> {
        let _ = texts;
        Err(EngineError::invalid(
            format!("the engine {} does not tell whole distributions of the next token", self.info().name),
            "run with `--engine cpu`, which does",
        ))
    }

    /// Logits of rows of the texts that were read last, [`READ_ROWS`] of them at most.
    fn read_logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, EngineError> {
        Err(EngineError::not_read(&rows, 0))
    }

    /// The same layer by layer, of engines that can.
    fn layers(&mut self) -> Option<&mut dyn LayerReading> {
        None
    }

    /// Puts the weights that `source`, a checkpoint of the same model, has for a layer in the place of the engine's own, in the engine's
    /// precision; linear layers that `source` does not pack run in its arithmetic. Every request is dropped, and so is what was read with
    /// [`Engine::read`]; a reading of [`Engine::layers`] stays where it is.
    fn reload_layer(&mut self, source: &ModelSource, layer: usize) -> Result<(), EngineError> {
        let _ = source;
        Err(EngineError::invalid(
            format!("the engine {} does not change the weights of layer {layer} once it is loaded", self.info().name),
            "run with `--engine cpu`, or with cuda on one device",
        ))
    }

    /// Reads `tokens` and gives `sink` the logits that predict each of `tokens[from..]`: rows of `[vocabulary]` one after the other, in the
    /// order of the tokens, some whole rows a call. `from` is at least 1. `sink` may break off; then the result is `Ok`.
    fn predict(
        &mut self,
        tokens: &[u32],
        from: usize,
        sink: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let text = Text { tokens, from };
        self.read(&[text])?;
        for start in (0..text.rows()).step_by(READ_ROWS) {
            let logits = self.read_logits(start..text.rows().min(start + READ_ROWS))?;
            if sink(&logits.to_host()?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// [`Engine::run`].
fn run<E: Engine + ?Sized>(
    engine: &mut E,
    requests: Vec<Request>,
    sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let ids: Vec<usize> = requests.iter().map(|request| request.id).collect();
    let mut submitted = 0;
    let ended = requests.into_iter().try_for_each(|request| {
        engine.submit(request)?;
        submitted += 1;
        Ok(())
    });
    let ended = ended.and_then(|()| steps(engine, sink));
    // Whoever is left, after a failure or because the sink broke off. An id that was refused may be somebody else's.
    for id in &ids[..submitted] {
        engine.cancel(*id);
    }
    ended
}

/// Steps until nothing is left to do, the sink breaks off or a request fails. All that ended in a step is emitted, whoever breaks
/// off and whatever failed.
fn steps<E: Engine + ?Sized>(
    engine: &mut E,
    sink: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let mut events = Vec::new();
    while !engine.capacity().is_idle() {
        let stepped = engine.step(&mut events);
        let (mut breaks, mut failed) = (false, None);
        for event in events.drain(..) {
            match event {
                Event::Failed { error, .. } => failed = failed.or(Some(error)),
                Event::Step { .. } if failed.is_some() => (),
                event => breaks |= sink(event).is_break(),
            }
        }
        stepped?;
        if let Some(error) = failed {
            return Err(error);
        }
        if breaks {
            break;
        }
    }
    Ok(())
}
