//! A stand-in for the hub on 127.0.0.1: the part of its HTTP that the real client uses (listing, `resolve` with ranges,
//! redirects of large files, tokens, missing things), and faults on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use evalsuite::files::sha256;
use evalsuite::hub::{Hub, HubSettings};

use crate::data;

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The path with its query.
    pub(crate) path: String,
    headers: HashMap<String, String>,
}

impl Asked {
    /// A header by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// A repository as the hub has it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    /// `owner/name`, or `datasets/owner/name`.
    pub(crate) path: String,
    /// Commit by revision.
    pub(crate) revisions: Vec<(String, String)>,
    /// Name, content, and whether it is a large file, which the hub redirects to its store.
    pub(crate) files: Vec<(String, Vec<u8>, bool)>,
    /// The token that may read it.
    pub(crate) gate: Option<String>,
    /// What it was called before.
    pub(crate) old_path: Option<String>,
}

/// Faults of the next answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// The next answer with content breaks off after this many bytes.
    pub(crate) break_after: Option<usize>,
    /// Content is answered with these bytes flipped.
    pub(crate) corrupt: bool,
    /// The next requests are answered with this status.
    pub(crate) status: Option<(u16, usize)>,
    /// What a refusal for want of a token says of why: `GatedRepo`.
    pub(crate) code: Option<&'static str>,
    /// Every answer stops after this many bytes of content, and the connection stays open.
    pub(crate) hang_after: Option<usize>,
}

#[derive(Default)]
struct State {
    repositories: Vec<Repository>,
    asked: Vec<Asked>,
    faults: Faults,
}

/// The server; it ends with the test's process.
pub(crate) struct HubServer {
    /// `http://127.0.0.1:port`.
    pub(crate) endpoint: String,
    state: Arc<Mutex<State>>,
}

impl HubServer {
    /// Serves these repositories.
    pub(crate) fn start(repositories: Vec<Repository>) -> Self {
        Self::listen(repositories, None)
    }

    /// Serves these repositories by TLS, with the certificate of `tests/data/tls`.
    pub(crate) fn start_tls(repositories: Vec<Repository>) -> Self {
        Self::listen(repositories, Some(Arc::new(tls())))
    }

    fn listen(repositories: Vec<Repository>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { repositories, ..State::default() }));
        let (shared, address) = (Arc::clone(&state), endpoint.clone());
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (state, address, tls) = (Arc::clone(&shared), address.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => answer(connection, &state, &address),
                    Some(tls) => {
                        let session = ServerConnection::new(tls).unwrap();
                        answer(StreamOwned::new(session, connection), &state, &address);
                    }
                });
            }
        });
        Self { endpoint, state }
    }

    /// A client of this server with its cache in `cache`.
    pub(crate) fn client(&self, cache: &std::path::Path) -> Hub {
        Hub::new(self.settings(cache))
    }

    /// The settings of [`HubServer::client`], to be changed.
    pub(crate) fn settings(&self, cache: &std::path::Path) -> HubSettings {
        HubSettings { endpoint: self.endpoint.clone(), cache: cache.to_path_buf(), token: None, offline: false }
    }

    /// Everything that was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Forgets what was asked.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().asked.clear();
    }

    /// Sets the faults of the next answers.
    pub(crate) fn fail(&self, faults: Faults) {
        self.state.lock().unwrap().faults = faults;
    }

    /// Changes the repositories.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Vec<Repository>)) {
        change(&mut self.state.lock().unwrap().repositories);
    }
}

/// The certificate and key of `tests/data/tls`.
fn tls() -> ServerConfig {
    let read = |name: &str| data(&format!("tls/{name}"));
    let chain = CertificateDer::pem_file_iter(read("server.pem")).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(read("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    versions.with_no_client_auth().with_single_cert(chain, key).unwrap()
}

fn answer(connection: impl Read + Write, state: &Mutex<State>, address: &str) {
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(n) if n > 0 && line.trim() != "" => lines.push(line.trim().to_owned()),
            _ => break,
        }
    }
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)).map(str::to_owned) else { return };
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let asked = Asked { path, headers };
    let mut state = state.lock().unwrap();
    state.asked.push(asked.clone());
    let reply = match &mut state.faults.status {
        Some((status, times)) if *times > 0 => {
            *times -= 1;
            Reply::status(*status)
        }
        _ => route(&state.repositories, &asked, address),
    };
    let code = state.faults.code.filter(|_| matches!(reply.status, 401 | 403));
    let hang_after = state.faults.hang_after;
    let mut body = reply.body;
    let is_content = reply.status == 206 && body.len() > 1;
    if is_content && state.faults.corrupt {
        for byte in &mut body {
            *byte ^= 0xff;
        }
    }
    let sent = match state.faults.break_after {
        Some(limit) if is_content && limit < body.len() => {
            state.faults.break_after = None;
            limit
        }
        _ => body.len(),
    };
    drop(state);
    let mut head =
        format!("HTTP/1.1 {} stand-in\r\nConnection: close\r\nContent-Length: {}\r\n", reply.status, body.len());
    for (name, value) in reply.headers.into_iter().chain(code.map(|code| ("X-Error-Code", code.to_owned()))) {
        head.extend([name, ": ", value.as_str(), "\r\n"]);
    }
    head.push_str("\r\n");
    // A client that hangs up early is the client's business.
    let connection = reader.get_mut();
    let sent = hang_after.map_or(sent, |most| sent.min(most));
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body[..sent]));
    let _ = connection.flush();
    if hang_after.is_some() {
        // Until the client hangs up.
        let _ = reader.read_line(&mut String::new());
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }
}

