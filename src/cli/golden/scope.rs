//! Which golden files a command is about, and the jobs that run them anew.

use std::collections::HashSet;
use std::path::Path;

use clap::Args;

use super::arguments::ScopeArguments;
use crate::cli::eval::{EvalFlags, resolve};
use crate::cli::flags::left_out_of_recipes;
use crate::cli::model::{NO_DTYPE, dtypes};
use crate::cli::quality::{QualityArguments, resolve_quality};
use crate::engine::model::ModelSpec;
use crate::engine::{EngineKind, Precision};
use crate::fault::Fault;
use crate::golden::{
    Candidates, Checked, Entry, Golden, Origin, Recipe, RecipeSource, Status, Store, Suite, SuiteEnd, SuiteJob,
    candidates,
};
use crate::hub::Hub;
use crate::jobs::{JobContext, JobError};
use crate::record::VariantName;
use crate::task::Task;
use crate::text::command_line;

/// Golden files that one job makes.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) suite: Suite,
    /// With the command's own flags in the place of the golden file's.
    pub(super) recipe: Recipe,
    pub(super) engine: String,
    /// Empty means every one that the model offers.
    pub(super) variants: Vec<VariantName>,
    /// Where each of them lies; none for a group that is new.
    pub(super) entries: Vec<Entry>,
    model_folder: Option<String>,
}

/// What a command is about.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) groups: Vec<Group>,
    /// Golden files that need no run to be judged.
    pub(super) judged: Vec<Checked>,
}

impl ScopeArguments {
    pub(super) fn store(&self) -> Store {
        Store::new(&self.folder.golden)
    }

    pub(super) fn suite(&self) -> Result<Option<Suite>, JobError> {
        let Some(name) = &self.suite else { return Ok(None) };
        Suite::parse(name).map(Some).ok_or_else(|| Fault::unknown("suite", name, &Suite::ALL.map(Suite::name)).into())
    }

    /// The golden files in scope, in groups of one job each. A precision that was asked for and has none joins its
    /// model's first group.
    pub(super) fn gather(&self) -> Result<Gathered, JobError> {
        let suite = self.suite()?;
        if let Some(flag) = Recipe::not_heeded(&self.arguments, &left_out_of_recipes()) {
            let hint = behind_the_dashes(suite.map_or("SUITE", Suite::name));
            return Err(JobError::invalid(format!("golden does not heed `{flag}` behind `--`"), hint));
        }
        let entries = self.store().entries()?;
        let known: Vec<VariantName> =
            entries.iter().filter_map(|entry| VariantName::parse(&entry.dtype).ok()).collect();
        let wanted = self.wanted(&known)?;
        let mut gathered = Gathered::default();
        let mut taken: HashSet<(Suite, String, VariantName)> = HashSet::new();
        for entry in entries {
            if suite.is_some_and(|suite| suite.name() != entry.suite) {
                continue;
            }
            let (Some(suite), Some(variant)) = (Suite::parse(&entry.suite), variant_of(&entry)) else {
                if self.is_of_model(&entry.model, None) && wanted.is_empty() {
                    gathered.judged.push(orphaned(&entry));
                }
                continue;
            };
            let golden =
                match if entry.exists() { Golden::read(&entry.path) } else { Golden::read(&entry.pending_path()) } {
                    Ok(golden) => golden,
                    Err(error) if self.is_of_model(&entry.model, None) => {
                        gathered.judged.push(Checked::failed(&entry, &error));
                        continue;
                    }
                    Err(_) => continue,
                };
            if !self.is_of_model(&entry.model, Some(&golden.recipe)) {
                continue;
            }
            taken.insert((suite, entry.model.clone(), variant.clone()));
            let (recipe, engine) = (self.recipe(&golden.recipe, &entry.model), self.engine_of(Some(&golden)));
            let model = entry.model.clone();
            let same = |group: &&mut Group| {
                group.suite == suite
                    && group.recipe == recipe
                    && group.engine == engine
                    && group.model_folder.as_ref() == Some(&model)
            };
            let skipped = !wanted.is_empty() && !wanted.contains(&variant);
            let (variants, entries) = if skipped { (Vec::new(), Vec::new()) } else { (vec![variant], vec![entry]) };
            match gathered.groups.iter_mut().find(same) {
                Some(group) => {
                    group.variants.extend(variants);
                    group.entries.extend(entries);
                }
                None => {
                    gathered.groups.push(Group { suite, recipe, engine, variants, entries, model_folder: Some(model) });
                }
            }
        }
        self.add_missing(&mut gathered, &wanted, &taken);
        gathered.groups.retain(|group| !group.variants.is_empty());
        Ok(gathered)
    }

    fn add_missing(
        &self,
        gathered: &mut Gathered,
        wanted: &[VariantName],
        taken: &HashSet<(Suite, String, VariantName)>,
    ) {
        let mut seen: HashSet<(Suite, String)> = HashSet::new();
        for group in &mut gathered.groups {
            let Some(model) = group.model_folder.clone() else { continue };
            if !seen.insert((group.suite, model.clone())) {
                continue;
            }
            let is_missing = |name: &&VariantName| {
                name.precision().is_some() && !taken.contains(&(group.suite, model.clone(), (*name).clone()))
            };
            for name in wanted.iter().filter(is_missing) {
                group.variants.push(name.clone());
                group.entries.push(self.store().entry(group.suite, &model, name));
            }
        }
    }

