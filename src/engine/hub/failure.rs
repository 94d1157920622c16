//! The hub client's failures: their kinds, and their messages.

use std::io;

use super::repository::Repository;
use super::{HubError, HubSettings};

/// The kinds of failure, each with its own message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The endpoint could not be reached, the connection broke, or nothing came for too long.
    Network(String),
    /// Nobody who is trusted vouches for the endpoint.
    Untrusted(String),
    /// The endpoint refused, with what it says of why.
    Status {
        status: u16,
        /// `GatedRepo`, `RepoNotFound`, `DisabledRepo`, …
        code: Option<String>,
        message: Option<String>,
    },
    /// The disk is full.
    DiskFull,
    /// The cache folder cannot be written.
    Denied(String),
    /// Another process holds the lock of this file.
    Locked,
    /// What came back is not what the hub sends.
    Protocol(String),
    /// Interrupted by the user.
    Interrupted,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::DiskFull,
            Kind::Interrupted => Self::Interrupted,
            _ => Self::Denied(error.to_string()),
        }
    }
}

impl Failure {
    /// Of a request.
    pub(super) fn of_request(error: ureq::Error) -> Self {
        match error {
            // Of a handshake, which the client does as it reads and writes.
            ureq::Error::Io(error) if error.to_string().starts_with("invalid peer certificate") => {
                Self::Untrusted(error.to_string())
            }
            ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::Protocol(_)
            | ureq::Error::BodyExceedsLimit(_) => Self::Protocol(error.to_string()),
            other => Self::Network(other.to_string()),
        }
    }

    /// Of reading a body: of the connection, never of the disk.
    pub(super) fn of_reading(error: &io::Error) -> Self {
        Self::Network(error.to_string())
    }

    /// Whether the same request may succeed a moment later.
    pub(super) const fn passes(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Status { status: 408 | 429 | 500..=599, .. })
    }

    /// Whether the endpoint says that there is no such thing.
    pub(super) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// In a few words, for a line about another try.
    pub(super) fn in_short(&self) -> String {
        match self {
            Self::Network(why) | Self::Untrusted(why) | Self::Denied(why) | Self::Protocol(why) => why.clone(),
            Self::Status { status, .. } => format!("http status: {status}"),
            Self::DiskFull => "the disk is full".to_owned(),
            Self::Locked => "another process fetches it".to_owned(),
            Self::Interrupted => "interrupted".to_owned(),
        }
    }
}

/// A failure of `subject` (`owner/name at main`, or with a file in front) in words.
pub(super) fn describe(settings: &HubSettings, repository: &Repository, subject: &str, failure: &Failure) -> HubError {
    let endpoint = &settings.endpoint;
    let cache = settings.cache.display();
    let (what, hint) = match failure {
        Failure::Network(error) => (
            format!("cannot fetch {subject} from {endpoint}: {error}"),
            "check the network and HF_ENDPOINT, use --offline with what is cached, or give a local folder".to_owned(),
        ),
        Failure::Untrusted(error) => (
            format!("cannot fetch {subject} from {endpoint}: {error}"),
            "if a proxy or mirror of yours has a certificate of your own authority, name that authority's PEM file in SSL_CERT_FILE, \
             or add it to the system's"
                .to_owned(),
        ),
        Failure::Status { status, code, message } => {
            return of_status(settings, repository, subject, *status, (code.as_deref(), message.as_deref()));
        }
        Failure::DiskFull => (
            format!("the disk is full: cannot write {subject} below {cache}"),
            "free space there, or set HF_HOME to a folder on a larger disk; what is fetched is kept and resumed"
                .to_owned(),
        ),
        Failure::Denied(error) => (
            format!("cannot write {subject} below {cache}: {error}"),
            "make the folder writable, or set HF_HOME to one that is".to_owned(),
        ),
        Failure::Locked => (
            format!("another process is fetching {subject}"),
            "wait until it is done, then run the same command again".to_owned(),
        ),
        Failure::Protocol(error) => (
            format!("{endpoint} does not answer like a hub for {subject}: {error}"),
            "check HF_ENDPOINT and any proxy between".to_owned(),
        ),
        Failure::Interrupted => (
            format!("interrupted before {subject} was fetched"),
            "what has come of it is kept; the same command goes on there".to_owned(),
        ),
    };
    HubError::new(what, hint)
}

fn of_status(
    settings: &HubSettings,
    repository: &Repository,
    subject: &str,
    status: u16,
    (code, message): (Option<&str>, Option<&str>),
) -> HubError {
    let endpoint = &settings.endpoint;
    let page = repository.page(endpoint);
    let (what, hint) = match (status, code) {
        (_, Some("GatedRepo")) => (
            format!("{} is gated, and {endpoint} does not give {subject} to {}", repository.name, asker(settings)),
            format!("accept its terms on {page}, and set HF_TOKEN to a token of the account that did"),
        ),
        (_, Some("DisabledRepo")) => (
            format!("{} is disabled on {endpoint}", repository.name),
            format!("{page} may say why; look for another copy of it"),
        ),
        (401 | 403, _) => (
            format!("{endpoint} does not give {subject} to {}", asker(settings)),
            format!(
                "if the name is right, the repository is private or gated: accept its terms on {page} and set HF_TOKEN to a \
                 token that may read it"
            ),
        ),
        (404, _) => {
            (format!("{endpoint} has no {subject}"), "check owner, name and --revision, letter by letter".to_owned())
        }
        (429, _) => (
            format!("{endpoint} has had too many requests, the last for {subject}"),
            "wait a few minutes, or set HF_TOKEN".to_owned(),
        ),
        _ => {
            let said = message.map_or_else(String::new, |message| format!(": {message}"));
            (
                format!("{endpoint} answered with status {status} for {subject}{said}"),
                "try again later, use --offline with what is cached, or give a local folder".to_owned(),
            )
        }
    };
    HubError::new(what, hint)
}

fn asker(settings: &HubSettings) -> &'static str {
    if settings.token.is_some() { "the owner of this token" } else { "someone without a token" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::repository::RepositoryKind;

    fn described(failure: &Failure) -> String {
        let settings =
            HubSettings { endpoint: "https://hub".to_owned(), cache: "/cache".into(), token: None, offline: false };
        let repository =
            Repository { kind: RepositoryKind::Model, name: "a/b".to_owned(), revision: "main".to_owned() };
        describe(&settings, &repository, "model.safetensors of a/b", failure).to_string()
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_connection() {
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        let said = described(&full);
        assert!(said.contains("the disk is full") && said.contains("/cache") && said.contains("HF_HOME"), "{said}");
        assert!(!full.passes());
        assert!(Failure::of_reading(&io::Error::from(io::ErrorKind::ConnectionReset)).passes());
        assert!(described(&Failure::Locked).contains("another process"));
    }

    #[test]
    fn gated_and_disabled_repositories_say_so() {
        let of = |status, code: &str| {
            let failure = Failure::Status { status, code: Some(code.to_owned()), message: None };
            assert!(!failure.passes());
            described(&failure)
        };
        let gated = of(401, "GatedRepo");
        assert!(gated.contains("a/b is gated") && gated.contains("terms on https://hub/a/b"), "{gated}");
        assert!(of(403, "DisabledRepo").contains("a/b is disabled"));
        assert!(of(401, "RepoNotFound").contains("private or gated"));
        assert!(of(404, "RepoNotFound").contains("has no model.safetensors of a/b"));
    }
}
