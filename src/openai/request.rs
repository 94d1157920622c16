//! What is asked of a server.

use serde_json::{Map, Value, json};

use super::failure::RequestError;

/// Which of the two routes is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `/completions`: a prompt is continued as it stands.
    Completions,
    /// `/chat/completions`: the server makes the prompt of messages.
    Chat,
}

impl Api {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Completions, Self::Chat];

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completions => "completions",
            Self::Chat => "chat",
        }
    }

    pub(super) const fn route(self) -> &'static str {
        match self {
            Self::Completions => "/completions",
            Self::Chat => "/chat/completions",
        }
    }
}

/// A prompt, as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptForm {
    /// Text; the server makes tokens of it.
    Text(String),
    /// Token ids: what the model reads is beyond doubt.
    Ids(Vec<u32>),
    /// Messages, a JSON list; the server's chat template makes text of them.
    Messages(Value),
}

/// One request for one completion. Every value of sampling is sent, for what is left out is the server's own choice.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the API")]
pub struct GenerationRequest {
    /// What is continued.
    pub prompt: PromptForm,
    /// Tokens at most.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// 1 means all.
    pub top_p: f64,
    /// 0 means all; sent where it is something else.
    pub top_k: usize,
    /// Sent where sampling is not greedy.
    pub seed: u64,
    /// Strings that end it.
    pub stop: Vec<String>,
    /// Whether it comes in chunks.
    pub stream: bool,
    /// Go on to `max_tokens` exactly, past any end of sequence.
    pub exact_length: bool,
    /// Ask for the ids of all tokens (`return_token_ids`).
    pub token_ids: bool,
    /// Usage with every chunk, so that chunks of several tokens can be told (`stream_options.continuous_usage_stats`).
    pub continuous_usage: bool,
    /// Further keys, which overwrite the others; a value of null takes a key out.
    pub extra: Map<String, Value>,
}

/// Keys that a server may refuse without harm to what is asked, for what is asked does not hang on them. `seed` decides nothing in greedy
/// decoding and is not sent then.
const OPTIONAL: [&str; 7] =
    ["repetition_penalty", "stream_options", "return_token_ids", "seed", "min_tokens", "top_k", "ignore_eos"];

/// Stops that the strictest servers take.
pub(super) const FEW_STOPS: usize = 4;

/// What a server has refused, so that it is not sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    keys: Vec<&'static str>,
    many_stops: bool,
    max_tokens: bool,
}

impl GenerationRequest {
    /// Greedy, streamed, without stops.
    pub fn greedy(prompt: PromptForm, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            stop: Vec::new(),
            stream: true,
            exact_length: false,
            token_ids: false,
            continuous_usage: false,
            extra: Map::new(),
        }
    }

    /// The route that answers it.
    pub fn api(&self) -> Api {
        if matches!(self.prompt, PromptForm::Messages(_)) { Api::Chat } else { Api::Completions }
    }

    /// The body that is sent, without what the server has refused.
    pub fn body(&self, model: &str, refused: &Refused) -> Value {
        let mut body = Map::new();
        let mut set = |key: &str, value: Value| {
            body.insert(key.to_owned(), value);
        };
        set("model", json!(model));
        match &self.prompt {
            PromptForm::Text(text) => set("prompt", json!(text)),
            PromptForm::Ids(ids) => set("prompt", json!(ids)),
            PromptForm::Messages(messages) => set("messages", messages.clone()),
        }
        let length = if refused.max_tokens { "max_completion_tokens" } else { "max_tokens" };
        set(length, json!(self.max_tokens));
        set("temperature", json!(self.temperature));
        set("top_p", json!(self.top_p));
        // A server's own default may be another one: vLLM takes it from the model's generation_config.json.
        set("repetition_penalty", json!(1.0));
        if self.top_k > 0 {
            set("top_k", json!(self.top_k));
        }
        if self.temperature > 0.0 {
            // Signed 64-bit integers are what every server reads.
            set("seed", json!(self.seed >> 1));
        }
        if !self.stop.is_empty() {
            let taken = if refused.many_stops { FEW_STOPS } else { usize::MAX };
            set("stop", json!(self.stop.iter().take(taken).collect::<Vec<_>>()));
        }
        set("stream", json!(self.stream));
        if self.stream {
            let mut options = Map::from_iter([("include_usage".to_owned(), json!(true))]);
            if self.continuous_usage {
                options.insert("continuous_usage_stats".to_owned(), json!(true));
            }
            set("stream_options", Value::Object(options));
        }
        if self.token_ids {
            set("return_token_ids", json!(true));
        }
        if self.exact_length {
            set("ignore_eos", json!(true));
            set("min_tokens", json!(self.max_tokens));
        }
        for key in &refused.keys {
            body.remove(*key);
        }
        for (key, value) in &self.extra {
            if value.is_null() {
                body.remove(key)
            } else {
                body.insert(key.clone(), value.clone())
            };
        }
        Value::Object(body)
    }
}