    /// A group for a suite and a model that have no golden files yet.
    pub(super) fn new_group(&self, suite: Suite) -> Result<Group, JobError> {
        let model = self.model.clone().unwrap_or_else(|| crate::bundled::NAME.to_owned());
        let variants = self.variant.iter().map(|variant| format!("--variant={variant}"));
        let arguments = variants.chain(self.arguments.iter().cloned()).collect();
        let recipe = Recipe { model, awq: self.awq.clone(), arguments };
        let mut variants = self.wanted(&[])?;
        if self.dtype.iter().any(|name| name.trim() == NO_DTYPE) {
            variants.extend(self.named_variants());
            if variants.is_empty() {
                return Err(JobError::invalid(
                    "--dtype none leaves nothing to run",
                    "give `--variant NAME=SOURCE` with it, or precisions",
                ));
            }
        }
        Ok(Group { suite, recipe, engine: self.engine_of(None), variants, entries: Vec::new(), model_folder: None })
    }

    /// The names of `--variant NAME=SOURCE`; what is none the suite's command refuses.
    fn named_variants(&self) -> impl Iterator<Item = VariantName> {
        self.variant.iter().filter_map(|word| VariantName::parse(word.split_once('=')?.0).ok())
    }

    /// What `--dtype` names, of the model's own precisions and of these variants.
    fn wanted(&self, known: &[VariantName]) -> Result<Vec<VariantName>, JobError> {
        let mut wanted = Vec::new();
        for name in self.dtype.iter().filter(|name| name.trim() != NO_DTYPE) {
            match known.iter().find(|known| known.as_str() == name.trim()) {
                Some(known) => wanted.push(known.clone()),
                None => wanted
                    .extend(dtypes(std::slice::from_ref(name), EngineKind::Auto)?.into_iter().map(VariantName::from)),
            }
        }
        wanted.sort_by_key(VariantName::rank);
        wanted.dedup();
        Ok(wanted)
    }

    /// Whether `--model` means this folder of golden files.
    fn is_of_model(&self, folder: &str, recipe: Option<&Recipe>) -> bool {
        let Some(model) = &self.model else { return true };
        let name =
            Path::new(model).file_name().map_or_else(|| model.clone(), |name| name.to_string_lossy().into_owned());
        let name = name.strip_suffix(".gguf").unwrap_or(&name);
        model == folder
            || model.replace('/', "--") == folder
            || recipe.is_some_and(|recipe| recipe.model == *model)
            || (Path::new(model).exists() && name == folder)
    }

    fn recipe(&self, golden: &Recipe, folder: &str) -> Recipe {
        // A golden file's name is no model's address, but for models that are called as they are found.
        let model = self.model.as_ref().filter(|model| *model != folder || Path::new(model).exists());
        Recipe {
            model: model.unwrap_or(&golden.model).clone(),
            awq: self.awq.clone().or_else(|| golden.awq.clone()),
            arguments: if self.arguments.is_empty() { golden.arguments.clone() } else { self.arguments.clone() },
        }
    }

    fn engine_of(&self, golden: Option<&Golden>) -> String {
        let recorded = golden.and_then(|golden| golden.provenance.engine.split(' ').next());
        let recorded = recorded.filter(|name| EngineKind::parse(name).is_some());
        self.engine.clone().or_else(|| recorded.map(str::to_owned)).unwrap_or_else(|| "cpu".to_owned())
    }
}

/// The variant that a golden file is of: a precision of the model itself, or a checkpoint that its recipe names.
pub(super) fn variant_of(entry: &Entry) -> Option<VariantName> {
    let name = VariantName::parse(&entry.dtype).ok()?;
    let file = if entry.exists() { entry.path.clone() } else { entry.pending_path() };
    let is_named =
        || Golden::read(&file).is_ok_and(|golden| golden.recipe.has_variant(&name) || golden.recipe.is_at_endpoint());
    (name.precision().is_some() || is_named()).then_some(name)
}

fn orphaned(entry: &Entry) -> Checked {
    let (kind, name, known) = if Suite::parse(&entry.suite).is_none() {
        ("suite", &entry.suite, Suite::ALL.map(Suite::name).join(", "))
    } else {
        ("dtype", &entry.dtype, Precision::ALL.map(Precision::name).join(", "))
    };
    let file = if entry.exists() { entry.path.clone() } else { entry.pending_path() };
    // Only what is known to be a golden file may be called superfluous.
    let advice = match Golden::read(&file) {
        Ok(_) => format!("delete {}", file.display()),
        Err(_) => format!("{} is no golden file: does `--golden` name their folder?", file.display()),
    };
    let what = format!("there is no {kind} `{name}` (there are {known}); {advice}");
    Checked::new(entry, Status::Orphaned, what)
}

