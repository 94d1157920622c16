//! `evalsuite probe`: a stub that behaves well, and, check by check, badly; and our own engine's tokens in f16 and AWQ held against f32.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evalsuite::engine::model::{ModelSource, ModelSpec, ModelTokenizer};
use evalsuite::engine::{Dtype, Engine, EngineKind, Event, GenerateOptions, OpenOptions, Prompt, Request, Work, open};
use evalsuite::hub::Hub;
use evalsuite::jobs::endpoint_probe::{
    Conclusion, EndpointProbeRecord, HeldAnswer, PrecisionFinding, Verdict, check_names, hold,
};
use serde_json::{Value, json};

use crate::mock_server::{Asked, MockServer, Step, json as answer_json, stream_head, whole};
use crate::program::{evalsuite, text};

fn bundled(name: &str) -> Arc<ModelSource> {
    let hub = Hub::from_environment(true).unwrap();
    Arc::new(ModelSource::open(&ModelSpec { source: name.to_owned(), revision: "main".to_owned() }, &hub).unwrap())
}

/// What the stub says, and everything that it can do wrong.
struct Stub {
    tokenizer: Arc<ModelTokenizer>,
    /// The one thing that it does wrong; empty for nothing.
    fault: &'static str,
    asked: AtomicUsize,
    running: AtomicUsize,
    /// At most at a time, so far.
    most_running: AtomicUsize,
}

const CONTEXT: usize = 4096;
/// Where an answer ends by itself.
const LENGTH: usize = 60;

impl Stub {
    fn is(&self, fault: &str) -> bool {
        self.fault == fault
    }

    /// The tokens of a prompt in any form.
    fn prompt(&self, body: &Value) -> Vec<u32> {
        let encode = |text: &str| self.tokenizer.encode(text, true).unwrap();
        let mut ids: Vec<u32> = match (&body["prompt"], &body["messages"]) {
            (Value::String(text), _) => encode(text),
            (Value::Array(ids), _) => ids.iter().map(|id| id.as_u64().unwrap() as u32).collect(),
            (_, messages) => encode(messages[0]["content"].as_str().unwrap()),
        };
        if self.is("bos-twice") {
            ids.insert(0, ids[0]);
        }
        ids
    }

    /// Words that hang on the prompt, and on the seed where it samples.
    fn answer(&self, body: &Value, prompt: &[u32]) -> Vec<u32> {
        let count = self.asked.fetch_add(1, Ordering::Relaxed) as u64;
        let temperature =
            body.get("temperature").and_then(Value::as_f64).unwrap_or(if self.is("not-greedy") { 1.0 } else { 0.0 });
        let mut state = prompt.iter().fold(7u64, |state, id| state.wrapping_mul(31).wrapping_add(u64::from(*id)));
        if temperature > 0.0 {
            let seed = body.get("seed").and_then(Value::as_u64).filter(|_| !self.is("seed-ignored")).unwrap_or(count);
            if !self.is("clones") {
                state ^= seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        } else if self.is("not-repeatable")
            || (self.is("batch") && self.most_running.load(Ordering::Relaxed) > 4)
            || (self.is("cache") && body["prompt"].as_str().is_some_and(|text| text.starts_with("Note ")))
        {
            state ^= count;
        } else if self.is("penalty") && body.get("repetition_penalty").is_none() {
            state ^= 1;
        }
        let limit = |key: &str| body.get(key).and_then(Value::as_u64);
        let read = if self.is("limit-ignored") { "no_such_key" } else { "max_tokens" };
        let most = limit(read).or_else(|| limit("max_completion_tokens")).unwrap_or(16).max(1) as usize;
        let most = if self.is("limit-ignored") { most + 9 } else { most };
        let exact = body.get("ignore_eos").is_some() && !self.is("eos-heeded");
        let length = if exact { most } else { most.min(LENGTH) };
        let words = self.words();
        let mut next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words[(state >> 33) as usize % words.len()]
        };
        (0..length).map(&mut next).collect()
    }

