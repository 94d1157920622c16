//! Benchmarks of an endpoint, by the program itself (`mock_server.rs` is a stub that computes nothing).

use std::collections::HashSet;

use evalsuite::jobs::bench::BenchRecord;
use evalsuite::record::SweepAxis;
use serde_json::{Value, json};

use crate::mock_server::{Asked, MockServer, Step, json as answer_json, models, stream, whole};
use crate::program::run;

/// Answers in as many tokens as are asked for, streamed, with usage that counts ids, or words.
fn answer(asked: &Asked) -> Vec<Step> {
    match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "POST /v1/completions" => answer_of(asked.body["max_tokens"].as_u64().unwrap(), asked),
        "POST /v1/chat/completions" => {
            let said = |text: &str, finish: Value| {
                let choice = json!({"index": 0, "delta": {"content": text}, "finish_reason": finish});
                format!("data: {}\n\n", json!({"choices": [choice]}))
            };
            let words = asked.body["messages"][0]["content"].as_str().unwrap().split(' ').count() + 9;
            let usage = json!({"choices": [], "usage": {"prompt_tokens": words, "completion_tokens": asked.body["max_tokens"]}});
            let writes =
                [said("a", Value::Null), said(" b", json!("stop")), format!("data: {usage}\n\ndata: [DONE]\n\n")];
            stream(&writes.iter().map(String::as_bytes).collect::<Vec<_>>())
        }
        _ => whole(404, "text/plain", "", "no such route"),
    }
}

fn answer_of(tokens: u64, asked: &Asked) -> Vec<Step> {
    let prompt = &asked.body["prompt"];
    let prompt = prompt.as_array().map_or_else(|| prompt.as_str().unwrap().split(' ').count(), Vec::len);
    let said = |text: &str, finish: Value| {
        let choice = json!({"index": 0, "text": text, "finish_reason": finish});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let usage = json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}});
    let writes = [said("a", Value::Null), said(" b", json!("length")), format!("data: {usage}\n\ndata: [DONE]\n\n")];
    stream(&writes.iter().map(String::as_bytes).collect::<Vec<_>>())
}

fn bench(server: &MockServer, more: &[&str]) -> (Option<i32>, BenchRecord, String, String) {
    let scratch = tempfile::tempdir().unwrap();
    let address = server.address();
    let arguments = ["bench", "--endpoint", &address, "--out", "b.json", "--repeats", "2"];
    let (code, out, err) = run(scratch.path(), &[&arguments[..], more].concat());
    let path = scratch.path().join("b.json");
    assert!(path.exists(), "{out}{err}");
    (code, BenchRecord::read(&path).unwrap().unwrap(), out, err)
}

