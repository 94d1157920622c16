//! Evaluations, quality runs and load tests over an endpoint, by the program itself (`mock_server.rs` is a stub that computes nothing).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use evalsuite::engine::CountedBy;
use evalsuite::jobs::eval::StoredRun;
use evalsuite::jobs::load::LoadRecord;
use serde_json::{Value, json};

use crate::mock_server::{Asked, MockServer, Step, json as answer_json, models, stream, stream_head, whole};
use crate::program::{evalsuite, run};

/// Answers every prompt of the bundled problems with `#### 7`, streamed, with usage.
fn answer(asked: &Asked) -> Vec<Step> {
    match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "GET /metrics" => whole(200, "text/plain", "", "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n"),
        "POST /v1/completions" | "POST /v1/chat/completions" => {
            let length = asked.body["max_tokens"].as_u64().unwrap();
            let tokens = if asked.body.get("ignore_eos").is_some() { length } else { 4 };
            let prompt = asked.body["prompt"].as_array().map_or(11, Vec::len);
            let said = |text: &str| {
                if asked.route.contains("chat") { json!({"delta": {"content": text}}) } else { json!({"text": text}) }
            };
            let chunk = |choice: Value, finish: Value| {
                let mut choice = choice;
                choice["index"] = json!(0);
                choice["finish_reason"] = finish;
                format!("data: {}\n\n", json!({"choices": [choice]}))
            };
            let usage = json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}});
            let writes = [
                chunk(said("So it is\n"), Value::Null),
                chunk(said("#### 7"), json!("stop")),
                format!("data: {usage}\n\ndata: [DONE]\n\n"),
            ];
            stream(&writes.iter().map(String::as_bytes).collect::<Vec<_>>())
        }
        _ => whole(404, "text/plain", "", "no such route"),
    }
}