fn route(repositories: &[Repository], asked: &Asked, address: &str) -> Reply {
    let path = asked.path.trim_start_matches('/');
    if let Some(digest) = path.strip_prefix("store/") {
        let all = repositories.iter().flat_map(|repository| &repository.files);
        return all
            .into_iter()
            .find(|file| sha256(&file.1) == digest)
            .map_or(Reply::status(404), |file| ranged(&file.1, asked));
    }
    let moved = repositories.iter().find_map(|repository| {
        let rest = path.strip_prefix("api/models/").unwrap_or(path).strip_prefix(repository.old_path.as_deref()?)?;
        let api = if path.starts_with("api/") { "/api/models/" } else { "/" };
        rest.starts_with('/').then(|| format!("{api}{}{rest}", repository.path))
    });
    if let Some(address) = moved {
        return Reply { status: 307, headers: vec![("Location", address)], body: Vec::new() };
    }
    if let Some(rest) = path.strip_prefix("api/") {
        let rest = rest.strip_prefix("models/").unwrap_or(rest);
        let Some((name, revision)) = rest.split_once("/revision/") else { return Reply::status(404) };
        return match find(repositories, name, revision, asked) {
            Err(status) => Reply::status(status),
            Ok((repository, commit)) => listing(repository, &commit),
        };
    }
    let Some((name, (revision, file))) =
        path.split_once("/resolve/").and_then(|(name, rest)| Some((name, rest.split_once('/')?)))
    else {
        return Reply::status(404);
    };
    match find(repositories, name, revision, asked) {
        Err(status) => Reply::status(status),
        Ok((repository, commit)) => match repository.files.iter().find(|(name, _, _)| name == file) {
            None => Reply::status(404),
            Some((_, content, large)) => resolve(content, *large, &commit, asked, address),
        },
    }
}

/// Like the hub, it says 401 of what is not there to whoever brings no token.
fn find<'a>(
    repositories: &'a [Repository],
    name: &str,
    revision: &str,
    asked: &Asked,
) -> Result<(&'a Repository, String), u16> {
    let token = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let unknown: u16 = if token.is_some() { 404 } else { 401 };
    let repository = repositories.iter().find(|repository| repository.path == name).ok_or(unknown)?;
    match &repository.gate {
        Some(_) if token.is_none() => return Err(401),
        Some(gate) if token != Some(gate.as_str()) => return Err(403),
        _ => {}
    }
    let revision = revision.replace("%2F", "/");
    let found = repository.revisions.iter().find(|(name, commit)| *name == revision || *commit == revision);
    found.map(|(_, commit)| (repository, commit.clone())).ok_or(404)
}

fn listing(repository: &Repository, commit: &str) -> Reply {
    let siblings: Vec<_> =
        repository.files.iter().map(|(name, _, _)| serde_json::json!({ "rfilename": name })).collect();
    let body = serde_json::json!({"id": repository.path, "sha": commit, "siblings": siblings}).to_string();
    Reply { status: 200, headers: vec![("Content-Type", "application/json".to_owned())], body: body.into_bytes() }
}

fn resolve(content: &[u8], large: bool, commit: &str, asked: &Asked, address: &str) -> Reply {
    let digest = sha256(content);
    let mut reply = if large {
        Reply { status: 302, headers: vec![("Location", format!("{address}/store/{digest}"))], body: Vec::new() }
    } else {
        ranged(content, asked)
    };
    reply.headers.push(("X-Repo-Commit", commit.to_owned()));
    if large {
        reply.headers.push(("X-Linked-Etag", format!("\"{digest}\"")));
        reply.headers.push(("X-Linked-Size", content.len().to_string()));
    } else {
        // The hub's etag of a small file is git's SHA-1 of it: forty digits.
        reply.headers.push(("ETag", format!("\"{}\"", &digest[..40])));
    }
    reply
}

fn ranged(content: &[u8], asked: &Asked) -> Reply {
    let total = content.len();
    let range = asked.header("range").and_then(|range| range.strip_prefix("bytes=")).unwrap_or("0-");
    let (start, end) = range.split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end.parse::<usize>().map_or(total, |end| (end + 1).min(total));
    if start >= total {
        return Reply { status: 416, headers: vec![("Content-Range", format!("bytes */{total}"))], body: Vec::new() };
    }
    let headers = vec![("Content-Range", format!("bytes {start}-{}/{total}", end - 1))];
    Reply { status: 206, headers, body: content[start..end].to_vec() }
}
