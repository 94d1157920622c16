//! Load: the run, its model and the two variants, and the answers to look at.

use std::sync::Arc;

use super::BlameJob;
use super::choice::{Answer, choose};
use super::record::BlamedRun;
use crate::engine::Precision;
use crate::engine::model::quant::Origin;
use crate::engine::model::{ModelSource, TensorNames};
use crate::fault::Fault;
use crate::hub::Hub;
use crate::jobs::eval::StoredRun;
use crate::jobs::perplexity::PerplexityInputs;
use crate::jobs::{Checkpoints, JobError, Variant};
use crate::record::{TargetPlan, VariantName};

/// What [`BlameInputs::together`] is.
const TOGETHER: usize = 8192;

/// What the search needs.
#[derive(Debug)]
pub struct BlameInputs {
    /// What the answers are held against.
    pub reference: Variant,
    /// Its files.
    pub truth: Arc<ModelSource>,
    /// What is explained.
    pub variant: Variant,
    /// Its files.
    pub rounded: Arc<ModelSource>,
    /// Provenance of the model and its variants.
    pub plan: TargetPlan,
    /// The run, and how answers were chosen.
    pub run: BlamedRun,
    /// The names of a layer's linear layers, without what they have in common: `q_proj`.
    pub linears: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Tokens of answers that are read together: they stand in the middle of a model until a layer's weights have been put back one by one.
    pub together: usize,
    pub(super) answers: Vec<Answer>,
    /// The end of the prompt and the answer before each answer's place, as text.
    pub(super) contexts: Vec<String>,
}

impl BlameInputs {
    /// Opens what `job` names.
    pub fn load(job: &BlameJob, hub: &Hub) -> Result<Self, JobError> {
        let run = StoredRun::read(&job.run)?;
        Self::new(job, &run, job.target.open(hub)?)
    }

    /// From parts that are open already.
    pub fn new(job: &BlameJob, run: &StoredRun, checkpoints: impl Into<Checkpoints>) -> Result<Self, JobError> {
        let plan = &run.record.plan;
        if !plan.generation.is_known() || plan.generation.temperature != 0.0 {
            return Err(JobError::invalid(
                format!("the answers of the run {} are not greedy: chance may have changed them", run.path.display()),
                "give a run without `--temperature`",
            ));
        }
        let rule = match &job.rule {
            None => run.record.headline().to_owned(),
            Some(rule) => {
                let mut record = run.record.clone();
                record.set_headline(rule).map_err(|Fault { what, hint }| JobError::invalid(what, hint))?;
                rule.clone()
            }
        };
        let read = PerplexityInputs::answers((&job.target, &job.command), run, checkpoints, None)?;
        let reference = read.variants.reference.clone().unwrap_or_else(|| Precision::F32.into());
        let name = variant_named(&job.variant, &read, &reference)?;
        let found = |name: &VariantName| {
            read.variants.get(name).cloned().ok_or_else(|| {
                JobError::invalid(
                    format!("the run {} has no {name}, which answers are held against", run.path.display()),
                    "give a run with f32 among its precisions, or with `--reference`",
                )
            })
        };
        let (reference, variant) = (found(&reference)?, found(&name)?);
        let truth = Arc::clone(reference.model.need_files("blame")?);
        let rounded = Arc::clone(variant.model.need_files("blame")?);
        check_other_weights(&variant, &truth, &rounded)?;
        check_dense(&truth)?;
        let (answers, chosen) = choose(run, &read, (&reference.name, &name), (&rule, job.limit))?;
        let contexts = answers.iter().map(|answer| context(&read, answer)).collect();
        let names = TensorNames::new(&truth.config, &truth.tensors.names()).block(0);
        let linears = names.linears().into_iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_owned());
        Ok(Self {
            linears: linears.collect(),
            plan: read.target()?,
            notes: read.notes,
            together: TOGETHER,
            run: chosen,
            reference,
            truth,
            variant,
            rounded,
            answers,
            contexts,
        })
    }
}

fn variant_named(name: &str, read: &PerplexityInputs, reference: &VariantName) -> Result<VariantName, JobError> {
    let by_precision = Precision::parse(name).map(VariantName::from);
    let means = |variant: &&Variant| variant.name.as_str() == name || Some(&variant.name) == by_precision.as_ref();
    let others: Vec<&str> =
        read.variants.iter().map(|variant| variant.name.as_str()).filter(|name| *name != reference.as_str()).collect();
    match read.variants.iter().find(means) {
        Some(found) if found.name == *reference => Err(JobError::invalid(
            format!("--variant {name} is what the others are held against"),
            format!("name another variant of the run: {}", others.join(", ")),
        )),
        Some(found) => Ok(found.name.clone()),
        None => Err(Fault::unknown("variant", name, &others).into()),
    }
}

/// Refuses a variant that computes from the reference's own weights: none of its layers could be put back.
fn check_other_weights(variant: &Variant, truth: &Arc<ModelSource>, own: &Arc<ModelSource>) -> Result<(), JobError> {
    let packs = variant.precision.is_some_and(|precision| matches!(precision.format.entry().origin, Origin::Packed));
    if !Arc::ptr_eq(truth, own) && !packs {
        return Ok(());
    }
    let name = &variant.name;
    let why = if packs { "rounds weights while it loads" } else { "computes from the same weights as the reference" };
    Err(JobError::invalid(
        format!("--variant {name}: {name} {why}, so that no layer of a checkpoint can be put back"),
        "name a variant with a checkpoint of its own: awq, or one of `--variant NAME=SOURCE`",
    ))
}

/// Refuses a mixture of experts: its layers have no one projection of each name that could be put back.
fn check_dense(model: &ModelSource) -> Result<(), JobError> {
    if model.config.features.experts.is_none() {
        return Ok(());
    }
    Err(JobError::invalid(
        format!(
            "{} is a {} model, whose layers hold experts: blame puts one projection back at a time",
            model.name, model.config.family
        ),
        "blame explains dense models; `evalsuite perplexity --dtype f32 --variant NAME=SOURCE` says what a checkpoint of this one costs",
    ))
}

/// Tokens of context that a token is shown with.
const CONTEXT_TOKENS: usize = 16;

fn context(read: &PerplexityInputs, answer: &Answer) -> String {
    let end = answer.prompt + answer.place;
    let before = &answer.tokens[end.saturating_sub(CONTEXT_TOKENS)..end];
    read.model.tokenizer.decode(before).unwrap_or_default()
}
