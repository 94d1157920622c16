//! What goes into an engine and what comes out of it: [`Request`], [`Completion`], [`EngineInfo`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::precision::Precision;
use super::thought::{Thought, ThoughtMarks};

/// Seconds from the engine's constructor to ready for the first request, by what took them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadTimes {
    /// Reading weights from disk (page cache or not) and casting them.
    pub read_seconds: f64,
    /// Everything else: tokenizer, tables, device, kernels.
    pub prepare_seconds: f64,
    /// Wall time of the whole constructor.
    pub total_seconds: f64,
}

/// What an engine is, for provenance and for the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineInfo {
    /// `cpu`, `candle`, …
    pub name: String,
    /// The version of the engine.
    pub version: String,
    /// The device it runs on, in words, with threads and instruction set.
    pub device: String,
    /// Precision; `None` of a server, which does not tell.
    #[serde(default)]
    pub dtype: Option<Precision>,
    /// Longest prompt plus output, in tokens; `usize::MAX` where that is not known.
    pub context_tokens: usize,
    /// Requests that advance together at most.
    pub batch: usize,
    /// How long it took to load.
    pub load: LoadTimes,
    /// Bytes of weights held in memory; `None` where the engine cannot know.
    #[serde(default)]
    pub weight_bytes: Option<u64>,
    /// Bytes that the engine holds on a GPU: weights, cache and workspace; `None` without one.
    #[serde(default)]
    pub device_bytes: Option<u64>,
    /// Of these, the KV cache's, whether requests hold it or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Where more than engine and version decides the last bits, what: a GPU's kind and the versions of CUDA's libraries. `None`
    /// on a CPU, where nothing else does.
    #[serde(default)]
    pub arithmetic: Option<String>,
}

/// Versions of the CPU engine that compute the same bits: golden files of the first hold for the last.
const ALIKE_ON_CPU: [&str; 2] = ["0.1.0", "0.2.0"];

impl EngineInfo {
    /// Whether the same request gets the same tokens of another engine, as far as both say. What one of an earlier version does not note
    /// cannot differ.
    pub fn computes_like(&self, other: &Self) -> bool {
        let alike = |version: &str| self.name == "cpu" && ALIKE_ON_CPU.contains(&version);
        let same_version = self.version == other.version || alike(&self.version) && alike(&other.version);
        self.name == other.name && same_version && (self.arithmetic.is_none() || self.arithmetic == other.arithmetic)
    }
}

/// The text of a prompt and the exact tokens that the model computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Rendered text, special tokens written out.
    pub text: String,
    /// What the model sees, BOS included where the model has one.
    pub token_ids: Vec<u32>,
}

/// How the next token is chosen. Temperature 0 is greedy; ties go to the lowest token id.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Softmax temperature; 0 means greedy.
    pub temperature: f64,
    /// Nucleus: the smallest set of tokens whose probability reaches this; 1 means all.
    pub top_p: f64,
    /// Only the k most probable tokens; 0 means all.
    pub top_k: usize,
    /// The seed of this very request.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, top_k: 0, seed: 0 }
    }
}

/// What to do with a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Continue it.
    Generate(GenerateOptions),
    /// Teacher-forced: compute this continuation and report a [`TokenDetail`] for each of its tokens.
    Score {
        /// The tokens that follow the prompt.
        continuation: Vec<u32>,
        /// So many of the most probable tokens at each of its positions, over and above.
        top_tokens: usize,
    },
}

/// How to continue a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Generation ends before the first of these strings; the text is cut there.
    pub stop_strings: Arc<[String]>,
    /// What is a thought and no answer: a stop string does not end it, and it is kept apart from the text.
    pub thoughts: Arc<ThoughtMarks>,
    /// Generation ends at any of these tokens, over and above the model's own ends of sequence.
    pub stop_tokens: Arc<[u32]>,
    /// Go on past the model's ends of sequence (for benchmarks of fixed length).
    pub ignore_eos: bool,
    /// Nothing but a limit ends it before it has so many tokens; an end of sequence among them stays there.
    pub min_tokens: usize,
    /// Greedy or sampled.
    pub sampling: Sampling,
    /// Report a [`TokenDetail`] for every generated token.
    pub details: bool,
    /// With `details`, so many of the most probable tokens at each position, over and above.
    pub top_tokens: usize,
    /// Tell of every token as soon as it is there, not only of the whole completion.
    pub stream: bool,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            stop_strings: Arc::from([]),
            thoughts: Arc::default(),
            stop_tokens: Arc::from([]),
            ignore_eos: false,
            min_tokens: 0,
            sampling: Sampling::default(),
            details: false,
            top_tokens: 0,
            stream: false,
        }
    }
}

/// One unit of work for an engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The caller's number; it comes back in [`Completion::request`]. No two requests in an engine at a time have the same.
    pub id: usize,
    /// What the model reads.
    pub prompt: Arc<Prompt>,
    /// What it does then.
    pub work: Work,
}

impl Request {
    /// Scores `tokens[from..]` behind the tokens before them.
    pub fn scoring(id: usize, tokens: &[u32], from: usize) -> Self {
        let (prompt, continuation) = tokens.split_at(from.min(tokens.len()));
        let prompt = Arc::new(Prompt { text: String::new(), token_ids: prompt.to_vec() });
        Self { id, prompt, work: Work::Score { continuation: continuation.to_vec(), top_tokens: 0 } }
    }

