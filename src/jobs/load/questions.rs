//! A task's questions under load: each level asks every one once, and what is answered is scored as an evaluation scores it.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{RequestRecord, RequestScore, Slo};
use crate::engine::ThoughtMarks;
use crate::hub::Hub;
use crate::jobs::eval::{EvalInputs, EvalJob, prepare};
use crate::jobs::requests::{Answered, LoadRequest, Source};
use crate::jobs::thoughts::{take_thought, thought_marks};
use crate::jobs::{Checkpoints, JobError, Prepared};
use crate::openai::cut_at_stops;
use crate::score::statistics::{Paired, Proportion};
use crate::score::{Rule, clustered_paired, clustered_wilson, score};

/// What a level's answers are worth. A failed request is no answer, right or wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelScore {
    /// Questions that were answered.
    pub answered: usize,
    /// Answers in which the rule found a value.
    pub extracted: usize,
    /// Answers that the limit of tokens or the context cut off.
    pub cut: usize,
    /// Right of those answered, with Wilson's 95 % interval; `None` of no answer.
    pub accuracy: Option<Proportion>,
    /// Right answers that kept every limit of `--slo`, a second; without limits all right ones.
    pub right_per_second: f64,
    /// Against the idle run, on the questions that both answered; `None` of that run itself.
    pub against_idle: Option<Paired>,
}

/// The questions of a run, ready to be asked.
#[derive(Debug)]
pub(super) struct Questions {
    prepared: Vec<Prepared>,
    rules: Vec<Rule>,
    headline: String,
    stops: Arc<[String]>,
    thoughts: Arc<ThoughtMarks>,
    max_tokens: usize,
    pub(super) in_words: String,
    pub(super) sha256: String,
}

impl Questions {
    /// Opens everything that an evaluation would, and the model with it.
    pub(super) fn open(job: &EvalJob, hub: &Hub, notes: &mut Vec<String>) -> Result<(Self, Checkpoints), JobError> {
        let inputs = EvalInputs::load(job, hub)?;
        let (prepared, prompt_notes) = prepare(&inputs, job)?;
        notes.extend(inputs.notes.iter().cloned().chain(prompt_notes));
        let (protocol, dataset) = (&inputs.protocol, &inputs.dataset);
        let questions = Self {
            in_words: format!(
                "the {} questions of {} ({}, {}), each once, by protocol {} and its rule {}",
                prepared.len(),
                dataset.name,
                job.task.name,
                dataset.split,
                protocol.name,
                protocol.headline
            ),
            sha256: dataset.sha256.clone(),
            rules: protocol.rules.clone(),
            headline: protocol.headline.clone(),
            stops: inputs.stop_strings(job).into(),
            thoughts: Arc::new(thought_marks(None)),
            max_tokens: inputs.max_tokens(job),
            prepared,
        };
        Ok((questions, inputs.checkpoints))
    }

    pub(super) fn count(&self) -> usize {
        self.prepared.len()
    }

    pub(super) const fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// What a level's answers are worth, beside those of the idle run.
    pub(super) fn level(
        &self,
        requests: &[RequestRecord],
        seconds: f64,
        slo: &Slo,
        idle: Option<&[RequestRecord]>,
    ) -> LevelScore {
        let scores: Vec<&RequestScore> = requests.iter().filter_map(|one| one.score.as_ref()).collect();
        let clusters = self.prepared.iter().filter_map(|one| Some((one.sample, one.cluster.as_deref()?)));
        let clusters: HashMap<usize, &str> = clusters.collect();
        // Questions of one cluster belong together; one without stands for itself.
        let key = |sample: usize| clusters.get(&sample).map_or((None, sample), |cluster| (Some(*cluster), 0));
        let right: Vec<_> = scores.iter().map(|one| (key(one.sample), one.correct)).collect();
        let kept =
            requests.iter().filter(|one| one.score.as_ref().is_some_and(|score| score.correct) && slo.is_kept(one));
        LevelScore {
            answered: scores.len(),
            extracted: scores.iter().filter(|one| one.value.is_some()).count(),
            cut: scores.iter().filter(|one| one.cut).count(),
            accuracy: clustered_wilson(&right),
            right_per_second: if seconds > 0.0 { kept.count() as f64 / seconds } else { 0.0 },
            against_idle: idle.and_then(|idle| {
                let idle = idle.iter().filter_map(|one| one.score.as_ref().map(|score| (score.sample, score.correct)));
                let idle: HashMap<usize, bool> = idle.collect();
                let pairs =
                    scores.iter().filter_map(|one| Some((key(one.sample), *idle.get(&one.sample)?, one.correct)));
                clustered_paired(&pairs.collect::<Vec<_>>())
            }),
        }
    }
}

impl Source for Questions {
    fn request(&self, _: usize, number: usize) -> LoadRequest {
        let prepared = &self.prepared[number % self.prepared.len()];
        LoadRequest {
            stops: Arc::clone(&self.stops),
            thoughts: Arc::clone(&self.thoughts),
            ..LoadRequest::open(Arc::clone(&prepared.prompt), self.max_tokens)
        }
    }

    fn score(&self, number: usize, answer: Answered) -> Option<RequestScore> {
        let prepared = &self.prepared[number % self.prepared.len()];
        let Answered { mut text, mut finish } = answer;
        cut_at_stops(&mut text, &self.stops, &self.thoughts, &prepared.prompt.text);
        take_thought(&self.thoughts, &prepared.prompt.text, &mut text, &mut finish);
        let found = score(&self.rules, &text, prepared.expected()).into_iter().find(|one| one.rule == self.headline)?;
        Some(RequestScore { sample: prepared.sample, value: found.value, correct: found.correct, cut: finish.is_cut() })
    }
}
