//! The client of OpenAI's API against everything that servers are known to do (`mock_server.rs` is a stub).

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evalsuite::engine::{
    Completion, CountedBy, Engine, EngineError, Event, Finish, GenerateOptions, Prompt, Request, Work,
};
use evalsuite::openai::{Address, Api, ApiKey, ClientOptions, EndpointOptions, RemoteEngine};
use serde_json::{Map, Value, json};

use crate::mock_server::{Asked, MockServer, Step, json as answer_json, models, stream, stream_head, whole};

fn options(servers: &[&MockServer]) -> EndpointOptions {
    let client = ClientOptions {
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        silence: Duration::from_secs(1),
        ..ClientOptions::default()
    };
    EndpointOptions {
        addresses: servers.iter().map(|server| Address::parse(&server.address()).unwrap()).collect(),
        model: None,
        api: Api::Completions,
        send_ids: true,
        stream: true,
        places: 4,
        client,
        tokenizer: None,
        extra: Map::new(),
    }
}

/// A server of the model `m` whose completions are answered so.
fn server(answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> MockServer {
    MockServer::start(move |asked| match asked.route.as_str() {
        "GET /v1/models" => models("m"),
        "POST /v1/completions" | "POST /v1/chat/completions" => answer(asked),
        _ => whole(404, "text/plain", "", "no such route"),
    })
}

fn request(id: usize, stops: &[&str]) -> Request {
    let options = GenerateOptions {
        max_tokens: 32,
        stop_strings: stops.iter().map(|stop| (*stop).to_owned()).collect(),
        ..GenerateOptions::default()
    };
    let prompt = Arc::new(Prompt { text: format!("question {id}"), token_ids: Vec::new() });
    Request { id, prompt, work: Work::Generate(options) }
}

#[derive(Default)]
struct Seen {
    completions: Vec<Completion>,
    failed: Vec<(usize, String)>,
    notes: Vec<String>,
}

fn run(engine: &mut RemoteEngine, requests: Vec<Request>) -> (Seen, Result<(), EngineError>) {
    let mut seen = Seen::default();
    let ended = engine.run(requests, &mut |event| {
        match event {
            Event::Completed(completion) => seen.completions.push(completion),
            Event::Failed { request, error } => seen.failed.push((request, error.to_string())),
            Event::Note(note) => seen.notes.push(note),
            Event::Token(_) | Event::Step { .. } => (),
        }
        ControlFlow::Continue(())
    });
    seen.completions.sort_by_key(|completion| completion.request);
    (seen, ended)
}

/// The one completion of a server that answers so.
fn ask(answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Result<Completion, String> {
    let server = server(answer);
    let mut engine = RemoteEngine::open(options(&[&server])).unwrap();
    let (mut seen, ended) = run(&mut engine, vec![request(0, &["Q:"])]);
    ended.map_err(|error| error.to_string())?;
    Ok(seen.completions.remove(0))
}

fn chunk(text: &str, finish: &str) -> String {
    let finish = if finish.is_empty() { Value::Null } else { json!(finish) };
    format!(
        "data: {}\n\n",
        json!({"object": "text_completion", "choices": [{"index": 0, "text": text, "finish_reason": finish}]})
    )
}

/// `It is 4.` in three chunks, its usage and its end, as vLLM writes them.
fn usual() -> String {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}});
    [
        chunk("It is", ""),
        chunk(" 4.", ""),
        chunk("", "stop"),
        format!("data: {usage}\n\n"),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
}

fn is_usual(completion: &Completion) -> bool {
    (completion.text.as_str(), completion.finish) == ("It is 4.", Finish::EndOfSequence)
}

