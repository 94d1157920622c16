//! Walks clap's commands: no flag may escape what [`FLAGS`] says of it.

use std::collections::HashSet;

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::args::Arguments;
use super::flags::{FLAGS, Flag, Import};

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
    assert!(names.contains(&"gsm8k") && names.contains(&"quality"), "{names:?}");
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
