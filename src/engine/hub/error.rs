//! Errors of the hub's client.

use crate::fault::Fault;

/// A hub failure: what failed, for which repository and file, and a `hint:`.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct HubError(#[from] pub Fault);

impl HubError {
    /// What failed, for which repository and file, and the way out.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self(Fault::new(what, hint))
    }
}
