//! One request's way from token to token: choice, stops, text, details. Shared by every engine of ours.

use std::sync::Arc;
use std::time::Instant;

use super::EngineError;
use super::api::{Completion, Finish, GenerateOptions, Request, Timings, TokenDetail, TopToken, Work};
use super::detokenizer::Detokenizer;
use super::interface::Token;
use super::model::ModelTokenizer;
use super::sampling::{Sampler, detail};
use super::thought::ThoughtOf;

/// What follows from a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The request goes on: this is the next token to compute.
    Next(u32),
    /// The request is over.
    Finished(Finish),
}

/// A request in progress. The engine gives it logits; it says when it is over.
#[derive(Debug)]
pub struct Generation {
    request: Request,
    tokenizer: Arc<ModelTokenizer>,
    context_tokens: usize,
    sampler: Sampler,
    token_ids: Vec<u32>,
    details: Vec<TokenDetail>,
    top_tokens: Vec<Vec<TopToken>>,
    /// Text so far, kept only where stop strings have to be looked for.
    text: Detokenizer,
    submitted: Instant,
    began: Instant,
    first_token_seconds: Option<f64>,
    /// Tokens of a streaming request that have not been emitted.
    streamed: Vec<Token>,
    cached_tokens: usize,
}

impl Generation {
    /// Begins work on a request that was submitted at `submitted`.
    pub fn new(request: Request, tokenizer: Arc<ModelTokenizer>, context_tokens: usize, submitted: Instant) -> Self {
        let sampler = Sampler::new(match &request.work {
            Work::Generate(options) => options.sampling,
            Work::Score { .. } => super::Sampling::default(),
        });
        Self {
            request,
            tokenizer,
            context_tokens,
            sampler,
            token_ids: Vec::new(),
            details: Vec::new(),
            top_tokens: Vec::new(),
            text: Detokenizer::default(),
            submitted,
            began: Instant::now(),
            first_token_seconds: None,
            streamed: Vec::new(),
            cached_tokens: 0,
        }
    }

    /// [`Request::id`].
    pub fn request_id(&self) -> usize {
        self.request.id
    }

    /// Counts prompt tokens that were found in the prefix cache.
    pub fn add_cached_tokens(&mut self, tokens: usize) {
        self.cached_tokens += tokens;
    }

    /// The tokens to compute before the first call of [`Generation::accept`]: the prompt.
    pub fn prompt_ids(&self) -> &[u32] {
        &self.request.prompt.token_ids
    }

    /// Tokens so far.
    pub fn output_tokens(&self) -> usize {
        self.token_ids.len()
    }