    /// Tokens that are words with a blank before them, so that a text has the tokens that it was made of.
    fn words(&self) -> Vec<u32> {
        let of = |word: &str| self.tokenizer.encode(word, false).unwrap();
        let found = [" the", " of", " and", " a", " in", " to", " is", " has", " for", " each", " many", " how"];
        let found: Vec<u32> = found.iter().filter_map(|word| of(word).first().copied()).collect();
        let mut unique = found.clone();
        unique.sort_unstable();
        unique.dedup();
        assert!(unique.len() > 4, "{found:?}");
        unique
    }

    fn text(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids).unwrap()
    }

    fn generate(&self, asked: &Asked) -> Vec<Step> {
        let (body, chat) = (&asked.body, asked.route.contains("chat"));
        if let Some(refusal) = self.refusal(body) {
            return refusal;
        }
        let prompt = self.prompt(body);
        if prompt.len() >= CONTEXT && !self.is("cuts") {
            return refuse(&format!("the context holds {CONTEXT} tokens, the prompt {}", prompt.len()));
        }
        let prompt = &prompt[..prompt.len().min(CONTEXT - 1)];
        let mut ids = self.answer(body, prompt);
        let mut reasoning = String::new();
        if chat && !self.is("no-thought") {
            "farmer sheep nine twice therefore eighteen".clone_into(&mut reasoning);
        }
        let mut said = self.text(&ids);
        let mut finish = if ids.len() < LENGTH || body.get("ignore_eos").is_some() { "length" } else { "stop" };
        for stop in body.get("stop").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if self.is("thought-stopped") && reasoning.contains(stop) {
                reasoning.truncate(reasoning.find(stop).unwrap());
                (said, ids, finish) = (String::new(), Vec::new(), "stop");
            }
            if let Some(at) = said.find(stop).filter(|_| !self.is("stops-ignored")) {
                said.truncate(if self.is("stop-stays") { at + stop.len() } else { at });
                while !ids.is_empty()
                    && !self.text(&ids[..ids.len() - 1]).is_empty()
                    && self.text(&ids[..ids.len() - 1]).len() >= said.len()
                {
                    ids.pop();
                }
                finish = "stop";
            }
        }
        let ids_told = body.get("return_token_ids").is_some() && !self.is("no-ids");
        let wrong = usize::from(self.is("miscounts")) * 7;
        let usage = json!({"prompt_tokens": prompt.len() + wrong, "completion_tokens": ids.len() + wrong});
        if body.get("stream") == Some(&json!(true)) {
            return self.stream(body, chat, &ids, &said, &reasoning, finish, &usage, prompt, ids_told);
        }
        let choice = |index: usize, ids: &[u32], said: &str| {
            let mut choice = json!({"index": index, "finish_reason": finish});
            if chat {
                choice["message"] = json!({"content": said, "reasoning": reasoning});
            } else {
                choice["text"] = json!(said);
            }
            if ids_told {
                choice["token_ids"] = json!(ids);
                choice["prompt_token_ids"] = json!(prompt);
            }
            let echo = body.get("echo") == Some(&json!(true)) && !self.is("no-echo");
            if body.get("logprobs").is_some_and(|logprobs| !logprobs.is_null()) {
                let all = if echo { prompt.len() + ids.len() } else { ids.len() };
                let value = |index: usize| if echo && index == 0 { Value::Null } else { json!(-0.5) };
                let values: Vec<Value> = (0..all).map(value).collect();
                choice["logprobs"] = json!({"token_logprobs": values, "tokens": vec!["x"; all]});
            }
            choice
        };
        let mut choices = vec![choice(0, &ids, &said)];
        for index in 1..body.get("n").and_then(Value::as_u64).unwrap_or(1) as usize {
            if !self.is("one-choice") {
                let more = self.answer(body, prompt);
                choices.push(choice(index, &more, &self.text(&more)));
            }
        }
        let mut answer = json!({"object": "text_completion", "model": "m", "choices": choices});
        if !self.is("no-usage") {
            answer["usage"] = usage;
        }
        answer_json(200, &answer)
    }

    fn refusal(&self, body: &Value) -> Option<Vec<Step>> {
        if body["temperature"].is_string() && !self.is("takes-nonsense") {
            let message = "temperature is no number";
            return Some(if self.is("errors-500") {
                answer_json(500, &json!({"error": "oops"}))
            } else {
                refuse(message)
            });
        }
        if self.is("strict") && body.get("evalsuite_probe_unknown").is_some() {
            return Some(refuse("extra fields are not permitted: evalsuite_probe_unknown"));
        }
        if self.is("four-stops") && body.get("stop").and_then(Value::as_array).is_some_and(|stops| stops.len() > 4) {
            return Some(refuse("at most 4 stop strings"));
        }
        if self.is("no-echo-allowed") && body.get("echo").is_some() {
            return Some(refuse("Only no echo is supported"));
        }
        None
    }

    #[expect(clippy::too_many_arguments, reason = "an answer's parts, once")]
    fn stream(
        &self,
        body: &Value,
        chat: bool,
        ids: &[u32],
        said: &str,
        reasoning: &str,
        finish: &str,
        usage: &Value,
        prompt: &[u32],
        ids_told: bool,
    ) -> Vec<Step> {
        let options = |key: &str| body["stream_options"].get(key) == Some(&json!(true)) && !self.is("no-usage");
        let mut steps = vec![stream_head()];
        let mut write = |value: &Value| steps.push(Step::Bytes(format!("data: {value}\n\n").into_bytes()));
        if self.is("early-chunk") {
            write(&json!({"choices": [{"index": 0, "text": "", "finish_reason": null}]}));
        }
        let per_chunk = if self.is("big-chunks") { 5 } else { 1 };
        let mut waits = self.is("early-chunk");
        let mut all = Vec::new();
        let _ = said;
        let parts = if ids.is_empty() { Vec::new() } else { ids.chunks(per_chunk).collect::<Vec<_>>() };
        let mut before = 0;
        for (index, part) in parts.iter().enumerate() {
            all.extend_from_slice(part);
            let text = self.text(&all);
            let new = text.get(before..).unwrap_or_default().to_owned();
            before = text.len();
            let last = index + 1 == parts.len();
            let mut choice = json!({"index": 0, "finish_reason": if last { json!(finish) } else { Value::Null }});
            if chat {
                choice["delta"] = json!({"content": new, "reasoning": if index == 0 { reasoning } else { "" }});
            } else {
                choice["text"] = json!(new);
            }
            if ids_told {
                choice["token_ids"] = json!(part);
                if index == 0 {
                    choice["prompt_token_ids"] = json!(prompt);
                }
            }
            let mut chunk = json!({"object": "text_completion", "choices": [choice]});
            if options("continuous_usage_stats") && !self.is("usage-at-end") {
                chunk["usage"] = json!({"prompt_tokens": prompt.len(), "completion_tokens": all.len()});
            }
            if waits {
                steps.push(Step::Wait(40));
                waits = false;
            }
            steps.push(Step::Bytes(format!("data: {chunk}\n\n").into_bytes()));
            if ids.len() > 200 {
                steps.push(Step::Wait(5));
            }
        }
        if options("include_usage") {
            steps.push(Step::Bytes(format!("data: {}\n\n", json!({"choices": [], "usage": usage})).into_bytes()));
        }
        steps.push(Step::Bytes(b"data: [DONE]\n\n".to_vec()));
        steps.push(Step::Close);
        steps
    }
}

