//! `evalsuite golden check`: run what golden files are of, or take a run, and compare.

use serde_json::json;

use super::arguments::CheckArguments;
use super::ci::is_ci;
use super::data::CheckedData;
use super::scope::{Gathered, nothing_in_scope, of_run};
use crate::cli::exit::Exit;
use crate::cli::interrupt::is_interrupted;
use crate::cli::output::{print_bytes, print_data, print_json};
use crate::cli::printer::say;
use crate::cli::session::{open_hub, start_threads, with_context};
use crate::golden::{Checked, Entry, Golden, Status, Suite, SuiteEnd, annotations, hold, reported_once};
use crate::jobs::JobError;
use crate::shown::commands;

/// Outputs told of one golden file; the pending file and `review` have all.
const SHOWN: usize = 10;

/// Runs the command.
pub(super) fn check(arguments: &CheckArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let scope = &arguments.scope;
    let write = !arguments.ci && !is_ci();
    let store = scope.store();
    let mut checked = Vec::new();
    if let Some(run) = &scope.run {
        for (variant, came) in of_run(run, &scope.dtype, &store)? {
            let golden = came?;
            let entry = store.entry(golden.suite, &golden.model, &variant);
            // What is compared is what was run, not how it was.
            let kept = entry.golden().ok().flatten().map(|old| Golden { recipe: old.recipe, ..golden.clone() });
            checked.push(hold(&entry, Ok(&kept.unwrap_or(golden)), None, write)?);
        }
    } else {
        let Gathered { groups, judged } = scope.gather()?;
        if groups.is_empty() && judged.is_empty() {
            return Err(nothing_in_scope(scope.store().folder(), scope.suite()?, scope.model.as_deref()));
        }
        checked.extend(judged);
        start_threads(scope.threads)?;
        let hub = open_hub(scope.offline)?;
        let complete = with_context(|context| {
            for group in &groups {
                let ran = match group.run(&hub, context) {
                    Ok(SuiteEnd::Ran(ran)) => ran,
                    Ok(SuiteEnd::Interrupted) => return Ok(false),
                    Ok(SuiteEnd::Orphaned(why)) => {
                        let orphaned = |entry: &Entry| Checked::new(entry, Status::Orphaned, why.as_str());
                        checked.extend(group.entries.iter().map(orphaned));
                        continue;
                    }
                    Err(error) if error.is_hub_failure() && is_interrupted() => return Ok(false),
                    Err(error) => {
                        let may_lack = !arguments.require_all && scope.model.is_none();
                        let is_absent = may_lack && (error.is_hub_failure() || group.has_no_model());
                        let judge = if is_absent { Checked::left_out } else { Checked::failed };
                        checked.extend(group.entries.iter().map(|entry| judge(entry, &error)));
                        continue;
                    }
                };
                for (entry, (_, came)) in group.entries.iter().filter_map(|entry| {
                    Some((entry, ran.candidates.iter().find(|(variant, _)| variant.as_str() == entry.dtype)?))
                }) {
                    checked.push(hold(entry, came.as_ref(), Some(&|token| ran.spell(token)), write)?);
                }
            }
            Ok(true)
        })?;
        if !complete {
            say("interrupted: what was compared before is judged and pending, the rest is as it was");
            return Ok(Exit::Interrupted);
        }
    }
    conclude(&checked, write, is_json)
}