    /// The tokens since the last call, where the request streams.
    pub fn streamed(&mut self) -> std::vec::Drain<'_, Token> {
        self.streamed.drain(..)
    }

    /// Takes the logits `[vocabulary]` at the last position computed: the next token to compute, or why the request is over.
    pub fn accept(&mut self, logits: &[f32]) -> Result<Accepted, EngineError> {
        if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
            return Err(self.overflow(&format!("{value} as a logit")));
        }
        let (token, wants_detail, top) = match &self.request.work {
            Work::Generate(options) => (self.sampler.choose(logits), options.details, options.top_tokens),
            Work::Score { continuation, top_tokens } => match continuation.get(self.token_ids.len()) {
                Some(token) => (*token, true, *top_tokens),
                None => return Ok(Accepted::Finished(Finish::Scored)),
            },
        };
        if wants_detail {
            let (detail, top_tokens) = detail(logits, token, top);
            self.details.push(detail);
            if top > 0 {
                self.top_tokens.push(top_tokens);
            }
        }
        self.take(token)
    }

    /// Whether the engine may choose tokens by itself: the highest logit, the lowest id among equals, and nothing more is
    /// asked. Such a request is given tokens by [`Generation::accept_token`].
    pub fn is_greedy(&self) -> bool {
        matches!(&self.request.work, Work::Generate(options) if options.sampling.temperature <= 0.0 && !options.details)
    }

    /// Takes the token that the engine chose, `None` where a logit was not finite. Returns as [`Generation::accept`] does.
    pub fn accept_token(&mut self, token: Option<u32>) -> Result<Accepted, EngineError> {
        match token {
            Some(token) => self.take(token),
            None => Err(self.overflow("a logit that is not finite")),
        }
    }

    fn take(&mut self, token: u32) -> Result<Accepted, EngineError> {
        self.token_ids.push(token);
        self.first_token_seconds.get_or_insert_with(|| self.began.elapsed().as_secs_f64());
        if matches!(&self.request.work, Work::Generate(options) if options.stream) {
            self.streamed.push(Token {
                request: self.request.id,
                index: self.token_ids.len() - 1,
                token,
                detail: self.details.last().copied(),
                top_tokens: self.top_tokens.last().cloned().unwrap_or_default(),
                seconds: self.submitted.elapsed().as_secs_f64(),
            });
        }
        Ok(self.finish_after(token)?.map_or(Accepted::Next(token), Accepted::Finished))
    }

    fn overflow(&self, what: &str) -> EngineError {
        EngineError::not_finite(&format!("{what} after {} tokens of request {}", self.position(), self.request.id))
    }

    /// [`Request::max_output_tokens`].
    pub fn max_output_tokens(&self) -> usize {
        self.request.max_output_tokens(self.context_tokens)
    }

    /// Ends the request and says what came of it; nothing is left of it afterwards.
    pub fn complete(&mut self, finish: Finish) -> Result<Completion, EngineError> {
        let mut text = self.tokenizer.decode(&self.token_ids)?;
        let found = self.thought()?;
        let answer = found.as_ref().map_or(Some(0), |found| found.answer);
        if let (Finish::StopString, Work::Generate(options), Some(answer)) = (finish, &self.request.work, answer)
            && let Some(end) = first_stop(&text, (answer, self.unstoppable_bytes(options)?), &options.stop_strings)
        {
            text.truncate(end);
        }
        match answer {
            Some(answer) => drop(text.drain(..answer)),
            None => text.clear(),
        }
        let finish = if answer.is_none() { Finish::UnfinishedThought } else { finish };
        Ok(Completion {
            request: self.request.id,
            token_ids: std::mem::take(&mut self.token_ids),
            text,
            thought: found.map(|found| found.thought),
            finish,
            details: std::mem::take(&mut self.details),
            top_tokens: std::mem::take(&mut self.top_tokens),
            timings: Timings {
                queued_seconds: self.began.duration_since(self.submitted).as_secs_f64(),
                first_token_seconds: self.first_token_seconds.unwrap_or_default(),
                total_seconds: self.began.elapsed().as_secs_f64(),
            },
            cached_tokens: self.cached_tokens,
            server: None,
        })
    }

    /// Whether the request asks for nothing at all; then it is over before it begins.
    pub fn finished_before_start(&self) -> Option<Finish> {
        match &self.request.work {
            Work::Generate(options) => (options.max_tokens == 0).then_some(Finish::Length),
            Work::Score { continuation, .. } => continuation.is_empty().then_some(Finish::Scored),
        }
    }

    /// The thought so far, if there is one.
    fn thought(&self) -> Result<Option<ThoughtOf>, EngineError> {
        match &self.request.work {
            Work::Generate(options) => options.thoughts.of(&self.token_ids, &self.request.prompt.text, &self.tokenizer),
            Work::Score { .. } => Ok(None),
        }
    }

    /// Whether a stop string stands in the answer: one that stands in a thought ends nothing, during the thought or behind it.
    fn answer_stops(&self, options: &GenerateOptions) -> Result<bool, EngineError> {
        let answer = match self.thought()? {
            None if options.min_tokens == 0 => return Ok(true),
            None => 0,
            Some(thought) => match thought.answer {
                Some(answer) => answer,
                None => return Ok(false),
            },
        };
        let text = self.tokenizer.decode(&self.token_ids)?;
        Ok(first_stop(&text, (answer, self.unstoppable_bytes(options)?), &options.stop_strings).is_some())
    }

    /// Bytes of the text that no stop string may end in: those of the tokens before the least number has come.
    fn unstoppable_bytes(&self, options: &GenerateOptions) -> Result<usize, EngineError> {
        let tokens = options.min_tokens.saturating_sub(1).min(self.token_ids.len());
        Ok(if tokens == 0 { 0 } else { self.tokenizer.decode(&self.token_ids[..tokens])?.len() })
    }

    fn position(&self) -> usize {
        self.request.prompt.token_ids.len() + self.token_ids.len()
    }

    fn finish_after(&mut self, token: u32) -> Result<Option<Finish>, EngineError> {
        let options = match &self.request.work {
            Work::Generate(options) => options,
            Work::Score { continuation, .. } => {
                return Ok((self.token_ids.len() == continuation.len()).then_some(Finish::Scored));
            }
        };
        let may_end = self.token_ids.len() >= options.min_tokens;
        if may_end && is_end(options, &self.tokenizer, token) {
            return Ok(Some(Finish::EndOfSequence));
        }
        let stops = !options.stop_strings.is_empty()
            && text_stops(&mut self.text, token, &self.tokenizer, &options.stop_strings)?;
        if may_end && stops && self.answer_stops(options)? {
            return Ok(Some(Finish::StopString));
        }
        if self.token_ids.len() >= options.max_tokens {
            return Ok(Some(Finish::Length));
        }
        Ok((self.position() >= self.context_tokens).then_some(Finish::Context))
    }
}

