//! `evalsuite golden`: check and accept.

use std::path::Path;

use super::commands::{is_interrupted, open_hub, print_data, start_threads, with_surroundings};
use super::exit::Exit;
use super::golden_arguments::{AcceptArguments, CheckArguments, GoldenAction, GoldenArguments};
use super::golden_look::{list, review};
use super::golden_scope::Gathered;
use super::printer::{print_error, say};
use crate::golden::{
    Candidates, Checked, Entry, Golden, Origin, Status, Store, Suite, SuiteEnd, Terms, annotations, candidates, hold,
};
use crate::run::{RunError, Surroundings};
use crate::task::Tier;
use crate::text::{command_line, unknown};

/// Outputs told of one golden file; the pending file and `review` have all.
const SHOWN: usize = 10;

/// Runs the command.
pub(super) fn golden(arguments: &GoldenArguments) -> Result<Exit, RunError> {
    match &arguments.action {
        GoldenAction::Check(arguments) => check(arguments),
        GoldenAction::Review(arguments) => review(arguments),
        GoldenAction::Accept(arguments) => accept(arguments),
        GoldenAction::List(arguments) => list(arguments),
    }
}

/// Whether this is an unattended build, as every such service says it.
pub(super) fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

fn refuse_in_ci(action: &str) -> Result<(), RunError> {
    if is_ci() {
        let hint = "run it where someone looks at what is accepted; `env -u CI` in front of the command overrides this";
        return Err(RunError::invalid(format!("golden {action} writes, and the environment variable CI is set"), hint));
    }
    Ok(())
}

