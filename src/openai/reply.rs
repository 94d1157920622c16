//! What a server answers, whole or in chunks.

use serde::Deserialize;
use serde_json::Value;

use super::failure::{Cause, RequestError, error_message};
use crate::engine::model::ModelTokenizer;
use crate::engine::{CountedBy, Finish, ServerCounts};

/// Tokens, as a server counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Of the answer, thoughts included.
    pub completion_tokens: Option<usize>,
    /// Details of the former.
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    /// Details of the latter.
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<usize>,
}

impl Usage {
    /// Tokens of the prompt that came from a cache.
    pub fn cached_tokens(&self) -> Option<usize> {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens)
    }

    /// Tokens of the answer that were thought.
    pub fn reasoning_tokens(&self) -> Option<usize> {
        self.completion_tokens_details.and_then(|details| details.reasoning_tokens)
    }
}

/// When a chunk came, and how many tokens had come by then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkMark {
    /// Seconds since the request was sent until the read that completed it.
    pub seconds: f64,
    /// Tokens up to here, where ids or continuous usage tell them: a chunk is not a token.
    pub tokens: Option<usize>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// What was said.
    pub text: String,
    /// What the server gave apart as reasoning.
    pub reasoning: String,
    /// Why it ended; `None` before that.
    pub finish: Option<Finish>,
    /// Ids of all tokens; empty where the server does not tell them.
    pub token_ids: Vec<u32>,
    /// Ids of the prompt's tokens; empty where the server does not tell them.
    pub prompt_token_ids: Vec<u32>,
    /// The last usage that the server sent.
    pub usage: Option<Usage>,
    /// The model that says it has answered.
    pub model: Option<String>,
    /// What the server runs on, as it names it.
    pub fingerprint: Option<String>,
    /// Seconds from sending to the first event of a stream, whatever it holds; `None` where the answer came whole.
    pub first_event_seconds: Option<f64>,
    /// Seconds from sending to the first chunk that holds text or tokens; `None` where the answer came whole.
    pub first_token_seconds: Option<f64>,
    /// Seconds from sending to the last chunk that holds text, tokens or the finish; to the whole body, where it came whole.
    pub seconds: f64,
    /// Every chunk that holds text or tokens.
    pub chunks: Vec<ChunkMark>,
    /// Whether the server had closed the connection that it was asked on first, and was asked on a new one; times count from the first.
    pub resent: bool,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    object: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    system_fingerprint: Option<String>,
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default, alias = "message")]
    delta: Option<Said>,
    #[serde(default)]
    finish_reason: Option<String>,
    /// vLLM's: the stop string or token that ended it.
    #[serde(default, alias = "matched_stop")]
    stop_reason: Option<Value>,
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    content: Option<Content>,
    #[serde(default, alias = "reasoning_content")]
    reasoning: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: Option<String>,
}

impl Content {
    fn add_to(self, text: &mut String) {
        match self {
            Self::Text(more) => text.push_str(&more),
            Self::Parts(parts) => {
                parts.iter().filter_map(|part| part.text.as_deref()).for_each(|more| text.push_str(more));
            }
        }
    }
}

impl Reply {
    /// Adds a chunk, or the whole body of an answer that comes in one; `seconds` since the request was sent.
    pub(super) fn add(&mut self, json: &str, seconds: f64) -> Result<(), RequestError> {
        let body: Body = serde_json::from_str(json).map_err(|error| self.malformed(json, &error))?;
        self.first_event_seconds.get_or_insert(seconds);
        if body.error.is_some() || body.object.as_deref() == Some("error") {
            return Err(in_stream(json));
        }
        if body.object.as_deref().is_some_and(|object| !object.is_empty() && !object.contains("completion")) {
            let object = body.object.unwrap_or_default();
            return Err(RequestError::new(Cause::Malformed, format!("the answer is a `{object}`, no completion")));
        }
        if body.choices.is_none() && body.usage.is_none() {
            return Err(no_choice(json));
        }
        self.usage = body.usage.or(self.usage);
        self.model = body.model.or(self.model.take());
        self.fingerprint = body.system_fingerprint.or(self.fingerprint.take());
        self.prompt_token_ids.extend(body.prompt_token_ids.unwrap_or_default());
        // Further choices were not asked for.
        for choice in body.choices.into_iter().flatten().filter(|choice| choice.index.unwrap_or(0) == 0) {
            self.take(choice, seconds)?;
        }
        Ok(())
    }

