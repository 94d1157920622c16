//! Asks an endpoint, and keeps every answer as it came.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, join_all, select};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::answer::Answer;
use crate::engine::model::ModelTokenizer;
use crate::openai::{Api, Cause, Client, GenerationRequest, PromptForm, Refused, RequestError, ServerInfo};

/// One request and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// The check that asked.
    pub check: String,
    /// `completions` or `chat`.
    pub api: String,
    /// What was sent; of a long prompt only its length.
    pub request: Value,
    /// What came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// From sending to the end.
    pub seconds: f64,
}

/// Text and ids of a longer prompt are not kept: its length is.
const LONGEST_KEPT: usize = 4096;

/// An endpoint, and what is known about it.
pub(super) struct Asker<'a> {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// What the model is asked for as.
    pub(super) model: String,
    /// What the user named it, if they did.
    pub(super) named: Option<String>,
    /// The route that checks ask.
    pub(super) api: Api,
    pub(super) tokenizer: Option<Arc<ModelTokenizer>>,
    /// Prompt plus output at most, where the server tells.
    pub(super) context_tokens: Option<usize>,
    /// What the server says of itself.
    pub(super) server: Option<ServerInfo>,
    pub(super) extra: Map<String, Value>,
    pub(super) timeout: Duration,
    pub(super) interrupted: &'a AtomicBool,
    /// What the server has refused so far.
    pub(super) refused: Refused,
    /// The check that asks now.
    pub(super) check: &'static str,
    pub(super) exchanges: Vec<Exchange>,
    /// What the user should know: keys that the server refuses.
    pub(super) notes: Vec<String>,
}

/// Between two looks at Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

impl Asker<'_> {
    /// A prompt as the chosen route takes it.
    pub(super) fn prompt(&self, text: &str) -> PromptForm {
        match self.api {
            Api::Completions => PromptForm::Text(text.to_owned()),
            Api::Chat => PromptForm::Messages(json!([{"role": "user", "content": text}])),
        }
    }

    /// A greedy request for a whole answer, with ids.
    pub(super) fn greedy(&self, text: &str, max_tokens: usize) -> GenerationRequest {
        self.greedy_of(self.prompt(text), max_tokens)
    }

    /// The same of a prompt in any form.
    pub(super) fn greedy_of(&self, prompt: PromptForm, max_tokens: usize) -> GenerationRequest {
        GenerationRequest {
            stream: false,
            token_ids: true,
            extra: self.extra.clone(),
            ..GenerationRequest::greedy(prompt, max_tokens)
        }
    }

    /// Asks; where the server refuses a key that may be left out, again without it.
    pub(super) fn ask(&mut self, request: &GenerationRequest) -> Result<Answer, RequestError> {
        loop {
            let body = request.body(&self.model, &self.refused);
            let error = match self.send(request.api(), &body) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match self.refused.learn_from(&error, &body) {
                Some(note) => self.notes.push(note),
                None => return Err(error),
            }
        }
    }

    /// Sends a body as it is.
    pub(super) fn send(&mut self, api: Api, body: &Value) -> Result<Answer, RequestError> {
        let mut answers = self.send_all(api, std::slice::from_ref(body));
        answers.pop().unwrap_or_else(|| Err(failure(Cause::Cut, "nothing was sent")))
    }

    /// Sends bodies together; answers in their order.
    pub(super) fn send_all(&mut self, api: Api, bodies: &[Value]) -> Vec<Result<Answer, RequestError>> {
        let (client, timeout) = (&self.client, self.timeout);
        let one = |body: &Value| {
            let body = body.clone();
            async move {
                let begun = Instant::now();
                let answer = tokio::time::timeout(timeout, exchange(client, api, &body)).await;
                let late = || Err(failure(Cause::Timeout, "no whole answer in time"));
                (answer.unwrap_or_else(|_| late()), begun.elapsed().as_secs_f64())
            }
        };
        let all = join_all(bodies.iter().map(one));
        let interrupted = self.interrupted;
        let done = self.runtime.block_on(async {
            match select(pin!(all), pin!(until(interrupted))).await {
                Either::Left((answers, _)) => Some(answers),
                Either::Right(_) => None,
            }
        });
        let broken = || bodies.iter().map(|_| (Err(failure(Cause::Cut, "interrupted")), 0.0)).collect();
        let done: Vec<_> = done.unwrap_or_else(broken);
        for (body, (answer, seconds)) in bodies.iter().zip(&done) {
            self.exchanges.push(Exchange {
                check: self.check.to_owned(),
                api: api.name().to_owned(),
                request: kept(body),
                answer: answer.as_ref().ok().cloned(),
                error: answer.as_ref().err().map(ToString::to_string),
                seconds: *seconds,
            });
        }
        done.into_iter().map(|(answer, _)| answer).collect()
    }

    /// The number of requests that the server works on or holds back, where its `/metrics` tell.
    pub(super) fn requests_in_server(&self) -> Option<f64> {
        let text = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(5), self.client.metrics()).await.ok()?.ok() })?;
        in_metrics(&text)
    }

    /// Whether the user broke off.
    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

