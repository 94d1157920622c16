//! Turns a run folder into candidate golden files.

use std::collections::HashMap;
use std::path::Path;

use super::{
    DatasetInput, FileHash, GOLDEN_FORMAT, Golden, Inputs, Output, PromptsInput, ProtocolInput, Provenance, Recipe,
    RecipeFlag, RuleInput, Scored, Suite,
};
use crate::engine::{Finish, Precision};
use crate::jobs::JobError;
use crate::jobs::eval::StoredRun;
use crate::jobs::quality::{Origin as QualityOrigin, PromptQuality, QualityPlan, QualityRecord};
use crate::record::{GenerationPlan, Session, StoredCompletion, TargetPlan, VariantName, utc_now};
use crate::score::Extraction;
use crate::task::{PromptSet, Protocol, Tier};
use crate::text::command_line;

/// What a run folder does not contain.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// How to reproduce the outputs.
    pub recipe: RecipeSource<'a>,
    /// The protocol's name or file, where it is known.
    pub protocol: Option<&'a str>,
}

/// How a run's outputs can be reproduced.
#[derive(Debug, Clone, Copy)]
pub enum RecipeSource<'a> {
    /// By the recipe of the rerun.
    Known(&'a Recipe),
    /// By the run's own command, without these flags.
    Command(&'a [RecipeFlag]),
}

impl RecipeSource<'_> {
    fn recipe(self, command: &[String]) -> Recipe {
        match self {
            Self::Known(recipe) => recipe.clone(),
            Self::Command(left_out) => Recipe::of_command(command, left_out),
        }
    }
}

/// One golden file a variant, or why there is none.
pub type Candidates = Vec<(VariantName, Result<Golden, JobError>)>;

/// The candidate golden files of a finished run.
pub fn candidates(run: &Path, origin: Origin) -> Result<Candidates, JobError> {
    let file = run.join("record.json");
    if !file.exists() {
        return Err(JobError::invalid(
            format!("there is no finished run in {}", run.display()),
            "give the folder of a finished `gsm8k` or `quality` run; they lie under `runs/` unless `--out` said otherwise",
        ));
    }
    match QualityRecord::read_run(run)? {
        Some((record, _)) => quality(run, &record, origin),
        None => gsm8k(&StoredRun::read(run)?, origin),
    }
}

/// What every variant of a run shares.
struct Shared<'a> {
    suite: Suite,
    target: &'a TargetPlan,
    chat: bool,
    generation: &'a GenerationPlan,
    evalsuite: &'a str,
    recipe: Recipe,
    tier: Option<Tier>,
}

impl Shared<'_> {
    fn golden(&self, variant: &VariantName, sessions: &[Session], outputs: Vec<Output>) -> Result<Golden, JobError> {
        let others = sessions.iter().find(|session| !sessions[0].engine.computes_like(&session.engine));
        if let Some(other) = others {
            return Err(JobError::invalid(
                format!(
                    "{variant}: the engine {} went on for {}, which failed",
                    other.engine.name, sessions[0].engine.name
                ),
                "golden outputs are one engine's: run again",
            ));
        }
        let engine = sessions.last().map(|session| &session.engine);
        let unknown = || "unknown".to_owned();
        let known = |value: &Option<String>| value.clone().unwrap_or_else(unknown);
        let hash = |sha256: String, stored_as: String| FileHash { sha256, stored_as };
        let TargetPlan { model, awq, variants, .. } = self.target;
        let recipe = self.recipe.for_variant(variant);
        let awq = awq.as_ref().filter(|_| *variant == Precision::Awq);
        Ok(Golden {
            golden_format: GOLDEN_FORMAT,
            suite: self.suite,
            model: self.target.model.name.clone(),
            dtype: variant.clone(),
            tier: self.tier.unwrap_or(Tier::Tokens),
            margin_points: None,
            recipe: recipe.clone(),
            inputs: Inputs {
                model: hash(known(&model.sha256), known(&model.stored_as)),
                awq: awq.map(|awq| hash(awq.sha256.clone(), awq.stored_as.clone())),
                variant: variants.get(variant).map(|plan| hash(known(&plan.sha256), known(&plan.stored_as))),
                dataset: None,
                prompts: None,
                protocol: None,
                chat: self.chat,
                generation: self.generation.clone(),
            },
            provenance: Provenance {
                date: utc_now(),
                command: command(self.suite, &recipe, variant),
                evalsuite: self.evalsuite.to_owned(),
                engine: engine.map_or_else(unknown, |engine| format!("{} {}", engine.name, engine.version)),
                device: engine.map_or_else(unknown, |engine| engine.device.clone()),
            },
            changes: Vec::new(),
            outputs,
        })
    }
}

