//! What can go wrong between a dataset's file and a prompt.

/// A dataset's, protocol's or template's failure, with the way out behind `hint:`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The user's file or name is at fault.
    #[error("{what}\nhint: {hint}")]
    Invalid {
        /// What is wrong, on which value.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The hub could not give what was asked of it.
    #[error(transparent)]
    Hub(#[from] crate::hub::HubError),
}

impl TaskError {
    /// The user's file or name is at fault.
    pub fn invalid(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), hint: hint.into() }
    }
}
