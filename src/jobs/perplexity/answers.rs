//! From a finished run to documents: the reference's own answers, each behind the prompt that it answers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::documents::{Documents, Span};
use super::{Reading, TextPlan};
use crate::engine::Precision;
use crate::engine::model::ModelSource;
use crate::files::sha256;
use crate::jobs::JobError;
use crate::jobs::eval::{ClusterKey, Clusters, StoredRun};
use crate::jobs::prepared::ids_sha256;
use crate::record::{StoredCompletion, StoredSample, TargetPlan, VariantName, answers};

/// The answers of one variant of a run, ready to be read.
#[derive(Debug)]
pub(super) struct OwnAnswers {
    pub(super) documents: Documents,
    pub(super) asked: Asked,
    pub(super) plan: TextPlan,
    pub(super) notes: Vec<String>,
}

/// What each document answers, and how the run chose its tokens.
#[derive(Debug)]
pub(super) struct Asked {
    /// By document.
    pub(super) of: Vec<Question>,
    /// Every token was its variant's most probable one.
    pub(super) is_greedy: bool,
    /// The run's folder.
    pub(super) run: PathBuf,
    /// What it ran.
    pub(super) was: TargetPlan,
}

/// What one document answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// Row of the dataset.
    pub(super) sample: usize,
    pub(super) repeat: usize,
    /// Answers with the same number are one observation.
    pub(super) cluster: usize,
}

impl OwnAnswers {
    /// Reads a variant's answers to the run's first `limit` samples: a document each, of which the answer's tokens are scored. Refused are
    /// a run without these answers, and prompts that give other tokens now; whether it is a run of this model, [`same_model`] tells.
    pub(super) fn read(
        run: &StoredRun,
        variant: VariantName,
        model: &ModelSource,
        limit: Option<usize>,
    ) -> Result<Self, JobError> {
        let plan = &run.record.plan;
        let completions = completions(run, &variant)?;
        let was = &plan.target;
        let mut notes = Vec::new();
        if was.model.sha256.is_none() {
            let name = &was.model.name;
            notes
                .push(format!("the run does not tell the hash of its model {name}: whether this is it is not checked"));
        }
        let mut reader = Reader {
            run,
            model,
            add_special_tokens: !plan.protocol.chat,
            samples: run.samples.iter().map(|sample| (sample.sample, sample)).collect(),
            documents: Documents { reading: Reading::Answers, ..Documents::default() },
            of: Vec::new(),
            encoded: 0,
            cut: 0,
        };
        let chosen = by_cluster(run, completions, limit);
        // Of long prompts the tokenizer takes as long as a GPU does to read them.
        let ready: Vec<Ready> =
            chosen.par_iter().map(|(_, completion)| reader.ready(completion)).collect::<Result<_, _>>()?;
        for ((cluster, completion), ready) in chosen.into_iter().zip(ready) {
            reader.read(completion, cluster, ready);
        }
        notes.extend(reader.notes());
        let is_greedy = plan.generation.is_known() && plan.generation.temperature == 0.0;
        if !is_greedy {
            notes.push(
                "the run drew its answers at random: where they would leave the reference is not told".to_owned(),
            );
        }
        let Reader { mut documents, of, .. } = reader;
        let name =
            run.path.file_name().map_or_else(|| run.path.display().to_string(), |name| name.display().to_string());
        documents.find_bos(&name, &model.tokenizer)?;
        let sha256_of_answers = match &run.record.answers_sha256 {
            Some(sha256) => sha256.clone(),
            None => sha256(&answers(&run.completions)?),
        };
        let asked = Asked { of, is_greedy, run: run.path.clone(), was: was.clone() };
        let plan = TextPlan {
            name,
            source: run.path.display().to_string(),
            sha256: sha256_of_answers,
            text_sha256: sha256(documents.text.as_bytes()),
            rows: Some(asked.of.len()),
            reading: documents.reading,
            answers_of: Some(variant),
            bos: documents.bos.take(),
            bytes: documents.text.len(),
            tokens: documents.tokens.len(),
        };
        Ok(Self { documents, asked, plan, notes })
    }
}

/// A variant's answers in a run.
fn completions<'a>(run: &'a StoredRun, variant: &VariantName) -> Result<&'a [StoredCompletion], JobError> {
    let of_variant = run.completions.iter().find(|(name, _)| name == variant).map(|(_, completions)| &completions[..]);
    of_variant.filter(|completions| !completions.is_empty()).ok_or_else(|| {
        let others = run.completions.iter().filter(|(_, completions)| !completions.is_empty());
        let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        JobError::invalid(
            format!("the run {} has no answers of {variant}: it has {}", run.path.display(), others.join(", ")),
            "name one of these with `--reference`, or give a run that has it",
        )
    })
}

/// Refuses another model, `now`, than that of the run at `run`, and where the answers are those of another checkpoint, another one than that.
pub(super) fn same_model(run: &Path, was: &TargetPlan, now: &TargetPlan) -> Result<(), JobError> {
    let variant = &now.reference.clone().unwrap_or_else(|| Precision::F32.into());
    let further = |target: &TargetPlan| target.variants.get(variant).and_then(|plan| plan.sha256.clone());
    let awq =
        |target: &TargetPlan| target.awq.as_ref().filter(|_| *variant == Precision::Awq).map(|awq| awq.sha256.clone());
    let pairs = [
        ("model", &now.model.source, was.model.sha256.clone(), now.model.sha256.clone()),
        ("checkpoint of its reference", &now.model.source, further(was), further(now)),
        ("AWQ checkpoint", &now.model.source, awq(was), awq(now)),
    ];
    for (what, source, was_sha256, sha256) in pairs {
        if let (Some(was_sha256), Some(sha256)) = (was_sha256, sha256)
            && was_sha256 != sha256
        {
            return Err(JobError::invalid(
                format!(
                    "the {what} is another than that of the run {}: {source} has the hash {sha256}, the run's was {was_sha256}",
                    run.display()
                ),
                format!("leave `--model` out, or give the run's own, {}", was.model.source),
            ));
        }
    }
    Ok(())
}