async fn exchange(client: &Client, api: Api, body: &Value) -> Result<Answer, RequestError> {
    if body.get("stream") == Some(&Value::Bool(true)) {
        return client.generate(api, Bytes::from(body.to_string()), true).await.map(Answer::of_stream);
    }
    let route = match api {
        Api::Completions => "/completions",
        Api::Chat => "/chat/completions",
    };
    let answer = client.post(route, body).await?;
    let shown = answer.to_string();
    Answer::of_body(answer)
        .ok_or_else(|| failure(Cause::Malformed, &format!("an answer without a choice: {}", start(&shown))))
}

async fn until(interrupted: &AtomicBool) {
    while !interrupted.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) fn failure(cause: Cause, message: &str) -> RequestError {
    RequestError { cause, message: message.to_owned(), retry_after: None }
}

/// The beginning of a text.
pub(super) fn start(text: &str) -> String {
    const SHOWN: usize = 120;
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

fn kept(body: &Value) -> Value {
    let mut body = body.clone();
    for key in ["prompt", "messages"] {
        let length = body.get(key).map_or(0, |prompt| prompt.to_string().len());
        if length > LONGEST_KEPT {
            body[key] = json!({"left_out": "a long prompt", "json_bytes": length});
        }
    }
    body
}

/// Names of (running, waiting): vLLM, SGLang, llama.cpp, TGI.
const GAUGES: [[&str; 2]; 4] = [
    ["vllm:num_requests_running", "vllm:num_requests_waiting"],
    ["sglang:num_running_reqs", "sglang:num_queue_reqs"],
    ["llamacpp:requests_processing", "llamacpp:requests_deferred"],
    ["tgi_batch_current_size", "tgi_queue_size"],
];

/// Prometheus's text format: `name{labels} value`, a line for each engine of a server.
fn in_metrics(text: &str) -> Option<f64> {
    let sum = |name: &str| {
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            (rest.starts_with('{') || rest.starts_with(' ')).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.reduce(|sum, value| sum + value)
    };
    GAUGES.iter().find_map(|[running, waiting]| Some(sum(running)? + sum(waiting).unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_over_the_engines_of_a_server() {
        let text = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\"} 2.0\n\
                    vllm:num_requests_running{engine=\"1\"} 1.0\nvllm:num_requests_waiting{engine=\"0\"} 4.0\n\
                    vllm:num_requests_waiting_by_reason{x=\"y\"} 9\n";
        assert_eq!(in_metrics(text), Some(7.0));
        assert_eq!(in_metrics("llamacpp:requests_processing 3\n"), Some(3.0));
        assert_eq!(in_metrics("process_open_fds 3\n"), None);
    }

    #[test]
    fn of_a_long_prompt_its_length_is_kept() {
        let short = json!({"prompt": "a", "max_tokens": 1});
        assert_eq!(kept(&short), short);
        let long = kept(&json!({"prompt": "a".repeat(5000), "max_tokens": 1}));
        assert_eq!((&long["prompt"]["json_bytes"], &long["max_tokens"]), (&json!(5002), &json!(1)));
    }
}
