//! Answers in the API's shapes, whole and in chunks.

use serde::Serialize;

use super::logprobs::{ChatLogprob, CompletionLogprobs};
use crate::openai::Api;

/// What all chunks of an answer say of it.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) api: Api,
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) fingerprint: String,
}

/// A part of one completion, or all of it.
#[derive(Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) index: usize,
    pub(super) content: &'a str,
    pub(super) reasoning: &'a str,
    /// Chats name the role at the beginning.
    pub(super) has_role: bool,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish: Option<End>,
    pub(super) token_ids: Option<&'a [u32]>,
    pub(super) prompt_token_ids: Option<&'a [u32]>,
}

/// Log-probabilities in the shape of the route.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Logprobs {
    Completion(CompletionLogprobs),
    Chat { content: Vec<ChatLogprob> },
}

/// How a completion ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// `stop` or `length`.
    pub(super) reason: &'static str,
    pub(super) by: Option<StopReason>,
}

/// What stopped it, where that is no end of sequence of the model's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum StopReason {
    Text(String),
    Token(u32),
}

/// Tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: usize,
    pub(super) completion_tokens: usize,
    pub(super) total_tokens: usize,
    pub(super) prompt_tokens_details: PromptDetails,
    pub(super) completion_tokens_details: CompletionDetails,
}

/// Of the prompt's tokens, those that the prefix cache had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: usize,
}

/// Of the output's tokens, those of thoughts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: usize,
}

impl Usage {
    pub(super) fn new(
        prompt_tokens: usize,
        completion_tokens: usize,
        cached_tokens: usize,
        reasoning_tokens: usize,
    ) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens },
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'a str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// Of chats; `/completions` has it in the choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<&'a [u32]>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta<'a>>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<StopReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<&'a [u32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_token_ids: Option<&'a [u32]>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    refusal: (),
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
}

const ROLE: &str = "assistant";

impl Head {
    /// The whole answer as JSON.
    pub(super) fn whole(&self, parts: Vec<Part>, usage: Usage) -> Vec<u8> {
        let object = if self.api == Api::Chat { "chat.completion" } else { "text_completion" };
        let mut bytes = Vec::with_capacity(512);
        self.write(object, parts, Some(usage), true, &mut bytes);
        bytes
    }

    /// Adds a chunk, as an event of a stream.
    pub(super) fn chunk(&self, part: Part, usage: Option<Usage>, to: &mut Vec<u8>) {
        self.event(vec![part], usage, to);
    }

    /// Adds the last chunk, which has usage and no part.
    pub(super) fn usage(&self, usage: Usage, to: &mut Vec<u8>) {
        self.event(Vec::new(), Some(usage), to);
    }

    fn event(&self, parts: Vec<Part>, usage: Option<Usage>, to: &mut Vec<u8>) {
        let object = if self.api == Api::Chat { "chat.completion.chunk" } else { "text_completion" };
        to.extend_from_slice(b"data: ");
        self.write(object, parts, usage, false, to);
        to.extend_from_slice(b"\n\n");
    }

    fn write(&self, object: &str, parts: Vec<Part>, usage: Option<Usage>, is_whole: bool, to: &mut Vec<u8>) {
        let is_chat = self.api == Api::Chat;
        let prompt_token_ids = parts.first().and_then(|part| part.prompt_token_ids).filter(|_| is_chat);
        let choice = |part| choice(part, is_chat, is_whole);
        let body = Body {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices: parts.into_iter().map(choice).collect(),
            usage,
            prompt_token_ids,
        };
        // Strings, numbers and lists: nothing that JSON cannot hold, and a vector takes any number of bytes.
        let _ = serde_json::to_writer(to, &body);
    }
}

fn choice(part: Part<'_>, is_chat: bool, is_whole: bool) -> Choice<'_> {
    let Part { index, content, reasoning, has_role, logprobs, finish, token_ids, prompt_token_ids } = part;
    let message = Message { role: ROLE, content, reasoning_content: reasoning, refusal: () };
    let said = (!content.is_empty() || has_role).then_some(content);
    let delta = Delta { role: has_role.then_some(ROLE), content: said, reasoning_content: reasoning };
    let (finish_reason, stop_reason) = finish.map_or((None, None), |end| (Some(end.reason), end.by));
    Choice {
        index,
        text: (!is_chat).then_some(content),
        message: (is_chat && is_whole).then_some(message),
        delta: (is_chat && !is_whole).then_some(delta),
        logprobs,
        finish_reason,
        stop_reason,
        token_ids,
        prompt_token_ids: prompt_token_ids.filter(|_| !is_chat),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn head(api: Api) -> Head {
        Head { api, id: "x-1".to_owned(), created: 7, model: "m".to_owned(), fingerprint: "f".to_owned() }
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn a_whole_answer_has_the_shape_of_its_route() {
        let end = End { reason: "stop", by: Some(StopReason::Text("Q:".to_owned())) };
        let part = || Part { content: "hi\n", finish: Some(end.clone()), token_ids: Some(&[1, 2]), ..Part::default() };
        let text = parsed(&head(Api::Completions).whole(vec![part()], Usage::new(3, 2, 1, 0)));
        assert_eq!((&text["object"], &text["choices"][0]["text"]), (&json!("text_completion"), &json!("hi\n")));
        assert_eq!(
            (&text["choices"][0]["finish_reason"], &text["choices"][0]["stop_reason"]),
            (&json!("stop"), &json!("Q:"))
        );
        assert_eq!(text["choices"][0]["token_ids"], json!([1, 2]));
        assert_eq!(text["choices"][0]["logprobs"], Value::Null);
        assert_eq!(text["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
        assert_eq!(text["usage"]["total_tokens"], 5);
        let chat = Part { reasoning: "hm", prompt_token_ids: Some(&[9]), ..part() };
        let chat = parsed(&head(Api::Chat).whole(vec![chat], Usage::default()));
        assert_eq!(
            chat["choices"][0]["message"],
            json!({"role": "assistant", "content": "hi\n", "reasoning_content": "hm", "refusal": null})
        );
        assert_eq!((&chat["prompt_token_ids"], &chat["object"]), (&json!([9]), &json!("chat.completion")));
        assert!(chat["choices"][0].get("text").is_none() && chat["choices"][0].get("prompt_token_ids").is_none());
    }

    #[test]
    fn chunks_are_events_with_deltas() {
        let mut bytes = Vec::new();
        let head = head(Api::Chat);
        head.chunk(Part { has_role: true, ..Part::default() }, None, &mut bytes);
        head.chunk(Part { content: "a", ..Part::default() }, None, &mut bytes);
        let end = End { reason: "length", by: None };
        head.chunk(Part { finish: Some(end), ..Part::default() }, None, &mut bytes);
        head.usage(Usage::new(1, 1, 0, 0), &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let events: Vec<Value> = text
            .split_terminator("\n\n")
            .map(|event| parsed(event.strip_prefix("data: ").unwrap().as_bytes()))
            .collect();
        assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
        assert_eq!(events[1]["choices"][0]["delta"], json!({"content": "a"}));
        assert_eq!(
            (&events[2]["choices"][0]["delta"], &events[2]["choices"][0]["finish_reason"]),
            (&json!({}), &json!("length"))
        );
        assert_eq!((&events[3]["choices"], &events[3]["usage"]["completion_tokens"]), (&json!([]), &json!(1)));
        assert!(events[1].get("usage").is_none());
    }
}
