//! The server, by the program itself on the bundled model, asked by real clients over real connections.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evalsuite::engine::{Dtype, EngineKind, OpenOptions, Request, open};
use serde_json::{Value, json};

use crate::complete;
use crate::cuda::source;
use crate::program::{evalsuite, mistake, text};

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    agent: ureq::Agent,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let own = ["serve", "--port", "0", "--engine", "cpu", "--dtype", "f32", "--threads", "2"];
        let mut command = evalsuite();
        command.args(own).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        Self { child, url: url.trim().to_owned(), agent }
    }

    /// `127.0.0.1:8000`.
    fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/v1")
    }

    fn ask(&self, route: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send(route, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn send(&self, route: &str, body: &str) -> (u16, String) {
        let address = format!("http://{}{route}", self.address());
        let mut response = self.agent.post(address).send(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn get(&self, route: &str) -> (u16, String) {
        let mut response = self.agent.get(format!("http://{}{route}", self.address())).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    /// The events of a stream, which must end in `[DONE]`.
    fn stream(&self, route: &str, body: &Value) -> Vec<Value> {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let (status, text) = self.send(route, &body.to_string());
        assert_eq!(status, 200, "{text}");
        let events: Vec<&str> =
            text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
        let (last, events) = events.split_last().unwrap();
        assert_eq!(*last, "[DONE]");
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// A request on a connection of its own, whose answer nobody reads yet.
    fn begin(&self, body: &Value) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let body = body.to_string();
        write!(stream, "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        stream
    }

    /// A figure of `/metrics`.
    fn metric(&self, name: &str) -> f64 {
        let (_, all) = self.get("/metrics");
        let line = all.lines().find(|line| line.starts_with(name) && line[name.len()..].starts_with('{'));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {all}"))
    }

    pub(crate) fn wait_until_idle(&self) {
        let begin = Instant::now();
        while self.metric("vllm:num_requests_running") + self.metric("vllm:num_requests_waiting") > 0.0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "requests are still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.metric("vllm:kv_cache_usage_perc"), 0.0, "a block did not come back");
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const QUESTION: &str = "Tom has 3 apples and buys 4 more. How many apples has he now?";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": QUESTION}], "temperature": 0})
}

fn completion(max_tokens: usize) -> Value {
    json!({"prompt": QUESTION, "temperature": 0, "max_tokens": max_tokens, "ignore_eos": true})
}

fn joined(events: &[Value], key: &str) -> String {
    let part = |event: &Value| {
        let choice = &event["choices"][0];
        choice["delta"].get(key).or_else(|| choice.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    events.iter().map(part).collect()
}

#[test]
fn an_answer_is_the_same_whole_and_streamed_alone_and_in_company() {
    let server = Server::start(&[]);
    let (status, whole) = server.ask("/v1/chat/completions", &chat());
    assert_eq!(status, 200, "{whole}");
    let said = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.contains("#### 7"), "{said}");
    let mut streamed = chat();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.stream("/v1/chat/completions", &streamed);
    assert_eq!(joined(&events, "content"), said);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &whole["usage"]["total_tokens"]));
    let ends: Vec<_> = chunks.iter().filter(|chunk| !chunk["choices"][0]["finish_reason"].is_null()).collect();
    assert_eq!((ends.len(), &ends[0]["choices"][0]["finish_reason"]), (1, &json!("stop")));
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let company: Vec<(String, Value)> = std::thread::scope(|scope| {
        let ask = |index: usize| {
            let other = json!({"prompt": "x ".repeat(index + 1), "max_tokens": 40, "temperature": 1, "seed": index});
            if index.is_multiple_of(2) {
                server.ask("/v1/completions", &other);
            }
            let (_, again) = server.ask("/v1/chat/completions", &chat());
            (again["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), again["usage"].clone())
        };
        let threads: Vec<_> = (0..12).map(|index| scope.spawn(move || ask(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(company.iter().all(|(text, _)| *text == said), "{company:?}");
    server.wait_until_idle();
}

#[test]
fn an_evaluation_over_it_gives_the_answers_of_an_evaluation_here() {
    let (server, scratch) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let run = |arguments: &[&str], out: &str| {
        let common = ["gsm8k", "--limit", "12", "--max-tokens", "120", "--out", out];
        let output = evalsuite().current_dir(scratch.path()).args(common).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let answers = std::fs::read_to_string(scratch.path().join(out).join("answers.jsonl")).unwrap();
        answers
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|row| (row["sample"].clone(), row["text"].clone(), row["token_ids"].clone()))
            .collect::<Vec<_>>()
    };
    let here = run(&["--engine", "cpu", "--dtype", "f32"], "here");
    assert_eq!(here.len(), 12);
    let by_ids = run(&["--endpoint", &server.url, "--tokenizer", "bundled"], "ids");
    assert_eq!(by_ids, here, "prompts as token ids");
    let by_chat = run(&["--endpoint", &server.url, "--api", "chat"], "chat");
    let texts = |rows: &[(Value, Value, Value)]| rows.iter().map(|row| row.1.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&by_chat), texts(&here), "the server's own chat template");
}

#[test]
fn log_probabilities_of_an_echo_are_the_engines_own() {
    let server = Server::start(&[]);
    let source = source("bundled");
    let ids = source.tokenizer.encode(QUESTION, true).unwrap();
    let mut engine = open(&source, &OpenOptions::new(EngineKind::Cpu, Dtype::F32, Some(1))).unwrap();
    let scored = complete(engine.as_mut(), vec![Request::scoring(0, &ids, 1)]).remove(0);
    for max_tokens in [0, 1] {
        let body = json!({"prompt": [ids], "max_tokens": max_tokens, "logprobs": 1, "echo": true, "temperature": 0, "seed": 1234});
        let (status, answer) = server.ask("/v1/completions", &body);
        assert_eq!(status, 200, "{answer}");
        let logprobs = &answer["choices"][0]["logprobs"];
        let own = logprobs["token_logprobs"].as_array().unwrap();
        assert_eq!(own.len(), ids.len() + max_tokens);
        assert!(own[0].is_null() && logprobs["top_logprobs"][0].is_null());
        for (index, detail) in scored.details.iter().enumerate() {
            let (told, top) =
                (own[index + 1].as_f64().unwrap(), logprobs["top_logprobs"][index + 1].as_object().unwrap());
            assert!((told - f64::from(detail.log_probability)).abs() < 1e-5, "token {index}");
            // How a harness tells whether a text is what greedy decoding gives.
            let highest = top.values().filter_map(Value::as_f64).fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(told == highest, detail.token == detail.best, "token {index}");
        }
        let tokens: String = logprobs["tokens"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(tokens, answer["choices"][0]["text"].as_str().unwrap());
        assert_eq!(answer["usage"]["completion_tokens"], max_tokens);
    }
    let streamed = server.stream(
        "/v1/completions",
        &json!({"prompt": QUESTION, "max_tokens": 4, "logprobs": 2, "echo": true, "temperature": 0}),
    );
    let (_, whole) = server.ask(
        "/v1/completions",
        &json!({"prompt": QUESTION, "max_tokens": 4, "logprobs": 2, "echo": true, "temperature": 0}),
    );
    for key in ["token_logprobs", "tokens", "text_offset", "top_logprobs"] {
        let gathered: Vec<Value> = streamed
            .iter()
            .filter_map(|event| event["choices"][0]["logprobs"][key].as_array())
            .flatten()
            .cloned()
            .collect();
        assert_eq!(json!(gathered), whole["choices"][0]["logprobs"][key], "{key}");
    }
    assert_eq!(joined(&streamed, "text"), whole["choices"][0]["text"].as_str().unwrap());
}

#[test]
fn prompts_limits_and_choices_are_what_was_asked() {
    let server = Server::start(&[]);
    let ids = source("bundled").tokenizer.encode(QUESTION, true).unwrap();
    let (_, by_text) = server.ask("/v1/completions", &completion(9));
    let mut body = completion(9);
    body["prompt"] = json!(ids);
    body["return_token_ids"] = json!(true);
    let (_, by_ids) = server.ask("/v1/completions", &body);
    assert_eq!(by_text["choices"][0]["text"], by_ids["choices"][0]["text"]);
    assert_eq!(by_ids["choices"][0]["prompt_token_ids"], json!(ids));
    assert_eq!(by_ids["choices"][0]["token_ids"].as_array().unwrap().len(), 9);
    assert_eq!(
        (&by_ids["usage"]["completion_tokens"], &by_ids["choices"][0]["finish_reason"]),
        (&json!(9), &json!("length"))
    );
    let streamed = server.stream("/v1/completions", &body);
    let of = |key: &str| -> Vec<Value> {
        streamed.iter().filter_map(|event| event["choices"][0][key].as_array()).flatten().cloned().collect()
    };
    assert_eq!(
        (json!(of("token_ids")), json!(of("prompt_token_ids"))),
        (by_ids["choices"][0]["token_ids"].clone(), json!(ids))
    );

    let sampled = json!({"prompt": ["a", "b"], "n": 3, "max_tokens": 8, "temperature": 1.0, "seed": 5});
    let (_, all) = server.ask("/v1/completions", &sampled);
    let texts: Vec<&str> =
        all["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!((texts.len(), &all["choices"][5]["index"]), (6, &json!(5)));
    assert!(texts[0] != texts[1] && texts[3] != texts[4], "{texts:?}");
    assert_eq!(server.ask("/v1/completions", &sampled).1["choices"], all["choices"], "a seed gives its answers again");
    let alone = json!({"prompt": "b", "max_tokens": 8, "temperature": 1.0, "seed": 5});
    assert_eq!(
        server.ask("/v1/completions", &alone).1["choices"][0]["text"],
        texts[3],
        "the first is what the seed gives alone"
    );
    // A prompt's tokens count once for each prompt, whatever the number of its completions.
    let prompt_tokens =
        |body: &Value| server.ask("/v1/completions", body).1["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(all["usage"]["prompt_tokens"], 2 * prompt_tokens(&alone));
    let narrow = json!({"prompt": QUESTION, "max_tokens": 9, "temperature": 1.0, "top_k": 1, "ignore_eos": true});
    assert_eq!(server.ask("/v1/completions", &narrow).1["choices"], by_text["choices"], "only the best of one");
    let third = by_ids["choices"][0]["token_ids"][2].clone();
    let until =
        json!({"prompt": ids, "max_tokens": 9, "temperature": 0, "ignore_eos": true, "stop_token_ids": [third]});
    let (_, until) = server.ask("/v1/completions", &until);
    assert_eq!((&until["choices"][0]["finish_reason"], &until["choices"][0]["stop_reason"]), (&json!("stop"), &third));
    assert!(until["usage"]["completion_tokens"].as_u64().unwrap() <= 3);
    let echoed = json!({"prompt": QUESTION, "max_tokens": 9, "temperature": 0, "ignore_eos": true, "echo": true});
    let text = format!("{QUESTION}{}", by_text["choices"][0]["text"].as_str().unwrap());
    assert_eq!(server.ask("/v1/completions", &echoed).1["choices"][0]["text"], text);
    assert_eq!(joined(&server.stream("/v1/completions", &echoed), "text"), text);

    let (_, plain) = server.ask("/v1/chat/completions", &chat());
    let said = plain["choices"][0]["message"]["content"].as_str().unwrap();
    let mut stops: Vec<String> = (0..40).map(|index| format!("never {index}")).collect();
    stops.push("####".to_owned());
    let mut body = chat();
    body["stop"] = json!(stops);
    let (_, stopped) = server.ask("/v1/chat/completions", &body);
    let before = &said[..said.find("####").unwrap()];
    assert_eq!(stopped["choices"][0]["message"]["content"], before);
    assert_eq!(
        (&stopped["choices"][0]["finish_reason"], &stopped["choices"][0]["stop_reason"]),
        (&json!("stop"), &json!("####"))
    );
    assert_eq!(joined(&server.stream("/v1/chat/completions", &body), "content"), before);
    body["include_stop_str_in_output"] = json!(true);
    assert_eq!(
        server.ask("/v1/chat/completions", &body).1["choices"][0]["message"]["content"],
        format!("{before}####")
    );
    let mut long = chat();
    long["min_tokens"] = json!(60);
    long["max_tokens"] = json!(60);
    assert_eq!(server.ask("/v1/chat/completions", &long).1["usage"]["completion_tokens"], 60);
}

#[test]
fn what_is_wrong_is_named_and_never_the_servers_fault() {
    let server = Server::start(&["--max-body", "1"]);
    let long = "x ".repeat(2000);
    for (route, body, status, part) in [
        ("/v1/completions", "{".to_owned(), 400, "no JSON"),
        ("/v1/completions", "[".repeat(200_000), 400, "no JSON"),
        ("/v1/completions", json!({"prompt": long}).to_string(), 400, "context of 1024"),
        ("/v1/completions", json!({"prompt": ""}).to_string(), 400, "no tokens"),
        ("/v1/completions", json!({"prompt": [999_999]}).to_string(), 400, "999999"),
        ("/v1/completions", json!({"prompt": "x", "max_tokens": 1e300}).to_string(), 400, "max_tokens"),
        ("/v1/completions", json!({"prompt": "x", "n": 1_000_000_000}).to_string(), 400, "`n`"),
        ("/v1/completions", json!({"prompt": "x", "logprobs": 5_000_000}).to_string(), 400, "`logprobs`"),
        ("/v1/completions", json!({"prompt": "x", "model": "other"}).to_string(), 404, "there is bundled"),
        ("/v1/completions", json!({"prompt": "x".repeat(2 << 20)}).to_string(), 413, "1048576 bytes"),
        ("/v1/chat/completions", json!({"messages": [{"role": "user"}]}).to_string(), 400, "content"),
        ("/v1/chat/completions", json!({"messages": []}).to_string(), 400, "messages"),
        ("/detokenize", json!({"tokens": [1, 999_999]}).to_string(), 400, "999999"),
        ("/v1/embeddings", "{}".to_owned(), 404, "/v1/embeddings"),
    ] {
        let (told, answer) = server.send(route, &body);
        let begin: String = body.chars().take(60).collect();
        assert_eq!(told, status, "{route} {begin}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{route} {begin}: {answer}");
        assert!(answer["error"]["type"].is_string() && answer["error"].get("param").is_some());
    }
    assert_eq!(server.get("/v1/completions").0, 405);
    assert_eq!(server.get("/health").0, 200);
    server.wait_until_idle();
}

#[test]
fn clients_find_the_model_its_tokens_and_its_figures() {
    let server = Server::start(&["--served-model", "mine"]);
    let models: Value = serde_json::from_str(&server.get("/v1/models").1).unwrap();
    assert_eq!((&models["data"][0]["id"], &models["data"][0]["max_model_len"]), (&json!("mine"), &json!(1024)));
    assert_eq!(models["data"][0]["batching"], "invariant");
    assert_eq!((server.get("/v1/models/mine").0, server.get("/v1/models/other").0), (200, 404));
    let ids = source("bundled").tokenizer.encode("Tom has 3", true).unwrap();
    let (_, tokens) = server.ask("/tokenize", &json!({"prompt": "Tom has 3"}));
    assert_eq!((&tokens["tokens"], &tokens["count"]), (&json!(ids), &json!(ids.len())));
    let (_, of_chat) = server.ask("/tokenize", &chat());
    let (_, answer) = server.ask("/v1/chat/completions", &chat());
    assert_eq!(of_chat["count"], answer["usage"]["prompt_tokens"]);
    let (_, text) = server.ask("/detokenize", &json!({"tokens": tokens["tokens"]}));
    assert!(text["prompt"].as_str().unwrap().ends_with("Tom has 3"), "{text}");
    let info: Value = serde_json::from_str(&server.get("/tokenizer_info").1).unwrap();
    assert!(info["chat_template"].is_string() && info["eos_token"].is_string());
    // Whole blocks of a prompt that came before are not computed again.
    let prompt = QUESTION.repeat(12);
    let body = json!({"prompt": prompt, "max_tokens": 2, "temperature": 0});
    let (_, first) = server.ask("/v1/completions", &body);
    let (_, again) = server.ask("/v1/completions", &body);
    assert_eq!(first["choices"], again["choices"]);
    assert_eq!(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_f64().unwrap();
    assert!(cached(&again) >= 64.0, "{again}");
    assert_eq!(server.metric("vllm:prefix_cache_hits_total"), cached(&again));
    let twice = json!({"prompt": prompt, "max_tokens": 2, "temperature": 0, "n": 2});
    assert_eq!(
        cached(&server.ask("/v1/completions", &twice).1),
        cached(&again),
        "a prompt's tokens, not its completions'"
    );
    let output = answer["usage"]["completion_tokens"].as_f64().unwrap() + 8.0;
    assert_eq!(server.metric("vllm:generation_tokens_total"), output);
}

#[test]
fn a_key_is_asked_for_where_there_is_one() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("keys");
    std::fs::write(&file, "first\n\nsecond\n").unwrap();
    let server = Server::start(&["--api-key-file", file.to_str().unwrap()]);
    let status = |key: Option<&str>| {
        let request = server.agent.get(format!("{}/models", server.url));
        let request =
            if let Some(key) = key { request.header("Authorization", format!("Bearer {key}")) } else { request };
        request.call().unwrap().status().as_u16()
    };
    assert_eq!([None, Some(""), Some("firs"), Some("firstsecond")].map(status), [401; 4]);
    assert_eq!([Some("first"), Some("second")].map(status), [200; 2]);
    assert_eq!(server.get("/health").0, 200, "who watches over it needs no key");
    let start = |arguments: &[&str]| evalsuite().args(["serve", "--port", "0"]).args(arguments).output().unwrap();
    assert!(mistake(&start(&["--host", "0.0.0.0"])).contains("no key"));
    assert!(mistake(&start(&["--api-key-file", "nowhere"])).contains("nowhere"));
    assert!(mistake(&start(&["--api-key", ""])).contains("empty"));
    let port = server.address().rsplit(':').next().unwrap();
    assert!(
        mistake(&evalsuite().args(["serve", "--port", port]).output().unwrap())
            .contains("another program listens there")
    );
}

#[test]
fn pages_of_other_origins_may_ask_only_where_that_is_said() {
    let allowed = |arguments: &[&str], origin: &str| {
        let server = Server::start(arguments);
        let asked = server.agent.get(format!("{}/models", server.url)).header("Origin", origin).call().unwrap();
        asked.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    let named = ["--cors-origin", "https://a.example"];
    assert_eq!(allowed(&[], "https://a.example"), None);
    assert_eq!(allowed(&named, "https://a.example").as_deref(), Some("https://a.example"));
    assert_eq!(allowed(&named, "https://b.example"), None);
    assert_eq!(allowed(&["--cors-origin", "*"], "https://b.example").as_deref(), Some("*"));
}

#[test]
fn a_full_queue_says_so_and_when_to_ask_again() {
    let server = Server::start(&["--batch", "1", "--max-queued", "0"]);
    let busy = server.begin(&completion(900));
    let begin = Instant::now();
    while server.metric("vllm:num_requests_running") < 1.0 {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
    let response = server.agent.post(format!("{}/completions", server.url)).send(completion(4).to_string()).unwrap();
    assert_eq!((response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    drop(busy);
    server.wait_until_idle();
    assert_eq!(server.ask("/v1/completions", &completion(4)).0, 200);
}

#[test]
fn what_a_client_leaves_behind_is_free_again() {
    let server = Server::start(&["--batch", "2"]);
    let (_, reference) = server.ask("/v1/completions", &completion(30));
    for round in 0..30 {
        let mut body = completion(900);
        body["stream"] = json!(round % 2 == 0);
        let mut left = server.begin(&body);
        if round % 3 == 0 {
            let mut some = [0; 64];
            let _ = if round % 2 == 0 { left.read(&mut some) } else { Ok(0) };
        }
        drop(left);
    }
    let (_, answer) = server.ask("/v1/completions", &completion(30));
    assert_eq!(answer["choices"], reference["choices"]);
    server.wait_until_idle();
}

#[test]
fn rude_clients_harm_nobody() {
    let server = Server::start(&["--max-body", "1"]);
    let (_, reference) = server.ask("/v1/completions", &completion(20));
    let rude: [&[u8]; 8] = [
        b"",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"prompt\"",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    let mut open: Vec<TcpStream> = Vec::new();
    for bytes in rude.iter().cycle().take(200) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let _ = stream.write_all(bytes);
        open.push(stream);
    }
    // Who asks and reads nothing.
    let mut unread = completion(900);
    unread["stream"] = json!(true);
    open.push(server.begin(&unread));
    let (status, answer) = server.ask("/v1/completions", &completion(20));
    assert_eq!((status, &answer["choices"]), (200, &reference["choices"]));
    drop(open);
    server.wait_until_idle();
    let mut invalid = server.begin(&json!({}));
    invalid.write_all(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"\xff\"}").unwrap();
    let mut all = String::new();
    invalid.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 400").count(), 2, "{all}");
}

#[test]
fn ctrl_c_ends_what_has_begun_and_takes_no_more() {
    let server = Server::start(&[]);
    let mut body = completion(400);
    body["stream"] = json!(true);
    let mut begun = BufReader::new(server.begin(&body));
    let mut line = String::new();
    while !line.starts_with("data: ") {
        line.clear();
        begun.read_line(&mut line).unwrap();
    }
    server.signal("-INT");
    let mut rest = String::new();
    begun.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"finish_reason\":\"length\"") && rest.contains("data: [DONE]"), "{rest}");
    let mut server = server;
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(server.address()).is_err());
}

#[test]
fn what_has_not_ended_in_time_is_broken_off() {
    let mut server = Server::start(&["--drain-seconds", "0"]);
    let mut body = completion(900);
    body["stream"] = json!(true);
    body["n"] = json!(64);
    let mut begun = server.begin(&body);
    let mut some = [0; 16];
    begun.read_exact(&mut some).unwrap();
    server.signal("-INT");
    assert_eq!(server.child.wait().unwrap().code(), Some(130));
}

#[test]
fn several_precisions_are_several_models() {
    let server = Server::start(&["--dtype", "f16"]);
    let models: Value = serde_json::from_str(&server.get("/v1/models").1).unwrap();
    let ids: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bundled-f32", "bundled-f16"]);
    for id in ids {
        let mut body = completion(5);
        body["model"] = json!(id);
        let (status, answer) = server.ask("/v1/completions", &body);
        assert_eq!((status, &answer["model"]), (200, &json!(id)));
        assert!(answer["system_fingerprint"].as_str().unwrap().contains(id.rsplit('-').next().unwrap()));
    }
}
