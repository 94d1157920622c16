//! Load: the model, the text, its tokens, and the windows over them.

use std::sync::Arc;

use super::documents::Documents;
use super::windows::windows;
use super::{PerplexityJob, Window};
use super::{TextPlan, WindowPlan};
use crate::engine::model::ModelSource;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::{Checkpoints, JobError, Variants};
use crate::task::{Content, Corpus};

/// Tokens in a window unless the user says otherwise and the context is long enough.
const DEFAULT_WINDOW: usize = 512;

/// Standard errors over fewer observations than this are themselves uncertain by more than a sixth.
const ENOUGH_BLOCKS: usize = 20;

/// What a reading needs.
#[derive(Debug)]
pub struct PerplexityInputs {
    /// The model's files.
    pub model: Arc<ModelSource>,
    /// The columns: the reference first, if there is one.
    pub variants: Variants,
    /// The text.
    pub corpus: Corpus,
    /// Its tokens, as many as are read.
    pub tokens: Vec<u32>,
    /// Over the tokens.
    pub windows: Vec<Window>,
    /// What the user should know about them.
    pub notes: Vec<String>,
    window: usize,
    stride: usize,
    text: TextPlan,
    /// The bytes of scorable text up to the end of each token.
    ends: Vec<usize>,
}

impl PerplexityInputs {
    /// Opens what `job` names.
    pub fn load(job: &PerplexityJob, hub: &Hub) -> Result<Self, JobError> {
        // The cheap first: a mistyped text should not wait for a download.
        let corpus = Corpus::open(&job.text, &job.split, hub)?;
        Self::new(job, job.target.open(hub)?, corpus)
    }

    /// From parts that are open already: tokenises the text and cuts it.
    pub fn new(job: &PerplexityJob, checkpoints: impl Into<Checkpoints>, corpus: Corpus) -> Result<Self, JobError> {
        let checkpoints = checkpoints.into();
        let variants = checkpoints.variants(&job.target, &job.command)?;
        let model = Arc::clone(checkpoints.model.need_files("a perplexity")?);
        let (window, stride) = window_and_stride(job, model.config.context_tokens)?;
        let mut documents = Documents::new(&corpus, job.chat, &model)?;
        let text = TextPlan {
            name: corpus.name.clone(),
            source: corpus.source.clone(),
            sha256: corpus.sha256.clone(),
            text_sha256: sha256(documents.text.as_bytes()),
            rows: match &corpus.content {
                Content::Plain(_) => None,
                Content::Rows(rows) => Some(rows.len()),
            },
            reading: documents.reading,
            bos: documents.bos.take(),
            bytes: documents.text.len(),
            tokens: documents.tokens.len(),
        };
        documents.truncate(job.limit_tokens.unwrap_or(usize::MAX));
        let Documents { tokens, ends, spans, .. } = documents;
        let windows = windows(&spans, window, stride);
        if windows.is_empty() {
            return Err(JobError::invalid(
                format!("the text {} is too short: no token of {} is left to score", corpus.name, tokens.len()),
                "give a longer `--text`, or a larger `--limit-tokens`",
            ));
        }
        let notes = variants.notes();
        let mut inputs = Self { model, variants, corpus, tokens, windows, notes, window, stride, text, ends };
        inputs.note_few_blocks();
        inputs.notes.extend(checkpoints.notes);
        Ok(inputs)
    }

    /// Lengths of the blocks that the first `done` windows make, in scored tokens. The tokens of a document are no
    /// independent draws, so that a document is one observation; of a single document, each window is one.
    pub fn blocks(&self, done: usize) -> Vec<usize> {
        let one_document = self.windows.iter().all(|window| window.document == 0);
        let windows = self.windows.get(..done).unwrap_or(&self.windows);
        let blocks = windows.chunk_by(|a, b| !one_document && a.document == b.document);
        blocks.map(|block| block.iter().map(Window::scored).sum()).collect()
    }

    fn note_few_blocks(&mut self) {
        let blocks = self.blocks(self.windows.len()).len();
        if blocks == 1 {
            self.notes.push("a single window has no standard error: give a longer text".to_owned());
        } else if blocks < ENOUGH_BLOCKS {
            self.notes.push(format!("standard errors from {blocks} observations are rough"));
        }
    }

    /// The text's provenance.
    pub fn text_plan(&self) -> TextPlan {
        self.text.clone()
    }

    /// How the text was cut, of which the first `done` windows are read.
    pub fn window_plan(&self, job: &PerplexityJob, done: usize) -> WindowPlan {
        let read = self.windows.get(..done).unwrap_or(&self.windows);
        let end_of = |token: Option<usize>| token.and_then(|token| self.ends.get(token)).copied().unwrap_or(0);
        let bytes_of = |window: &Window| end_of(window.fed.end.checked_sub(1)) - end_of(window.from.checked_sub(1));
        WindowPlan {
            window: self.window,
            stride: self.stride,
            count: self.windows.len(),
            done,
            least_context: self.window - self.stride,
            limit_tokens: job.limit_tokens,
            tokens: self.tokens.len(),
            blocks: self.blocks(done).len(),
            scored_tokens: read.iter().map(Window::scored).sum(),
            scored_bytes: read.iter().map(bytes_of).sum(),
        }
    }

    /// The place among all tokens of the one that is scored as number `index`.
    pub fn position(&self, index: usize) -> Option<usize> {
        let mut before = 0;
        for window in &self.windows {
            if index < before + window.scored() {
                return Some(window.from + index - before);
            }
            before += window.scored();
        }
        None
    }

    /// The first token of the document that a token stands in.
    pub fn document_begin(&self, position: usize) -> usize {
        let holds = |window: &&Window| (window.from..window.fed.end).contains(&position);
        let document = self.windows.iter().find(holds).map(|window| window.document);
        let first = self.windows.iter().find(|window| Some(window.document) == document);
        first.map_or(0, |window| window.fed.start)
    }
}

fn window_and_stride(job: &PerplexityJob, context: usize) -> Result<(usize, usize), JobError> {
    let window = job.window.unwrap_or_else(|| DEFAULT_WINDOW.min(context));
    if window > context {
        return Err(JobError::invalid(
            format!("--window {window} is longer than the model's context of {context} tokens"),
            format!("give `--window {context}` or less"),
        ));
    }
    if window < 2 {
        return Err(JobError::invalid(
            format!("--window {window} holds no token that another could predict"),
            "give `--window 2` or more",
        ));
    }
    let stride = job.stride.unwrap_or(window / 2);
    if stride == 0 || stride >= window {
        return Err(JobError::invalid(
            format!("--stride {stride} does not fit --window {window}: every window must reach into the one before"),
            format!("give `--stride` between 1 and {}, such as {}", window - 1, window / 2),
        ));
    }
    Ok((window, stride))
}
