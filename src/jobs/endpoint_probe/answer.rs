//! An answer as it came, whole or in chunks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::openai::Reply;

/// One choice of an answer, with what stands beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was said.
    pub text: String,
    /// What was given apart as reasoning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// `stop`, `length`, as the server writes it; of a stream, evalsuite's name of it.
    pub finish: Option<String>,
    /// Ids of the answer's tokens, where the server tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_ids: Vec<u32>,
    /// Ids of the prompt's tokens, where the server tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prompt_token_ids: Vec<u32>,
    /// The server's own count.
    pub prompt_tokens: Option<usize>,
    /// The server's own count.
    pub output_tokens: Option<usize>,
    /// Seconds from sending to the first event of a stream, whatever is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_seconds: Option<f64>,
    /// Seconds from sending to the first chunk with text or tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_seconds: Option<f64>,
    /// Of a stream, for each chunk with text or tokens: (seconds, tokens up to here where ids or usage tell them).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<(f64, Option<usize>)>,
    /// The whole body of an answer that was not streamed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub body: Value,
}

impl Answer {
    /// Of an answer that came whole; `None` where it holds no choice.
    pub(super) fn of_body(body: Value) -> Option<Self> {
        let choice = body.get("choices")?.get(0)?;
        let said = choice.get("message").unwrap_or(choice);
        let string = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let ids = |value: Option<&Value>| -> Vec<u32> {
            let ids = value.and_then(Value::as_array);
            ids.into_iter().flatten().filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
        };
        let count = |key: &str| body.get("usage")?.get(key)?.as_u64().and_then(|count| usize::try_from(count).ok());
        let prompt_ids = choice.get("prompt_token_ids").or_else(|| body.get("prompt_token_ids"));
        Some(Self {
            text: string(said, "content").or_else(|| string(choice, "text")).unwrap_or_default(),
            reasoning: string(said, "reasoning").or_else(|| string(said, "reasoning_content")).unwrap_or_default(),
            finish: string(choice, "finish_reason"),
            token_ids: ids(choice.get("token_ids")),
            prompt_token_ids: ids(prompt_ids),
            prompt_tokens: count("prompt_tokens"),
            output_tokens: count("completion_tokens"),
            body,
            ..Self::default()
        })
    }

    /// Of a stream.
    pub(super) fn of_stream(reply: Reply) -> Self {
        Self {
            finish: reply.finish.map(|finish| finish.name().to_owned()),
            prompt_tokens: reply.usage.and_then(|usage| usage.prompt_tokens),
            output_tokens: reply.usage.and_then(|usage| usage.completion_tokens),
            first_event_seconds: reply.first_event_seconds,
            first_token_seconds: reply.first_token_seconds,
            chunks: reply.chunks.iter().map(|mark| (mark.seconds, mark.tokens)).collect(),
            text: reply.text,
            reasoning: reply.reasoning,
            token_ids: reply.token_ids,
            prompt_token_ids: reply.prompt_token_ids,
            body: Value::Null,
        }
    }

    /// Tokens of the answer, by ids or else by the server's count.
    pub(super) fn tokens(&self) -> Option<usize> {
        Some(self.token_ids.len()).filter(|tokens| *tokens > 0).or(self.output_tokens)
    }

    /// Where two answers first differ, in words; by ids where both have them.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        if !self.token_ids.is_empty() && !other.token_ids.is_empty() {
            return first_difference(&self.token_ids, &other.token_ids).map(|at| format!("token {at}"));
        }
        let letters = |answer: &Self| -> Vec<char> { answer.reasoning.chars().chain(answer.text.chars()).collect() };
        first_difference(&letters(self), &letters(other)).map(|at| format!("character {at}"))
    }

    /// Whether nothing at all was said.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.reasoning.is_empty() && self.token_ids.is_empty()
    }
}

/// Counted from 1; `None` where both are the same.
fn first_difference<T: PartialEq>(one: &[T], other: &[T]) -> Option<usize> {
    (one != other).then(|| 1 + one.iter().zip(other).take_while(|(a, b)| a == b).count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_answer_is_read_from_both_routes() {
        let chat = json!({"choices": [{"message": {"content": "hi", "reasoning_content": "so"}, "finish_reason": "stop",
            "token_ids": [1, 2]}], "prompt_token_ids": [7], "usage": {"prompt_tokens": 1, "completion_tokens": 3}});
        let answer = Answer::of_body(chat).unwrap();
        assert_eq!((answer.text.as_str(), answer.reasoning.as_str()), ("hi", "so"));
        assert_eq!((answer.token_ids.clone(), answer.prompt_token_ids.clone()), (vec![1, 2], vec![7]));
        assert_eq!((answer.prompt_tokens, answer.output_tokens, answer.tokens()), (Some(1), Some(3), Some(2)));
        let text = Answer::of_body(json!({"choices": [{"text": "hi", "prompt_token_ids": [5, 6]}]})).unwrap();
        assert_eq!((text.text.as_str(), text.prompt_token_ids, text.output_tokens), ("hi", vec![5, 6], None));
        assert_eq!(Answer::of_body(json!({"choices": []})), None);
        assert_eq!(Answer::of_body(json!({"error": {"message": "no"}})), None);
    }

    #[test]
    fn answers_differ_by_ids_where_both_have_them() {
        let of = |text: &str, ids: &[u32]| Answer { text: text.into(), token_ids: ids.to_vec(), ..Answer::default() };
        assert_eq!(of("a", &[1, 2]).difference(&of("b", &[1, 2])), None);
        assert_eq!(of("a", &[1, 2]).difference(&of("a", &[1, 3])).unwrap(), "token 2");
        assert_eq!(of("a", &[1, 2]).difference(&of("a", &[1, 2, 3])).unwrap(), "token 3");
        assert_eq!(of("abc", &[1]).difference(&of("abd", &[])).unwrap(), "character 3");
        assert_eq!(of("abc", &[]).difference(&of("abc", &[])), None);
    }
}
