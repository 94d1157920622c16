//! `evalsuite golden`: review and list.

use std::io::IsTerminal as _;
use std::path::Path;

use console::Term;

use super::commands::{colour, print_data};
use super::exit::Exit;
use super::golden::{is_ci, nothing_in_scope};
use super::golden_arguments::FolderArguments;
use super::golden_scope::job;
use super::printer::say;
use crate::engine::Dtype;
use crate::golden::{Entry, Golden, Status, Store, Suite, reach, show};
use crate::hub::Hub;
use crate::run::RunError;

pub(super) fn review(arguments: &FolderArguments) -> Result<Exit, RunError> {
    let store = Store::new(&arguments.golden);
    let pending: Vec<Entry> = store.entries()?.into_iter().filter(Entry::is_pending).collect();
    if pending.is_empty() {
        say(&format!("nothing is pending in {}", store.folder().display()));
        return Ok(Exit::Success);
    }
    let term = Term::stdout();
    if is_ci() || !term.is_term() || !std::io::stdin().is_terminal() {
        let paths: Vec<String> = pending.iter().map(|entry| entry.pending_path().display().to_string()).collect();
        return Err(RunError::invalid(
            format!("golden review asks for keys, and this is no terminal; pending: {}", paths.join(", ")),
            "run it in a terminal, or take files by name with `evalsuite golden accept PATHS`",
        ));
    }
    let failure = |error: std::io::Error| {
        RunError::invalid(
            format!("the terminal failed: {error}"),
            "take files by name with `evalsuite golden accept PATHS`",
        )
    };
    for (number, entry) in pending.iter().enumerate() {
        let new = Golden::read(&entry.pending_path())?;
        let old = entry.golden()?;
        print_data(&show(old.as_ref(), &new, colour()))?;
        let question = format!("\n{} of {}: (a)ccept, (r)eject, (s)kip, (q)uit? ", number + 1, pending.len());
        term.write_str(&question).map_err(failure)?;
        let answer = loop {
            let key = term.read_char().map_err(failure)?.to_ascii_lowercase();
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

pub(super) fn list(arguments: &FolderArguments) -> Result<Exit, RunError> {
    let store = Store::new(&arguments.golden);
    let hub = Hub::from_environment(true)?;
    let entries = store.entries()?;
    if entries.is_empty() {
        return Err(nothing_in_scope(store.folder(), None, None));
    }
    let lines: Vec<String> = entries.iter().map(|entry| listed(entry, &hub)).collect();
    print_data(&lines.join("\n"))?;
    Ok(Exit::Success)
}

fn listed(entry: &Entry, hub: &Hub) -> String {
    let line = |status: Status, what: &str| format!("{:8}  {}: {what}", status.name(), entry.in_words());
    let Some(suite) = Suite::parse(&entry.suite) else {
        return line(Status::Orphaned, &format!("there is no suite `{}`", entry.suite));
    };
    let Some(dtype) = Dtype::ALL.into_iter().find(|dtype| dtype.name() == entry.dtype) else {
        return line(Status::Orphaned, &format!("there is no dtype `{}`", entry.dtype));
    };
    let golden = match entry.golden() {
        Ok(Some(golden)) => golden,
        Ok(None) => return line(Status::Missing, "no golden file yet; what would be its first is pending"),
        Err(error) => return line(Status::Failed, &error.to_string().replace('\n', "\n          ")),
    };
    let about = format!(
        "{} outputs, tier {}, {} of {}, model {}",
        golden.outputs.len(),
        golden.tier,
        golden.provenance.engine,
        golden.provenance.date,
        golden.inputs.model.sha256.get(..12).unwrap_or_default()
    );
    let resolved = job(suite, &golden.recipe, &[dtype], "cpu", Path::new("unused"));
    let parts = match resolved.and_then(|job| reach(&golden, &job, hub)) {
        Ok(parts) => parts,
        Err(error) => return line(Status::Orphaned, &error.to_string().replace('\n', "\n          ")),
    };
    let status = match () {
        () if entry.is_pending() => Status::Pending,
        () if !parts.orphaned.is_empty() => Status::Orphaned,
        () if !parts.missing.is_empty() => Status::Missing,
        () => Status::Ok,
    };
    let parts = [("orphaned", parts.orphaned), ("missing", parts.missing)];
    let parts = parts.iter().filter(|(_, ids)| !ids.is_empty());
    let parts = parts.map(|(name, ids)| format!("\n          {name}: {}", ids.join(", ")));
    line(status, &about) + &parts.collect::<String>()
}