fn is_end(options: &GenerateOptions, tokenizer: &ModelTokenizer, token: u32) -> bool {
    (!options.ignore_eos && tokenizer.eos_ids.contains(&token)) || options.stop_tokens.contains(&token)
}

/// Adds a token to a text; whether a stop string now stands in it that did not before.
fn text_stops(
    text: &mut Detokenizer,
    token: u32,
    tokenizer: &ModelTokenizer,
    stops: &[String],
) -> Result<bool, EngineError> {
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    let before = text.text().len();
    if text.push(token, tokenizer)? == 0 {
        return Ok(false);
    }
    let text = text.text();
    let from = (0..=before.saturating_sub(longest)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Ok(first_stop(text, (from, 0), stops).is_some())
}

/// Byte offset of the first stop string that begins at or after `from` and ends behind `behind`.
fn first_stop(text: &str, (from, behind): (usize, usize), stops: &[String]) -> Option<usize> {
    let first = |stop: &String| {
        let mut places = text[from..].match_indices(stop.as_str()).map(|(at, _)| from + at);
        places.find(|at| at + stop.len() > behind)
    };
    stops.iter().filter_map(first).min()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Prompt, ThoughtMarks};

    const WORDS: [&str; 8] = ["hm", "2", "Q:", "<think>", "</think>", "end", "[THINK]", "[/THINK]"];

    fn id(word: &str) -> u32 {
        WORDS.iter().position(|known| *known == word).unwrap() as u32
    }

    /// A tokenizer of whole words, whose last three are special tokens.
    fn tokenizer() -> Arc<ModelTokenizer> {
        let vocabulary: Vec<String> = WORDS.iter().enumerate().map(|(id, word)| format!("\"{word}\": {id}")).collect();
        let special = |id: usize| {
            format!(
                "{{\"id\": {id}, \"content\": \"{}\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \
                 \"normalized\": false, \"special\": true}}",
                WORDS[id]
            )
        };
        let json = format!(
            "{{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": [{}], \"normalizer\": null, \
             \"pre_tokenizer\": {{\"type\": \"WhitespaceSplit\"}}, \"post_processor\": null, \"decoder\": null, \"model\": \
             {{\"type\": \"WordLevel\", \"unk_token\": \"hm\", \"vocab\": {{{}}}}}}}",
            [5, 6, 7].map(special).join(", "),
            vocabulary.join(", ")
        );
        Arc::new(ModelTokenizer {
            tokenizer: tokenizers::Tokenizer::from_bytes(json).unwrap(),
            chat_template: None,
            bos_token: None,
            named_tokens: std::collections::BTreeMap::new(),
            bos_id: None,
            eos_token: Some("end".to_owned()),
            eos_ids: BTreeSet::from([id("end")]),
            sha256: crate::model::FileHash::known(""),
            notes: Vec::new(),
        })
    }

    /// What comes of these words behind a prompt, with the stop string `Q:`.
    fn completion(prompt: &str, words: &str) -> Completion {
        complete(prompt, options(words), words)
    }

    fn options(words: &str) -> GenerateOptions {
        let pair = |(open, end): (&str, &str)| (open.to_owned(), end.to_owned());
        GenerateOptions {
            max_tokens: words.split(' ').count(),
            stop_strings: Arc::from(["Q:".to_owned()]),
            thoughts: Arc::new(ThoughtMarks::new([("<think>", "</think>"), ("[THINK]", "[/THINK]")].map(pair))),
            ..GenerateOptions::default()
        }
    }

    fn complete(prompt: &str, options: GenerateOptions, words: &str) -> Completion {
        let prompt = Arc::new(Prompt { text: prompt.to_owned(), token_ids: vec![0] });
        let request = Request { id: 0, prompt, work: Work::Generate(options) };
        let mut generation = Generation::new(request, tokenizer(), 1000, Instant::now());
        for word in words.split(' ') {
            if let Accepted::Finished(finish) = generation.accept_token(Some(id(word))).unwrap() {
                return generation.complete(finish).unwrap();
            }
        }
        panic!("the last of {words} ends the generation");
    }

    fn thought(text: &str, tokens: usize) -> crate::Thought {
        crate::Thought { text: text.to_owned(), tokens: Some(tokens) }
    }

    #[test]
    fn a_thought_is_kept_apart_and_no_stop_string_ends_it() {
        let own = completion("p", "<think> hm Q: hm </think> 2 hm Q: hm");
        assert_eq!((own.text.trim(), own.finish, own.token_ids.len()), ("2 hm", Finish::StopString, 8));
        assert_eq!(own.thought, Some(thought("hm Q: hm", 5)));
        let by_template = completion("p <think>\n", "hm Q: hm </think> 2 end");
        assert_eq!((by_template.text.trim(), by_template.finish), ("2", Finish::EndOfSequence));
        assert_eq!(by_template.thought, Some(thought("hm Q: hm", 4)));
    }

    #[test]
    fn special_tokens_mark_a_thought_though_no_text_shows_them() {
        let own = completion("p", "[THINK] hm Q: [/THINK] 2 end");
        assert_eq!((own.text.trim(), own.finish), ("2", Finish::EndOfSequence));
        assert_eq!(own.thought, Some(thought("hm Q:", 4)));
        let stopped = completion("p [THINK]", "Q: hm Q: [/THINK] 2 Q: 2");
        assert_eq!((stopped.text.trim(), stopped.finish), ("2", Finish::StopString));
        assert_eq!(stopped.thought, Some(thought("Q: hm Q:", 4)));
    }

    #[test]
    fn a_thought_that_never_ends_is_no_answer() {
        for (prompt, words) in [("p", "2 <think> hm 2"), ("p <think>", "hm 2"), ("p", "[THINK] 2 Q: end")] {
            let open = completion(prompt, words);
            assert_eq!((open.text.as_str(), open.finish), ("", Finish::UnfinishedThought), "{words}");
            assert_eq!(open.thought.unwrap().tokens, Some(words.split(' ').count()), "{words}");
        }
    }

    #[test]
    fn nothing_but_a_limit_ends_an_answer_before_it_has_its_least_number_of_tokens() {
        let of = |min_tokens: usize, words: &str| {
            let options = GenerateOptions { min_tokens, ..options(words) };
            let done = complete("p", options, words);
            (done.text.trim().to_owned(), done.finish, done.token_ids.len())
        };
        assert_eq!(of(0, "hm end 2 Q: hm"), ("hm".to_owned(), Finish::EndOfSequence, 2));
        assert_eq!(of(3, "hm end 2 Q: hm"), ("hm 2".to_owned(), Finish::StopString, 4));
        assert_eq!(of(3, "Q: 2 Q: hm"), ("Q: 2".to_owned(), Finish::StopString, 3));
        assert_eq!(of(4, "Q: 2 Q: end"), ("Q: 2 Q:".to_owned(), Finish::EndOfSequence, 4));
        assert_eq!(of(9, "Q: 2 end 2"), ("Q: 2 2".to_owned(), Finish::Length, 4));
    }

    #[test]
    fn an_answer_without_a_thought_is_all_of_the_text() {
        let plain = completion("<think> p", "hm 2 Q: hm");
        assert_eq!((plain.text.as_str(), plain.finish, plain.thought), ("hm 2 ", Finish::StopString, None));
        assert_eq!(completion("p", "hm 2").finish, Finish::Length);
    }
}
