//! Walks clap's commands: no flag may escape what [`FLAGS`] says of it.

use std::collections::HashSet;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _, Parser as _};

use super::args::{Arguments, Command as Typed};
use super::eval::{chosen_task, resolve};
use super::flags::{FLAGS, Flag, Import, OnResume};
use super::quality::resolve_quality;
use crate::hub::Hub;
use crate::jobs::eval::{EvalInputs, EvalPlan};
use crate::jobs::quality::{QualityInputs, QualityPlan};
use crate::record::{Difference, RunPlan as _};
use crate::task::Task;

/// Every command that runs something, with its path: `golden check`.
fn commands() -> Vec<(String, Command)> {
    fn collect(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        if !command.has_subcommands() {
            found.push((path.to_owned(), command.clone()));
        }
        for next in command.get_subcommands().filter(|next| next.get_name() != "help") {
            collect(format!("{path} {}", next.get_name()).trim_start(), next, found);
        }
    }
    let mut root = Arguments::command();
    root.build();
    let mut found = Vec::new();
    collect("", &root, &mut found);
    found
}

fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let shown = |arg: &&Arg| !matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::Version);
    command.get_arguments().filter(|arg| !arg.is_positional()).filter(shown)
}

fn known(arg: &Arg) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.id == arg.get_id().as_str())
}

/// The commands that keep a run folder.
fn resumable() -> Vec<(String, Command)> {
    let found: Vec<_> =
        commands().into_iter().filter(|(_, command)| flags(command).any(|arg| arg.get_id() == "resume")).collect();
    let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert!(names.contains(&"gsm8k") && names.contains(&"eval") && names.contains(&"quality"), "{names:?}");
    found
}

#[test]
fn every_flag_of_a_run_is_in_the_table_as_clap_has_it() {
    for (path, command) in resumable() {
        for arg in flags(&command) {
            let place = format!("evalsuite {path}: {}", arg.get_id());
            let flag = known(arg).unwrap_or_else(|| panic!("{place} is not in FLAGS: say there what it means"));
            assert_eq!(arg.get_long().map(|long| format!("--{long}")), Some(flag.long()), "{place}");
            assert_eq!(arg.get_action().takes_values(), flag.takes_value, "{place}");
            assert!(arg.get_short().is_none(), "{place}: recipes and resume know flags by their long names alone");
        }
    }
}

#[test]
fn the_table_has_every_flag_once_and_no_other() {
    let there: HashSet<String> =
        resumable().iter().flat_map(|(_, command)| flags(command).map(|arg| arg.get_id().to_string())).collect();
    let mut seen = HashSet::new();
    for flag in FLAGS {
        assert!(there.contains(flag.id), "no command has {}", flag.long());
        assert!(seen.insert(flag.id), "{} is there twice", flag.long());
    }
}

#[test]
fn the_table_knows_which_flags_quality_has() {
    let (_, quality) = resumable().into_iter().find(|(path, _)| path == "quality").unwrap();
    let own: HashSet<&str> = flags(&quality).map(|arg| arg.get_id().as_str()).collect();
    for flag in FLAGS {
        assert_eq!(own.contains(flag.id), flag.import != Import::Absent, "{}", flag.long());
    }
    let excluded = FLAGS.iter().filter(|flag| flag.import == Import::Excluded);
    for flag in excluded {
        let value = if flag.takes_value { &["1"][..] } else { &[] };
        let words = ["evalsuite", "quality", "--import", "answers.json", &flag.long()].map(str::to_owned);
        let words = words.into_iter().chain(value.iter().map(|value| (*value).to_owned()));
        let error = Arguments::command().try_get_matches_from(words).unwrap_err().to_string();
        assert!(error.contains("cannot be used with") && error.contains(&flag.long()), "{}: {error}", flag.long());
    }
}

#[test]
fn resume_offers_every_flag_that_may_differ() {
    let (_, resume) = commands().into_iter().find(|(path, _)| path == "resume").unwrap();
    let offered: HashSet<&str> = flags(&resume).map(|arg| arg.get_id().as_str()).collect();
    // The run's folder is the argument, and to go on is the command.
    let free = FLAGS.iter().filter(|flag| flag.on_resume == OnResume::Free && !["out", "resume"].contains(&flag.id));
    assert_eq!(free.map(|flag| flag.id).collect::<HashSet<_>>(), offered);
}

/// Another value than the default of every flag; of files, made in `folder`.
fn another_value(id: &str, folder: &Path) -> Option<String> {
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let rows = "{\"question\": \"1 + 1?\", \"answer\": \"#### 2\"}\n".repeat(9);
    let word = match id {
        "dtype" => "f16",
        "reference" => "f32",
        "variant" => "v=bundled",
        "engine" => "candle",
        "on_gpu_failure" => "cpu",
        "batching" => "fast",
        "batch" | "limit" | "top_k" | "seed" => "3",
        "device" | "diffs" => "0",
        "dataset" => return Some(file("rows.jsonl", &rows)),
        "split" => "train",
        "task" => {
            let gsm8k = crate::bundled::TASKS.iter().find(|(name, _)| *name == "gsm8k").unwrap().1;
            return Some(file("gsm8k.toml", &gsm8k.replace("\"GSM8K\"", "\"Another\"")));
        }
        "system" => "Be brief.",
        "samples" => "5",
        "protocol" => "direct",
        "fewshot" => {
            let shot = "{\"question\": \"1 + 1?\", \"target\": \"2\"}\n";
            return Some(file("shots.jsonl", &shot.repeat(5)));
        }
        "chat" => "never",
        "prompts" => {
            return Some(file("set.toml", "name = \"s\"\nmax_tokens = 5\n[[prompts]]\nid = \"a\"\ntext = \"b\"\n"));
        }
        "only" => "copying",
        "max_tokens" | "timeout" => "7",
        "temperature" | "top_p" => "0.5",
        "repeats" => "2",
        "stop" | "think_end" => "zebra",
        "until" => "no worse than 3",
        "min_accuracy" => "50",
        "rule" => "strict",
        "threads" | "margin" | "min_speed_ratio" | "price_per_hour" => "1",
        "format" => "markdown",
        "template" => return Some(file("t.txt", "x")),
        "baseline" | "noise" | "out" => "elsewhere",
        "api_key_env" => "PATH",
        // These name what its hash stands for: the same model from elsewhere is the same.
        // `--thinking` is refused before the plans are compared: the bundled model's template does not ask.
        "model" | "revision" | "awq" | "thinking" => return None,
        _ => panic!("give {id} another value here: a run is resumed under another, or is not"),
    };
    Some(word.to_owned())
}

