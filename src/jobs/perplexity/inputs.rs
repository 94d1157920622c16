//! Load: the model, the text, its tokens, and the windows over them.

use std::sync::Arc;

use super::answers::{Asked, OwnAnswers, same_model};
use super::documents::Documents;
use super::windows::windows;
use super::{AnswerToken, TextPlan, WindowPlan};
use super::{PerplexityJob, Window};
use crate::engine::model::ModelSource;
use crate::files::sha256;
use crate::hub::Hub;
use crate::jobs::eval::StoredRun;
use crate::jobs::{Checkpoints, JobError, Target, Variants};
use crate::record::TargetPlan;
use crate::task::{Content, Corpus};

/// Tokens in a window unless the user says otherwise and the context is long enough.
const DEFAULT_WINDOW: usize = 512;

/// Tokens of context that a token is shown with.
const CONTEXT_TOKENS: usize = 16;

/// Standard errors over fewer observations than this are themselves uncertain by more than a sixth.
const ENOUGH_BLOCKS: usize = 20;

/// What a reading needs.
#[derive(Debug)]
pub struct PerplexityInputs {
    /// The model's files.
    pub model: Arc<ModelSource>,
    /// The columns: the reference first, if there is one.
    pub variants: Variants,
    /// The text's tokens, as many as are read.
    pub tokens: Vec<u32>,
    /// Over the tokens.
    pub windows: Vec<Window>,
    /// What the user should know about them.
    pub notes: Vec<String>,
    window: usize,
    stride: usize,
    text: TextPlan,
    /// Of a run's answers: what each document answers.
    pub(super) asked: Option<Asked>,
    /// The bytes of scorable text up to the end of each token.
    ends: Vec<usize>,
}

impl PerplexityInputs {
    /// Opens what `job` names.
    pub fn load(job: &PerplexityJob, hub: &Hub) -> Result<Self, JobError> {
        if let Some(run) = &job.run {
            return Self::of_run(job, &StoredRun::read(run)?, job.target.open(hub)?);
        }
        // The cheap first: a mistyped text should not wait for a download.
        let corpus = Corpus::open(&job.text, &job.split, hub)?;
        Self::new(job, job.target.open(hub)?, corpus)
    }

    /// From parts that are open already: tokenises the text and cuts it.
    #[expect(clippy::needless_pass_by_value, reason = "once it is tokenised, nobody needs the text")]
    pub fn new(job: &PerplexityJob, checkpoints: impl Into<Checkpoints>, corpus: Corpus) -> Result<Self, JobError> {
        let (model, variants, notes) = opened(&job.target, &job.command, checkpoints.into())?;
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
            answers_of: None,
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
        let inputs = Self { model, variants, tokens, windows, notes, window, stride, text, asked: None, ends };
        Ok(inputs.with_few_blocks_noted("a single window has no standard error: give a longer text"))
    }

    /// The reference's own answers of a finished run, in the place of a text. Each is one window, whatever its length.
    pub fn of_run(job: &PerplexityJob, run: &StoredRun, checkpoints: impl Into<Checkpoints>) -> Result<Self, JobError> {
        let inputs = Self::answers((&job.target, &job.command), run, checkpoints, job.limit)?;
        Ok(inputs.with_few_blocks_noted("answers to a single question have no standard error: give more"))
    }

    /// The same without notes on errors of means; `limit` answers at most.
    pub(in crate::jobs) fn answers(
        (target, command): (&Target, &[String]),
        run: &StoredRun,
        checkpoints: impl Into<Checkpoints>,
        limit: Option<usize>,
    ) -> Result<Self, JobError> {
        let (model, variants, mut notes) = opened(target, command, checkpoints.into())?;
        let own = match OwnAnswers::read(run, variants.wanted_reference(), &model, limit) {
            Ok(own) => own,
            Err(error) => {
                // Another model's tokenizer makes other tokens of the prompts: that the model is another one says more.
                same_model(&run.path, &run.record.plan.target, &variants.plan()?)?;
                return Err(error);
            }
        };
        notes.extend(run.notes.iter().cloned().chain(own.notes));
        let Documents { tokens, ends, spans, .. } = own.documents;
        let window = spans.iter().map(|span| span.end - span.begin).max().unwrap_or(0);
        let windows = windows(&spans, window, window);
        if windows.is_empty() {
            return Err(JobError::invalid(
                format!("no answer of the run {} has a token to score", run.path.display()),
                "give another run, or a larger `--limit`",
            ));
        }
        let (text, asked) = (own.plan, Some(own.asked));
        Ok(Self { model, variants, tokens, windows, notes, window, stride: window, text, asked, ends })
    }

