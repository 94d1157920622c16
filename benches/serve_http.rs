//! What the HTTP side of `evalsuite serve` can do alone: requests a second, and streamed chunks a second, in front of an engine that computes
//! nothing and gives every request a token a step. Clients are threads on the same machine that count what they read and parse nothing.
//!
//! `cargo bench --bench serve_http`. Prints one line a measurement.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use evalsuite::engine::model::ModelSpec;
use evalsuite::engine::{
    Capacity, Completion, Dtype, Engine, EngineError, EngineInfo, EngineKind, Event, Finish, LoadTimes, Request,
    Timings, Token, Work,
};
use evalsuite::hub::Hub;
use evalsuite::jobs::{JobContext, Target};
use evalsuite::serve::{ServeJob, ServeLimits, serve};

/// An engine that computes nothing.
struct Null {
    info: EngineInfo,
    open: Vec<(Request, usize, Instant)>,
}

impl Null {
    fn new() -> Self {
        let info = EngineInfo {
            name: "null".to_owned(),
            version: "0".to_owned(),
            device: "none".to_owned(),
            dtype: Some(Dtype::F32),
            context_tokens: 100_000,
            batch: 4096,
            load: LoadTimes::default(),
            weight_bytes: None,
            device_bytes: None,
            cache_bytes: None,
            arithmetic: None,
        };
        Self { info, open: Vec::new() }
    }
}

/// A word of the bundled model's vocabulary.
const TOKEN: u32 = 400;

impl Engine for Null {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn submit(&mut self, request: Request) -> Result<(), EngineError> {
        self.open.push((request, 0, Instant::now()));
        Ok(())
    }

    fn step(&mut self, events: &mut Vec<Event>) -> Result<(), EngineError> {
        self.open.retain_mut(|(request, tokens, submitted)| {
            let Work::Generate(options) = &request.work else { return false };
            let seconds = submitted.elapsed().as_secs_f64();
            if options.stream {
                let (request, index, top_tokens) = (request.id, *tokens, Vec::new());
                events.push(Event::Token(Token { request, index, token: TOKEN, detail: None, top_tokens, seconds }));
            }
            *tokens += 1;
            if *tokens < options.max_tokens {
                return true;
            }
            events.push(Event::Completed(Completion {
                request: request.id,
                token_ids: vec![TOKEN; *tokens],
                text: " word".repeat(*tokens),
                thought: None,
                finish: Finish::Length,
                details: Vec::new(),
                top_tokens: Vec::new(),
                timings: Timings { queued_seconds: 0.0, first_token_seconds: seconds, total_seconds: seconds },
                cached_tokens: 0,
                server: None,
            }));
            false
        });
        Ok(())
    }

    fn cancel(&mut self, request: usize) -> bool {
        let before = self.open.len();
        self.open.retain(|(open, ..)| open.id != request);
        self.open.len() < before
    }

    fn capacity(&self) -> Capacity {
        Capacity { running: self.open.len(), free_slots: 4096 - self.open.len(), ..Capacity::default() }
    }
}

/// Starts the server on a thread; its address.
fn start(interrupted: &'static AtomicBool) -> String {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let model = ModelSpec { source: "bundled".to_owned(), revision: "main".to_owned() };
        let job = ServeJob {
            command: Vec::new(),
            target: Target::new(model, vec![Dtype::F32], EngineKind::Cpu),
            name: None,
            address: "127.0.0.1:0".parse().unwrap(),
            keys: Vec::new(),
            origins: Vec::new(),
            limits: ServeLimits { queued: 100_000, body_bytes: 1 << 20, connections: 10_000, drain: Duration::ZERO },
            note: |line| eprintln!("{line}"),
        };
        let hub = Hub::from_environment(true).unwrap();
        let mut context =
            JobContext { open_engine: &mut |_, _| Ok(Box::new(Null::new())), emit: &mut |_| (), interrupted };
        serve(&job, &hub, &mut context, &mut |serving| sender.send(serving.url.clone()).unwrap()).unwrap();
    });
    receiver.recv().unwrap().trim_start_matches("http://").trim_end_matches("/v1").to_owned()
}

/// One client: sends a request again and again until the time is over, and counts answers and bytes.
fn client(address: &str, body: &str, end: &[u8], until: Instant) -> (usize, usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (mut answers, mut bytes, mut buffer) = (0, 0, vec![0; 1 << 16]);
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).unwrap();
        let mut tail: Vec<u8> = Vec::new();
        while !tail.ends_with(end) {
            let read = stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the server closed a connection");
            bytes += read;
            tail.extend_from_slice(&buffer[read.saturating_sub(64)..read]);
            tail.drain(..tail.len().saturating_sub(64));
        }
        answers += 1;
    }
    (answers, bytes)
}

fn measure(address: &str, clients: usize, body: &str, end: &'static [u8]) -> (f64, f64) {
    let (begin, seconds) = (Instant::now(), 5.0);
    let until = begin + Duration::from_secs_f64(seconds);
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (address, body) = (address.to_owned(), body.to_owned());
            thread::spawn(move || client(&address, &body, end, until))
        })
        .collect();
    let (mut answers, mut bytes) = (0, 0);
    for thread in threads {
        let (own, read) = thread.join().unwrap();
        answers += own;
        bytes += read;
    }
    let seconds = begin.elapsed().as_secs_f64();
    (answers as f64 / seconds, bytes as f64 / seconds)
}

fn main() {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    let address = start(&INTERRUPTED);
    let whole = r#"{"prompt": "Tom has 3 apples and buys 4 more.", "max_tokens": 1, "temperature": 0}"#;
    for clients in [1, 8, 64] {
        let (requests, _) = measure(&address, clients, whole, b"}}}");
        println!("{clients} clients, whole answers of 1 token: {requests:.0} requests/s");
    }
    let streamed =
        r#"{"prompt": "Tom has 3 apples and buys 4 more.", "max_tokens": 256, "temperature": 0, "stream": true}"#;
    for clients in [8, 64] {
        let (requests, bytes) = measure(&address, clients, streamed, b"data: [DONE]\n\n\r\n0\r\n\r\n");
        let (chunks, megabytes) = (requests * 256.0, bytes / 1e6);
        println!("{clients} clients, streams of 256 tokens: {chunks:.0} chunks/s ({megabytes:.0} MB/s)");
    }
    INTERRUPTED.store(true, Ordering::Relaxed);
}
