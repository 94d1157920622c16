//! Texts that are read rather than continued, and what a model thinks of each of their tokens.

use super::EngineError;

/// Rows of logits that are computed at a time where texts are read: enough for a GEMM, few enough for any vocabulary.
pub const READ_ROWS: usize = 128;

/// A text, to be read in an empty context.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// All of it.
    pub tokens: &'a [u32],
    /// The logits that predict the tokens from this one on are wanted; at least 1, for nothing predicts the first.
    pub from: usize,
}

impl Text<'_> {
    /// Rows of logits that are wanted.
    pub const fn rows(&self) -> usize {
        self.tokens.len() - self.from
    }
}

/// Texts that are read layer by layer: whoever changes the weights of one layer after the other need not compute again what lies before.
pub trait LayerReading {
    /// Takes texts, as [`super::Engine::read`] does, up to the first layer.
    fn begin(&mut self, texts: &[Text]) -> Result<(), EngineError>;

    /// How many layers they have gone through.
    fn layer(&self) -> usize;

    /// Takes them through the next layer, if there is one more.
    fn advance(&mut self) -> Result<(), EngineError>;

    /// The residual stream where they are, f32 `[rows, hidden]`, of the rows that predict each text's tokens from [`Text::from`] on.
    fn states(&self) -> Vec<f32>;

    /// Computes what [`super::Engine::read_logits`] needs through all layers that are left; the texts stay where they are.
    fn finish(&mut self) -> Result<(), EngineError>;
}

/// What one variant thinks of one token of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Natural logarithm of its probability.
    pub log_probability: f64,
    /// The most probable token in its place; the lowest id among equals.
    pub best: u32,
    /// Natural logarithm of that one's probability.
    pub best_log_probability: f64,
    /// KL(reference ‖ this), nats; `None` for the reference itself and without one.
    pub kl: Option<f64>,
    /// Natural logarithm of the probability that the reference gives `best`; `None` for the reference itself and without one.
    pub reference_of_best: Option<f64>,
}
