//! What is asked: the body of `/v1/completions` and `/v1/chat/completions`, checked.

use serde_json::Value;

use super::fault::ApiError;
use super::fields::{Fields, ids, wrong};
use crate::engine::Sampling;
use crate::openai::Api;
use crate::task::Message;

/// Completions of one prompt at most, and prompts of one request.
const MOST_CHOICES: u64 = 128;
const MOST_PROMPTS: usize = 2048;
/// Most probable tokens told of a position.
pub(super) const MOST_LOGPROBS: u64 = 20;
/// Stop strings, and the bytes of one.
const MOST_STOPS: usize = 1024;
const LONGEST_STOP: usize = 4096;
/// Tokens of a completion where nobody says how many, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// One prompt, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    Text(String),
    Ids(Vec<u32>),
    Messages(Vec<Message>),
}

/// A request for completions.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the API")]
pub(super) struct Asked {
    pub(super) api: Api,
    /// The model's name; none is the first that is served.
    pub(super) model: Option<String>,
    pub(super) prompts: Vec<Input>,
    /// Completions of each prompt.
    pub(super) n: usize,
    /// `None`: as many as the context holds.
    pub(super) max_tokens: Option<usize>,
    pub(super) min_tokens: usize,
    pub(super) ignore_eos: bool,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) stop_tokens: Vec<u32>,
    /// The stop string stays at the end of the text.
    pub(super) keeps_stop: bool,
    /// So many of the most probable tokens at each position, beside the token's own log-probability; `None`: neither.
    pub(super) logprobs: Option<usize>,
    /// The prompt stands before the completion.
    pub(super) echo: bool,
    pub(super) stream: bool,
    pub(super) stream_usage: bool,
    pub(super) continuous_usage: bool,
    /// Ids of prompt and output.
    pub(super) token_ids: bool,
    /// Log-probabilities name tokens by id: `token_id:7`.
    pub(super) tokens_as_ids: bool,
    /// Special tokens around a text, as its tokenizer has them.
    pub(super) special_tokens: bool,
    /// The switch of chat templates that have one.
    pub(super) thinking: Option<bool>,
}

/// Reads a request; also the names of keys that are not known.
pub(super) fn read(api: Api, body: &[u8]) -> Result<(Asked, Vec<String>), ApiError> {
    let mut fields = Fields::read(body)?;
    let chat = api == Api::Chat;
    let prompts = if chat { vec![Input::Messages(messages(&mut fields)?)] } else { prompts(&mut fields)? };
    let echo = fields.bool("echo")?.unwrap_or(false);
    if chat && echo {
        return Err(ApiError::field("echo", "is not supported for chats"));
    }
    let max_tokens = max_tokens(&mut fields, chat)?;
    let stream = fields.bool("stream")?.unwrap_or(false);
    let (stream_usage, continuous_usage) = stream_options(&mut fields, stream)?;
    let asked = Asked {
        api,
        model: fields.text("model")?.filter(|model| !model.is_empty()),
        n: fields.whole("n", 1, MOST_CHOICES)?.unwrap_or(1) as usize,
        max_tokens,
        min_tokens: fields.whole("min_tokens", 0, u64::from(u32::MAX))?.unwrap_or(0) as usize,
        ignore_eos: fields.bool("ignore_eos")?.unwrap_or(false),
        sampling: sampling(&mut fields)?,
        stop: stops(&mut fields)?,
        stop_tokens: fields.ids("stop_token_ids")?.unwrap_or_default(),
        keeps_stop: fields.bool("include_stop_str_in_output")?.unwrap_or(false),
        logprobs: logprobs(&mut fields, chat)?,
        echo,
        stream,
        stream_usage,
        continuous_usage,
        token_ids: fields.bool("return_token_ids")?.unwrap_or(false),
        tokens_as_ids: fields.bool("return_tokens_as_token_ids")?.unwrap_or(false),
        // A chat template writes special tokens itself.
        special_tokens: fields.bool("add_special_tokens")?.unwrap_or(!chat),
        thinking: thinking(&mut fields)?,
        prompts,
    };
    refuse_unsupported(&mut fields, asked.n)?;
    let unknown = fields.unknown().map(str::to_owned).collect();
    Ok((asked, unknown))
}