    fn take(&mut self, choice: Choice, seconds: f64) -> Result<(), RequestError> {
        let before = (self.text.len(), self.reasoning.len(), self.token_ids.len());
        self.text.push_str(choice.text.as_deref().unwrap_or_default());
        if let Some(said) = choice.delta {
            if let Some(content) = said.content {
                content.add_to(&mut self.text);
            }
            self.reasoning.push_str(said.reasoning.as_deref().unwrap_or_default());
        }
        self.token_ids.extend(choice.token_ids.unwrap_or_default());
        self.prompt_token_ids.extend(choice.prompt_token_ids.unwrap_or_default());
        if (self.text.len(), self.reasoning.len(), self.token_ids.len()) != before {
            self.first_token_seconds.get_or_insert(seconds);
            let by_usage = self.usage.and_then(|usage| usage.completion_tokens);
            let tokens = if self.token_ids.is_empty() { by_usage } else { Some(self.token_ids.len()) };
            self.chunks.push(ChunkMark { seconds, tokens });
            self.seconds = seconds;
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            let by_string = matches!(choice.stop_reason, Some(Value::String(_)));
            self.finish = Some(finish(&reason, by_string)?);
            self.seconds = seconds;
        }
        Ok(())
    }

    /// Tokens: the output's by ids, else by the server's usage, else by the model's tokenizer; never by chunks.
    pub fn counts(&self, tokenizer: Option<&ModelTokenizer>) -> ServerCounts {
        let usage = self.usage.unwrap_or_default();
        let prompt_tokens = usage.prompt_tokens.or(Some(self.prompt_token_ids.len()).filter(|tokens| *tokens > 0));
        let (output_tokens, by) = if !self.token_ids.is_empty() {
            (Some(self.token_ids.len()), CountedBy::Ids)
        } else if let Some(tokens) = usage.completion_tokens {
            (Some(tokens), CountedBy::Usage)
        } else {
            let text = [self.reasoning.as_str(), self.text.as_str()].concat();
            let counted = tokenizer.and_then(|tokenizer| tokenizer.encode(&text, false).ok());
            (counted.map(|ids| ids.len()), CountedBy::Tokenizer)
        };
        ServerCounts { prompt_tokens, output_tokens, by: output_tokens.map(|_| by) }
    }

    /// An answer that has come whole has no first token.
    pub(super) fn whole(mut self, seconds: f64) -> Self {
        self.first_event_seconds = None;
        self.first_token_seconds = None;
        self.chunks.clear();
        self.seconds = seconds;
        self
    }

    /// Checks that the answer has ended as answers do.
    pub(super) fn ended(self) -> Result<Self, RequestError> {
        if self.finish.is_some() {
            return Ok(self);
        }
        let tokens = self.chunks.len();
        Err(RequestError::new(Cause::Cut, format!("the stream ended without a finish_reason, after {tokens} chunks")))
    }

    fn malformed(&self, json: &str, error: &serde_json::Error) -> RequestError {
        match serde_json::from_str::<Value>(json) {
            // An error in a shape of its own, or what no answer looks like.
            Ok(value) => match error_message(&value) {
                Some(message) => RequestError::new(Cause::InStream, message),
                None => RequestError::new(Cause::Malformed, format!("{error}, in {json}")),
            },
            Err(_) if json.trim_start().starts_with('<') => {
                RequestError::new(Cause::Malformed, format!("no JSON but HTML: {json}"))
            }
            // Half an object at the end of a stream is a stream that was cut.
            Err(_) if error.is_eof() && !self.chunks.is_empty() => {
                RequestError::new(Cause::Cut, "the stream ended within a chunk")
            }
            Err(_) => RequestError::new(Cause::Malformed, format!("no JSON ({error}): {json}")),
        }
    }
}

