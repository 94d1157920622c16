//! HTTP to the hub: what a revision is, what a file is, and a file's bytes. No wait is without a limit.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Deserialize;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::HubSettings;
use super::cache::is_commit;
use super::failure::Failure;
use super::repository::Repository;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// Of the answer to a question that is no file's content.
const LARGEST_ANSWER: u64 = 64 << 20;
/// Redirects that are followed.
const MOST_REDIRECTS: usize = 8;
/// Read between two looks whether the user breaks off.
const CHUNK: usize = 64 << 10;

/// What the hub says of a repository at a revision.
#[derive(Debug, Deserialize)]
pub(super) struct Information {
    /// `owner/name` as it is called now.
    #[serde(default)]
    pub(super) id: Option<String>,
    /// The commit.
    pub(super) sha: String,
    /// Its files.
    #[serde(default)]
    pub(super) siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
}

/// What the hub says of a file.
#[derive(Debug)]
pub(super) struct FileFacts {
    pub(super) commit: String,
    /// The name of its content: SHA-256 of large files.
    pub(super) etag: String,
    pub(super) bytes: u64,
}

/// A connection to the hub.
pub(super) struct Transport<'a> {
    settings: &'a HubSettings,
    interrupted: Option<&'static AtomicBool>,
    agent: Agent,
}

