//! What some families compute beyond the plain decoder: norm, attention, norm, MLP, every layer alike.

use serde::{Deserialize, Serialize};

/// Where a block's norms are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NormPlaces {
    /// In front of attention and MLP.
    #[default]
    Before,
    /// Behind them, before their outputs are added to the residual stream.
    After,
    /// In front and behind.
    Both,
}

/// Over what queries and keys are normalised, before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryKeyNorm {
    /// Each head by itself, all with the same weights `[head_dim]`.
    Head,
    /// All heads of a row together, with weights `[heads · head_dim]`.
    Row,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerKind {
    /// Whether its attention is limited by the model's sliding window.
    pub windowed: bool,
    /// Whether its queries and keys are rotated by their positions.
    pub rotated: bool,
    /// Whether it has one MLP, in a model of experts.
    #[serde(default)]
    pub dense: bool,
}

impl LayerKind {
    /// Layers of families whose layers are all alike.
    pub const USUAL: Self = Self { windowed: true, rotated: true, dense: false };
}

/// MLPs of which a router chooses some for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    /// How many there are.
    pub count: usize,
    /// How many of them a row goes through.
    pub chosen: usize,
    /// Width inside each.
    pub intermediate: usize,
    /// Whether the weights of the chosen are made to sum to 1.
    pub normalised: bool,
    /// Width inside one more MLP that every row goes through, times a gate of its own.
    pub shared: Option<usize>,
    /// Biases of the router and in the experts.
    #[serde(default)]
    pub biased: bool,
}

impl Experts {
    /// Weights of a layer's router, experts and shared MLP with its gate, at this width of the residual stream.
    pub fn parameters(&self, hidden: usize) -> usize {
        let shared = self.shared.map_or(0, |width| 3 * hidden * width + hidden);
        self.count * (hidden + 3 * hidden * self.intermediate) + shared
    }
}

/// What a model computes beyond the plain decoder; the default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Where a block's norms are.
    pub norms: NormPlaces,
    /// Norms of queries and keys.
    pub query_key_norm: Option<QueryKeyNorm>,
    /// Norms multiply by 1 + weight.
    pub zero_centred_norms: bool,
    /// Attention and MLP both read the block's input, and their outputs are added to it together.
    pub parallel_residual: bool,
    /// Elements of a head that are rotated, where that is not all of it: the first ones.
    pub rotated_elements: Option<usize>,
    /// Divisors of the rotary frequencies, for [`LongRope`](super::RotaryScaling::LongRope).
    pub rotary_divisors: Vec<f64>,
    /// Base of the rotary frequencies in windowed layers, which are not stretched; `None` where all layers are rotated alike.
    pub windowed_theta: Option<f64>,
    /// Layer by layer; none where all are alike.
    pub layers: Vec<LayerKind>,
    /// Factor of the attention's scores, in place of 1 / √`head_dim`.
    pub attention_scale: Option<f64>,
    /// Scores become cap · tanh(score / cap).
    pub attention_cap: Option<f64>,
    /// Each head's softmax has one more score, which the head has learned and which stands for no token.
    pub attention_sinks: bool,
    /// Logits become cap · tanh(logit / cap).
    pub logits_cap: Option<f64>,
    /// Factor of the embeddings.
    pub embedding_scale: Option<f64>,
    /// Factor of what attention and MLP add to the residual stream.
    pub residual_scale: Option<f64>,
    /// Divisor of the logits.
    pub logits_divisor: Option<f64>,
    /// Experts in place of one MLP, in all layers that are not dense.
    pub experts: Option<Experts>,
}

impl Features {
    /// Whether there are none.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Those of them that are there, in words.
    pub fn in_words(&self) -> Vec<&'static str> {
        let all = [
            (self.norms != NormPlaces::Before, "norms behind attention and MLP"),
            (self.query_key_norm.is_some(), "norms of queries and keys"),
            (self.zero_centred_norms, "norms around zero"),
            (self.parallel_residual, "attention and MLP side by side"),
            (self.rotated_elements.is_some(), "rotary positions in a part of each head"),
            (!self.rotary_divisors.is_empty(), "a divisor for every rotary frequency"),
            (self.windowed_theta.is_some(), "two rotary bases"),
            (!self.layers.is_empty(), "layers that differ in window or rotation"),
            (self.attention_scale.is_some(), "an attention scale of its own"),
            (self.attention_cap.is_some() || self.logits_cap.is_some(), "soft caps"),
            (self.attention_sinks, "attention sinks"),
            (self.embedding_scale.is_some(), "an embedding scale"),
            (self.residual_scale.is_some(), "a residual scale"),
            (self.logits_divisor.is_some(), "a divisor of the logits"),
            (self.experts.is_some(), "experts"),
        ];
        all.into_iter().filter_map(|(there, words)| there.then_some(words)).collect()
    }

    /// Whether norms stand in front of attention and MLP.
    pub const fn has_norms_before(&self) -> bool {
        !matches!(self.norms, NormPlaces::After)
    }

    /// Whether norms stand behind attention and MLP.
    pub const fn has_norms_after(&self) -> bool {
        !matches!(self.norms, NormPlaces::Before)
    }
}