fn in_stream(json: &str) -> RequestError {
    let message = serde_json::from_str(json).ok().and_then(|value| error_message(&value));
    RequestError::new(Cause::InStream, message.unwrap_or_else(|| json.to_owned()))
}

/// An object without choices: an error in another shape, or nothing known.
fn no_choice(json: &str) -> RequestError {
    let message = serde_json::from_str(json).ok().and_then(|value| error_message(&value));
    match message {
        Some(message) => RequestError::new(Cause::InStream, message),
        None => RequestError::new(Cause::Malformed, format!("an answer without `choices`: {json}")),
    }
}

/// Why an answer ended, from a server's word for it.
fn finish(reason: &str, by_string: bool) -> Result<Finish, RequestError> {
    Ok(match reason {
        "stop" if by_string => Finish::StopString,
        "stop" | "eos_token" | "eos" => Finish::EndOfSequence,
        "stop_sequence" => Finish::StopString,
        "length" | "max_tokens" => Finish::Length,
        "abort" | "cancelled" | "error" => {
            return Err(RequestError::new(Cause::Ended, format!("the server ended it: `{reason}`")));
        }
        "content_filter" | "tool_calls" | "function_call" | "repetition" => {
            return Err(RequestError::new(Cause::Malformed, format!("it ended as `{reason}`, which is no answer")));
        }
        _ => Finish::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{ModelSource, ModelSpec};
    use crate::hub::Hub;

    fn read(chunks: &[&str]) -> Result<Reply, RequestError> {
        let mut reply = Reply::default();
        chunks.iter().enumerate().try_for_each(|(index, json)| reply.add(json, index as f64))?;
        reply.ended()
    }

    #[test]
    fn a_stream_of_either_route_becomes_one_answer() {
        let text = read(&[
            r#"{"object":"text_completion","model":"m","system_fingerprint":"fp","choices":[{"index":0,"text":"4"}]}"#,
            r#"{"choices":[{"index":0,"text":"2","finish_reason":"stop","stop_reason":"Q:"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        ])
        .unwrap();
        assert_eq!((text.text.as_str(), text.finish, text.seconds), ("42", Some(Finish::StopString), 1.0));
        let usage = text.usage.unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens()), (Some(5), Some(3), Some(4)));
        assert_eq!((text.model.as_deref(), text.fingerprint.as_deref()), (Some("m"), Some("fp")));
        let chat = read(&[
            r#"{"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"4"}]},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"another"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}],"usage":{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1}}}"#,
        ])
        .unwrap();
        assert_eq!((chat.text.as_str(), chat.reasoning.as_str(), chat.finish), ("4", "hm", Some(Finish::Length)));
        // The first chunk holds a role and no token.
        assert_eq!((chat.first_token_seconds, chat.seconds, chat.chunks.len()), (Some(1.0), 4.0, 2));
        assert_eq!(chat.usage.unwrap().reasoning_tokens(), Some(1));
    }

    #[test]
    fn tokens_are_counted_by_ids_then_by_continuous_usage_and_never_by_chunks() {
        let ids = read(&[
            r#"{"choices":[{"text":"a b","token_ids":[7,8],"prompt_token_ids":[1]}],"usage":{"completion_tokens":9}}"#,
            r#"{"choices":[{"text":"","token_ids":[9],"finish_reason":"stop"}]}"#,
        ])
        .unwrap();
        assert_eq!((ids.token_ids.as_slice(), ids.prompt_token_ids.as_slice()), (&[7, 8, 9][..], &[1][..]));
        assert_eq!(ids.chunks.iter().map(|mark| mark.tokens).collect::<Vec<_>>(), [Some(2), Some(3)]);
        let usage = read(&[
            r#"{"choices":[{"text":"a b c"}],"usage":{"completion_tokens":3}}"#,
            r#"{"choices":[{"text":"d","finish_reason":"stop"}],"usage":{"completion_tokens":4}}"#,
        ])
        .unwrap();
        assert_eq!(usage.chunks.iter().map(|mark| mark.tokens).collect::<Vec<_>>(), [Some(3), Some(4)]);
        let none = read(&[r#"{"choices":[{"text":"abc","finish_reason":"stop"}]}"#]).unwrap();
        assert_eq!(none.chunks[0].tokens, None);
    }

    #[test]
    fn an_answer_ends_with_its_last_token_or_its_reason_whichever_is_later() {
        let seconds = |chunks: &[&str]| read(chunks).unwrap().seconds;
        let (end, text) = (r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#, r#"{"choices":[{"text":"a"}]}"#);
        assert_eq!((seconds(&[text, text, end]), seconds(&[text, end, text])), (2.0, 2.0));
        assert_eq!(seconds(&[text, end, r#"{"choices":[]}"#]), 1.0);
    }

    #[test]
    fn what_nobody_counts_is_unknown_and_a_thought_s_tokens_count() {
        let counts = |reply: &Reply, tokenizer| {
            let ServerCounts { prompt_tokens, output_tokens, by } = reply.counts(tokenizer);
            (prompt_tokens, output_tokens, by)
        };
        let silent = r#"{"choices":[{"message":{"content":"12","reasoning":"34 5"},"finish_reason":"stop"}]}"#;
        let silent = read(&[silent]).unwrap();
        assert_eq!(counts(&silent, None), (None, None, None));
        let spec = ModelSpec { source: "bundled".to_owned(), revision: "main".to_owned() };
        let model = ModelSource::open(&spec, &Hub::from_environment(true).unwrap()).unwrap();
        let tokenizer = &*model.tokenizer;
        let of = |text: &str| Some(tokenizer.encode(text, false).unwrap().len());
        assert!(of("34 512") > of("12"));
        assert_eq!(counts(&silent, Some(tokenizer)), (None, of("34 512"), Some(CountedBy::Tokenizer)));
        let ids = r#"{"choices":[{"text":"a","token_ids":[7],"prompt_token_ids":[1,2],"finish_reason":"stop"}]}"#;
        assert_eq!(counts(&read(&[ids]).unwrap(), Some(tokenizer)), (Some(2), Some(1), Some(CountedBy::Ids)));
    }

    #[test]
    fn a_later_usage_of_null_takes_nothing_back() {
        let reply = read(&[
            r#"{"choices":[{"text":"a","finish_reason":"stop"}],"usage":{"completion_tokens":1}}"#,
            r#"{"choices":[],"usage":null}"#,
        ]);
        assert_eq!(reply.unwrap().usage.unwrap().completion_tokens, Some(1));
    }

    #[test]
    fn what_is_no_answer_is_a_failure_with_its_cause() {
        for (json, cause, part) in [
            (r#"{"error":{"message":"out of memory","code":500}}"#, Cause::InStream, "out of memory"),
            (r#"{"error":"out of memory"}"#, Cause::InStream, "out of memory"),
            (r#"{"object":"error","message":"out of memory","code":500}"#, Cause::InStream, "out of memory"),
            (r#"{"detail":"out of memory"}"#, Cause::InStream, "out of memory"),
            (r#"{"object":"list","data":[]}"#, Cause::Malformed, "`list`"),
            ("{}", Cause::Malformed, "without `choices`"),
            ("<html>busy</html>", Cause::Malformed, "HTML"),
            ("nonsense", Cause::Malformed, "no JSON"),
            (r#"{"choices":[{"text":7}]}"#, Cause::Malformed, "invalid type"),
            (r#"{"choices":[{"text":"a","finish_reason":"abort"}]}"#, Cause::Ended, "abort"),
            (r#"{"choices":[{"text":"","finish_reason":"content_filter"}]}"#, Cause::Malformed, "content_filter"),
            (r#"{"choices":[{"text":"a"}]}"#, Cause::Cut, "without a finish_reason"),
        ] {
            let error = read(&[json]).unwrap_err();
            assert!(error.cause == cause && error.message.contains(part), "{json}: {error:?}");
        }
        let half = read(&[r#"{"choices":[{"text":"a"}]}"#, r#"{"choices":[{"te"#]).unwrap_err();
        assert_eq!(half.cause, Cause::Cut);
    }
}