#[test]
fn a_stream_is_read_however_its_bytes_come() {
    let usual = usual();
    let whole: Vec<u8> = usual.clone().into_bytes();
    let bytes: Vec<Vec<u8>> = whole.iter().map(|byte| vec![*byte]).collect();
    let crlf = usual.replace('\n', "\r\n").into_bytes();
    let cr = usual.replace('\n', "\r").into_bytes();
    let pings = usual.replace("\n\n", "\n\n: ping - 2026\n\n:\n\nevent: ping\n\nretry: 5\n\n").into_bytes();
    let bom = [b"\xef\xbb\xbf".to_vec(), whole.clone()].concat();
    let tight = usual.replace("data: ", "data:").into_bytes();
    let named = usual.replace("data: {", "id: 7\nevent: message\ndata: {").into_bytes();
    let lines = usual.replace("\"choices\"", "\ndata: \"choices\"").into_bytes();
    let no_done = usual.replace("data: [DONE]\n\n", "").into_bytes();
    let no_end = usual.strip_suffix("\n\n").unwrap().as_bytes().to_vec();
    for (name, writes) in [
        ("at once", vec![whole]),
        ("byte by byte", bytes),
        ("CRLF", vec![crlf]),
        ("CR", vec![cr]),
        ("comments and pings", vec![pings]),
        ("BOM", vec![bom]),
        ("no space", vec![tight]),
        ("ids and names", vec![named]),
        ("several data lines", vec![lines]),
        ("no [DONE]", vec![no_done]),
        ("no last blank line", vec![no_end]),
    ] {
        let completion = ask(move |_| stream(&writes.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let completion = completion.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(is_usual(&completion), "{name}: {completion:?}");
        let counts = completion.server.unwrap();
        assert_eq!(
            (counts.prompt_tokens, counts.output_tokens, counts.by),
            (Some(5), Some(6), Some(CountedBy::Usage)),
            "{name}"
        );
    }
}

#[test]
fn characters_that_are_cut_between_reads_are_whole() {
    let text = "Das heißt: 4 € – ½ 🙂";
    let body = [chunk(text, "stop"), "data: [DONE]\n\n".to_owned()].concat();
    let completion = ask(move |_| stream(&body.as_bytes().chunks(3).collect::<Vec<_>>())).unwrap();
    assert_eq!(completion.text, text);
}

#[test]
fn a_chunked_answer_leaves_its_connection_for_the_next() {
    let server = server(|_| {
        let body = usual();
        let (first, second) = body.split_at(40);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let part = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
        vec![Step::Bytes([head, &part(first), &part(second), "0\r\n\r\n"].concat().into_bytes())]
    });
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    let (seen, ended) = run(&mut engine, (0..3).map(|id| request(id, &[])).collect());
    ended.unwrap();
    assert!(seen.completions.len() == 3 && seen.completions.iter().all(is_usual));
}

#[test]
fn usage_is_taken_wherever_it_stands() {
    let of = |body: String| {
        let completion = ask(move |_| stream(&[body.as_bytes()])).unwrap();
        completion.server.unwrap().output_tokens
    };
    let usage = |tokens: usize| json!({"prompt_tokens": 1, "completion_tokens": tokens});
    let with = |text: &str, finish: Value, usage: Value| {
        format!("data: {}\n\n", json!({"choices": [{"text": text, "finish_reason": finish}], "usage": usage}))
    };
    // On the chunk that ends it, with choices and no [DONE]; on every chunk; null behind it; a second one behind it.
    assert_eq!(of(with("4", json!("stop"), usage(3))), Some(3));
    assert_eq!(of([with("4", Value::Null, usage(1)), with("2", json!("stop"), usage(2))].concat()), Some(2));
    assert_eq!(
        of([with("4", json!("stop"), usage(2)), "data: {\"choices\":[],\"usage\":null}\n\n".to_owned()].concat()),
        Some(2)
    );
    let late = format!("data: {}\n\n", json!({"choices": [{"index": 0, "text": ""}], "usage": usage(7)}));
    assert_eq!(of([with("4", json!("stop"), Value::Null), late].concat()), Some(7));
    assert_eq!(of(chunk("4", "stop")), None);
}

#[test]
fn an_error_within_a_stream_is_a_failure_in_any_shape_and_never_an_answer() {
    for body in [
        "data: {\"error\":{\"message\":\"out of memory\",\"type\":\"x\",\"code\":400}}\n\ndata: [DONE]\n\n",
        "data: {\"error\": \"out of memory\"}\n\n",
        "event: error\ndata: {\"object\":\"error\",\"message\":\"out of memory\",\"code\":400}\n\n",
        "data: {\"detail\": \"out of memory\"}\n\n",
    ] {
        // The server says so each time; after the last attempt it is a failure for good.
        let server = server(move |asked| {
            if asked.before == 0 {
                stream(&[chunk("It", "").as_bytes(), body.as_bytes()])
            } else {
                answer_json(400, &json!({"error": "given up"}))
            }
        });
        let mut engine = RemoteEngine::open(options(&[&server])).unwrap();
        let (seen, ended) = run(&mut engine, vec![request(0, &[])]);
        assert!(seen.completions.is_empty(), "{body}: {:?}", seen.completions);
        assert!(seen.notes.iter().any(|note| note.contains("error in stream: out of memory")), "{:?}", seen.notes);
        assert!(ended.unwrap_err().to_string().contains("1 of 1 requests failed (1 × HTTP 400): HTTP 400: given up"));
    }
}

#[test]
fn what_is_no_answer_fails_and_says_what_came() {
    for (kind, body, part) in [
        ("text/html", "<html><head><title>Sign in</title></head></html>", "malformed answer"),
        ("application/json", "{}", "without `choices`"),
        ("application/json", "[]", "malformed answer"),
        ("application/json", "{\"object\": \"list\", \"data\": []}", "`list`"),
        ("text/event-stream", "data: nonsense\n\n", "no JSON"),
        ("text/event-stream", "data: \u{fffd}{\"choices\"\n\n", "no JSON"),
    ] {
        let failure = ask(move |_| whole(200, kind, "", body)).unwrap_err();
        assert!(failure.contains("1 of 1 requests failed") && failure.contains(part), "{body}: {failure}");
        assert!(failure.contains("hint: "), "{failure}");
    }
    let failure =
        ask(|_| whole(400, "application/json", "", "{\"object\":\"error\",\"message\":\"the prompt is too long\"}"));
    assert!(failure.unwrap_err().contains("HTTP 400: the prompt is too long"));
    let invalid = [b"data: {\"choices\":[{\"text\":\"".to_vec(), vec![0xff, 0xfe], b"\"}]}\n\n".to_vec()].concat();
    assert!(ask(move |_| stream(&[&invalid])).unwrap_err().contains("malformed answer"));
}

#[test]
fn passing_failures_are_asked_again_and_the_server_s_wish_to_wait_is_heeded() {
    let server = server(|asked| match asked.before {
        0 => whole(429, "application/json", "retry-after: 1\r\n", "{\"error\":{\"message\":\"slow down\"}}"),
        1 => vec![Step::Close],
        2 => stream(&[chunk("It is", "").as_bytes()]),
        3 => whole(503, "text/html", "", "<html><title>restarting</title></html>"),
        _ => stream(&[usual().as_bytes()]),
    });
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    let begun = Instant::now();
    let (seen, ended) = run(&mut engine, vec![request(0, &[])]);
    ended.unwrap();
    assert!(is_usual(&seen.completions[0]));
    assert_eq!(server.asked("POST /v1/completions").len(), 5);
    assert!(begun.elapsed() >= Duration::from_secs(1), "the server asked for a second");
    let counted = seen.notes.last().unwrap();
    assert!(counted.contains("1 × cut off, 1 × HTTP 429, 1 × HTTP 503"), "{:?}", seen.notes);
}

#[test]
fn a_connection_that_was_closed_unread_is_replaced_at_once() {
    // llama.cpp closes a connection behind an answer without saying so.
    let server = server(|asked| match asked.before {
        0 | 2 => answer_json(200, &json!({"choices": [{"index": 0, "text": "It is 4.", "finish_reason": "stop"}]})),
        1 => vec![Step::Close],
        _ => answer_json(400, &json!({"error": "asked too often"})),
    });
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    let (seen, ended) = run(&mut engine, (0..2).map(|id| request(id, &[])).collect());
    ended.unwrap();
    assert!(seen.completions.len() == 2 && seen.completions.iter().all(is_usual));
    assert!(seen.notes.iter().all(|note| !note.contains("sent again")), "{:?}", seen.notes);
    assert_eq!(server.asked("POST /v1/completions").len(), 3);
}

#[test]
fn one_failure_leaves_the_other_requests_alone_and_is_counted() {
    let server = server(|asked| {
        if asked.body["prompt"] == "question 2" {
            return answer_json(400, &json!({"error": {"message": "this prompt is refused"}}));
        }
        stream(&[usual().as_bytes()])
    });
    let mut engine = RemoteEngine::open(options(&[&server])).unwrap();
    let (seen, ended) = run(&mut engine, (0..6).map(|id| request(id, &[])).collect());
    assert_eq!(seen.completions.iter().map(|one| one.request).collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
    assert_eq!(seen.failed.len(), 1);
    assert!(seen.failed[0].0 == 2 && seen.failed[0].1.contains("this prompt is refused"), "{:?}", seen.failed);
    assert!(ended.unwrap_err().to_string().contains("1 of 6 requests failed"));
}

#[test]
fn what_fails_every_request_ends_the_run_at_once() {
    let server = server(|_| answer_json(401, &json!({"error": {"message": "no such key"}})));
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    let (_, ended) = run(&mut engine, (0..50).map(|id| request(id, &[])).collect());
    let message = ended.unwrap_err().to_string();
    assert!(message.contains("HTTP 401: no such key") && message.contains("OPENAI_API_KEY"), "{message}");
    assert!(server.asked("POST /v1/completions").len() < 10);
}

#[test]
fn a_silent_server_is_given_up_and_a_slow_one_is_not() {
    let failure = {
        let server = server(|asked| {
            if asked.before == 0 {
                vec![stream_head(), Step::Wait(3000), Step::Close]
            } else {
                answer_json(400, &json!({"error": "given up"}))
            }
        });
        let mut engine = RemoteEngine::open(options(&[&server])).unwrap();
        run(&mut engine, vec![request(0, &[])]).0.notes.join("\n")
    };
    assert!(failure.contains("timeout: the server was silent for 1 s"), "{failure}");
    let slow = ask(|_| {
        let mut steps = vec![stream_head()];
        for word in ["It", " is", " 4."] {
            steps.extend([Step::Wait(600), Step::Bytes(chunk(word, "").into_bytes())]);
        }
        steps.extend([Step::Bytes(chunk("", "stop").into_bytes()), Step::Close]);
        steps
    })
    .unwrap();
    assert!(is_usual(&slow));
    let timings = slow.timings;
    assert!((0.55..1.5).contains(&timings.first_token_seconds) && timings.total_seconds >= 1.75, "{timings:?}");
}

#[test]
fn a_server_that_is_killed_and_restarted_costs_no_answer() {
    let first = server(|_| vec![Step::Wait(50), Step::Close]);
    let port = first.port;
    let mut engine = RemoteEngine::open(EndpointOptions { places: 2, ..options(&[&first]) }).unwrap();
    let restart = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(first);
        std::thread::sleep(Duration::from_millis(700));
        MockServer::start_at(port, |_| stream(&[usual().as_bytes()]))
    });
    let (seen, ended) = run(&mut engine, (0..4).map(|id| request(id, &[])).collect());
    let _second = restart.join().unwrap();
    ended.unwrap();
    assert!(seen.completions.len() == 4 && seen.completions.iter().all(is_usual));
}

#[test]
fn requests_go_to_whichever_endpoint_has_a_free_place() {
    let slow = server(|_| [vec![Step::Wait(400)], stream(&[usual().as_bytes()])].concat());
    let quick = server(|_| stream(&[usual().as_bytes()]));
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&slow, &quick]) }).unwrap();
    assert_eq!(engine.info().batch, 2);
    let (seen, ended) = run(&mut engine, (0..20).map(|id| request(id, &[])).collect());
    ended.unwrap();
    assert_eq!(seen.completions.len(), 20);
    let asked = |server: &MockServer| server.asked("POST /v1/completions").len();
    assert!(asked(&slow) <= 3 && asked(&slow) + asked(&quick) == 20, "{} and {}", asked(&slow), asked(&quick));
}

