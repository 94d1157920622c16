//! Is `evalsuite load` a bottleneck itself? Against a null server on the same machine, which sends prepared bytes: requests and streamed
//! chunks a second, and how far the client's times to the first token are from the server's own clock.
//!
//! `cargo bench --bench load_client`. Prints one line a measurement; the record of the last run is kept beside it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const MODELS: &str = r#"{"object":"list","data":[{"id":"null","object":"model","owned_by":"null"}]}"#;

/// What the server does with a request, and what it saw.
struct NullServer {
    delay: Duration,
    answer: Vec<u8>,
    /// Seconds from the last byte of a request to the first byte of its answer.
    first_bytes: Mutex<Vec<f64>>,
}

impl NullServer {
    /// Answers with so many chunks of one word, `delay` after a request has come. Gives its address.
    fn start(chunks: usize, delay: Duration) -> (Arc<Self>, String) {
        let mut body = String::new();
        for index in 0..chunks {
            let finish = if index + 1 == chunks { "\"stop\"" } else { "null" };
            let _ = write!(
                body,
                "data: {{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"null\",\"choices\":[{{\"index\":0,\
                 \"text\":\" word\",\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
            );
        }
        let _ = write!(
            body,
            "data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":8,\"completion_tokens\":{chunks}}}}}\n\ndata: [DONE]\n\n"
        );
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes();
        let server = Arc::new(Self { delay, answer, first_bytes: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::clone(&server);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&shared);
                thread::spawn(move || server.serve(stream));
            }
        });
        (server, address)
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (mut line, mut body) = (String::new(), Vec::new());
        loop {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let is_get = line.starts_with("GET");
            let mut length = 0;
            loop {
                line.clear();
                reader.read_line(&mut line).ok().filter(|read| *read > 2 || line == "\r\n")?;
                if line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
            }
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
            let came = Instant::now();
            if is_get {
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{MODELS}",
                    MODELS.len()
                );
                stream.write_all(head.as_bytes()).ok()?;
                continue;
            }
            if !self.delay.is_zero() {
                thread::sleep(self.delay);
            }
            self.first_bytes.lock().ok()?.push(came.elapsed().as_secs_f64());
            stream.write_all(&self.answer).ok()?;
        }
    }
}

/// Runs `evalsuite load` and gives its only level.
fn load(address: &str, arguments: &[&str]) -> Value {
    let out = tempfile::NamedTempFile::new().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_evalsuite"))
        .args(["load", "--quiet", "--endpoint", address, "--api", "completions", "--warm-up", "64", "--out"])
        .arg(out.path())
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "evalsuite load failed");
    let record: Value = serde_json::from_slice(&std::fs::read(out.path()).unwrap()).unwrap();
    record["variants"][0]["levels"][0].clone()
}

fn main() {
    println!("measurement\tvalue\tunit");
    for users in ["16", "64"] {
        let (_, address) = NullServer::start(1, Duration::ZERO);
        let level = load(&address, &["--users", users, "--requests", "40000"]);
        println!(
            "requests, {users} users\t{:.0}\trequests/s",
            level["figures"]["requests_per_second"].as_f64().unwrap()
        );
        let (_, address) = NullServer::start(200, Duration::ZERO);
        let level = load(&address, &["--users", users, "--requests", "5000"]);
        println!(
            "chunks, {users} users\t{:.0}\tchunks/s",
            level["figures"]["output_tokens_per_second"].as_f64().unwrap()
        );
    }
    for rate in ["100", "1000"] {
        let (server, address) = NullServer::start(4, Duration::from_millis(20));
        let level = load(
            &address,
            &[
                "--rate",
                rate,
                "--arrivals",
                "poisson",
                "--requests",
                &format!("{}", rate.parse::<usize>().unwrap() * 10),
            ],
        );
        let own = |value: &Value| value.as_f64().unwrap();
        let mut seen: Vec<f64> =
            level["requests"].as_array().unwrap().iter().map(|one| own(&one["ttft_seconds"])).collect();
        // The first request and the warm-up are not the level's.
        let first_bytes = server.first_bytes.lock().unwrap();
        let mut there: Vec<f64> = first_bytes[first_bytes.len() - seen.len()..].to_vec();
        seen.sort_by(f64::total_cmp);
        there.sort_by(f64::total_cmp);
        for share in [0.5, 0.9, 0.99, 0.999] {
            let at = |values: &[f64]| values[((values.len() - 1) as f64 * share) as usize] * 1e3;
            println!(
                "TTFT at {rate}/s, {} %\t{:.3} (server {:.3}, off by {:.3})\tms",
                share * 100.0,
                at(&seen),
                at(&there),
                at(&seen) - at(&there)
            );
        }
        let lag = &level["figures"]["lag"];
        println!("lag at {rate}/s, 50 % and 99 %\t{:.3} {:.3}\tms", own(&lag["p50"]) * 1e3, own(&lag["p99"]) * 1e3);
    }
}
