//! The model and the variants of a stored run, for a command that reads it and names none of its own.

use std::path::Path;

use super::flags::parts;
use super::model::ModelArguments;
use super::printer::note;
use crate::jobs::JobError;
use crate::openai::Address;
use crate::record::Glance;

/// `own` with what the command line `typed` leaves out taken from the command of the run: the model with its revision and AWQ form where
/// no model is named; precisions, further checkpoints and the reference where none of these is. The run's relative paths are meant from
/// where its command was given.
pub(super) fn with_model_of_run(
    own: &ModelArguments,
    typed: &[String],
    run: &Path,
) -> Result<ModelArguments, JobError> {
    let begun = Glance::read(run)?;
    let folder = begun.working_directory.as_deref();
    let is_typed = |id: &str| !values(typed, id).is_empty();
    let of_run = |id: &str| values(&begun.command, id);
    let mut arguments = own.clone();
    if !is_typed("model") {
        if !of_run("endpoint").is_empty() {
            return Err(JobError::invalid(
                format!("the run {} asked an endpoint, whose model's files are not known", run.display()),
                "give a folder, a .gguf file or a hub id as `--model`",
            ));
        }
        if let Some(model) = of_run("model").last() {
            arguments.source = placed(model, folder);
        }
        if let (Some(revision), false) = (of_run("revision").last(), is_typed("revision")) {
            arguments.revision.clone_from(revision);
        }
    }
    if !is_typed("dtype") && !is_typed("variant") {
        arguments.dtype = of_run("dtype").iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        arguments.variant = of_run("variant").iter().filter_map(|word| variant(word, folder)).collect();
        if let (Some(awq), false) = (of_run("awq").last(), is_typed("awq") || is_typed("model")) {
            arguments.awq = Some(placed(awq, folder));
        }
    }
    if !is_typed("reference") {
        arguments.reference = of_run("reference").pop();
    }
    Ok(arguments)
}

/// The values that a command line gives a flag, as typed.
fn values(command: &[String], id: &str) -> Vec<String> {
    let own = parts(command).into_iter().filter(|part| part.flag.is_some_and(|flag| flag.id == id));
    own.filter_map(|part| part.value).map(str::to_owned).collect()
}

/// A path as it is from here; what is none stays.
fn placed(source: &str, folder: Option<&Path>) -> String {
    let path = folder.map(|folder| folder.join(source)).filter(|path| path.exists());
    path.map_or_else(|| source.to_owned(), |path| path.display().to_string())
}

/// `NAME=SOURCE[@DTYPE]` from here; an endpoint's tokens cannot be scored.
fn variant(word: &str, folder: Option<&Path>) -> Option<String> {
    let (name, source) = word.split_once('=')?;
    if Address::is_one(source) {
        note(&format!("note: the run's variant {name} is left out: it asked an endpoint"));
        return None;
    }
    let whole = placed(source, folder);
    let placed = match source.rsplit_once('@') {
        Some((path, precision)) if whole == source => format!("{}@{precision}", placed(path, folder)),
        _ => whole,
    };
    Some(format!("{name}={placed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        command.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn flags_are_told_from_values_that_look_like_them() {
        let command = words(
            "evalsuite eval gsm8k --stop --model --model m --variant a=x --variant=b=y@f32 --resume --dtype f32,f16",
        );
        assert_eq!(values(&command, "model"), ["m"]);
        assert_eq!(values(&command, "variant"), ["a=x", "b=y@f32"]);
        assert_eq!(values(&command, "dtype"), ["f32,f16"]);
        assert!(values(&command, "awq").is_empty());
    }

    #[test]
    fn relative_paths_are_meant_from_the_run_s_folder() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("m.gguf"), b"").unwrap();
        let here = place.path().join("m.gguf").display().to_string();
        assert_eq!(placed("m.gguf", Some(place.path())), here);
        assert_eq!(placed("org/model", Some(place.path())), "org/model");
        assert_eq!(placed("bundled", None), "bundled");
        assert_eq!(variant("a=m.gguf@f32", Some(place.path())), Some(format!("a={here}@f32")));
        assert_eq!(variant("a=m.gguf", Some(place.path())), Some(format!("a={here}")));
        assert_eq!(variant("a=org/m", Some(place.path())), Some("a=org/m".to_owned()));
    }
}