fn command(suite: Suite, recipe: &Recipe, variant: &VariantName) -> String {
    let mut words = vec!["evalsuite", suite.name()];
    if !recipe.is_at_endpoint() {
        words.extend(["--model", &recipe.model, "--dtype", variant.precision().map_or("none", Precision::name)]);
    }
    if let Some(awq) = recipe.awq.as_deref().filter(|_| *variant == Precision::Awq) {
        words.extend(["--awq", awq]);
    }
    command_line(words.into_iter().chain(recipe.arguments.iter().map(String::as_str)))
}

fn unfinished(variant: &VariantName, failure: Option<&str>) -> JobError {
    let why = failure.and_then(|failure| failure.lines().next()).unwrap_or("some outputs are missing");
    JobError::invalid(format!("{variant} did not finish: {why}"), "see what the run said, and run again")
}

fn gsm8k(run: &StoredRun, origin: Origin) -> Result<Candidates, JobError> {
    let StoredRun { path, record, samples, completions, .. } = run;
    let plan = &record.plan;
    if let Some(task) = &plan.task {
        return Err(JobError::invalid(
            format!(
                "{} is a run of the task {}, and golden files are kept of gsm8k and quality alone",
                path.display(),
                task.name
            ),
            "keep its folder, and hold a new run against it by `--baseline RUN`",
        ));
    }
    let prompts: HashMap<usize, &str> = samples.iter().map(|line| (line.sample, line.prompt.as_str())).collect();
    // A protocol that changed since the run would describe rules that did not score it.
    let protocol = Protocol::open(origin.protocol.unwrap_or(&plan.protocol.name)).ok();
    let protocol = protocol.filter(|protocol| protocol.sha256 == plan.protocol.sha256);
    let rules = protocol.iter().flat_map(|protocol| &protocol.rules);
    let protocol = ProtocolInput {
        name: plan.protocol.name.clone(),
        version: plan.protocol.version,
        sha256: plan.protocol.sha256.clone(),
        fewshot_sha256: plan.protocol.fewshot_sha256.clone(),
        headline: record.headline.clone(),
        rules: rules.map(|rule| RuleInput { rule: rule.name.clone(), extracts: rule.in_words() }).collect(),
    };
    let dataset = DatasetInput {
        name: plan.dataset.name.clone(),
        split: plan.dataset.split.clone(),
        sha256: plan.dataset.sha256.clone(),
    };
    let shared = Shared {
        suite: Suite::Gsm8k,
        target: &plan.target,
        chat: plan.protocol.chat,
        generation: &plan.generation,
        evalsuite: &plan.invocation.evalsuite,
        recipe: origin.recipe.recipe(&plan.invocation.command),
        tier: None,
    };
    let one = |variant: &VariantName| -> Result<Golden, JobError> {
        let of_record = record.dtypes.iter().find(|one| one.dtype == *variant);
        let stored = completions.iter().find(|(own, _)| own == variant).map_or(&[][..], |(_, stored)| stored);
        if stored.len() != plan.completions_per_variant() {
            return Err(unfinished(variant, of_record.and_then(|one| one.failure.as_deref())));
        }
        let outputs = stored.iter().map(|one| completion_output(one, &prompts)).collect();
        let mut golden = shared.golden(variant, of_record.map_or(&[], |one| &one.sessions), outputs)?;
        golden.inputs.dataset = Some(dataset.clone());
        golden.inputs.protocol = Some(protocol.clone());
        Ok(golden)
    };
    Ok(plan.dtypes.iter().map(|variant| (variant.clone(), one(variant))).collect())
}