#[test]
fn a_sweep_of_an_endpoint_runs_the_points_with_prompts_of_exact_lengths() {
    let server = MockServer::start(answer);
    let (code, record, out, err) = bench(&server, &["--only", "single,sweep", "--requests", "4"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let [one] = &record.dtypes[..] else { panic!("one column") };
    let points: Vec<(SweepAxis, usize, usize)> =
        one.sweeps.iter().map(|measured| (measured.point.sweep, measured.point.at, measured.runs.len())).collect();
    let batches = [1, 2, 4].map(|at| (SweepAxis::Batch, at, 2));
    let lengths = [32, 64, 128, 256, 512].map(|at| (SweepAxis::Length, at, 2));
    assert_eq!(points, [&batches[..], &lengths].concat());
    for measured in &one.sweeps {
        for run in &measured.runs {
            assert_eq!((run.output_tokens, run.failed), (None, 0));
            // The stub's answers take some 4 ms.
            assert!(run.first_token_seconds.unwrap() > 0.0 && run.latency_seconds > run.first_token_seconds.unwrap());
            assert!(run.seconds >= run.latency_seconds && run.seconds < 60.0, "{run:?}");
        }
    }
    assert_eq!((one.singles.len(), one.singles[0].output_tokens, one.loads.len()), (2, 129, 0));
    assert!(one.singles[0].decode_tokens_per_second.unwrap() > 0.0 && one.peak_memory.is_none());
    let asked = server.asked("POST /v1/completions");
    // The first, a warm-up and two single requests; each point once more than it counts.
    assert_eq!(asked.len(), 1 + 1 + 2 + 3 * (1 + 2 + 4) + 3 * 5 * 4);
    let prompts: HashSet<String> = asked.iter().map(|asked| asked.body["prompt"].to_string()).collect();
    assert_eq!(prompts.len(), asked.len(), "no two prompts are alike");
    let last = &asked.last().unwrap().body;
    assert_eq!(
        (last["prompt"].as_array().unwrap().len(), &last["max_tokens"], &last["min_tokens"], &last["ignore_eos"]),
        (512, &json!(512), &json!(512), &json!(true))
    );
    assert_eq!((&last["temperature"], &last["stream"]), (&json!(0.0), &json!(true)));
    // The row that `--vs` reads is the server's own.
    assert_eq!((record.rows[0].engine.as_str(), record.rows[0].sweeps[&SweepAxis::Batch].len()), ("mock", 3));
    let row = out.lines().find(|line| line.starts_with("1  endpoint")).unwrap_or_else(|| panic!("{out}"));
    assert!(row.contains("endpoint mock") && out.contains("prompts as ids"), "{out}");
    assert!(out.contains("weights  unknown: the model answers elsewhere"), "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(err.contains("mock at http://127.0.0.1") && !err.contains("unknown bytes"), "{err}");
}

#[test]
fn a_server_that_takes_no_ids_is_sent_words_and_other_lengths_are_told() {
    // It counts two tokens more in every prompt, and stops after nine.
    let server = MockServer::start(|asked| {
        if asked.route == "POST /v1/completions" {
            if asked.body["prompt"].is_array() {
                return answer_json(422, &json!({"error": "prompt: expected a string"}));
            }
            let tokens = asked.body["max_tokens"].as_u64().unwrap().min(9);
            let mut asked = asked.clone();
            asked.body["prompt"] = json!(format!("b o {}", asked.body["prompt"].as_str().unwrap()));
            return answer_of(tokens, &asked);
        }
        answer(asked)
    });
    let (code, record, out, err) = bench(&server, &["--only", "sweep", "--requests", "2"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let notes = record.notes.join("\n");
    assert!(notes.contains("endpoint: the server takes no token ids (HTTP 422: prompt: expected a string)"), "{notes}");
    let batch = "endpoint, batch 2: 6 of 6 answers have another number of tokens than asked for";
    assert!(notes.contains(batch), "{notes}");
    assert!(notes.contains("endpoint, length 32: 6 of 6 prompts have another number of tokens by the server's count"));
    assert!(notes.contains("the first 34 for 32") && out.contains("prompts as text"), "{notes}{out}");
    assert!(out.contains("prompts   random words, seed 0") && record.plan.prompts.starts_with("random words"), "{out}");
    let measured = &record.dtypes[0].sweeps[1];
    assert_eq!(measured.runs[0].output_tokens, Some(18));
    assert!((measured.tokens_per_second().unwrap().maximum * measured.seconds().unwrap().minimum - 18.0).abs() < 1e-6);
    assert!(record.rows[0].sweeps.is_empty(), "such points are nobody else's");
    let asked = server.asked("POST /v1/completions");
    let last = &asked.last().unwrap().body["prompt"];
    assert_eq!(last.as_str().unwrap().split(' ').count(), 512);
}

#[test]
fn with_a_tokenizer_words_have_exactly_the_tokens_asked_for() {
    let server = MockServer::start(answer);
    let more = ["--tokenizer", "bundled", "--send-text", "--only", "single"];
    let (code, _, out, err) = bench(&server, &more);
    assert_eq!(code, Some(0), "{out}{err}");
    let spec = evalsuite::engine::model::ModelSpec { source: "bundled".to_owned(), revision: "main".to_owned() };
    let hub = evalsuite::engine::hub::Hub::from_environment(true).unwrap();
    let source = evalsuite::engine::model::ModelSource::open(&spec, &hub).unwrap();
    let asked = server.asked("POST /v1/completions");
    assert_eq!(asked.len(), 4);
    for asked in asked {
        let prompt = asked.body["prompt"].as_str().unwrap();
        assert_eq!(source.tokenizer.encode(prompt, true).unwrap().len(), 128, "{prompt}");
    }
    let (code, record, out, _) = bench(&server, &["--api", "chat", "--only", "single"]);
    assert_eq!((code, server.asked("POST /v1/chat/completions").len()), (Some(0), 4));
    assert!(out.contains("chat route, prompts as messages"), "{out}");
    // Its template makes nine tokens more.
    assert!(record.notes.iter().any(|note| note.ends_with("the first 137 for 128")), "{:?}", record.notes);
}

#[test]
fn what_a_server_does_not_answer_is_counted_and_never_sent_again() {
    let server = MockServer::start(|asked| {
        let fails = asked.route == "POST /v1/completions" && asked.before % 7 == 5;
        if fails { answer_json(503, &json!({"error": "busy"})) } else { answer(asked) }
    });
    let (code, record, out, err) = bench(&server, &["--only", "sweep", "--requests", "4"]);
    assert_eq!(code, Some(3), "{out}{err}");
    let all = 3 * (1 + 2 + 4) + 3 * 5 * 4;
    let asked = server.asked("POST /v1/completions").len();
    assert_eq!(asked, 1 + all);
    let failed = (0..asked).filter(|before| before % 7 == 5).count();
    assert!(err.contains(&format!("error: {failed} requests failed and were not sent again")), "{err}");
    let told: Vec<&String> = record.notes.iter().filter(|note| note.contains("requests failed (")).collect();
    assert!(told.iter().all(|note| note.contains("× HTTP 503), the first with `HTTP 503: busy`")), "{told:?}");
    let counted: usize = told
        .iter()
        .map(|note| note.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(counted, failed, "{told:?}");
    assert!(record.dtypes[0].failure.is_none() && record.dtypes[0].sweeps.len() == 8);
    let failing = record.dtypes[0].sweeps.iter().filter(|measured| measured.failed() > 0).count();
    assert!(failing > 2, "{told:?}");
    for measured in record.dtypes[0].sweeps.iter().filter(|measured| measured.failed() > 0) {
        let run = measured.runs.iter().find(|run| run.failed > 0).unwrap();
        let answered = measured.point.lengths.requests - run.failed;
        assert_eq!(run.output_tokens, Some((answered * measured.point.lengths.output_tokens) as u64));
    }
}

#[test]
fn parts_that_open_an_engine_are_refused_and_a_dead_server_is_an_error() {
    let server = MockServer::start(|asked| match asked.route.as_str() {
        "POST /v1/completions" if asked.before > 0 => answer_json(500, &json!({"error": "out of memory"})),
        _ => answer(asked),
    });
    let scratch = tempfile::tempdir().unwrap();
    let address = server.address();
    let (code, _, err) = run(scratch.path(), &["bench", "--endpoint", &address, "--only", "load,sweep"]);
    assert!(code == Some(2) && err.contains("the part load opens an engine here") && err.contains("hint: "), "{err}");
    let (code, record, out, err) = bench(&server, &["--only", "sweep", "--requests", "2"]);
    assert_eq!(code, Some(3), "{out}{err}");
    let failure = record.dtypes[0].failure.as_deref().unwrap();
    assert!(
        failure.contains("all 1 requests of batch 1 failed, the first with `HTTP 500: out of memory`"),
        "{failure}"
    );
    assert!(out.contains("did not finish") && !out.contains("Sweep of"), "{out}");
}

#[test]
fn an_endpoint_stands_beside_our_own_engine() {
    let server = MockServer::start(answer);
    let (scratch, variant) = (tempfile::tempdir().unwrap(), format!("served={}", server.address()));
    let arguments = ["bench", "--dtype", "f32", "--variant", &variant, "--only", "load,single,concurrent"];
    let more = ["--requests", "2", "--repeats", "1", "--out", "b.json"];
    let (code, out, err) = run(scratch.path(), &[&arguments[..], &more].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let record = BenchRecord::read(&scratch.path().join("b.json")).unwrap().unwrap();
    let figures: Vec<(usize, usize, u64)> = record
        .dtypes
        .iter()
        .map(|one| (one.loads.len(), one.singles.len(), one.concurrent.unwrap().output_tokens))
        .collect();
    assert_eq!(figures, [(1, 1, 128), (0, 1, 128)]);
    // Both read the same prompts.
    let asked = server.asked("POST /v1/completions");
    assert!(asked.iter().all(|asked| asked.body["prompt"].as_array().is_some_and(|ids| ids.len() == 128)));
}
