//! Requests of one length.

use serde::{Deserialize, Serialize};

/// Requests of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// How many.
    pub requests: usize,
    /// Tokens in each prompt.
    pub prompt_tokens: usize,
    /// Tokens that each generates.
    pub output_tokens: usize,
}