    /// Tokens that are generated at most, by the request's own limit and the context's; for a score, its continuation.
    pub fn max_output_tokens(&self, context_tokens: usize) -> usize {
        match &self.work {
            Work::Generate(options) => {
                options.max_tokens.min(context_tokens.saturating_sub(self.prompt.token_ids.len()))
            }
            Work::Score { continuation, .. } => continuation.len(),
        }
    }

    /// Tokens that it can come to hold in a cache.
    pub fn max_total_tokens(&self, context_tokens: usize) -> usize {
        self.prompt.token_ids.len() + self.max_output_tokens(context_tokens)
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model's own end of sequence, or a stop token.
    EndOfSequence,
    /// A stop string.
    StopString,
    /// The limit of tokens: the answer was cut.
    Length,
    /// The model's context was full: the answer was cut.
    Context,
    /// A thought that did not end: there is no answer.
    UnfinishedThought,
    /// Scored, not generated.
    Scored,
    /// Not known: the answer was made elsewhere.
    Unknown,
}

impl Finish {
    /// The name in every file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndOfSequence => "end_of_sequence",
            Self::StopString => "stop_string",
            Self::Length => "length",
            Self::Context => "context",
            Self::UnfinishedThought => "unfinished_thought",
            Self::Scored => "scored",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the answer was cut off before the model had finished.
    pub const fn is_cut(self) -> bool {
        matches!(self, Self::Length | Self::Context | Self::UnfinishedThought)
    }
}

/// What the model thought at one position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenDetail {
    /// The token at this position: the sampled one, or the continuation's when scoring.
    pub token: u32,
    /// Natural logarithm of its probability (temperature 1, no truncation).
    pub log_probability: f32,
    /// The most probable token.
    pub best: u32,
    /// How far the best logit lies above the second best.
    pub margin: f32,
    /// Natural logarithm of the sum of the exponentials of all logits.
    pub log_sum_exp: f32,
}

/// One of the most probable tokens at a position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TopToken {
    /// Its id.
    pub token: u32,
    /// Natural logarithm of its probability, as in [`TokenDetail`].
    pub log_probability: f32,
}

/// When things happened to a request, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// From submission until work on it began.
    pub queued_seconds: f64,
    /// From the start of work until its first token.
    pub first_token_seconds: f64,
    /// From the start of work until its last token.
    pub total_seconds: f64,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// [`Request::id`].
    pub request: usize,
    /// Every token that was generated (or scored), the ending one included.
    pub token_ids: Vec<u32>,
    /// Their text without special tokens, cut before a stop string; without the thought, where there is one.
    pub text: String,
    /// What was thought before the text.
    pub thought: Option<Thought>,
    /// Why it ended.
    pub finish: Finish,
    /// One a token where they were requested, else empty.
    pub details: Vec<TokenDetail>,
    /// One list a token where they were requested, the most probable token first, the lowest id among equals; else empty.
    pub top_tokens: Vec<Vec<TopToken>>,
    /// When.
    pub timings: Timings,
    /// Tokens of the prompt that were not computed, because another request had the same prefix.
    pub cached_tokens: usize,
    /// What a server tells of tokens; `None` of an engine whose prompt and output are the request's and this completion's ids.
    pub server: Option<ServerCounts>,
}

/// Tokens of a completion that a server made. Each is `None` where nobody tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Of the prompt.
    pub prompt_tokens: Option<usize>,
    /// Of the output, thoughts included.
    pub output_tokens: Option<usize>,
    /// Who counted the output.
    pub by: Option<CountedBy>,
}

/// How the tokens of a server's output are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CountedBy {
    /// The server gives their ids.
    Ids,
    /// The server's own count.
    Usage,
    /// The model's tokenizer, on the text: what a text's tokens are need not be what was generated.
    Tokenizer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_cpu_engine_that_compute_the_same_are_alike_and_no_others() {
        let info = |name: &str, version: &str, arithmetic: Option<&str>| EngineInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            device: String::new(),
            dtype: None,
            context_tokens: 1,
            batch: 1,
            load: LoadTimes { read_seconds: 0.0, prepare_seconds: 0.0, total_seconds: 0.0 },
            weight_bytes: None,
            device_bytes: None,
            cache_bytes: None,
            arithmetic: arithmetic.map(str::to_owned),
        };
        assert!(info("cpu", "0.1.0", None).computes_like(&info("cpu", env!("CARGO_PKG_VERSION"), None)));
        assert!(!info("cpu", "0.1.0", None).computes_like(&info("cpu", "9.0.0", None)));
        assert!(!info("cuda", "0.1.0", Some("sm_90")).computes_like(&info("cuda", "0.2.0", Some("sm_90"))));
        assert!(info("cuda", "0.2.0", Some("sm_90")).computes_like(&info("cuda", "0.2.0", Some("sm_90"))));
        assert!(!info("cuda", "0.2.0", Some("sm_90")).computes_like(&info("cuda", "0.2.0", Some("sm_80"))));
        assert!(!info("cuda", "0.2.0", Some("sm_90")).computes_like(&info("cpu", "0.2.0", None)));
        assert!(info("cuda", "0.1.0", None).computes_like(&info("cuda", "0.1.0", Some("sm_90"))), "not noted then");
    }
}