impl<'a> Transport<'a> {
    /// `patience` is how long an answer may not begin, or nothing of it may come.
    pub(super) fn new(settings: &'a HubSettings, patience: Duration, interrupted: Option<&'static AtomicBool>) -> Self {
        let connect = Some(CONNECT.min(patience));
        let config = Agent::config_builder()
            .timeout_resolve(connect)
            .timeout_connect(connect)
            .timeout_send_request(Some(patience))
            .timeout_recv_response(Some(patience))
            // A longer download is gone on with where this ends.
            .timeout_recv_body(Some(patience))
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(trusted()).build())
            .max_redirects(0)
            .user_agent(concat!("evalsuite/", env!("CARGO_PKG_VERSION")));
        Self { settings, interrupted, agent: config.build().into() }
    }

    /// What a revision is.
    pub(super) fn information(&self, repository: &Repository) -> Result<Information, Failure> {
        let mut answer = self.get(&repository.api_address(&self.settings.endpoint), None)?;
        let text =
            answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_string().map_err(Failure::of_request)?;
        serde_json::from_str(&text).map_err(|error| Failure::Protocol(error.to_string()))
    }

    /// What a file is, by its first byte.
    pub(super) fn facts(&self, repository: &Repository, file: &str) -> Result<FileFacts, Failure> {
        let address = repository.file_address(&self.settings.endpoint, file);
        let (mut commit, mut etag, mut linked_etag, mut linked_bytes) = (None, None, None, None);
        let mut keep = |answer: &Response<Body>| {
            // The hub says it before it redirects to its store, which has other names for the same.
            commit = commit.take().or_else(|| header(answer, "x-repo-commit"));
            linked_etag = linked_etag.take().or_else(|| header(answer, "x-linked-etag"));
            linked_bytes = linked_bytes.take().or_else(|| header(answer, "x-linked-size")?.parse().ok());
            if !answer.status().is_redirection() || etag.is_none() {
                etag = etag.take().or_else(|| header(answer, "etag"));
            }
        };
        let answer = self.follow(&address, Some("bytes=0-0"), &mut keep)?;
        let missing = |what: &str| Failure::Protocol(format!("the answer has no {what}"));
        let bytes = linked_bytes.or_else(|| length(&answer)).ok_or_else(|| missing("length"))?;
        let etag = linked_etag.or(etag).ok_or_else(|| missing("ETag"))?;
        // A weak tag names the same content.
        let etag = etag.trim_start_matches("W/").replace('"', "");
        if etag.is_empty() || !etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(Failure::Protocol("the ETag is no name of a file".to_owned()));
        }
        let commit = commit.ok_or_else(|| missing("X-Repo-Commit"))?;
        // Both become names of files.
        if !is_commit(&commit) {
            return Err(Failure::Protocol(format!("the commit is `{commit}`")));
        }
        Ok(FileFacts { commit, etag, bytes })
    }

    /// Adds to `part` what it lacks of a file's `bytes`. What came before a failure stays there.
    pub(super) fn download(
        &self,
        repository: &Repository,
        file: &str,
        bytes: u64,
        part: &Path,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let address = repository.file_address(&self.settings.endpoint, file);
        let mut out = OpenOptions::new().append(true).create(true).open(part)?;
        loop {
            let start = out.metadata()?.len();
            bar.set_position(start);
            if start >= bytes {
                return Ok(out.sync_all()?);
            }
            let answer = self.get(&address, Some(&format!("bytes={start}-")))?;
            if start > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
                // It sends all from the beginning.
                out.set_len(0)?;
                bar.set_position(0);
            }
            let begun = out.metadata()?.len();
            let copied = self.copy(answer, &mut out, bar);
            match copied {
                // What took longer than one request may take, and something came: it goes on.
                Err(Failure::Network(_)) if out.metadata()?.len() > begun => {}
                Err(other) => return Err(other),
                Ok(()) if out.metadata()?.len() >= bytes => {}
                Ok(()) => {
                    let came = out.metadata()?.len();
                    if came == begun {
                        return Err(Failure::Network(format!(
                            "the connection broke off after {came} of {bytes} bytes"
                        )));
                    }
                }
            }
        }
    }

    fn copy(&self, answer: Response<Body>, out: &mut File, bar: &ProgressBar) -> Result<(), Failure> {
        let mut body = answer.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            self.go_on()?;
            let read = body.read(&mut chunk).map_err(|error| Failure::of_reading(&error))?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&chunk[..read])?;
            bar.inc(read as u64);
        }
    }

    fn get(&self, address: &str, range: Option<&str>) -> Result<Response<Body>, Failure> {
        self.follow(address, range, &mut |_| ())
    }

    /// Follows redirects, with the token as long as they stay on one host; `see` gets every answer.
    fn follow(
        &self,
        address: &str,
        range: Option<&str>,
        see: &mut dyn FnMut(&Response<Body>),
    ) -> Result<Response<Body>, Failure> {
        let first: Uri = address.parse().map_err(|error| Failure::Protocol(format!("{address}: {error}")))?;
        let mut uri = first.clone();
        for _ in 0..=MOST_REDIRECTS {
            self.go_on()?;
            let mut request = self.agent.get(&uri);
            if let Some(token) = self.settings.token.as_ref().filter(|_| uri.authority() == first.authority()) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(range) = range {
                request = request.header("Range", range);
            }
            let answer = request.call().map_err(Failure::of_request)?;
            see(&answer);
            let status = answer.status();
            if status.is_redirection() {
                let to =
                    header(&answer, "location").ok_or_else(|| Failure::Protocol("a redirect to nowhere".to_owned()))?;
                uri = resolved(&uri, &to).ok_or_else(|| Failure::Protocol(format!("a redirect to {to}")))?;
                continue;
            }
            let nothing_there = status == StatusCode::RANGE_NOT_SATISFIABLE && length(&answer) == Some(0);
            if status.is_success() || nothing_there {
                return Ok(answer);
            }
            return Err(Failure::Status {
                status: status.as_u16(),
                code: header(&answer, "x-error-code"),
                message: header(&answer, "x-error-message"),
            });
        }
        Err(Failure::Protocol(format!("more than {MOST_REDIRECTS} redirects")))
    }

    /// Ends where the user has broken off.
    pub(super) fn go_on(&self) -> Result<(), Failure> {
        match self.interrupted {
            Some(interrupted) if interrupted.load(Ordering::Relaxed) => Err(Failure::Interrupted),
            _ => Ok(()),
        }
    }
}

/// Who may vouch for a hub: the authorities of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`; where there are none, as in many a
/// container, Mozilla's of when the program was built.
fn trusted() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates: Vec<Certificate<'static>> =
        found.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    RootCerts::new_with_certs(&certificates)
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Of the whole file: by the range that was sent, or by the length of a whole answer.
fn length(answer: &Response<Body>) -> Option<u64> {
    match header(answer, "content-range") {
        Some(range) => range.rsplit_once('/')?.1.parse().ok(),
        None => header(answer, "content-length")?.parse().ok(),
    }
}

/// Where a `Location` leads from an address.
fn resolved(from: &Uri, to: &str) -> Option<Uri> {
    let to: Uri = to.parse().ok()?;
    if to.authority().is_some() {
        return Some(to);
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query = Some(to.path_and_query()?.clone());
    Uri::from_parts(parts).ok()
}