fn refuse(message: &str) -> Vec<Step> {
    answer_json(400, &json!({"error": {"message": message, "type": "BadRequestError", "code": 400}}))
}

fn start(fault: &'static str) -> MockServer {
    let tokenizer = Arc::clone(&bundled("bundled").tokenizer);
    let stub = Stub {
        tokenizer,
        fault,
        asked: AtomicUsize::new(0),
        running: AtomicUsize::new(0),
        most_running: AtomicUsize::new(0),
    };
    MockServer::start(move |asked| match asked.route.as_str() {
        "GET /v1/models" => {
            let mut model = json!({"id": "m", "object": "model", "owned_by": "stub"});
            if !stub.is("tells-little") {
                model["max_model_len"] = json!(CONTEXT);
            }
            answer_json(200, &json!({"object": "list", "data": [model]}))
        }
        "GET /version" if !stub.is("tells-little") => answer_json(200, &json!({"version": "1.0"})),
        "POST /v1/completions" if stub.is("chat-only") => {
            answer_json(404, &json!({"error": {"message": "no such route"}}))
        }
        "POST /v1/completions" | "POST /v1/chat/completions" => {
            let running = stub.running.fetch_add(1, Ordering::Relaxed) + 1;
            stub.most_running.fetch_max(running, Ordering::Relaxed);
            // Requests that are sent together are worked on together, however busy this machine is.
            let begun = Instant::now();
            while stub.is("batch")
                && stub.most_running.load(Ordering::Relaxed) <= 4
                && begun.elapsed() < Duration::from_secs(1)
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let steps = stub.generate(asked);
            stub.running.fetch_sub(1, Ordering::Relaxed);
            steps
        }
        _ => whole(404, "text/plain", "", "no such route"),
    })
}

