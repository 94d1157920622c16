//! An answer as it comes: a stream of events.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use futures_util::stream;

use super::answer::{End, Head, Logprobs, Part, Usage};
use super::fault::ApiError;
use super::logprobs::{TokenNames, TokenProbability, chat_logprobs, completion_logprobs};
use super::text::{Added, TextStream};
use super::work::{Ready, Running};
use crate::engine::{Completion, Token, Update};
use crate::openai::Api;

const DONE: &[u8] = b"data: [DONE]\n\n";

/// One completion of the stream.
struct Choice {
    text: TextStream,
    /// Something of it has been told.
    has_begun: bool,
    tokens: usize,
    last_token_seconds: f64,
    /// Characters of text that log-probabilities have been told of.
    offset: usize,
}

/// A stream of events, from what the engine tells.
struct Events {
    ready: Ready,
    head: Head,
    running: Running,
    choices: Vec<Choice>,
    completions: Vec<Completion>,
    scored: Vec<Vec<TokenProbability>>,
    /// Where log-probabilities are told.
    names: Option<TokenNames>,
    updates: Vec<(usize, Update)>,
    is_over: bool,
}

/// Submits everything, so that what is refused is answered by a status, and returns the stream.
pub(super) async fn answer(ready: Ready, head: Head) -> Result<Body, ApiError> {
    let scored = ready.score_prompts().await?;
    let running = ready.submit()?;
    let choice = |index: usize| Choice {
        text: TextStream::new(
            &ready.served.tokenizer,
            &ready.thoughts(),
            &ready.prompt_of(index).text,
            &ready.asked.stop,
        ),
        has_begun: false,
        tokens: 0,
        last_token_seconds: 0.0,
        offset: 0,
    };
    let choices = (0..ready.choices()).map(choice).collect();
    let events = Events {
        names: ready.names(),
        ready,
        head,
        running,
        choices,
        completions: Vec::new(),
        scored,
        updates: Vec::new(),
        is_over: false,
    };
    let bytes = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(bytes)), events))
    });
    Ok(Body::from_stream(bytes))
}

