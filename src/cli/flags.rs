//! Every fact about a flag of a command that keeps a run folder, in one table. A test walks clap's commands, so that no flag is missing.

use crate::golden::RecipeFlag;

/// What a golden file's recipe does with a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Golden {
    /// It decides outputs: it stands in the recipe, and may stand behind `--`.
    Recipe,
    /// It decides how outputs are computed, not which: no recipe has it, but it is heeded behind `--`.
    Heeded,
    /// It decides no output, or the golden file keeps it elsewhere.
    LeftOut,
}

/// Whether a run goes on under another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnResume {
    /// The plan holds it, or what it names: the run is refused under another.
    Same,
    /// Any value will do.
    Free,
    /// No run folder comes of a command that has it.
    NoRun,
}

/// What `quality --import` makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Import {
    /// An import heeds it.
    Heeded,
    /// Only a run heeds it.
    Excluded,
    /// `quality` has no such flag.
    Absent,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    /// Clap's name of it: `max_tokens` for `--max-tokens`.
    pub(super) id: &'static str,
    pub(super) takes_value: bool,
    pub(super) golden: Golden,
    pub(super) on_resume: OnResume,
    pub(super) import: Import,
}

impl Flag {
    /// As it is typed.
    pub(super) fn long(&self) -> String {
        format!("--{}", self.id.replace('_', "-"))
    }
}

/// A part of a command line: a flag of [`FLAGS`] with its value, or any other word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) flag: Option<&'static Flag>,
    pub(super) value: Option<&'a str>,
    /// As typed: two words where the value stands behind the flag.
    pub(super) words: &'a [String],
}

/// A command line without the program's name. The word behind a flag that takes a value is its value, whatever it looks like.
pub(super) fn parts(command: &[String]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = command.get(1..).unwrap_or_default();
    while let Some(word) = rest.first() {
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let flag = FLAGS.iter().find(|flag| flag.long() == name);
        let follows = flag.filter(|flag| flag.takes_value && value.is_none()).and(rest.get(1));
        let (words, after) = rest.split_at(if follows.is_some() { 2 } else { 1 });
        parts.push(Part { flag, value: value.or_else(|| follows.map(String::as_str)), words });
        rest = after;
    }
    parts
}

const VALUE: bool = true;
const ALONE: bool = false;

const fn flag(id: &'static str, takes_value: bool, golden: Golden, on_resume: OnResume, import: Import) -> Flag {
    Flag { id, takes_value, golden, on_resume, import }
}

/// Every flag of every command that has `--resume`.
#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    // How it is run.
    flag("model",           VALUE, Golden::LeftOut, OnResume::Same,  Import::Excluded),
    flag("revision",        VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("dtype",           VALUE, Golden::LeftOut, OnResume::Same,  Import::Excluded),
    flag("awq",             VALUE, Golden::LeftOut, OnResume::Same,  Import::Excluded),
    flag("variant",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("reference",       VALUE, Golden::LeftOut, OnResume::Same,  Import::Excluded),
    flag("engine",          VALUE, Golden::LeftOut, OnResume::Same,  Import::Excluded),
    flag("device",          VALUE, Golden::Heeded,  OnResume::Free,  Import::Excluded),
    flag("batching",        VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("batch",           VALUE, Golden::Heeded,  OnResume::Same,  Import::Excluded),
    flag("on_gpu_failure",  VALUE, Golden::LeftOut, OnResume::Free,  Import::Excluded),
    flag("threads",         VALUE, Golden::LeftOut, OnResume::Free,  Import::Excluded),
    flag("offline",         ALONE, Golden::LeftOut, OnResume::Free,  Import::Excluded),
    // Where it is asked.
    flag("endpoint",        VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("served_model",    VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("api",             VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("tokenizer",       VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("send_text",       ALONE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("no_stream",       ALONE, Golden::Heeded,  OnResume::Free,  Import::Excluded),
    flag("api_key_env",     VALUE, Golden::Heeded,  OnResume::Free,  Import::Excluded),
    flag("timeout",         VALUE, Golden::Heeded,  OnResume::Free,  Import::Excluded),
    flag("extra_body",      VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    // What is asked.
    flag("task",            VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("system",          VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("dataset",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("split",           VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("limit",           VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("samples",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("protocol",        VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("fewshot",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("chat",            VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("thinking",        VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("prompts",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Heeded),
    flag("only",            VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("show_prompt",     VALUE, Golden::LeftOut, OnResume::NoRun, Import::Absent),
    flag("import",          VALUE, Golden::Recipe,  OnResume::NoRun, Import::Heeded),
    flag("ground_truth",    VALUE, Golden::Recipe,  OnResume::NoRun, Import::Heeded),
    flag("rule",            VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    // How it is answered.
    flag("max_tokens",      VALUE, Golden::Recipe,  OnResume::Same,  Import::Excluded),
    flag("temperature",     VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("top_p",           VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("top_k",           VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("seed",            VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("repeats",         VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("stop",            VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("think_end",       VALUE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    // What becomes of the results.
    flag("out",             VALUE, Golden::LeftOut, OnResume::Free,  Import::Heeded),
    flag("resume",          ALONE, Golden::LeftOut, OnResume::Free,  Import::Excluded),
    flag("until",           VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("placebo",         ALONE, Golden::Recipe,  OnResume::Same,  Import::Absent),
    flag("price_per_hour",  VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("min_accuracy",    VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("baseline",        VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("margin",          VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("min_speed_ratio", VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("noise",           VALUE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("deny_notes",      ALONE, Golden::LeftOut, OnResume::Free,  Import::Absent),
    flag("diffs",           VALUE, Golden::LeftOut, OnResume::Free,  Import::Heeded),
    flag("format",          VALUE, Golden::LeftOut, OnResume::Free,  Import::Heeded),
    flag("template",        VALUE, Golden::LeftOut, OnResume::Free,  Import::Heeded),
    flag("quiet",           ALONE, Golden::LeftOut, OnResume::Free,  Import::Heeded),
];

/// The flags that no golden file's recipe has.
pub(super) fn left_out_of_recipes() -> Vec<RecipeFlag> {
    let left_out = FLAGS.iter().filter(|flag| flag.golden != Golden::Recipe);
    left_out
        .map(|flag| RecipeFlag {
            name: flag.long(),
            takes_value: flag.takes_value,
            is_heeded: flag.golden == Golden::Heeded,
        })
        .collect()
}

/// The flags that a run has and an import has not, by clap's names.
pub(super) fn import_excludes() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().filter(|flag| flag.import == Import::Excluded).map(|flag| flag.id)
}