/// Probes a stub; (exit code, what was printed, the record).
fn probe(server: &MockServer, arguments: &[&str]) -> (Option<i32>, String, EndpointProbeRecord) {
    let scratch = tempfile::tempdir().unwrap();
    let address = server.address();
    let all = [&["probe", &address, "--out", "probe.json", "--quiet"], arguments].concat();
    let output = evalsuite().current_dir(scratch.path()).args(all).output().unwrap();
    let printed = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let record = EndpointProbeRecord::read(&scratch.path().join("probe.json")).unwrap_or_else(|_| panic!("{printed}"));
    (output.status.code(), printed, record.unwrap())
}

fn verdicts(record: &EndpointProbeRecord) -> Vec<(&str, Verdict)> {
    record.checks.iter().map(|check| (check.name.as_str(), check.verdict)).collect()
}

#[test]
fn a_server_that_behaves_well_passes_every_check() {
    let server = start("");
    let (code, printed, record) = probe(&server, &["--tokenizer", "bundled"]);
    let asked: Vec<_> = verdicts(&record);
    for (name, verdict) in &asked {
        let expected = if ["cancellation", "precision"].contains(name) { Verdict::NotAsked } else { Verdict::Holds };
        assert_eq!(*verdict, expected, "{name}:\n{printed}");
    }
    assert_eq!((code, asked.len()), (Some(0), check_names().len()), "{printed}");
    assert!(printed.lines().all(|line| line.chars().count() <= 80), "{printed}");
    assert!(printed.contains("21 hold, 2 could not be asked"), "{printed}");
    assert!(record.exchanges.len() > 60 && record.exchanges.iter().any(|one| one.answer.is_some()));
    assert_eq!((record.endpoint.model.as_str(), record.endpoint.api.as_str()), ("m", "completions"));
}