impl Group {
    /// Runs what of the group's job there still is, in a folder that nobody will look at.
    pub(super) fn run(&self, hub: &Hub, context: &mut JobContext) -> Result<SuiteEnd, JobError> {
        // A name that never was: what a killed process left must not be in the way of one with the same number.
        let scratch = tempfile::Builder::new().prefix("evalsuite-golden-").tempdir().map_err(|error| {
            JobError::invalid(
                format!("cannot make a folder for the run: {error}"),
                "name a folder that can be written to, and has room, in TMPDIR",
            )
        })?;
        let job = job(self.suite, &self.recipe, &self.variants, &self.engine, scratch.path())?;
        job.run(&self.recipe, hub, context)
    }

    /// Whether what it would run is not on this machine, nor to be had from the hub.
    pub(super) fn has_no_model(&self) -> bool {
        let names_nothing =
            |source: &String| ModelSpec { source: source.clone(), revision: "main".to_owned() }.names_nothing();
        std::iter::once(&self.recipe.model).chain(&self.recipe.awq).any(names_nothing)
    }

    /// Where the golden file of a variant lies; `model` is the model's own name.
    pub(super) fn entry(&self, store: &Store, model: &str, variant: &VariantName) -> Entry {
        store.entry(self.suite, self.model_folder.as_deref().unwrap_or(model), variant)
    }
}

/// What may stand there; a hint.
fn behind_the_dashes(suite: &str) -> String {
    format!(
        "behind `--` stand flags of `evalsuite {suite}` that decide outputs, such as `--max-tokens 40`; model, dtype, awq, \
         engine, threads and offline are given before it"
    )
}

/// A recipe as the command line of its suite reads it.
pub(super) fn job(
    suite: Suite,
    recipe: &Recipe,
    variants: &[VariantName],
    engine: &str,
    out: &Path,
) -> Result<SuiteJob, JobError> {
    let own: Vec<&str> = variants.iter().filter_map(VariantName::precision).map(Precision::name).collect();
    let list = if own.is_empty() { NO_DTYPE.to_owned() } else { own.join(",") };
    let out = out.display().to_string();
    let mut words = vec!["evalsuite", suite.name(), "--engine", engine, "--out", &out];
    if !recipe.is_at_endpoint() {
        words.extend(["--model", &recipe.model]);
        if !variants.is_empty() {
            words.extend(["--dtype", &list]);
        }
    }
    if let Some(awq) = recipe.awq.as_deref().filter(|_| variants.is_empty() || own.contains(&Precision::Awq.name())) {
        words.extend(["--awq", awq]);
    }
    words.extend(recipe.arguments.iter().map(String::as_str));
    let command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let refused = |what: String| {
        JobError::invalid(
            format!("{} cannot be run by these flags: {what}", suite.name()),
            behind_the_dashes(suite.name()),
        )
    };
    // The suite's name stands for the program's.
    let words = &words[1..];
    Ok(match suite {
        Suite::Gsm8k => {
            let flags = read::<EvalFlags>(words).map_err(refused)?;
            SuiteJob::Gsm8k(Box::new(resolve(Task::gsm8k()?, &flags, command, false)?))
        }
        Suite::Quality => {
            let arguments = read::<QualityArguments>(words).map_err(refused)?;
            SuiteJob::Quality(Box::new(resolve_quality(&arguments, command, false)?))
        }
    })
}

/// A command's arguments from its words, the command's name first; what is wrong with them in one line.
fn read<A: Args>(words: &[&str]) -> Result<A, String> {
    let command = A::augment_args(clap::Command::new("suite"));
    let read = command.try_get_matches_from(words).and_then(|matches| A::from_arg_matches(&matches));
    read.map_err(|error| {
        let text = error.to_string();
        text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// The golden files that a run's folder would give, of the precisions asked for. Where they belong must be a folder for them.
pub(super) fn of_run(run: &Path, wanted: &[String], store: &Store) -> Result<Candidates, JobError> {
    store.entries()?;
    let left_out = left_out_of_recipes();
    let all = candidates(run, Origin { recipe: RecipeSource::Command(&left_out), protocol: None })?;
    Ok(all
        .into_iter()
        .filter(|(variant, _)| wanted.is_empty() || wanted.iter().any(|name| name == variant.as_str()))
        .collect())
}

/// What to say where a command is about golden files that are not there.
pub(super) fn nothing_in_scope(folder: &Path, suite: Option<Suite>, model: Option<&str>) -> JobError {
    let suite_flag = suite.map_or("quality", Suite::name);
    let mut make = vec!["evalsuite", "golden", "accept", "--suite", suite_flag];
    make.extend(model.iter().flat_map(|model| ["--model", *model]));
    let of = [
        suite.map(|suite| format!(" of the suite {}", suite.name())),
        model.map(|model| format!(" of the model {model}")),
    ];
    JobError::invalid(
        format!("there is no golden file{} in {}", of.into_iter().flatten().collect::<String>(), folder.display()),
        format!("make one: `{}`; or name another folder with `--golden DIR`", command_line(make)),
    )
}
