//! A stub of a server, for what real ones do at their worst: it answers a connection's requests with whatever bytes a test gives it. It
//! computes nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `GET /v1/models`.
    pub(crate) route: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Value,
    /// Requests of this route before it.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a stub does next on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Bytes(Vec<u8>),
    Wait(u64),
    /// Ends the connection.
    Close,
}

/// A running stub; it ends when dropped.
pub(crate) struct MockServer {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl MockServer {
    /// Answers every request with the steps that `answer` gives.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_at(0, answer)
    }

    /// The same at a port that is known.
    pub(crate) fn start_at(port: u16, answer: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stop, answer) = (Arc::clone(&asked), Arc::clone(&ended), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                let Ok(stream) = stream else { continue };
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { port, asked, ended }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// What was asked at a route so far.
    pub(crate) fn asked(&self, route: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.route == route).cloned().collect()
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the listener, which sees that it is over
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Vec<Step>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(mut asked) = read_request(&mut reader) {
        {
            let mut log = log.lock().unwrap();
            asked.before = log.iter().filter(|one| one.route == asked.route).count();
            log.push(asked.clone());
        }
        for step in answer(&asked) {
            match step {
                Step::Bytes(bytes) => {
                    if writer.write_all(&bytes).and_then(|()| writer.flush()).is_err() {
                        return;
                    }
                }
                Step::Wait(milliseconds) => thread::sleep(Duration::from_millis(milliseconds)),
                Step::Close => {
                    let _ = writer.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut words = first.split_whitespace();
    let route = format!("{} {}", words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { route, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null), before: 0 })
}

/// A whole answer.
pub(crate) fn whole(status: u16, kind: &str, headers: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n{headers}\r\n");
    vec![Step::Bytes([head.as_bytes(), body.as_bytes()].concat())]
}

/// JSON.
pub(crate) fn json(status: u16, body: &Value) -> Vec<Step> {
    whole(status, "application/json", "", &body.to_string())
}

/// The head of a stream that ends with its connection.
pub(crate) fn stream_head() -> Step {
    Step::Bytes(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n".to_vec(),
    )
}

/// A stream of these bytes, a write each, that ends with its connection.
pub(crate) fn stream(writes: &[&[u8]]) -> Vec<Step> {
    let mut steps = vec![stream_head()];
    for write in writes {
        steps.extend([Step::Bytes(write.to_vec()), Step::Wait(2)]);
    }
    steps.push(Step::Close);
    steps
}

/// The list of one model, as vLLM writes it.
pub(crate) fn models(id: &str) -> Vec<Step> {
    json(
        200,
        &serde_json::json!({"object": "list", "data": [{"id": id, "object": "model", "owned_by": "mock", "max_model_len": 4096}]}),
    )
}

/// A chat completion of three tokens that says this.
pub(crate) fn chat(text: &str) -> Vec<Step> {
    json(
        200,
        &serde_json::json!({
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        }),
    )
}

/// Writes `rows.jsonl`: so many questions, each of which names its row, whose answer is 7.
pub(crate) fn write_rows(folder: &Path, rows: usize) {
    let row = |row: usize| serde_json::json!({"question": format!("Row {row}?"), "answer": "#### 7"}).to_string();
    std::fs::write(folder.join("rows.jsonl"), (0..rows).map(row).collect::<Vec<_>>().join("\n")).unwrap();
}

/// Which of so many rows of [`write_rows`] a chat asks.
pub(crate) fn row_of(asked: &Asked, rows: usize) -> usize {
    (0..rows).find(|row| asked.body["messages"].to_string().contains(&format!("Row {row}?"))).unwrap()
}