#[test]
fn every_check_sees_what_it_looks_for() {
    let with = "--tokenizer=bundled";
    for (fault, name, verdict, arguments) in [
        ("tells-little", "models", Verdict::Notable, &[][..]),
        ("not-repeatable", "greedy-twice", Verdict::Harms, &[]),
        ("batch", "greedy-in-company", Verdict::Notable, &[]),
        ("cache", "prefix-cache", Verdict::Notable, &[]),
        ("bos-twice", "prompt-ids", Verdict::Harms, &[with]),
        ("", "prompt-ids", Verdict::NotAsked, &[]),
        ("cuts", "too-long", Verdict::Harms, &[]),
        ("miscounts", "usage", Verdict::Harms, &[]),
        ("no-usage", "usage", Verdict::Notable, &[]),
        ("no-usage", "usage-in-streams", Verdict::Notable, &[]),
        ("usage-at-end", "usage-in-streams", Verdict::Notable, &[]),
        ("eos-heeded", "exact-length", Verdict::Notable, &[]),
        ("limit-ignored", "max-tokens", Verdict::Harms, &[]),
        ("stops-ignored", "stops", Verdict::Harms, &[]),
        ("stop-stays", "stops", Verdict::Notable, &[]),
        ("four-stops", "stops", Verdict::Notable, &[]),
        ("thought-stopped", "stops-in-thought", Verdict::Harms, &[]),
        ("no-thought", "stops-in-thought", Verdict::NotAsked, &[]),
        ("not-greedy", "default-sampling", Verdict::Notable, &[]),
        ("penalty", "default-penalty", Verdict::Notable, &[]),
        ("seed-ignored", "seed", Verdict::Notable, &[]),
        ("clones", "seed", Verdict::Harms, &[]),
        ("one-choice", "choices", Verdict::Notable, &[]),
        ("clones", "choices", Verdict::Notable, &[]),
        ("no-echo", "echo-logprobs", Verdict::Harms, &[]),
        ("no-echo-allowed", "echo-logprobs", Verdict::Notable, &[]),
        ("strict", "unknown-key", Verdict::Notable, &[]),
        ("takes-nonsense", "errors", Verdict::Notable, &[]),
        ("errors-500", "errors", Verdict::Notable, &[]),
        ("big-chunks", "chunks", Verdict::Notable, &[]),
        ("early-chunk", "first-chunk", Verdict::Notable, &[]),
    ] {
        let server = start(fault);
        let (code, printed, record) = probe(&server, &[&["--only", name], arguments].concat());
        assert_eq!(verdicts(&record), [(name, verdict)], "{fault}: {printed}");
        assert_eq!(code, Some(i32::from(verdict == Verdict::Harms)), "{fault}: {printed}");
    }
}

#[test]
fn a_server_of_chats_alone_is_asked_by_chats() {
    let server = start("chat-only");
    let (code, printed, record) = probe(&server, &["--tokenizer", "bundled"]);
    assert_eq!((record.endpoint.api.as_str(), code), ("chat", Some(0)), "{printed}");
    let asked = record.checks.iter().filter(|check| check.verdict != Verdict::NotAsked).count();
    assert!(asked >= 18 && record.notes.iter().any(|note| note.contains("asked by chats")), "{printed}");
    let echo = record.checks.iter().find(|check| check.name == "echo-logprobs").unwrap();
    assert!(echo.verdict == Verdict::NotAsked && echo.seen.contains("404"), "{echo:?}");
}