#[test]
fn endpoints_of_different_models_are_refused() {
    let one = MockServer::start(|_| models("one"));
    let other = MockServer::start(|_| models("other"));
    let message = RemoteEngine::open(options(&[&one, &other])).unwrap_err().to_string();
    assert!(message.contains("serves other") && message.contains("--variant NAME=URL"), "{message}");
}

#[test]
fn keys_that_a_server_refuses_are_left_out_and_four_stops_are_sent_where_only_four_are_taken() {
    let server = server(|asked| {
        for key in ["return_token_ids", "repetition_penalty"] {
            if asked.body.get(key).is_some() {
                return answer_json(
                    400,
                    &json!({"error": {"message": format!("Unrecognized request argument supplied: {key}")}}),
                );
            }
        }
        if asked.body["stop"].as_array().unwrap().len() > 4 {
            return answer_json(422, &json!({"detail": "stop: at most 4 items"}));
        }
        stream(&[chunk("It is 4. five more", "stop").as_bytes()])
    });
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    let stops = ["one", "two", "three", "four", " five"];
    let (seen, ended) = run(&mut engine, vec![request(0, &stops), request(1, &stops)]);
    ended.unwrap();
    // The fifth stop ends the answer all the same.
    for completion in &seen.completions {
        assert_eq!((completion.text.as_str(), completion.finish), ("It is 4.", Finish::StopString));
    }
    assert_eq!(seen.notes.len(), 3, "{:?}", seen.notes);
    assert_eq!(server.asked("POST /v1/completions").len(), 3 + 2);
    let last = &server.asked("POST /v1/completions")[4].body;
    assert_eq!(
        (&last["temperature"], &last["top_p"], &last["stop"]),
        (&json!(0.0), &json!(1.0), &json!(["one", "two", "three", "four"]))
    );
}

