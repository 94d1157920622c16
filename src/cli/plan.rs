//! From what was typed to a job: every value checked, every name known. Nothing past here sees clap.

use super::args::{Gsm8kArguments, OutputArguments};
use crate::engine::model::ModelSpec;
use crate::engine::{Batching, Dtype, EngineKind};
use crate::files::read_text;
use crate::hub::DEFAULT_REVISION;
use crate::report::{Format, ReportError, check_template};
use crate::run::{Destination, Job, RunError, SamplingOptions};
use crate::task::{ChatUse, DatasetSpec, Selection};
use crate::text::unknown;

/// Where runs go unless `--out` says otherwise.
pub(super) const RUNS: &str = "runs";

/// Checks the arguments of `gsm8k`. `command` is the whole command line; `colour` is for a terminal's table.
pub fn resolve(arguments: &Gsm8kArguments, command: Vec<String>, colour: bool) -> Result<Job, RunError> {
    check_numbers(arguments)?;
    let subject = arguments.model.resolve(Batching::default(), arguments.batch)?;
    Ok(Job {
        command,
        subject,
        dataset: DatasetSpec {
            source: arguments.dataset.clone(),
            split: arguments.split.clone(),
            revision: DEFAULT_REVISION.to_owned(),
            sha256: None,
        },
        selection: selection(arguments)?,
        protocol: arguments.protocol.clone(),
        fewshot: arguments.fewshot.clone(),
        chat: arguments.chat.as_deref().map(chat).transpose()?,
        sampling: SamplingOptions {
            temperature: arguments.temperature,
            top_p: arguments.top_p,
            top_k: arguments.top_k,
            seed: arguments.seed,
            repeats: arguments.repeats,
            max_tokens: arguments.max_tokens,
            stop_strings: arguments.stop.clone(),
        },
        destination: arguments.out.clone().map_or_else(|| Destination::Under(RUNS.into()), Destination::Folder),
        resume: arguments.resume,
        format: table_format(&arguments.output, colour)?,
    })
}

/// The format of a command that has tables and no page, with the user's template read; said before hours are spent.
pub(super) fn table_format(arguments: &OutputArguments, colour: bool) -> Result<Format, RunError> {
    let format = format(arguments, colour)?;
    if format != Format::Html {
        return Ok(format);
    }
    Err(RunError::invalid(
        "`--format html` is for quality and report",
        "`evalsuite report RUN --format html` makes a page of a finished gsm8k run; choose another format here",
    ))
}

/// The report's format, with the user's template read.
pub(super) fn format(arguments: &OutputArguments, colour: bool) -> Result<Format, RunError> {
    let format = Format::parse(&arguments.format, colour)?;
    let Some(path) = &arguments.template else { return Ok(format) };
    let template = read_text(path).map_err(|error| ReportError {
        what: format!("cannot read the template {}: {error}", path.display()),
        hint: "`--template` takes a tera template; templates/table.md is one to start from".to_owned(),
    })?;
    let name = path.display().to_string();
    check_template(&name, &template)?;
    Ok(Format::Custom { name, template })
}

pub(super) fn engine(name: &str) -> Result<EngineKind, RunError> {
    EngineKind::parse(name).ok_or_else(|| {
        let (what, hint) = unknown("engine", name, &EngineKind::NAMES);
        RunError::invalid(what, hint)
    })
}

/// The named precisions, the ground truth first, none twice; none if none is named.
pub(super) fn dtypes(names: &[String], engine: EngineKind) -> Result<Vec<Dtype>, RunError> {
    let offered = engine.dtypes();
    let known = Dtype::ALL.map(Dtype::name);
    let mut dtypes = names
        .iter()
        .map(|name| {
            let dtype = Dtype::ALL.into_iter().find(|dtype| dtype.name() == name.trim()).ok_or_else(|| {
                let (what, hint) = unknown("dtype", name, &known);
                RunError::invalid(what, hint)
            })?;
            if offered.contains(&dtype) {
                return Ok(dtype);
            }
            let offered = offered.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
            Err(RunError::invalid(
                format!("the engine asked for does not run in {dtype}"),
                format!("give `--engine cpu`, or one of its own precisions: {offered}"),
            ))
        })
        .collect::<Result<Vec<_>, _>>()?;
    dtypes.sort_unstable();
    dtypes.dedup();
    Ok(dtypes)
}

/// Where the AWQ weights are, if the user says.
pub(super) fn awq(source: Option<&str>, dtypes: &[Dtype]) -> Result<Option<ModelSpec>, RunError> {
    let Some(source) = source else { return Ok(None) };
    if !dtypes.is_empty() && !dtypes.contains(&Dtype::Awq) {
        return Err(RunError::invalid(
            format!("--awq {source} is of no use without awq among the precisions"),
            "add awq to `--dtype`, or leave `--awq` out",
        ));
    }
    Ok(Some(ModelSpec { source: source.to_owned(), revision: DEFAULT_REVISION.to_owned() }))
}

pub(super) fn chat(name: &str) -> Result<ChatUse, RunError> {
    match name {
        "auto" => Ok(ChatUse::Auto),
        "never" => Ok(ChatUse::Never),
        "required" => Ok(ChatUse::Required),
        other => {
            let (what, hint) = unknown("use of the chat template", other, &["auto", "never", "required"]);
            Err(RunError::invalid(what, hint))
        }
    }
}

fn selection(arguments: &Gsm8kArguments) -> Result<Selection, RunError> {
    let indices = arguments.samples.as_deref().map(Selection::parse_indices).transpose()?;
    Ok(Selection { limit: arguments.limit, indices: indices.unwrap_or_default() })
}

/// Refuses 0 as the value of a flag that counts something.
pub(super) fn at_least_one(flags: &[(&str, Option<usize>)]) -> Result<(), RunError> {
    match flags.iter().find(|(_, value)| *value == Some(0)) {
        Some((flag, _)) => {
            Err(RunError::invalid(format!("{flag} 0 asks for nothing"), format!("give {flag} 1 or more")))
        }
        None => Ok(()),
    }
}

fn check_numbers(arguments: &Gsm8kArguments) -> Result<(), RunError> {
    at_least_one(&[
        ("--limit", arguments.limit),
        ("--max-tokens", arguments.max_tokens),
        ("--repeats", Some(arguments.repeats)),
    ])?;
    let minimum = arguments.min_accuracy.unwrap_or_default();
    let in_range = [
        ("--temperature", arguments.temperature, arguments.temperature >= 0.0, "0 (greedy) or more"),
        ("--top-p", arguments.top_p, arguments.top_p > 0.0 && arguments.top_p <= 1.0, "more than 0, 1 at most"),
        ("--min-accuracy", minimum, (0.0..=100.0).contains(&minimum), "percent, between 0 and 100"),
    ];
    for (flag, value, holds, range) in in_range {
        if !holds || !value.is_finite() {
            return Err(RunError::invalid(format!("{flag} {value} is out of range"), format!("give {range}")));
        }
    }
    if arguments.repeats > 1 && arguments.temperature == 0.0 {
        return Err(RunError::invalid(
            format!("--repeats {} of greedy decoding would give every answer that often", arguments.repeats),
            "give a `--temperature` above 0, such as 0.7, or leave `--repeats` out",
        ));
    }
    if arguments.stop.iter().any(String::is_empty) {
        return Err(RunError::invalid(
            "--stop \"\" would end every generation at once",
            "give a string, or leave it out",
        ));
    }
    Ok(())
}