/// `prompt`: a string, a list of strings, a list of ids, or a list of such lists.
fn prompts(fields: &mut Fields) -> Result<Vec<Input>, ApiError> {
    const SHAPE: &str = "a string, a list of strings, a list of token ids or a list of such lists";
    let prompt = fields.take("prompt").ok_or_else(|| ApiError::field("prompt", "is missing"))?;
    let all = match prompt {
        Value::String(text) => return Ok(vec![Input::Text(text)]),
        Value::Array(all) => all,
        other => return Err(wrong("prompt", SHAPE, &other)),
    };
    if all.len() > MOST_PROMPTS && !all.iter().all(Value::is_number) {
        return Err(ApiError::field(
            "prompt",
            format!("holds {} prompts, and {MOST_PROMPTS} are taken at most", all.len()),
        ));
    }
    match all.first() {
        None => Err(ApiError::field("prompt", "is an empty list")),
        Some(Value::Number(_)) => Ok(vec![Input::Ids(ids("prompt", &Value::Array(all))?)]),
        Some(_) => all
            .into_iter()
            .map(|one| match one {
                Value::String(text) => Ok(Input::Text(text)),
                list @ Value::Array(_) => ids("prompt", &list).map(Input::Ids),
                other => Err(wrong("prompt", SHAPE, &other)),
            })
            .collect(),
    }
}

/// `messages`: each with a role and a content, which is a string or a list of parts of text.
pub(super) fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let messages = fields.take("messages").ok_or_else(|| ApiError::field("messages", "is missing"))?;
    let Value::Array(all) = messages else { return Err(wrong("messages", "a list of messages", &messages)) };
    if all.is_empty() {
        return Err(ApiError::field("messages", "is an empty list"));
    }
    all.iter().enumerate().map(|(index, one)| message(&format!("messages[{index}]"), one)).collect()
}

fn message(name: &str, value: &Value) -> Result<Message, ApiError> {
    let Value::Object(map) = value else { return Err(wrong(name, "a message", value)) };
    let role = map.get("role").and_then(Value::as_str).filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| ApiError::field(format!("{name}.role"), "is no role"))?;
    // OpenAI's later word for the same.
    let role = if role == "developer" { "system" } else { role };
    let field = format!("{name}.content");
    let content = match map.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().map(|one| part(&field, one)).collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        None | Some(Value::Null) if role == "assistant" => String::new(),
        None => return Err(ApiError::field(field, "is missing")),
        Some(other) => return Err(wrong(&field, "a string or a list of parts", other)),
    };
    Ok(Message::new(role, content))
}

fn part<'a>(field: &str, part: &'a Value) -> Result<&'a str, ApiError> {
    if let Value::String(text) = part {
        return Ok(text);
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("");
    part.get("text").and_then(Value::as_str).filter(|_| matches!(kind, "text" | "input_text")).ok_or_else(|| {
        ApiError::field(field, format!("has a part of type {kind:?}: only text is read")).coded("unsupported")
    })
}

fn max_tokens(fields: &mut Fields, chat: bool) -> Result<Option<usize>, ApiError> {
    let most = u64::from(u32::MAX);
    let old = fields.whole("max_tokens", 0, most)?;
    let new = fields.whole("max_completion_tokens", 0, most)?;
    let said = new.or(old).map(|tokens| tokens as usize);
    Ok(if chat { said } else { Some(said.unwrap_or(COMPLETION_TOKENS)) })
}

/// Whether a stream ends with usage, and whether every chunk has it.
fn stream_options(fields: &mut Fields, stream: bool) -> Result<(bool, bool), ApiError> {
    let Some(options) = fields.take("stream_options") else { return Ok((false, false)) };
    let Value::Object(map) = &options else { return Err(wrong("stream_options", "an object", &options)) };
    if !stream {
        return Err(ApiError::field("stream_options", "is only taken where `stream` is true"));
    }
    let is_on = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    Ok((is_on("include_usage"), is_on("continuous_usage_stats")))
}

fn sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let top_k = fields.take("top_k");
    let top_k = match top_k.as_ref().map(|value| (value, value.as_i64())) {
        None | Some((_, Some(-1))) => 0,
        Some((_, Some(top_k @ 0..))) => top_k as usize,
        Some((value, _)) => return Err(wrong("top_k", "a whole number of at least -1", value)),
    };
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0, 100.0)?.unwrap_or(1.0),
        top_p: fields.number("top_p", f64::MIN_POSITIVE, 1.0)?.unwrap_or(1.0),
        top_k,
        seed: fields.seed("seed")?.unwrap_or(0),
    })
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stops: Vec<String> = fields.texts("stop")?.into_iter().filter(|stop| !stop.is_empty()).collect();
    if stops.len() > MOST_STOPS {
        return Err(ApiError::field(
            "stop",
            format!("holds {} strings, and {MOST_STOPS} are taken at most", stops.len()),
        ));
    }
    match stops.iter().find(|stop| stop.len() > LONGEST_STOP) {
        Some(long) => Err(ApiError::field("stop", format!("holds a string of {} bytes", long.len()))),
        None => Ok(stops),
    }
}