#[test]
fn a_key_is_sent_and_never_shown() {
    let server = server(|_| stream(&[usual().as_bytes()]));
    let mut asked = options(&[&server]);
    asked.client.api_key = Some(ApiKey("sk-very-secret".to_owned()));
    assert!(!format!("{asked:?}").contains("secret"));
    let mut engine = RemoteEngine::open(asked).unwrap();
    run(&mut engine, vec![request(0, &[])]).1.unwrap();
    for route in ["GET /v1/models", "POST /v1/completions"] {
        assert_eq!(server.asked(route)[0].header("authorization"), Some("Bearer sk-very-secret"), "{route}");
    }
    assert!(!format!("{engine:?}").contains("secret"));
}

#[test]
fn steps_tell_how_many_tokens_came_and_what_waits() {
    let body = json!({"choices": [{"index": 0, "text": "#### 7", "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5}});
    let server = server(move |_| [vec![Step::Wait(60)], answer_json(200, &body)].concat());
    let mut engine = RemoteEngine::open(EndpointOptions { places: 1, ..options(&[&server]) }).unwrap();
    (0..3).for_each(|id| engine.submit(request(id, &[])).unwrap());
    let (mut open, mut tokens, mut events, mut was_running) = (3, 0, Vec::new(), false);
    while open > 0 {
        engine.step(&mut events).unwrap();
        for event in events.drain(..) {
            match event {
                Event::Completed(_) => open -= 1,
                Event::Step { new_tokens, .. } => tokens += new_tokens,
                other => panic!("{other:?}"),
            }
        }
        let capacity = engine.capacity();
        was_running |= capacity.running == 1;
        assert_eq!(capacity.running + capacity.queued, open, "{capacity:?}");
    }
    assert!(tokens == 15 && was_running, "{tokens}");
}

#[test]
fn an_answer_that_comes_whole_is_read_whether_it_was_asked_for_or_not() {
    let body = json!({"object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "content": "It is 4.", "reasoning": "two and two"}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 3}}});
    for streamed in [true, false] {
        let answer = body.clone();
        let server = server(move |_| answer_json(200, &answer));
        let mut engine =
            RemoteEngine::open(EndpointOptions { api: Api::Chat, stream: streamed, ..options(&[&server]) }).unwrap();
        let prompt =
            Arc::new(Prompt { text: "[{\"role\": \"user\", \"content\": \"hi\"}]".to_owned(), token_ids: Vec::new() });
        let (seen, ended) = run(&mut engine, vec![Request { prompt, ..request(0, &[]) }]);
        ended.unwrap();
        let completion = &seen.completions[0];
        assert!(is_usual(completion), "{completion:?}");
        let thought = completion.thought.as_ref().unwrap();
        assert_eq!(
            (thought.text.as_str(), thought.tokens, completion.timings.first_token_seconds),
            ("two and two", Some(3), 0.0)
        );
        let asked = &server.asked("POST /v1/chat/completions")[0].body;
        assert_eq!((&asked["messages"][0]["content"], &asked["stream"]), (&json!("hi"), &json!(streamed)));
    }
}

#[test]
fn a_cancelled_request_ends_its_connection() {
    let server = server(|_| {
        let mut steps = vec![stream_head()];
        for _ in 0..100 {
            steps.extend([Step::Bytes(chunk("more", "").into_bytes()), Step::Wait(50)]);
        }
        steps
    });
    let mut engine = RemoteEngine::open(options(&[&server])).unwrap();
    engine.submit(request(7, &[])).unwrap();
    assert!(engine.submit(request(7, &[])).unwrap_err().to_string().contains("is there already"));
    let mut events = Vec::new();
    engine.step(&mut events).unwrap();
    assert!(engine.cancel(7) && !engine.cancel(7) && engine.capacity().is_idle());
    let score = Request::scoring(8, &[1, 2, 3], 1);
    assert!(engine.submit(score).unwrap_err().to_string().contains("not for the probability"));
}

#[test]
fn what_does_not_answer_at_all_is_said_at_once() {
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let closed = MockServer::start(|_| whole(404, "text/plain", "", "nothing here"));
    let mut asked = options(&[&closed]);
    let message = RemoteEngine::open(asked.clone()).unwrap_err().to_string();
    assert!(message.contains("HTTP 404: nothing here") && message.contains("`/v1`"), "{message}");
    asked.addresses = vec![Address::parse(&format!("http://127.0.0.1:{port}/v1")).unwrap()];
    let message = RemoteEngine::open(asked).unwrap_err().to_string();
    assert!(message.contains("no connection") && message.contains("is the server up"), "{message}");
}