/// In what the plans of a command with and without some words differ.
fn differences(path: &str, base: &[&str], more: &[String]) -> Vec<Difference> {
    // `--top-p` is refused without a temperature.
    let warm: &[&str] =
        if more.iter().any(|word| word.starts_with("--top-p")) { &["--temperature", "0.7"] } else { &[] };
    let words = ["evalsuite", path].into_iter().chain(base.iter().copied()).chain(warm.iter().copied());
    let plain: Vec<String> = words.map(str::to_owned).collect();
    let other = [&plain[..], more].concat();
    let hub = Hub::from_environment(true).unwrap();
    let command = |words: &[String]| Arguments::try_parse_from(words).unwrap().command;
    let eval = |words: &[String]| -> EvalPlan {
        let (task, flags) = match command(words) {
            Typed::Gsm8k(flags) => (Task::gsm8k().unwrap(), *flags),
            Typed::Eval(arguments) => (chosen_task(&arguments).unwrap(), arguments.flags),
            _ => panic!("another command"),
        };
        let job = resolve(task, &flags, words.to_vec(), false).unwrap();
        let inputs = EvalInputs::load(&job, &hub).unwrap();
        let chosen = inputs.chosen(&job.selection).unwrap().len();
        let variants = inputs.variants(&job).unwrap();
        inputs.plan(&job, &variants, chosen).unwrap()
    };
    let quality = |words: &[String]| -> QualityPlan {
        let Typed::Quality(arguments) = command(words) else { panic!("another command") };
        let job = resolve_quality(&arguments, words.to_vec(), false).unwrap();
        QualityInputs::load(&job, &hub).unwrap().plan(&job).unwrap()
    };
    match path {
        "gsm8k" | "eval" => eval(&plain).differences(&eval(&other)).unwrap(),
        "quality" => quality(&plain).differences(&quality(&other)).unwrap(),
        _ => panic!("say here how the plan of `{path}` is made"),
    }
}

#[test]
fn a_run_is_resumed_under_another_value_where_the_table_says_so_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    // What `determinism` has finished goes on under the same question alone: `tests/it/determinism.rs`.
    for (path, command) in resumable().into_iter().filter(|(path, _)| path != "determinism") {
        for flag in flags(&command).filter_map(known).filter(|flag| flag.on_resume != OnResume::NoRun) {
            // Of a model whose files are here they decide nothing; `tests/it/endpoints.rs` has one that answers elsewhere.
            if ["endpoint", "served_model", "api", "tokenizer", "send_text", "extra_body"].contains(&flag.id) {
                continue;
            }
            let value = if flag.takes_value { another_value(flag.id, folder.path()) } else { None };
            if flag.takes_value && value.is_none() {
                continue;
            }
            let more: Vec<String> = std::iter::once(flag.long()).chain(value).collect();
            let base: &[&str] = match flag.id {
                // Greedy decoding has nothing to repeat.
                "repeats" => &["--temperature", "0.7"],
                "fewshot" => &["--protocol", "gsm8k"],
                "margin" | "min_speed_ratio" => &["--baseline", "elsewhere"],
                _ => &[],
            };
            let task: &[&str] = if path == "eval" { &["gsm8k"] } else { &[] };
            let found = differences(&path, &[task, &["--dtype", "f32"], base].concat(), &more);
            assert_eq!(found.is_empty(), flag.on_resume == OnResume::Free, "{path} {}: {found:?}", flag.long());
        }
    }
}

#[test]
fn help_of_every_command_fits_80_columns_and_documents_the_exit_codes() {
    for (path, mut command) in commands() {
        for help in [command.render_long_help().to_string(), command.render_help().to_string()] {
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "evalsuite {path}: {} columns: {line}", line.chars().count());
            }
            assert!(help.contains("130  interrupted"), "evalsuite {path} says nothing of exit codes");
        }
    }
}

#[test]
fn every_command_that_prints_data_prints_json() {
    // A server's one line is its address; shells and `man` have formats of their own.
    for (path, command) in
        commands().into_iter().filter(|(path, _)| !["serve", "completions", "man"].contains(&path.as_str()))
    {
        let formats = flags(&command).find(|arg| arg.get_id() == "format");
        let help =
            formats.unwrap_or_else(|| panic!("evalsuite {path} has no --format")).get_help().unwrap().to_string();
        assert!(help.contains("`json`"), "evalsuite {path}: {help}");
    }
}