fn completion_output(stored: &StoredCompletion, prompts: &HashMap<usize, &str>) -> Output {
    let scored =
        |score: &Extraction| Scored { rule: score.rule.clone(), value: score.value.clone(), correct: score.correct };
    Output {
        id: match stored.repeat {
            0 => stored.sample.to_string(),
            repeat => format!("{}, repeat {repeat}", stored.sample),
        },
        tier: None,
        prompt: prompts.get(&stored.sample).map(|prompt| (*prompt).to_owned()),
        prompt_sha256: stored.prompt_sha256.clone(),
        prompt_ids_sha256: stored.prompt_ids_sha256.clone(),
        token_ids: stored.token_ids.clone().unwrap_or_default(),
        text: stored.text.clone(),
        finish: stored.finish,
        scores: stored.scores.iter().map(scored).collect(),
        checks: Vec::new(),
    }
}

fn quality(run: &Path, record: &QualityRecord, origin: Origin) -> Result<Candidates, JobError> {
    let (QualityOrigin::Run(plan), [model]) = (&record.origin, &record.models[..]) else {
        return Err(JobError::invalid(
            format!("{} compares answers made elsewhere", run.display()),
            "golden files are made of runs: give the folder of one",
        ));
    };
    let set = set_of(plan)?;
    let shared = Shared {
        suite: Suite::Quality,
        target: &plan.target,
        chat: plan.chat,
        generation: &plan.generation,
        evalsuite: &plan.invocation.evalsuite,
        recipe: origin.recipe.recipe(&plan.invocation.command),
        tier: set.as_ref().and_then(|set| set.tier),
    };
    let prompts = PromptsInput {
        name: plan.prompts.name.clone(),
        version: plan.prompts.version,
        sha256: plan.prompts.sha256.clone(),
    };
    let one = |variant: &VariantName| -> Result<Golden, JobError> {
        let column = model.columns.iter().find(|column| column.column == variant.as_str());
        let outputs = model.prompts.iter().map(|prompt| answer_output(prompt, variant, set.as_ref()));
        let Some(outputs) = outputs.collect::<Option<Vec<Output>>>() else {
            return Err(unfinished(variant, column.and_then(|column| column.failure.as_deref())));
        };
        let mut golden = shared.golden(variant, column.map_or(&[], |column| &column.sessions), outputs)?;
        golden.inputs.prompts = Some(prompts.clone());
        Ok(golden)
    };
    Ok(plan.dtypes.iter().map(|variant| (variant.clone(), one(variant))).collect())
}

/// The run's prompt set, if its hash is unchanged: prompts set their tiers in it.
fn set_of(plan: &QualityPlan) -> Result<Option<PromptSet>, JobError> {
    let path = (plan.prompts.source != crate::bundled::NAME).then(|| Path::new(&plan.prompts.source));
    if path.is_some_and(|path| !path.exists()) {
        return Ok(None);
    }
    Ok(Some(PromptSet::open(path)?).filter(|set| set.sha256 == plan.prompts.sha256))
}

fn answer_output(prompt: &PromptQuality, variant: &VariantName, set: Option<&PromptSet>) -> Option<Output> {
    let answer = prompt.answers.iter().find(|answer| answer.column == variant.as_str())?;
    Some(Output {
        id: prompt.id.clone(),
        tier: set.and_then(|set| set.prompts.iter().find(|one| one.id == prompt.id)).and_then(|one| one.tier),
        prompt: prompt.rendered.clone(),
        prompt_sha256: prompt.prompt_sha256.clone().unwrap_or_default(),
        prompt_ids_sha256: prompt.prompt_ids_sha256.clone(),
        token_ids: answer.token_ids.clone().unwrap_or_default(),
        text: answer.text.clone(),
        finish: answer.finish.unwrap_or(Finish::EndOfSequence),
        scores: Vec::new(),
        checks: answer.verdicts.clone(),
    })
}
