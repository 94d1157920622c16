//! One difference of an output.

/// What changed in an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its kind.
    pub kind: ChangeKind,
    /// The change in words.
    pub what: String,
    /// What makes it the same change as another output's, wherever in the output it stands.
    pub key: String,
}

/// The kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only one side has the output.
    Presence,
    /// The prompt.
    Prompt,
    /// The generated tokens or text.
    Tokens,
    /// A score or a verdict.
    Verdict,
}

impl ChangeKind {
    pub(super) fn because(self, what: String) -> Change {
        Change { kind: self, key: what.clone(), what }
    }
}