impl Events {
    /// The next events, all that there are; `None` behind the last.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.is_empty() && !self.is_over {
            let mut updates = std::mem::take(&mut self.updates);
            self.running.next(&mut updates).await;
            let told = self.tell_all(&mut updates, &mut bytes);
            self.updates = updates;
            if let Err(error) = told {
                // The status has been sent: what fails now is told in the stream.
                bytes.extend_from_slice(format!("data: {}\n\n", error.body()).as_bytes());
                self.is_over = true;
            } else if self.running.is_over() {
                if self.ready.asked.stream_usage {
                    self.head.usage(self.ready.usage(&self.completions), &mut bytes);
                }
                self.is_over = true;
            }
            if self.is_over {
                bytes.extend_from_slice(DONE);
            }
        }
        (!bytes.is_empty()).then_some(bytes)
    }

    fn tell_all(&mut self, updates: &mut Vec<(usize, Update)>, to: &mut Vec<u8>) -> Result<(), ApiError> {
        let mut updates = updates.drain(..).peekable();
        while let Some((index, update)) = updates.next() {
            match update {
                Update::Token(token) => {
                    // The last token's chunk says how it ended.
                    let ends = |next: &(usize, Update)| next.0 == index && matches!(next.1, Update::Completed(_));
                    let end = match updates.next_if(ends) {
                        Some((_, Update::Completed(completion))) => Some(completion),
                        _ => None,
                    };
                    self.tell(index, Some(&token), end, to)?;
                }
                Update::Completed(completion) => self.tell(index, None, Some(completion), to)?,
                Update::Failed(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A token, the end, or the token at the end.
    fn tell(
        &mut self,
        index: usize,
        token: Option<&Token>,
        completion: Option<Completion>,
        to: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let mut added = token.map_or(Ok(Added::default()), |token| self.token(index, token))?;
        let asked = &self.ready.asked;
        let tells_each = asked.token_ids || asked.logprobs.is_some() || asked.continuous_usage;
        if completion.is_none() && added == Added::default() && !tells_each {
            return Ok(());
        }
        self.begin(index, to)?;
        let finish = completion.map(|completion| self.completed(index, completion, &mut added)).transpose()?;
        let logprobs = token.map_or(Ok(None), |token| self.logprobs(index, token))?;
        let ids = token.filter(|_| self.ready.asked.token_ids).map(|token| std::slice::from_ref(&token.token));
        let Added { content, reasoning } = &added;
        let part = Part { index, content, reasoning, logprobs, finish, token_ids: ids, ..Part::default() };
        self.head.chunk(part, self.usage_so_far(index), to);
        Ok(())
    }

    fn token(&mut self, index: usize, token: &Token) -> Result<Added, ApiError> {
        let choice = &mut self.choices[index];
        if choice.tokens > 0 {
            self.ready.served.metrics.between_tokens(token.seconds - choice.last_token_seconds);
        }
        choice.last_token_seconds = token.seconds;
        choice.tokens += 1;
        choice.text.push(token.token)
    }

    /// Takes the end of a completion, and adds what is left to tell.
    fn completed(&mut self, index: usize, mut completion: Completion, added: &mut Added) -> Result<End, ApiError> {
        let end = self.ready.end(&completion)?;
        let prompt_tokens = self.ready.prompt_of(index).token_ids.len();
        self.ready.served.metrics.completed(prompt_tokens, &completion, end.reason);
        self.ready.add_stop(&mut completion, &end);
        let left = self.choices[index].text.finish(&completion);
        added.content.push_str(&left.content);
        added.reasoning.push_str(&left.reasoning);
        self.completions.push(completion);
        Ok(end)
    }

    /// What comes first: the role, the prompt's ids, the prompt where it is echoed.
    fn begin(&mut self, index: usize, to: &mut Vec<u8>) -> Result<(), ApiError> {
        if std::mem::replace(&mut self.choices[index].has_begun, true) {
            return Ok(());
        }
        let asked = &self.ready.asked;
        let prompt = self.ready.prompt_of(index);
        let is_chat = asked.api == Api::Chat;
        if !is_chat && !asked.echo && !asked.token_ids {
            return Ok(());
        }
        let mut part = Part {
            index,
            has_role: is_chat,
            prompt_token_ids: asked.token_ids.then_some(prompt.token_ids.as_slice()),
            ..Part::default()
        };
        if asked.echo {
            part.content = &prompt.text;
            if let Some(names) = &self.names {
                let scored = self.scored[self.ready.prompt_number(index)].iter().cloned();
                let (logprobs, offset) = completion_logprobs(names, scored, 0)?;
                part.logprobs = Some(Logprobs::Completion(logprobs));
                self.choices[index].offset = offset;
            }
        }
        self.head.chunk(part, None, to);
        Ok(())
    }

    fn logprobs(&mut self, index: usize, token: &Token) -> Result<Option<Logprobs>, ApiError> {
        let (Some(detail), Some(names)) = (token.detail, &self.names) else { return Ok(None) };
        let one = TokenProbability {
            token: detail.token,
            log_probability: Some(detail.log_probability),
            top: token.top_tokens.clone(),
        };
        Ok(Some(match self.ready.asked.api {
            Api::Chat => Logprobs::Chat { content: chat_logprobs(names, [one])? },
            Api::Completions => {
                let (logprobs, offset) = completion_logprobs(names, [one], self.choices[index].offset)?;
                self.choices[index].offset = offset;
                Logprobs::Completion(logprobs)
            }
        }))
    }

    /// Usage of one completion until now, where every chunk has it.
    fn usage_so_far(&self, index: usize) -> Option<Usage> {
        let tokens = self.choices[index].tokens;
        let prompt = self.ready.prompt_of(index).token_ids.len();
        self.ready.asked.continuous_usage.then(|| Usage::new(prompt, tokens, 0, 0))
    }
}