    /// Provenance of the model and its variants, whose hashes are waited for. Where a run's answers are read, another model than the run's is
    /// refused.
    pub fn target(&self) -> Result<TargetPlan, JobError> {
        let target = self.variants.plan()?;
        if let Some(Asked { run, was, .. }) = &self.asked {
            same_model(run, was, &target)?;
        }
        Ok(target)
    }

    /// Lengths of the blocks that the first `done` windows make, in scored tokens. The tokens of a document are no
    /// independent draws, so that a document is one observation, and so are all answers to a question, or to the questions of a cluster;
    /// of a single text, each window is one.
    pub fn blocks(&self, done: usize) -> Vec<usize> {
        let one_text = self.asked.is_none() && self.windows.iter().all(|window| window.document == 0);
        let windows = self.windows.get(..done).unwrap_or(&self.windows);
        let blocks = windows.chunk_by(|a, b| !one_text && self.observation(a) == self.observation(b));
        blocks.map(|block| block.iter().map(Window::scored).sum()).collect()
    }

    /// The number of the observation that a window belongs to, where the text has several documents.
    fn observation(&self, window: &Window) -> usize {
        let question = self.asked.as_ref().and_then(|asked| asked.of.get(window.document));
        question.map_or(window.document, |question| question.cluster)
    }

    fn with_few_blocks_noted(mut self, if_single: &str) -> Self {
        let blocks = self.blocks(self.windows.len()).len();
        if blocks == 1 {
            self.notes.push(if_single.to_owned());
        } else if blocks < ENOUGH_BLOCKS {
            self.notes.push(format!("standard errors from {blocks} observations are rough"));
        }
        self
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

    /// Sample and repeat of the answer that a window reads, where a run's answers are read.
    pub fn question(&self, window: &Window) -> Option<(usize, usize)> {
        let question = self.asked.as_ref()?.of.get(window.document)?;
        Some((question.sample, question.repeat))
    }

    /// The place of a scored token in its answer, where a run's answers are read.
    pub(super) fn answer_token(&self, position: usize) -> Option<AnswerToken> {
        let asked = self.asked.as_ref()?;
        let window = self.windows.iter().find(|window| window.scores(position))?;
        let question = asked.of.get(window.document)?;
        Some(AnswerToken { sample: question.sample, repeat: question.repeat, tokens_before: position - window.from })
    }

    /// The text before a scored token in its document; what cannot be decoded is left out.
    pub(super) fn context_before(&self, position: usize) -> String {
        let document = self.windows.iter().find(|window| window.scores(position)).map(|window| window.document);
        let first = self.windows.iter().find(|window| Some(window.document) == document);
        let begin = position.saturating_sub(CONTEXT_TOKENS).max(first.map_or(0, |window| window.fed.start));
        let before = self.tokens.get(begin..position).unwrap_or_default();
        self.model.tokenizer.decode(before).unwrap_or_default()
    }
}

/// The model, its variants, and what the user should know of both.
fn opened(
    target: &Target,
    command: &[String],
    checkpoints: Checkpoints,
) -> Result<(Arc<ModelSource>, Variants, Vec<String>), JobError> {
    let variants = checkpoints.variants(target, command)?;
    let model = Arc::clone(checkpoints.model.need_files("a perplexity")?);
    let notes = variants.notes().into_iter().chain(checkpoints.notes).collect();
    Ok((model, variants, notes))
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