/// The answers to the first `limit` samples, those of a cluster one after the other, with the cluster's number.
fn by_cluster<'a>(
    run: &StoredRun,
    completions: &'a [StoredCompletion],
    limit: Option<usize>,
) -> Vec<(usize, &'a StoredCompletion)> {
    let clusters = Clusters::new(&run.samples);
    let mut numbers: BTreeMap<ClusterKey, usize> = BTreeMap::new();
    let samples = completions.chunk_by(|a, b| a.sample == b.sample).take(limit.unwrap_or(usize::MAX));
    let mut found: Vec<_> = samples
        .flatten()
        .map(|completion| {
            let next = numbers.len();
            (*numbers.entry(clusters.of(completion.sample)).or_insert(next), completion)
        })
        .collect();
    found.sort_by_key(|(cluster, _)| *cluster);
    found
}

/// Makes documents of answers.
struct Reader<'a> {
    run: &'a StoredRun,
    model: &'a ModelSource,
    add_special_tokens: bool,
    samples: HashMap<usize, &'a StoredSample>,
    documents: Documents,
    of: Vec<Question>,
    /// Answers whose tokens the run does not have.
    encoded: usize,
    /// Answers that the context cut.
    cut: usize,
}

/// A prompt and its answer.
struct Ready {
    prompt: Vec<u32>,
    answer: Vec<u32>,
    /// The answer's.
    text: String,
}

impl Reader<'_> {
    fn ready(&self, completion: &StoredCompletion) -> Result<Ready, JobError> {
        let answer = self.answer(completion)?;
        Ok(Ready { prompt: self.prompt(completion)?, text: self.model.tokenizer.decode(&answer)?, answer })
    }

    fn read(&mut self, completion: &StoredCompletion, cluster: usize, Ready { prompt, answer, text }: Ready) {
        let StoredCompletion { sample, repeat, .. } = *completion;
        self.encoded += usize::from(completion.token_ids.is_none());
        let Documents { tokens, ends, spans, text: all, .. } = &mut self.documents;
        let begin = tokens.len();
        let scored = begin + prompt.len();
        let whole = scored + answer.len();
        let end = whole.min(begin + self.model.config.context_tokens);
        if end < whole {
            self.cut += 1;
        }
        if scored >= end {
            return;
        }
        *all += self.samples.get(&sample).map_or("", |sample| &sample.prompt);
        *all += &text;
        tokens.extend(prompt.into_iter().chain(answer));
        tokens.truncate(end);
        // Windows end where documents do: what lies between need not be known.
        let before = ends.last().copied().unwrap_or(0);
        ends.resize(scored, before);
        ends.resize(end, before + text.len());
        spans.push(Span { begin, scored, end });
        self.of.push(Question { sample, repeat, cluster });
    }

    /// The tokens of its prompt, as the run fed them.
    fn prompt(&self, completion: &StoredCompletion) -> Result<Vec<u32>, JobError> {
        let StoredCompletion { sample, prompt_sha256, prompt_ids_sha256, prompt_tokens, .. } = completion;
        let path = self.run.path.join("samples.jsonl");
        let prompt = self.samples.get(sample).map_or("", |sample| &sample.prompt);
        if prompt.is_empty() {
            return Err(JobError::invalid(
                format!("{} does not have the prompt of sample {sample}", path.display()),
                "a run of before prompts were kept, or of answers made elsewhere, cannot be read; make a new one",
            ));
        }
        if sha256(prompt.as_bytes()) != *prompt_sha256 {
            return Err(JobError::invalid(
                format!(
                    "{}: the prompt of sample {sample} is not the one that the journal's answer belongs to",
                    path.display()
                ),
                "the file was changed: put an unchanged copy in its place",
            ));
        }
        let ids = self.model.tokenizer.encode(prompt, self.add_special_tokens)?;
        let is_other = match prompt_ids_sha256 {
            Some(_) => ids_sha256(&ids) != *prompt_ids_sha256,
            None => prompt_tokens.is_some_and(|tokens| tokens != ids.len()),
        };
        if is_other {
            return Err(JobError::invalid(
                format!(
                    "the prompt of sample {sample} has other tokens now than in the run {}",
                    self.run.path.display()
                ),
                "the version of evalsuite, or the model's tokenizer, is another one: make the run again",
            ));
        }
        Ok(ids)
    }

    /// The tokens of an answer: the run's, else those of its text.
    fn answer(&self, completion: &StoredCompletion) -> Result<Vec<u32>, JobError> {
        if let Some(ids) = &completion.token_ids {
            return Ok(ids.clone());
        }
        if completion.thought.is_some() {
            return Err(JobError::invalid(
                format!(
                    "the run {} has neither the tokens of the answer to sample {} nor its thought as it was written",
                    self.run.path.display(),
                    completion.sample
                ),
                "give a run that an engine of ours made",
            ));
        }
        Ok(self.model.tokenizer.encode(&completion.text, false)?)
    }

    fn notes(&self) -> Vec<String> {
        let context = self.model.config.context_tokens;
        let encoded =
            "answers encoded again from their text, for the run has no token ids of them (no ending token is scored)";
        let cut = format!("answers cut, or left out, where the context of {context} tokens ends");
        let notes = [(self.encoded, encoded), (self.cut, &cut)];
        notes.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}")).collect()
    }
}
