//! `evalsuite golden review`: what changed, one golden file after another, taken or not by one key.

use std::io::IsTerminal as _;

use console::Term;
use serde_json::json;

use super::arguments::LookArguments;
use super::ci::is_ci;
use super::data::PendingData;
use super::terminal;
use crate::cli::exit::Exit;
use crate::cli::output::{colour, print_data, print_json};
use crate::cli::printer::note;
use crate::golden::{Entry, Golden, Store, show};
use crate::jobs::JobError;

/// Runs the command.
pub(super) fn review(arguments: &LookArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let store = Store::new(&arguments.folder.golden);
    let pending: Vec<Entry> = store.entries()?.into_iter().filter(Entry::is_pending).collect();
    if is_json {
        let data = pending.iter().map(|entry| Ok(PendingData::new(entry, &Golden::read(&entry.pending_path())?)));
        print_json("golden review", &json!({ "pending": data.collect::<Result<Vec<_>, JobError>>()? }))?;
        return Ok(Exit::Success);
    }
    if pending.is_empty() {
        note(&format!("nothing is pending in {}", store.folder().display()));
        return Ok(Exit::Success);
    }
    let term = Term::stdout();
    if is_ci() || !term.is_term() || !std::io::stdin().is_terminal() {
        let paths: Vec<String> = pending.iter().map(|entry| entry.pending_path().display().to_string()).collect();
        return Err(JobError::invalid(
            format!("golden review asks for keys, and this is no terminal; pending: {}", paths.join(", ")),
            "run it in a terminal, or take files by name with `evalsuite golden accept PATHS`",
        ));
    }
    let failure = |error: std::io::Error| {
        JobError::invalid(
            format!("the terminal failed: {error}"),
            "take files by name with `evalsuite golden accept PATHS`",
        )
    };
    terminal::keep().map_err(failure)?;
    for (number, entry) in pending.iter().enumerate() {
        let new = Golden::read(&entry.pending_path())?;
        let old = entry.golden()?;
        print_data(&show(old.as_ref(), &new, colour()))?;
        let question = format!("\n{} of {}: (a)ccept, (r)eject, (s)kip, (q)uit? ", number + 1, pending.len());
        term.write_str(&question).map_err(failure)?;
        let answer = loop {
            let key = match term.read_char() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(Exit::Interrupted),
                key => key.map_err(failure)?.to_ascii_lowercase(),
            };
            if "arsq".contains(key) {
                break key;
            }
        };
        let done = match answer {
            'a' => entry.accept().map(|()| "accepted")?,
            'r' => entry.reject().map(|()| "rejected")?,
            's' => "skipped",
            _ => "left as it is, and so is the rest",
        };
        term.write_line(done).map_err(failure)?;
        if answer == 'q' {
            break;
        }
    }
    Ok(Exit::Success)
}