#[test]
fn a_probe_survives_whatever_a_server_does() {
    for fault in ["silent", "cut", "html", "500"] {
        let server = MockServer::start(move |asked| {
            let body = &asked.body;
            if asked.route == "GET /v1/models" {
                return crate::mock_server::models("m");
            }
            if body["max_tokens"] == 1 && asked.before == 0 {
                return answer_json(200, &json!({"choices": [{"text": "x", "finish_reason": "stop"}]}));
            }
            match fault {
                "silent" => vec![Step::Wait(1500), Step::Close],
                "cut" => vec![Step::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{".to_vec()), Step::Close],
                "html" => whole(502, "text/html", "", "<html><title>Bad Gateway</title></html>"),
                _ => answer_json(500, &json!({"detail": "oops"})),
            }
        });
        let (code, printed, record) = probe(&server, &["--timeout", "1", "--api", "completions"]);
        assert_eq!(code, Some(0), "{fault}: {printed}");
        assert!(record.checks.iter().all(|check| check.verdict != Verdict::Harms), "{fault}: {printed}");
        assert!(
            record.checks.iter().filter(|check| check.verdict == Verdict::NotAsked).count() > 15,
            "{fault}: {printed}"
        );
    }
}

#[test]
fn what_cannot_be_probed_is_refused_with_a_way_out() {
    let server = start("");
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    for (arguments, exit, part) in [
        (&["localhost:8000"][..], 2, "neither http:// nor https://"),
        (&["http://127.0.0.1:9/v1"], 3, "no connection"),
        (&[&address, "--only", "greedy"], 2, "unknown check"),
        (&[&address, "--api", "responses"], 2, "unknown route"),
        (&[&address, "--extra-body", "[1]"], 2, "is no JSON object"),
        (&[&address, "--model", "./nothing-here"], 2, "hint: "),
    ] {
        let all = [&["probe"], arguments].concat();
        let output = evalsuite().current_dir(scratch.path()).args(all).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(exit) && said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn a_probe_is_printed_as_markdown_and_json_and_shown_again() {
    let server = start("stops-ignored");
    let scratch = tempfile::tempdir().unwrap();
    let address = server.address();
    let run = |arguments: &[&str]| {
        let output = evalsuite().current_dir(scratch.path()).args(arguments).output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, markdown) = run(&["probe", &address, "--only", "stops", "--format", "markdown", "--out", "p.json"]);
    assert!(code == Some(1) && markdown.contains("| stops | HARMS | answers run on"), "{markdown}");
    let (_, json) = run(&["probe", &address, "--only", "stops", "--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["probe_format"], &json["checks"][0]["verdict"]), (&json!(1), &json!("harms")));
    assert!(json["exchanges"].as_array().unwrap().len() > 2);
    let (code, shown) = run(&["show", "p.json", "--format", "markdown"]);
    assert_eq!((code, shown), (Some(0), markdown));
}

/// An engine's greedy tokens.
fn generate(engine: &mut dyn Engine, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let requests = prompts.iter().enumerate().map(|(id, ids)| Request {
        id,
        prompt: Arc::new(Prompt { text: String::new(), token_ids: ids.clone() }),
        work: Work::Generate(GenerateOptions { max_tokens: 64, ..GenerateOptions::default() }),
    });
    let mut answers = vec![Vec::new(); prompts.len()];
    engine
        .run(requests.collect(), &mut |event| {
            if let Event::Completed(completion) = event {
                answers[completion.request] = completion.token_ids;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    answers
}

/// Our own engine's answers in a precision, held against f32.
fn finding(checkpoint: &Arc<ModelSource>, dtype: Dtype) -> PrecisionFinding {
    let reference = bundled("bundled");
    let cpu =
        |source: &Arc<ModelSource>, dtype| open(source, &OpenOptions::new(EngineKind::Cpu, dtype, Some(8))).unwrap();
    let questions = (0..32).map(|number| {
        format!(
            "Question: Anna has {} apples and buys {} more. How many has she now?\nAnswer:",
            13 + 7 * number,
            5 + 3 * number
        )
    });
    let prompts: Vec<Vec<u32>> = questions.map(|text| reference.tokenizer.encode(&text, true).unwrap()).collect();
    let answers = generate(cpu(checkpoint, dtype).as_mut(), &prompts);
    let mut truth = cpu(&reference, Dtype::F32);
    let held = prompts.iter().zip(&answers).map(|(prompt, answer)| HeldAnswer {
        prompt: String::new(),
        ids_by: "server".to_owned(),
        tokens: hold(truth.as_mut(), reference.config.vocabulary, prompt, answer).unwrap(),
    });
    PrecisionFinding::of(held.collect())
}

fn rounded(folder: &Path) -> Arc<ModelSource> {
    let out = folder.join("rtn").display().to_string();
    let arguments = ["quantize", "--model", "bundled", "--out", &out, "--method", "rtn", "--group-size", "64"];
    assert!(evalsuite().args(arguments).output().unwrap().status.success());
    bundled(&out)
}

#[test]
fn sixteen_bits_and_four_bits_are_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let (own, awq, rtn) = (bundled("bundled"), bundled("bundled-awq"), rounded(scratch.path()));
    for (checkpoint, dtype, conclusion) in [
        (&own, Dtype::F32, Conclusion::SixteenBit),
        (&own, Dtype::F16, Conclusion::SixteenBit),
        (&own, Dtype::Bf16, Conclusion::SixteenBit),
        (&awq, Dtype::Awq, Conclusion::Quantised),
        (&rtn, Dtype::Awq, Conclusion::Quantised),
    ] {
        let found = finding(checkpoint, dtype);
        let evidence = &found.evidence;
        eprintln!("{} {dtype}: {} {evidence:?}", checkpoint.name, found.sentence);
        assert_eq!(found.conclusion, conclusion, "{} {dtype}: {} {evidence:?}", checkpoint.name, found.sentence);
    }
}