impl Refused {
    /// Learns from the message of a refusal (400, 422): the note to make of it where `body` can be sent otherwise, `None` where it cannot.
    pub fn learn(&mut self, message: &str, body: &Value) -> Option<String> {
        let said = message.to_lowercase();
        let mentions = |key: &str| said.contains(key);
        let sent = |key: &str| body.get(key).is_some();
        // The particular before the general: `max_tokens` may stand in a message about another key.
        if let Some(key) = OPTIONAL.into_iter().find(|key| mentions(key) && sent(key)) {
            self.keys.push(key);
            return Some(format!("the server takes no `{key}`: it is left out"));
        }
        let stops = body.get("stop").and_then(Value::as_array).map_or(0, Vec::len);
        if mentions("stop") && stops > FEW_STOPS && !self.many_stops {
            self.many_stops = true;
            return Some(format!(
                "the server takes {FEW_STOPS} stop strings of {stops}: answers are cut at the others here, when they have come"
            ));
        }
        if mentions("max_completion_tokens") && sent("max_tokens") && !self.max_tokens {
            self.max_tokens = true;
            return Some("the server takes `max_completion_tokens` in place of `max_tokens`".to_owned());
        }
        None
    }

    /// The same of a failure: `None` too where it refuses nothing.
    pub fn learn_from(&mut self, error: &RequestError, body: &Value) -> Option<String> {
        error.is_refusal().then(|| self.learn(&error.message, body)).flatten()
    }

    /// Whether a key has been refused.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> GenerationRequest {
        let stop = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        GenerationRequest { stop, ..GenerationRequest::greedy(PromptForm::Ids(vec![1, 2]), 7) }
    }

    #[test]
    fn sampling_is_sent_in_full() {
        let body = request().body("m", &Refused::default());
        for (key, value) in [
            ("model", json!("m")),
            ("prompt", json!([1, 2])),
            ("max_tokens", json!(7)),
            ("temperature", json!(0.0)),
            ("top_p", json!(1.0)),
            ("repetition_penalty", json!(1.0)),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stream", json!(true)),
            ("stream_options", json!({"include_usage": true})),
        ] {
            assert_eq!(body[key], value, "{key}");
        }
        assert_eq!(body.as_object().unwrap().len(), 9);
        let sampled = GenerationRequest {
            temperature: 0.5,
            top_k: 3,
            seed: u64::MAX,
            exact_length: true,
            stream: false,
            ..request()
        };
        let body = sampled.body("m", &Refused::default());
        assert_eq!((&body["seed"], &body["top_k"]), (&json!(i64::MAX), &json!(3)));
        assert_eq!((&body["ignore_eos"], &body["min_tokens"]), (&json!(true), &json!(7)));
        assert!(body.get("stream_options").is_none());
    }

    #[test]
    fn messages_go_to_the_chat_route() {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let chat = GenerationRequest::greedy(PromptForm::Messages(messages.clone()), 1);
        assert_eq!((chat.api(), chat.body("m", &Refused::default())["messages"].clone()), (Api::Chat, messages));
        assert_eq!(request().api(), Api::Completions);
    }

    #[test]
    fn further_keys_overwrite_and_null_takes_out() {
        let extra = json!({"top_p": 0.5, "repetition_penalty": null, "priority": 1});
        let request = GenerationRequest { extra: extra.as_object().unwrap().clone(), ..request() };
        let body = request.body("m", &Refused::default());
        assert_eq!((&body["top_p"], &body["priority"]), (&json!(0.5), &json!(1)));
        assert!(body.get("repetition_penalty").is_none());
    }

    #[test]
    fn what_a_server_refuses_is_left_out_once_and_no_more() {
        let mut refused = Refused::default();
        let learn = |refused: &mut Refused, message: &str| {
            let body = request().body("m", refused);
            refused.learn(message, &body)
        };
        assert!(learn(&mut refused, "Unrecognized request argument supplied: repetition_penalty").is_some());
        assert!(learn(&mut refused, "Unrecognized request argument supplied: repetition_penalty").is_none());
        assert!(learn(&mut refused, "at most 4 stop sequences").unwrap().contains("4 stop strings of 5"));
        assert!(learn(&mut refused, "at most 4 stop sequences").is_none());
        assert!(learn(&mut refused, "Use 'max_completion_tokens' instead of max_tokens").is_some());
        assert!(learn(&mut refused, "the prompt is too long").is_none());
        let body = request().body("m", &refused);
        assert_eq!(body["stop"], json!(["a", "b", "c", "d"]));
        assert_eq!((body.get("max_tokens"), &body["max_completion_tokens"]), (None, &json!(7)));
        assert!(body.get("repetition_penalty").is_none() && refused.has("repetition_penalty"));
    }
}