fn check(arguments: &CheckArguments) -> Result<Exit, RunError> {
    let scope = &arguments.scope;
    let write = !arguments.ci && !is_ci();
    let store = scope.store();
    let mut checked = Vec::new();
    if let Some(run) = &scope.run {
        for (dtype, came) in of_run(run, &scope.dtype, &store)? {
            let golden = came?;
            let entry = store.entry(golden.suite, &golden.model, dtype);
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
        let complete = with_surroundings(|surroundings| {
            for group in &groups {
                let ran = match group.run(&hub, surroundings) {
                    Ok(SuiteEnd::Ran(ran)) => ran,
                    Ok(SuiteEnd::Interrupted) => return Ok(false),
                    Ok(SuiteEnd::Orphaned(why)) => {
                        let orphaned = |entry: &Entry| Checked::new(entry, Status::Orphaned, why.as_str());
                        checked.extend(group.entries.iter().map(orphaned));
                        continue;
                    }
                    Err(error) if error.is_hub_failure() && is_interrupted() => return Ok(false),
                    Err(error) => {
                        checked.extend(group.entries.iter().map(|entry| Checked::failed(entry, &error)));
                        continue;
                    }
                };
                for (entry, (_, came)) in group.entries.iter().filter_map(|entry| {
                    Some((entry, ran.candidates.iter().find(|(dtype, _)| dtype.name() == entry.dtype)?))
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
    conclude(&checked, write)
}

/// The golden files that a run's folder would give, of the precisions asked for. Where they belong must be a folder for them.
fn of_run(run: &Path, wanted: &[String], store: &Store) -> Result<Candidates, RunError> {
    store.entries()?;
    let all = candidates(run, Origin { recipe: None, protocol: None })?;
    Ok(all
        .into_iter()
        .filter(|(dtype, _)| wanted.is_empty() || wanted.iter().any(|name| name == dtype.name()))
        .collect())
}

pub(super) fn nothing_in_scope(folder: &Path, suite: Option<Suite>, model: Option<&str>) -> RunError {
    let suite_flag = suite.map_or("quality", Suite::name);
    let mut make = vec!["evalsuite", "golden", "accept", "--suite", suite_flag];
    make.extend(model.iter().flat_map(|model| ["--model", *model]));
    let of = [
        suite.map(|suite| format!(" of the suite {}", suite.name())),
        model.map(|model| format!(" of the model {model}")),
    ];
    RunError::invalid(
        format!("there is no golden file{} in {}", of.into_iter().flatten().collect::<String>(), folder.display()),
        format!("make one: `{}`; or name another folder with `--golden DIR`", command_line(make)),
    )
}

/// Says what a check found: a line for each golden file, its differences below it, the verdict last.
fn conclude(checked: &[Checked], write: bool) -> Result<Exit, RunError> {
    let mut lines = Vec::new();
    for one in checked {
        lines.push(format!(
            "{:8}  {}: {}",
            one.status.name(),
            one.entry.in_words(),
            one.summary.replace('\n', "\n          ")
        ));
        lines.extend(one.notes.iter().map(|note| format!("          note: {note}")));
        lines.extend(differences(one));
    }
    let bad: Vec<&Checked> = checked.iter().filter(|one| one.status != Status::Ok).collect();
    lines.push(match bad[..] {
        [] => format!("golden: all {} hold", checked.len()),
        [one] => {
            let summary = one.summary.lines().next().unwrap_or_default();
            format!("golden: 1 of {} does not hold: {}: {summary}", checked.len(), one.entry.in_words())
        }
        _ => {
            let names: Vec<String> = bad.iter().map(|one| one.entry.in_words()).collect();
            format!("golden: {} of {} do not hold: {}", bad.len(), checked.len(), names.join(", "))
        }
    });
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        lines.extend(annotations(checked));
    }
    print_data(&lines.join("\n"))?;
    if bad.iter().any(|one| one.is_pending) {
        say("hint: look at what came with `evalsuite golden review`, or take it with `evalsuite golden accept --all`");
    } else if !bad.is_empty() && !write {
        say(
            "hint: nothing was written, for this is CI; the same command elsewhere leaves what came for `golden review`",
        );
    }
    let any = |status: Status| bad.iter().any(|one| one.status == status);
    Ok(match bad[..] {
        [] => Exit::Success,
        _ if bad.iter().any(|one| one.is_engine_failure) => Exit::EngineFailure,
        _ if any(Status::Failed) => Exit::UserMistake,
        _ => Exit::Differs,
    })
}

fn differences(one: &Checked) -> Vec<String> {
    let label = |id: &str| match Suite::parse(&one.entry.suite) {
        Some(Suite::Gsm8k) => format!("row {id}"),
        _ => format!("prompt {id}"),
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
            let place = note.id.as_deref().map_or_else(String::new, |id| format!("{}: ", label(id)));
            lines.push(format!("          {place}{}", note.what));
        }
    }
    if ids.len() > SHOWN {
        lines.push(format!("          and {} more outputs", ids.len() - SHOWN));
    }
    lines
}

fn accept(arguments: &AcceptArguments) -> Result<Exit, RunError> {
    refuse_in_ci("accept")?;
    let scope = &arguments.scope;
    let terms = terms(arguments)?;
    let store = scope.store();
    if let Some(run) = &scope.run {
        for (dtype, came) in of_run(run, &scope.dtype, &store)? {
            let golden = came?;
            take(&store.entry(golden.suite, &golden.model, dtype), golden, terms)?;
        }
        return Ok(Exit::Success);
    }
    if arguments.rerun || scope.suite.is_some() {
        return accept_anew(arguments, terms);
    }
    if terms != Terms::default() {
        return Err(RunError::invalid(
            "--tier and --margin choose how what is run anew is held",
            "add `--rerun`, or `--suite` and `--model`",
        ));
    }
    let pending: Vec<Entry> = store.entries()?.into_iter().filter(Entry::is_pending).collect();
    let chosen = if arguments.all { pending } else { chosen(pending, &arguments.paths)? };
    for entry in &chosen {
        entry.accept()?;
        print_data(&format!("accepted  {}", entry.path.display()))?;
    }
    if chosen.is_empty() {
        say(&format!("nothing is pending in {}", store.folder().display()));
    }
    Ok(Exit::Success)
}

fn terms(arguments: &AcceptArguments) -> Result<Terms, RunError> {
    let tier = arguments.tier.as_deref().map(|name| {
        Tier::parse(name).ok_or_else(|| {
            let (what, hint) = unknown("tier", name, &Tier::ALL.map(Tier::name));
            RunError::invalid(what, hint)
        })
    });
    if let Some(margin) = arguments.margin.filter(|margin| !(*margin > 0.0 && *margin < 100.0)) {
        return Err(RunError::invalid(
            format!("--margin {margin} is out of range"),
            "give percentage points, more than 0 and less than 100",
        ));
    }
    Ok(Terms { tier: tier.transpose()?, margin_points: arguments.margin })
}

/// The pending files that paths mean.
fn chosen(pending: Vec<Entry>, paths: &[std::path::PathBuf]) -> Result<Vec<Entry>, RunError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let list = || {
        let paths: Vec<String> = pending.iter().map(|entry| entry.pending_path().display().to_string()).collect();
        if paths.is_empty() { "nothing is pending".to_owned() } else { format!("pending are: {}", paths.join(", ")) }
    };
    if paths.is_empty() {
        let hint = format!("name pending files, or give `--all`, `--rerun`, or `--suite`; {}", list());
        return Err(RunError::invalid("what to accept is not said", hint));
    }
    let means = |path: &Path, entry: &Entry| {
        absolute(&entry.path).starts_with(absolute(path)) || absolute(&entry.pending_path()) == absolute(path)
    };
    if let Some(path) = paths.iter().find(|path| !pending.iter().any(|entry| means(path, entry))) {
        return Err(RunError::invalid(format!("nothing is pending at {}", path.display()), list()));
    }
    Ok(pending.into_iter().filter(|entry| paths.iter().any(|path| means(path, entry))).collect())
}

fn accept_anew(arguments: &AcceptArguments, terms: Terms) -> Result<Exit, RunError> {
    let scope = &arguments.scope;
    let (store, suite) = (scope.store(), scope.suite()?);
    let mut gathered = scope.gather()?;
    for one in gathered.judged.iter().filter(|one| one.status == Status::Failed) {
        print_error(&format!("{}: {}", one.entry.in_words(), one.summary));
    }
    if gathered.groups.is_empty() {
        let Some(suite) = suite else {
            return Err(nothing_in_scope(store.folder(), suite, scope.model.as_deref()));
        };
        gathered.groups.push(scope.new_group(suite)?);
    }
    start_threads(scope.threads)?;
    let hub = open_hub(scope.offline)?;
    let mut failed = false;
    let complete = with_surroundings(|surroundings: &mut Surroundings| {
        for group in &gathered.groups {
            let ran = match group.run(&hub, surroundings)? {
                SuiteEnd::Ran(ran) => ran,
                SuiteEnd::Interrupted => return Ok(false),
                SuiteEnd::Orphaned(why) => {
                    let hint = "delete the golden file, or give other flags of the suite's command behind `--`";
                    return Err(RunError::invalid(why, hint));
                }
            };
            for (dtype, came) in ran.candidates {
                match came {
                    Ok(golden) => take(&group.entry(&store, &golden.model, dtype), golden, terms)?,
                    Err(error) => {
                        print_error(&format!("{dtype}: {error}"));
                        failed = true;
                    }
                }
            }
        }
        Ok(true)
    })?;
    if !complete {
        say("interrupted: what was accepted before stays, the rest is as it was");
        return Ok(Exit::Interrupted);
    }
    Ok(if failed { Exit::EngineFailure } else { Exit::Success })
}

fn take(entry: &Entry, mut golden: Golden, terms: Terms) -> Result<(), RunError> {
    // A damaged golden file is what accepting anew repairs.
    terms.apply(&mut golden, entry.golden().ok().flatten().as_ref())?;
    entry.write(&golden)?;
    print_data(&format!("accepted  {}: {} outputs, tier {}", entry.path.display(), golden.outputs.len(), golden.tier))
}