/// Says what a check found, and how good that is.
fn conclude(checked: &[Checked], write: bool, is_json: bool) -> Result<Exit, JobError> {
    let bad: Vec<&Checked> = checked.iter().filter(|one| !one.is_good()).collect();
    let left_out = checked.iter().filter(|one| one.status == Status::LeftOut).count();
    if is_json {
        let (common, own) = reported_once(checked);
        let files: Vec<CheckedData> = own.iter().map(CheckedData::new).collect();
        print_json("golden check", &json!({ "holds": bad.is_empty(), "common": common, "golden_files": files }))?;
    } else {
        print_data(&in_words(checked, &bad))?;
        let annotations = annotations(checked);
        if !annotations.is_empty() && std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            print_bytes(&commands(&annotations.join("\n")))?;
        }
    }
    if bad.iter().any(|one| one.is_pending) {
        say("hint: look at what came with `evalsuite golden review`, or take it with `evalsuite golden accept --all`");
    } else if !bad.is_empty() && !write {
        say(
            "hint: nothing was written, for this is CI; the same command elsewhere leaves what came for `golden review`",
        );
    }
    if !checked.is_empty() && left_out == checked.len() {
        return Err(JobError::invalid(
            "no golden file was compared: the model of none is on this machine",
            "get one as the lines above say, or name one by `--model`",
        ));
    }
    let any = |status: Status| bad.iter().any(|one| one.status == status);
    Ok(match bad[..] {
        [] => Exit::Success,
        _ if bad.iter().any(|one| one.is_engine_failure) => Exit::EngineFailure,
        _ if any(Status::Failed) => Exit::UserMistake,
        _ => Exit::Differs,
    })
}

/// What several golden files have in common, a line for each golden file with its own differences below it, the verdict last; annotations
/// under GitHub Actions.
fn in_words(checked: &[Checked], bad: &[&Checked]) -> String {
    let (common, own) = reported_once(checked);
    let mut lines = Vec::new();
    let mut heading = String::new();
    for one in common {
        let names: Vec<String> = one.golden_files.iter().map(Entry::in_words).collect();
        let of_these = format!("common    {}:", names.join(", "));
        if heading != of_these {
            lines.push(of_these.clone());
            heading = of_these;
        }
        let note = if one.is_note { "note: " } else { "" };
        lines.push(format!("          {note}{}", one.in_words()));
    }
    for one in &own {
        lines.push(format!(
            "{:8}  {}: {}",
            one.status.name(),
            one.entry.in_words(),
            one.summary.replace('\n', "\n          ")
        ));
        lines.extend(one.notes.iter().map(|note| format!("          note: {note}")));
        lines.extend(differences(one));
    }
    let left_out = checked.iter().filter(|one| one.status == Status::LeftOut).count();
    let compared = checked.len() - left_out;
    let and_left_out = if left_out == 0 { String::new() } else { format!("; {left_out} left out") };
    lines.push(match bad {
        [] => format!("golden: all {compared} hold{and_left_out}"),
        [one] => {
            let summary = one.summary.lines().next().unwrap_or_default();
            format!("golden: 1 of {compared} does not hold{and_left_out}: {}: {summary}", one.entry.in_words())
        }
        _ => {
            let names: Vec<String> = bad.iter().map(|one| one.entry.in_words()).collect();
            format!("golden: {} of {compared} do not hold{and_left_out}: {}", bad.len(), names.join(", "))
        }
    });
    lines.join("\n")
}

fn differences(one: &Checked) -> Vec<String> {
    let label = match Suite::parse(&one.entry.suite) {
        Some(Suite::Gsm8k) => "row",
        _ => "prompt",
    };
    let mut ids: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    for note in &one.differences {
        if let Some(id) = note.id.as_deref()
            && ids.last() != Some(&id)
        {
            ids.push(id);
        }
        if ids.len() <= SHOWN {
            let place = match (&note.id, &note.outputs[..]) {
                (Some(id), _) => format!("{label} {id}: "),
                (None, []) => String::new(),
                (None, ids) => format!("{}: ", several(label, ids)),
            };
            lines.push(format!("          {place}{}", note.what));
        }
    }
    if ids.len() > SHOWN {
        lines.push(format!("          and {} more outputs", ids.len() - SHOWN));
    }
    lines
}

/// `12 rows (0, 1, 2, 3, 4 and 7 more)`
fn several(label: &str, ids: &[String]) -> String {
    const NAMED: usize = 5;
    let more = if ids.len() > NAMED { format!(" and {} more", ids.len() - NAMED) } else { String::new() };
    format!("{} {label}s ({}{more})", ids.len(), ids.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
}
