//! How strictly an output is held to its golden file.

use serde::{Deserialize, Serialize};

/// How strictly an output is held to its golden file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Every token, the text, and what every rule and check says.
    Tokens,
    /// What every rule extracts and every check says; the way there is free.
    Answer,
    /// No worse, together with all outputs of this tier: paired, within a margin.
    Statistical,
}

impl Tier {
    /// The strictest first.
    pub const ALL: [Self; 3] = [Self::Tokens, Self::Answer, Self::Statistical];

    /// The name on the command line and in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Answer => "answer",
            Self::Statistical => "statistical",
        }
    }

    /// By name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
