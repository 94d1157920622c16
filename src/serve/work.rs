//! A request's way through the engine: its completions, whole or token by token.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::answer::{End, StopReason, Usage};
use super::fault::ApiError;
use super::logprobs::{TokenNames, TokenProbability};
use super::prompt::prompt;
use super::request::Asked;
use super::served::Served;
use crate::engine::{
    Completion, EngineError, Finish, GenerateOptions, Prompt, Request, Sampling, ThoughtMarks, Ticket, Update, Work,
};
use crate::openai::Api;

/// A request that is checked and whose prompts are ready.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) served: Arc<Served>,
    pub(super) asked: Asked,
    pub(super) prompts: Vec<Arc<Prompt>>,
}

impl Ready {
    pub(super) fn new(served: Arc<Served>, asked: Asked) -> Result<Self, ApiError> {
        let prompts = asked.prompts.iter().map(|input| prompt(&served, &asked, input).map(Arc::new));
        let prompts = prompts.collect::<Result<_, _>>()?;
        Ok(Self { served, asked, prompts })
    }

    /// Completions in all.
    pub(super) fn choices(&self) -> usize {
        self.prompts.len() * self.asked.n
    }

    /// The prompt of a completion: those of one prompt stand together.
    pub(super) fn prompt_of(&self, choice: usize) -> &Arc<Prompt> {
        &self.prompts[self.prompt_number(choice)]
    }

    /// The place of that prompt.
    pub(super) const fn prompt_number(&self, choice: usize) -> usize {
        choice / self.asked.n
    }

    /// What is a thought: in chats, for what is completed as it stands is told as it stands.
    pub(super) fn thoughts(&self) -> Arc<ThoughtMarks> {
        if self.asked.api == Api::Chat { Arc::clone(&self.served.thoughts) } else { Arc::default() }
    }

    /// What tokens are called, where log-probabilities are told.
    pub(super) fn names(&self) -> Option<TokenNames> {
        self.asked.logprobs.map(|_| TokenNames::new(&self.served.tokenizer, self.asked.tokens_as_ids))
    }

    /// Submits every completion.
    pub(super) fn submit(&self) -> Result<Running, ApiError> {
        Running::submit(&self.served, (0..self.choices()).map(|choice| self.request(choice)).collect())
    }

    fn request(&self, choice: usize) -> Request {
        let Asked { sampling, logprobs, .. } = &self.asked;
        let prompt = self.prompt_of(choice);
        let room = self.served.context_tokens().saturating_sub(prompt.token_ids.len());
        let options = GenerateOptions {
            max_tokens: self.asked.max_tokens.unwrap_or(room).min(room),
            stop_strings: self.asked.stop.as_slice().into(),
            thoughts: self.thoughts(),
            stop_tokens: self.asked.stop_tokens.as_slice().into(),
            ignore_eos: self.asked.ignore_eos,
            min_tokens: self.asked.min_tokens,
            // The first is what the seed gives alone.
            sampling: Sampling { seed: sampling.seed.wrapping_add((choice % self.asked.n) as u64), ..*sampling },
            details: logprobs.is_some(),
            top_tokens: logprobs.unwrap_or(0),
            stream: self.asked.stream,
        };
        Request { id: choice, prompt: Arc::clone(prompt), work: Work::Generate(options) }
    }

    /// What each prompt's tokens were to the model, where an echo is to say so; else nothing of any.
    pub(super) async fn score_prompts(&self) -> Result<Vec<Vec<TokenProbability>>, ApiError> {
        let Some(top_tokens) = self.asked.logprobs.filter(|_| self.asked.echo) else {
            return Ok(vec![Vec::new(); self.prompts.len()]);
        };
        let request = |(id, prompt): (usize, &Arc<Prompt>)| {
            let (first, rest) = prompt.token_ids.split_first()?;
            let head = Prompt { text: String::new(), token_ids: vec![*first] };
            let work = Work::Score { continuation: rest.to_vec(), top_tokens };
            Some(Request { id, prompt: Arc::new(head), work })
        };
        let requests: Vec<Request> = self.prompts.iter().enumerate().filter_map(request).collect();
        let scored = Running::submit(&self.served, requests)?.wait().await?;
        let known = |(prompt, scored): (&Arc<Prompt>, &Completion)| {
            let first = prompt.token_ids.iter().take(1);
            let first = first.map(|token| TokenProbability { token: *token, log_probability: None, top: Vec::new() });
            first.chain(TokenProbability::all(&scored.details, &scored.top_tokens)).collect()
        };
        Ok(self.prompts.iter().zip(&scored).map(known).collect())
    }

