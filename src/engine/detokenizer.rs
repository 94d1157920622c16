//! Text that grows token by token.

use super::EngineError;
use super::model::ModelTokenizer;

/// The text of tokens as they come, special tokens left out. Only the last few tokens are decoded anew: a token's text can depend on the
/// one before it (spaces) and a character can span several (bytes), but nothing reaches further back.
#[derive(Debug, Clone, Default)]
pub struct Detokenizer {
    text: String,
    ids: Vec<u32>,
    /// Tokens before this one are text already.
    settled: usize,
    /// The window that is decoded begins here.
    window: usize,
    with_special: bool,
}

impl Detokenizer {
    /// One that writes special tokens out.
    pub fn with_special() -> Self {
        Self { with_special: true, ..Self::default() }
    }

    /// One whose text begins behind `ids`.
    pub fn behind(ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), settled: ids.len(), ..Self::default() }
    }

    /// Adds a token; how many bytes of text that brought. 0 where it brought none, or a part of a character, which the next tokens settle.
    pub fn push(&mut self, token: u32, tokenizer: &ModelTokenizer) -> Result<usize, EngineError> {
        self.ids.push(token);
        let decode = |ids: &[u32]| {
            if self.with_special { tokenizer.decode_with_special(ids) } else { tokenizer.decode(ids) }
        };
        let before = decode(&self.ids[self.window..self.settled])?;
        let after = decode(&self.ids[self.window..])?;
        if after.ends_with('\u{fffd}') || !after.starts_with(&before) {
            return Ok(0);
        }
        self.text.push_str(&after[before.len()..]);
        self.window = self.settled;
        self.settled = self.ids.len();
        Ok(after.len() - before.len())
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}
