//! The hub client's failures: their kinds, and their messages.

use std::io;

use hf_hub::api::sync::ApiError;

use super::{HubError, HubSettings};

/// The kinds of failure, each with its own message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The endpoint could not be reached, or the connection broke.
    Network,
    /// The endpoint answered with this status.
    Status(u16),
    /// The disk is full.
    DiskFull,
    /// The cache folder cannot be written.
    Denied,
    /// Another process holds the lock of this file.
    Locked,
    /// What came back is not what the hub sends.
    Protocol,
    /// Interrupted by the user.
    Interrupted,
}

/// Interrupted by the user before the request was made.
pub(super) fn broken_off() -> ApiError {
    ApiError::IoError(io::ErrorKind::Interrupted.into())
}

impl Failure {
    pub(super) fn of(error: &ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => Self::of_request(error),
            ApiError::IoError(error) => Self::of_io(error),
            ApiError::TooManyRetries(error) => Self::of(error),
            ApiError::LockAcquisition(_) => Self::Locked,
            ApiError::MissingHeader(_)
            | ApiError::InvalidHeader(_)
            | ApiError::ParseIntError(_)
            | ApiError::InvalidResume => Self::Protocol,
        }
    }

    fn of_request(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Self::Status(*status),
            ureq::Error::Io(error) => Self::of_io(error),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Json(_) | ureq::Error::Protocol(_) => {
                Self::Protocol
            }
            _ => Self::Network,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::DiskFull,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::NotADirectory | Kind::NotFound => Self::Denied,
            Kind::Interrupted => Self::Interrupted,
            _ => Self::Network,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) const fn passes(self) -> bool {
        matches!(self, Self::Network | Self::Status(408 | 429 | 500..=599))
    }
}

/// A failure of `subject` (`owner/name at main`, or with a file in front) in words.
pub(super) fn describe(settings: &HubSettings, subject: &str, error: &ApiError) -> HubError {
    let endpoint = &settings.endpoint;
    let (what, hint) = match Failure::of(error) {
        Failure::Network => (
            format!("cannot fetch {subject} from {endpoint}: {error}"),
            "check the network and HF_ENDPOINT, use --offline with what is cached, or give a local folder".to_owned(),
        ),
        Failure::Status(401 | 403) => (
            format!("{endpoint} does not give {subject} to {}", asker(settings)),
            "if the name is right, the repository is private or gated: accept its terms on its page and set HF_TOKEN to \
             a token that may read it"
                .to_owned(),
        ),
        Failure::Status(404) => (
            format!("{endpoint} has no {subject}"),
            "check owner, name and --revision, letter by letter".to_owned(),
        ),
        Failure::Status(429) => (
            format!("{endpoint} has had too many requests, the last for {subject}"),
            "wait a few minutes, or set HF_TOKEN".to_owned(),
        ),
        Failure::Status(status) => (
            format!("{endpoint} answered with status {status} for {subject}"),
            "try again later, use --offline with what is cached, or give a local folder".to_owned(),
        ),
        Failure::DiskFull => (
            format!("the disk is full: cannot write {subject} below {}", settings.cache.display()),
            "free space there, or set HF_HOME to a folder on a larger disk; what is fetched is kept and resumed".to_owned(),
        ),
        Failure::Denied => (
            format!("cannot write {subject} below {}: {error}", settings.cache.display()),
            "make the folder writable, or set HF_HOME to one that is".to_owned(),
        ),
        Failure::Locked => (
            format!("another process is fetching {subject}"),
            "wait until it is done, then run the same command again".to_owned(),
        ),
        Failure::Protocol => (
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

fn asker(settings: &HubSettings) -> &'static str {
    if settings.token.is_some() { "the owner of this token" } else { "someone without a token" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_connection() {
        let settings =
            HubSettings { endpoint: "https://hub".to_owned(), cache: "/cache".into(), token: None, offline: false };
        let of = |kind: io::ErrorKind| ApiError::IoError(io::Error::from(kind));
        let full = describe(&settings, "model.safetensors of a/b", &of(io::ErrorKind::StorageFull));
        assert!(
            full.0.what.contains("the disk is full")
                && full.0.what.contains("/cache")
                && full.0.hint.contains("HF_HOME")
        );
        assert!(!Failure::of(&of(io::ErrorKind::StorageFull)).passes());
        assert!(Failure::of(&of(io::ErrorKind::ConnectionReset)).passes());
        let locked = describe(&settings, "x of a/b", &ApiError::LockAcquisition("/cache/x.lock".into()));
        assert!(locked.0.what.contains("another process"));
    }
}