/// The number of most probable tokens that are told. `/completions` has a number, chats a switch and a number.
fn logprobs(fields: &mut Fields, chat: bool) -> Result<Option<usize>, ApiError> {
    if !chat {
        return Ok(fields.whole("logprobs", 0, MOST_LOGPROBS)?.map(|count| count as usize));
    }
    let (on, top) = (fields.bool("logprobs")?, fields.whole("top_logprobs", 0, MOST_LOGPROBS)?);
    match (on.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0) as usize)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(_)) => Err(ApiError::field("top_logprobs", "is only taken where `logprobs` is true")),
    }
}

/// `chat_template_kwargs: {"enable_thinking": false}`.
fn thinking(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let Some(value) = fields.take(NAME) else { return Ok(None) };
    let Value::Object(map) = &value else { return Err(wrong(NAME, "an object", &value)) };
    let mut thinking = None;
    for (key, value) in map {
        let known = matches!(key.as_str(), "enable_thinking" | "thinking");
        thinking = match value.as_bool().filter(|_| known) {
            Some(on) => Some(on),
            None => {
                return Err(ApiError::field(
                    format!("{NAME}.{key}"),
                    "is not supported: only `enable_thinking` is, true or false",
                ));
            }
        };
    }
    Ok(thinking)
}

/// What would change an answer and is not done here is refused where it is no no-op; what changes none is passed over.
fn refuse_unsupported(fields: &mut Fields, n: usize) -> Result<(), ApiError> {
    let is = |number: f64| move |value: &Value| value.as_f64() == Some(number);
    let is_empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_str() == Some("")
    };
    for name in ["presence_penalty", "frequency_penalty", "min_p"] {
        fields.neutral(name, is(0.0))?;
    }
    fields.neutral("length_penalty", |value| is(0.0)(value) || is(1.0)(value))?;
    fields.neutral("repetition_penalty", is(1.0))?;
    fields.neutral("best_of", move |value| value.as_u64().is_some_and(|best_of| best_of <= n as u64))?;
    for name in
        ["logit_bias", "suffix", "tools", "functions", "bad_words", "allowed_token_ids", "guided_choice", "documents"]
    {
        fields.neutral(name, is_empty)?;
    }
    for name in [
        "guided_json",
        "guided_regex",
        "guided_grammar",
        "structured_outputs",
        "chat_template",
        "audio",
        "prompt_logprobs",
    ] {
        fields.neutral(name, |_| false)?;
    }
    for name in ["use_beam_search", "continue_final_message"] {
        fields.neutral(name, |value| value.as_bool() == Some(false))?;
    }
    for name in ["skip_special_tokens", "add_generation_prompt"] {
        fields.neutral(name, |value| value.as_bool() == Some(true))?;
    }
    fields.neutral("tool_choice", |value| matches!(value.as_str(), Some("none" | "auto")))?;
    fields.neutral("response_format", |value| value.get("type").and_then(Value::as_str) == Some("text"))?;
    for name in ["user", "store", "metadata", "service_tier", "spaces_between_special_tokens", "parallel_tool_calls"] {
        fields.take(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completion(mut body: Value) -> Result<Asked, ApiError> {
        body.as_object_mut().unwrap().entry("prompt").or_insert(json!("hi"));
        read(Api::Completions, body.to_string().as_bytes()).map(|(asked, _)| asked)
    }

    fn chat(body: &Value) -> Result<Asked, ApiError> {
        read(Api::Chat, body.to_string().as_bytes()).map(|(asked, _)| asked)
    }

    #[test]
    fn a_prompt_may_be_a_string_ids_or_a_list_of_either() {
        let text = |text: &str| Input::Text(text.to_owned());
        for (prompt, inputs) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Input::Ids(vec![1, 2])]),
            (json!([[1], [2, 3]]), vec![Input::Ids(vec![1]), Input::Ids(vec![2, 3])]),
        ] {
            assert_eq!(completion(json!({"prompt": prompt})).unwrap().prompts, inputs);
        }
        for prompt in [json!([]), json!(7), json!({}), json!([1, "a"]), json!([[1], [-1]]), json!([true])] {
            assert_eq!(completion(json!({"prompt": prompt})).unwrap_err().param.as_deref(), Some("prompt"), "{prompt}");
        }
        let missing = read(Api::Completions, b"{}").unwrap_err();
        assert_eq!((missing.status.as_u16(), missing.message.as_str()), (400, "`prompt` is missing"));
    }

    #[test]
    fn messages_have_text_or_parts_of_text() {
        let asked = chat(&json!({"messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant"},
        ]}))
        .unwrap();
        let said =
            [("system", "be brief"), ("user", "a\nb"), ("assistant", "")].map(|(role, text)| Message::new(role, text));
        assert_eq!(asked.prompts, [Input::Messages(said.to_vec())]);
        assert_eq!((asked.max_tokens, asked.special_tokens), (None, false));
        for (messages, param) in [
            (json!([]), "messages"),
            (json!("hi"), "messages"),
            (json!(["hi"]), "messages[0]"),
            (json!([{"content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": [{"type": "image_url"}]}]), "messages[0].content"),
        ] {
            assert_eq!(chat(&json!({"messages": messages})).unwrap_err().param.as_deref(), Some(param), "{messages}");
        }
    }

    #[test]
    fn what_is_left_out_has_the_apis_own_value() {
        let asked = completion(json!({"logprobs": null, "stop": null, "max_tokens": null})).unwrap();
        assert_eq!((asked.max_tokens, asked.n, asked.logprobs), (Some(16), 1, None));
        assert_eq!(asked.sampling, Sampling { temperature: 1.0, top_p: 1.0, top_k: 0, seed: 0 });
        assert!(!asked.stream && !asked.echo && asked.stop.is_empty() && asked.special_tokens);
    }

    #[test]
    fn what_is_said_is_heeded() {
        let asked = completion(json!({
            "model": "m", "n": 3, "max_tokens": 0, "min_tokens": 2, "ignore_eos": true, "temperature": 0, "top_p": 0.5,
            "top_k": -1, "seed": -7, "stop": ["a", "", "b"], "stop_token_ids": [5], "logprobs": 0, "echo": true,
            "stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true},
            "return_token_ids": true, "include_stop_str_in_output": true, "repetition_penalty": 1.0, "best_of": 1,
        }))
        .unwrap();
        assert_eq!((asked.model.as_deref(), asked.n, asked.max_tokens, asked.min_tokens), (Some("m"), 3, Some(0), 2));
        assert_eq!(asked.sampling, Sampling { temperature: 0.0, top_p: 0.5, top_k: 0, seed: (-7_i64) as u64 });
        assert_eq!((asked.stop, asked.stop_tokens), (vec!["a".to_owned(), "b".to_owned()], vec![5]));
        assert_eq!((asked.logprobs, asked.echo, asked.ignore_eos, asked.keeps_stop), (Some(0), true, true, true));
        assert!(asked.stream && asked.stream_usage && asked.continuous_usage && asked.token_ids);
        let newer =
            chat(&json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "max_completion_tokens": 9,
            "logprobs": true, "top_logprobs": 4, "chat_template_kwargs": {"enable_thinking": false}}));
        let newer = newer.unwrap();
        assert_eq!((newer.max_tokens, newer.logprobs, newer.thinking), (Some(9), Some(4), Some(false)));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_the_name_of_its_field() {
        for (body, param) in [
            (json!({"n": 0}), "n"),
            (json!({"n": 1_000_000}), "n"),
            (json!({"max_tokens": -1}), "max_tokens"),
            (json!({"max_tokens": 1e30}), "max_tokens"),
            (json!({"temperature": -0.1}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"top_k": -2}), "top_k"),
            (json!({"logprobs": 21}), "logprobs"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"stop": 3}), "stop"),
            (json!({"stop": ["x".repeat(5000)]}), "stop"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options"),
            (json!({"presence_penalty": 0.5}), "presence_penalty"),
            (json!({"logit_bias": {"5": 1}}), "logit_bias"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"suffix": "x"}), "suffix"),
            (json!({"model": 7}), "model"),
        ] {
            assert_eq!(completion(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        let user = json!([{"role": "user", "content": "x"}]);
        assert_eq!(
            chat(&json!({"messages": user, "top_logprobs": 2})).unwrap_err().param.as_deref(),
            Some("top_logprobs")
        );
        assert_eq!(chat(&json!({"messages": user, "tools": [{}]})).unwrap_err().param.as_deref(), Some("tools"));
    }

    #[test]
    fn keys_that_nobody_knows_are_told_of_and_refused_never() {
        let body = json!({"prompt": "x", "user": "me", "frobnicate": 1});
        let (_, unknown) = read(Api::Completions, body.to_string().as_bytes()).unwrap();
        assert_eq!(unknown, ["frobnicate"]);
    }
}