    /// How a completion ended.
    pub(super) fn end(&self, completion: &Completion) -> Result<End, ApiError> {
        let tokenizer = &self.served.tokenizer;
        let last = completion.token_ids.last();
        let by = match completion.finish {
            Finish::StopString => {
                let text = tokenizer.decode(&completion.token_ids)?;
                let found =
                    self.asked.stop.iter().filter_map(|stop| Some((text.rfind(stop.as_str())? + stop.len(), stop)));
                found.max().map(|(_, stop)| StopReason::Text(stop.clone()))
            }
            _ => last.filter(|token| self.asked.stop_tokens.contains(token)).map(|token| StopReason::Token(*token)),
        };
        let is_end = last.is_some_and(|token| tokenizer.eos_ids.contains(token)) && !self.asked.ignore_eos;
        let stopped = match completion.finish {
            Finish::EndOfSequence | Finish::StopString => true,
            Finish::UnfinishedThought => is_end || by.is_some(),
            _ => false,
        };
        Ok(End { reason: if stopped { "stop" } else { "length" }, by: by.filter(|_| stopped) })
    }

    /// A completion's text, with the stop string where that is asked for.
    pub(super) fn add_stop(&self, completion: &mut Completion, end: &End) {
        if let Some(StopReason::Text(stop)) = end.by.as_ref().filter(|_| self.asked.keeps_stop) {
            completion.text.push_str(stop);
        }
    }

    /// Tokens of all completions together, and of each prompt once.
    pub(super) fn usage<'a>(&self, completions: impl IntoIterator<Item = &'a Completion>) -> Usage {
        let prompt_tokens = self.prompts.iter().map(|prompt| prompt.token_ids.len()).sum();
        let (mut output, mut cached, mut reasoning) = (0, 0, 0);
        for completion in completions {
            output += completion.token_ids.len();
            if completion.request.is_multiple_of(self.asked.n) {
                cached += completion.cached_tokens;
            }
            reasoning += completion.thought.as_ref().and_then(|thought| thought.tokens).unwrap_or(0);
        }
        Usage::new(prompt_tokens, output, cached, reasoning)
    }
}

/// Requests in the engine. Dropping it cancels those that have not ended.
#[derive(Debug)]
pub(super) struct Running {
    tickets: Vec<Ticket>,
    updates: UnboundedReceiver<(usize, Update)>,
    open: usize,
}

/// Updates that are taken together at most.
const MOST_UPDATES: usize = 256;

impl Running {
    /// Submits requests, whose ids are their places.
    fn submit(served: &Served, requests: Vec<Request>) -> Result<Self, ApiError> {
        let (sender, updates) = unbounded_channel();
        let mut tickets = Vec::with_capacity(requests.len());
        for request in requests {
            let (id, sender) = (request.id, sender.clone());
            tickets.push(served.handle.submit_to(request, Box::new(move |update| sender.send((id, update)).is_ok()))?);
        }
        Ok(Self { open: tickets.len(), tickets, updates })
    }

    /// Whether all have ended.
    pub(super) const fn is_over(&self) -> bool {
        self.open == 0
    }

    /// What has happened since: at least one update, unless all have ended.
    pub(super) async fn next(&mut self, to: &mut Vec<(usize, Update)>) {
        if self.open == 0 {
            return;
        }
        if self.updates.recv_many(to, MOST_UPDATES).await == 0 {
            self.open = 0;
            let why = "the engine's thread has ended";
            to.push((0, Update::Failed(EngineError::failed(why, "start the server again"))));
            return;
        }
        for (id, update) in to.iter() {
            if !matches!(update, Update::Token(_)) {
                self.open -= 1;
                if let Some(ticket) = self.tickets.get_mut(*id) {
                    ticket.end();
                }
            }
        }
    }

    /// All completions, in their order. The first failure ends it.
    pub(super) async fn wait(mut self) -> Result<Vec<Completion>, ApiError> {
        let mut all: Vec<Option<Completion>> = Vec::new();
        all.resize_with(self.tickets.len(), || None);
        let mut updates = Vec::new();
        while !self.is_over() {
            self.next(&mut updates).await;
            for (id, update) in updates.drain(..) {
                match update {
                    Update::Token(_) => {}
                    Update::Completed(completion) => all[id] = Some(completion),
                    Update::Failed(error) => return Err(error.into()),
                }
            }
        }
        Ok(all.into_iter().flatten().collect())
    }
}