#[test]
fn an_evaluation_runs_over_an_endpoint_and_says_what_it_does_not_know() {
    let (server, scratch) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    let address = server.address();
    let arguments = ["gsm8k", "--endpoint", &address, "--limit", "12", "--out", "run"];
    let (code, out, err) = run(scratch.path(), &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    let flowing = crate::program::flowing(&out);
    assert!(flowing.contains("chat route, prompts as messages, tokenizer unknown; weights unknown"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let first = out.lines().find(|line| line.starts_with("endpoint")).unwrap();
    assert!(first.ends_with("n/a     n/a"), "load time and memory of a server are unknown: {first}");
    assert!(out.contains("endpoint: output tokens are counted by the server's usage"), "{out}");
    let asked = server.asked("POST /v1/chat/completions");
    assert_eq!(asked.len(), 12);
    let body = &asked[0].body;
    assert_eq!(
        (&body["temperature"], &body["top_p"], &body["repetition_penalty"]),
        (&json!(0.0), &json!(1.0), &json!(1.0))
    );
    assert_eq!(body["messages"].as_array().unwrap().last().unwrap()["role"], "user");
    let stored = StoredRun::read(&scratch.path().join("run")).unwrap();
    for completion in &stored.completions[0].1 {
        assert_eq!(
            (completion.output_tokens(), completion.prompt_tokens, &completion.token_ids),
            (Some(4), Some(11), &None)
        );
        assert_eq!((completion.counted_by, completion.text.as_str()), (Some(CountedBy::Usage), "So it is\n#### 7"));
    }
    let (code, out, err) = run(scratch.path(), &["report", "run", "--format", "csv"]);
    assert!(code == Some(0) && out.matches(",m,endpoint,").count() == 12, "{out}{err}");
}

#[test]
fn with_a_tokenizer_prompts_are_the_very_tokens_of_a_model_that_is_here() {
    let (server, scratch) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    let there = format!("there={}", server.address());
    let arguments = ["gsm8k", "--dtype", "f32", "--variant", &there, "--limit", "5", "--out", "run"];
    let (code, out, err) = run(scratch.path(), &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("\nf32 ") && out.contains("\nthere "), "{out}");
    let (_, shown, _) = run(scratch.path(), &["gsm8k", "--show-prompt", "0", "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let asked = server.asked("POST /v1/completions");
    assert!(asked.iter().any(|asked| asked.body["prompt"] == shown["token_ids"]), "{shown}");
    let sent = run(
        scratch.path(),
        &["gsm8k", "--endpoint", &server.address(), "--tokenizer", "bundled", "--limit", "1", "--send-text"],
    );
    assert_eq!(sent.0, Some(0), "{}", sent.2);
    assert_eq!(server.asked("POST /v1/completions").last().unwrap().body["prompt"], shown["text"]);
}

#[test]
fn what_fails_is_no_answer_and_is_asked_for_again_when_the_run_is_resumed() {
    let refuses = Arc::new(AtomicUsize::new(1));
    let flag = Arc::clone(&refuses);
    let server = MockServer::start(move |asked| {
        let question = asked.body["messages"].to_string();
        if flag.load(Ordering::Relaxed) == 1 && asked.route.contains("chat") && question.len() % 3 == 0 {
            return answer_json(400, &json!({"error": {"message": "this one is refused"}}));
        }
        answer(asked)
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let (code, out, err) = run(scratch.path(), &["gsm8k", "--endpoint", &address, "--limit", "30", "--out", "run"]);
    assert!(code.is_some_and(|code| code != 0), "{out}{err}");
    assert!(err.contains("of 30 requests failed") && err.contains("this one is refused"), "{err}");
    let sessions = std::fs::read_to_string(scratch.path().join("run/endpoint/sessions.json")).unwrap();
    assert!(sessions.contains("\"failed\"") && sessions.contains("this one is refused"), "{sessions}");
    let answered = StoredRun::read(&scratch.path().join("run")).unwrap().completions[0].1.len();
    assert!((5..30).contains(&answered), "{answered}");
    refuses.store(0, Ordering::Relaxed);
    let before = server.asked("POST /v1/chat/completions").len();
    let (code, out, err) = run(scratch.path(), &["resume", "run", "--timeout", "60"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(server.asked("POST /v1/chat/completions").len() - before, 30 - answered);
    assert_eq!(StoredRun::read(&scratch.path().join("run")).unwrap().completions[0].1.len(), 30);
}

#[test]
fn a_run_says_when_the_model_behind_its_endpoint_is_another() {
    let name = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&name);
    let server = MockServer::start(move |asked| {
        if asked.route == "GET /v1/models" {
            return models(["first", "second"][current.load(Ordering::Relaxed)]);
        }
        if asked.route.contains("chat") && asked.before == 3 {
            vec![stream_head(), Step::Wait(60_000)]
        } else {
            answer(asked)
        }
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let arguments = ["gsm8k", "--endpoint", &address, "--limit", "6", "--out", "run", "--batch", "1", "--timeout", "1"];
    let mut child = evalsuite().current_dir(scratch.path()).args(arguments).spawn().unwrap();
    while server.asked("POST /v1/chat/completions").len() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    name.store(1, Ordering::Relaxed);
    let (code, _, err) = run(scratch.path(), &["resume", "run"]);
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("first") && err.contains("second"), "{err}");
}

#[test]
fn quality_runs_over_an_endpoint() {
    let (server, scratch) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    let address = server.address();
    let (code, out, err) =
        run(scratch.path(), &["quality", "--endpoint", &address, "--only", "copying", "--out", "run"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("weights unknown"), "{out}");
}

#[test]
fn flags_of_endpoints_are_checked_before_anything_is_asked() {
    let scratch = tempfile::tempdir().unwrap();
    let server = MockServer::start(answer);
    let address = server.address();
    for (arguments, part) in [
        (&["--endpoint", "localhost:8000"][..], "neither http:// nor https://"),
        (&["--endpoint", &address, "--endpoint", &address], "is given twice"),
        (&["--endpoint", &address, "--api", "responses"], "unknown route"),
        (&["--endpoint", &address, "--extra-body", "[1]"], "is no JSON object"),
        (&["--endpoint", &address, "--api-key-env", "NO_SUCH_VARIABLE_HERE"], "no such variable"),
        (&["--endpoint", &address, "--timeout", "0"], "--timeout"),
        (&["--endpoint", &address, "--model", "bundled"], "cannot be used with"),
        (&["--endpoint", &address, "--variant", "v=bundled"], "beside an endpoint as the model"),
        (&["--endpoint", &address, "--tokenizer", "./nothing-here"], "nothing-here"),
    ] {
        let (code, _, err) = run(scratch.path(), &[&["gsm8k", "--limit", "1"], arguments].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
    let (code, _, err) = run(scratch.path(), &["perplexity", "--variant", &format!("v={address}")]);
    assert!(code == Some(2) && err.contains("this command reads a model's files"), "{err}");
}

#[test]
fn a_load_test_counts_what_came_and_what_failed() {
    let server = MockServer::start(|asked| {
        let is_fifth = asked.route.contains("completions") && asked.before % 5 == 4;
        if is_fifth { answer_json(503, &json!({"error": "busy"})) } else { answer(asked) }
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let arguments =
        ["load", "--endpoint", &address, "--users", "1,4", "--requests", "20", "--warm-up", "0", "--out", "l.json"];
    let (code, out, err) = run(scratch.path(), &[&arguments[..], &["--slo", "ttft=5s,itl=5s"]].concat());
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(err.contains("error: 8 requests failed and were not sent again") && err.contains("hint: "), "{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let levels = &record.variants[0].levels;
    assert_eq!(levels.len(), 2);
    for level in levels {
        let figures = &level.figures;
        assert_eq!((figures.sent, figures.completed, figures.failed["HTTP 503"]), (20, 16, 4));
        assert_eq!(
            (figures.ttft.unwrap().n, figures.itl.unwrap().n, figures.output_tokens.unwrap().mean),
            (16, 16, 4.0)
        );
        assert!((figures.goodput.unwrap() - figures.requests_per_second).abs() < 1e-9);
        assert_eq!((level.requests.len(), level.cache[0].used), (20, Some(0.5)));
        assert_eq!(level.timeline.iter().map(|second| second.sent).sum::<usize>(), 20);
    }
    assert_eq!((levels[0].figures.most_in_flight, levels[1].figures.most_in_flight), (1, 4));
    // The first request learnt what the server takes; nothing was sent again.
    assert_eq!(server.asked("POST /v1/chat/completions").len(), 41);
    assert!(out.contains("4 failed by HTTP 503") && out.contains("goodput"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    for format in ["markdown", "json", "terminal"] {
        let (code, shown, err) = run(scratch.path(), &["show", "l.json", "--format", format]);
        assert!(code == Some(0) && shown.contains("TTFT") || format == "json", "{shown}{err}");
    }
}

#[test]
fn a_server_that_answers_nothing_is_an_error_without_tables() {
    let server = MockServer::start(|asked| {
        if asked.route.contains("completions") {
            answer_json(500, &json!({"error": "no memory"}))
        } else {
            answer(asked)
        }
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let (code, out, err) = run(scratch.path(), &["load", "--endpoint", &address, "--users", "2"]);
    assert_eq!(code, Some(3), "{out}{err}");
    assert!(err.contains("the first request to") && err.contains("HTTP 500: no memory"), "{err}");
    assert!(out.contains("did not finish") && !out.contains("req/s") && !out.contains("TTFT"), "{out}");
    assert_eq!(server.asked("POST /v1/chat/completions").len(), 1);
}

#[test]
fn arrivals_wait_for_no_answer() {
    let server = MockServer::start(|asked| {
        let slow = if asked.route.contains("completions") { vec![Step::Wait(500)] } else { Vec::new() };
        [slow, answer(asked)].concat()
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let arguments = [
        "load",
        "--endpoint",
        &address,
        "--rate",
        "40",
        "--arrivals",
        "constant",
        "--requests",
        "40",
        "--warm-up",
        "0",
    ];
    let lengths = ["--prompt-tokens", "9", "--output-tokens", "6", "--out", "l.json"];
    let (code, out, err) = run(scratch.path(), &[&arguments[..], &lengths].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let level = &record.variants[0].levels[0];
    // A second of arrivals, and half a second for the last answer: one after the other they would take twenty.
    assert!(level.figures.seconds < 5.0 && level.figures.most_in_flight >= 10, "{:?}", level.figures);
    // On a busy machine one may overtake another: by their planned moments they are in order.
    let mut planned: Vec<f64> = level.requests.iter().map(|one| one.sent_seconds - one.lag_seconds).collect();
    planned.sort_by(f64::total_cmp);
    for (number, (request, planned)) in level.requests.iter().zip(planned).enumerate() {
        assert!((planned - number as f64 / 40.0).abs() < 1e-6, "{request:?}");
        assert_eq!((request.asked_tokens, request.output_tokens, request.prompt_tokens), (Some(6), Some(6), Some(9)));
    }
    let body = &server.asked("POST /v1/completions")[1].body;
    assert_eq!(
        (&body["ignore_eos"], &body["min_tokens"], body["prompt"].as_array().unwrap().len()),
        (&json!(true), &json!(6), 9)
    );
    assert_eq!(level.figures.wrong_lengths, 0);
}

#[test]
fn a_shared_beginning_belongs_to_a_prompt_s_length() {
    let server = MockServer::start(answer);
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let workload = json!({"requests": [{"prompt_tokens": 9, "output_tokens": 6}], "shared_prefix_tokens": 3});
    std::fs::write(scratch.path().join("w.json"), workload.to_string()).unwrap();
    let arguments = ["load", "--endpoint", &address, "--workload", "w.json", "--requests", "2", "--out", "l.json"];
    let (code, out, err) = run(scratch.path(), &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    for request in &record.variants[0].levels[0].requests {
        assert_eq!((request.asked_prompt_tokens, request.prompt_tokens), (Some(12), Some(12)));
    }
}

/// A server that keeps the beginnings of prompts would be measured without reading any that it has read.
#[test]
fn no_level_and_no_warm_up_repeats_a_prompt() {
    let server = MockServer::start(answer);
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let arguments = ["load", "--endpoint", &address, "--users", "1,2", "--requests", "6", "--warm-up", "3"];
    let (code, out, err) =
        run(scratch.path(), &[&arguments[..], &["--prompt-tokens", "9", "--output-tokens", "6"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let asked = server.asked("POST /v1/completions");
    let prompts: BTreeSet<String> = asked.iter().map(|one| one.body["prompt"].to_string()).collect();
    assert_eq!(
        (asked.len(), prompts.len()),
        (1 + 2 * (3 + 6), 1 + 2 * (3 + 6)),
        "the first one asks what the server takes"
    );
}

#[test]
fn a_connection_that_was_closed_unread_costs_no_request_and_is_told() {
    // Of two requests on a connection the second is read by nobody, as behind llama.cpp's streams.
    let server = MockServer::start(|asked| match asked.route.as_str() {
        "POST /v1/chat/completions" if asked.before % 2 == 1 => vec![Step::Close],
        "POST /v1/chat/completions" => {
            let choice = json!({"index": 0, "message": {"content": "7"}, "finish_reason": "stop"});
            answer_json(200, &json!({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}))
        }
        _ => answer(asked),
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let arguments = ["load", "--endpoint", &address, "--requests", "2", "--warm-up", "0", "--out", "l.json"];
    let (code, out, err) = run(scratch.path(), &arguments);
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let level = &record.variants[0].levels[0];
    assert_eq!((level.figures.completed, level.requests.iter().filter(|one| one.resent).count()), (2, 2));
    assert!(record.notes.iter().any(|note| note.contains("2 requests met a connection")), "{:?}", record.notes);
}

#[test]
fn a_trace_is_sent_in_its_own_time() {
    let (server, scratch) = (MockServer::start(answer), tempfile::tempdir().unwrap());
    let lines: Vec<String> = [(0.0, 3, 2), (0.2, 5, 1), (0.3, 4, 3)]
        .map(|(at, prompt, output)| {
            json!({"at_seconds": at, "prompt_tokens": prompt, "output_tokens": output}).to_string()
        })
        .to_vec();
    std::fs::write(scratch.path().join("t.jsonl"), lines.join("\n")).unwrap();
    let (code, out, err) = run(
        scratch.path(),
        &["load", "--endpoint", &server.address(), "--trace", "t.jsonl", "--warm-up", "0", "--out", "l.json"],
    );
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let requests = &record.variants[0].levels[0].requests;
    let seen: Vec<_> = requests.iter().map(|one| (one.prompt_tokens.unwrap(), one.output_tokens.unwrap())).collect();
    assert_eq!(seen, [(3, 2), (5, 1), (4, 3)]);
    assert!(requests[2].sent_seconds >= 0.3 && record.plan.prompts_sha256.is_some());
}

#[test]
fn our_own_engine_is_loaded_too() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["load", "--dtype", "f32", "--users", "3", "--requests", "9", "--out", "l.json"];
    let (code, out, err) =
        run(scratch.path(), &[&arguments[..], &["--prompt-tokens", "20", "--output-tokens", "5"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let record = LoadRecord::read(&scratch.path().join("l.json")).unwrap().unwrap();
    let level = &record.variants[0].levels[0];
    assert_eq!((level.figures.completed, level.figures.wrong_lengths, level.requests.len()), (9, 0, 9));
    assert!(level.requests.iter().all(|one| (one.prompt_tokens, one.output_tokens) == (Some(20), Some(5))));
    assert!(!level.cache.is_empty() && record.complete);
}

#[test]
fn golden_files_are_kept_of_an_endpoint_and_checked_against_it() {
    let said = Arc::new(AtomicUsize::new(0));
    let changes = Arc::clone(&said);
    let server = MockServer::start(move |asked| {
        if asked.route.contains("chat") && changes.load(Ordering::Relaxed) == 1 {
            let body = json!({"choices": [{"index": 0, "delta": {"content": "#### 8"}, "finish_reason": "stop"}]});
            return stream(&[format!("data: {body}\n\ndata: [DONE]\n\n").as_bytes()]);
        }
        answer(asked)
    });
    let (address, scratch) = (server.address(), tempfile::tempdir().unwrap());
    let made = run(scratch.path(), &["gsm8k", "--endpoint", &address, "--limit", "3", "--out", "run"]);
    assert_eq!(made.0, Some(0), "{}", made.2);
    let kept = run(scratch.path(), &["golden", "accept", "--run", "run"]);
    assert_eq!(kept.0, Some(0), "{}{}", kept.1, kept.2);
    let same = run(scratch.path(), &["golden", "check"]);
    assert_eq!(same.0, Some(0), "{}{}", same.1, same.2);
    said.store(1, Ordering::Relaxed);
    let other = run(scratch.path(), &["golden", "check"]);
    assert_eq!(other.0, Some(4), "{}{}", other.1, other.2);
}

#[test]
fn a_run_of_several_engines_is_not_called_by_one_of_them() {
    let server =
        MockServer::start(|asked| if asked.route == "GET /v1/models" { models("bundled") } else { answer(asked) });
    let scratch = tempfile::tempdir().unwrap();
    let (address, variant) = (server.address(), format!("served={}", server.address()));
    let mixed = ["gsm8k", "--dtype", "f32", "--variant", &variant, "--limit", "2", "--out", "mixed"];
    for arguments in [&mixed[..], &["gsm8k", "--endpoint", &address, "--limit", "2", "--out", "other"]] {
        let (code, out, err) = run(scratch.path(), arguments);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    }
    let (code, out, err) = run(scratch.path(), &["report", "mixed", "other", "--format", "markdown"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("cpu served") && out.contains("mixed served"), "{out}");
}

#[test]
fn golden_files_of_variants_alone_are_made_of_these_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let make = ["golden", "accept", "--suite", "gsm8k", "--dtype", "none"];
    let more = ["--variant", "q=bundled-awq", "--", "--limit", "2"];
    let (code, out, err) = run(scratch.path(), &[&make[..], &more].concat());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.lines().count() == 1 && out.contains("q.json"), "{out}");
    let (code, _, err) = run(scratch.path(), &[&make[..], &["--", "--limit", "2"]].concat());
    assert!(code == Some(2) && err.contains("leaves nothing to run"), "{err}");
}
