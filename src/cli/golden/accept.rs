//! `evalsuite golden accept`: pending files, or what runs anew, become the golden files.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::arguments::AcceptArguments;
use super::ci::refuse_in_ci;
use super::data::AcceptedData;
use super::scope::{nothing_in_scope, of_run};
use crate::cli::exit::Exit;
use crate::cli::output::{print_data, print_json};
use crate::cli::printer::{note, print_error, say};
use crate::cli::session::{open_hub, start_threads, with_context};
use crate::fault::Fault;
use crate::files::check_writable;
use crate::golden::{Entry, Golden, Status, SuiteEnd, Tolerance};
use crate::jobs::{JobContext, JobError};
use crate::record::Glance;
use crate::task::Tier;

/// What has become a golden file: said at once, or gathered for a program.
struct Accepted {
    is_json: bool,
    files: Vec<AcceptedData>,
}

impl Accepted {
    fn push(&mut self, entry: &Entry, golden: &Golden, line: &str) -> Result<(), JobError> {
        if self.is_json {
            self.files.push(AcceptedData::new(entry, golden));
            return Ok(());
        }
        print_data(line)
    }

    fn finish(self) -> Result<(), JobError> {
        if self.is_json { print_json("golden accept", &json!({ "accepted": self.files })) } else { Ok(()) }
    }
}

/// Runs the command.
pub(super) fn accept(arguments: &AcceptArguments) -> Result<Exit, JobError> {
    let mut accepted = Accepted { is_json: arguments.data.is_json()?, files: Vec::new() };
    refuse_in_ci("accept")?;
    let result = accept_into(&mut accepted, arguments);
    // What was taken before a failure is taken.
    accepted.finish()?;
    result
}

fn accept_into(accepted: &mut Accepted, arguments: &AcceptArguments) -> Result<Exit, JobError> {
    let scope = &arguments.scope;
    let tolerance = tolerance(arguments)?;
    let store = scope.store();
    if let Some(run) = &scope.run {
        let glance = Glance::read(run).ok();
        if glance.as_ref().is_some_and(|run| run.is_made_elsewhere) {
            return Err(JobError::invalid(
                format!("{} holds completions that were made elsewhere", run.display()),
                "no command makes such completions again: keep the folder, and hold another against it by `report --baseline`",
            ));
        }
        if let Some(protocol) = glance.and_then(|run| run.generated_under) {
            return Err(JobError::invalid(
                format!("{} holds answers that were generated under {protocol} and scored anew", run.display()),
                "no command makes such answers again: accept the run that they come from",
            ));
        }
        for (variant, came) in of_run(run, &scope.dtype, &store)? {
            let golden = came?;
            take(accepted, &store.entry(golden.suite, &golden.model, &variant), golden, tolerance)?;
        }
        return Ok(Exit::Success);
    }
    if arguments.rerun || scope.suite.is_some() {
        return accept_anew(accepted, arguments, tolerance);
    }
    if tolerance != Tolerance::default() {
        return Err(JobError::invalid(
            "--tier and --margin choose how what is run anew is held",
            "add `--rerun`, or `--suite` and `--model`",
        ));
    }
    let pending: Vec<Entry> = store.entries()?.into_iter().filter(Entry::is_pending).collect();
    let chosen = if arguments.all { pending } else { chosen(pending, &arguments.paths)? };
    for entry in &chosen {
        let golden = Golden::read(&entry.pending_path())?;
        entry.write(&golden)?;
        accepted.push(entry, &golden, &format!("accepted  {}", entry.path.display()))?;
    }
    if chosen.is_empty() {
        note(&format!("nothing is pending in {}", store.folder().display()));
    }
    Ok(Exit::Success)
}

fn tolerance(arguments: &AcceptArguments) -> Result<Tolerance, JobError> {
    let tier = arguments
        .tier
        .as_deref()
        .map(|name| Tier::parse(name).ok_or_else(|| Fault::unknown("tier", name, &Tier::ALL.map(Tier::name))));
    if let Some(margin) = arguments.margin.filter(|margin| !(*margin > 0.0 && *margin < 100.0)) {
        return Err(JobError::invalid(
            format!("--margin {margin} is out of range"),
            "give percentage points, more than 0 and less than 100",
        ));
    }
    Ok(Tolerance { tier: tier.transpose()?, margin_points: arguments.margin })
}

/// The pending files that paths mean.
fn chosen(pending: Vec<Entry>, paths: &[PathBuf]) -> Result<Vec<Entry>, JobError> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let list = || {
        let paths: Vec<String> = pending.iter().map(|entry| entry.pending_path().display().to_string()).collect();
        if paths.is_empty() { "nothing is pending".to_owned() } else { format!("pending are: {}", paths.join(", ")) }
    };
    if paths.is_empty() {
        let hint = format!("name pending files, or give `--all`, `--rerun`, or `--suite`; {}", list());
        return Err(JobError::invalid("what to accept is not said", hint));
    }
    let means = |path: &Path, entry: &Entry| {
        absolute(&entry.path).starts_with(absolute(path)) || absolute(&entry.pending_path()) == absolute(path)
    };
    if let Some(path) = paths.iter().find(|path| !pending.iter().any(|entry| means(path, entry))) {
        return Err(JobError::invalid(format!("nothing is pending at {}", path.display()), list()));
    }
    Ok(pending.into_iter().filter(|entry| paths.iter().any(|path| means(path, entry))).collect())
}

fn accept_anew(accepted: &mut Accepted, arguments: &AcceptArguments, tolerance: Tolerance) -> Result<Exit, JobError> {
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
    check_room(store.folder())?;
    start_threads(scope.threads)?;
    let hub = open_hub(scope.offline)?;
    let mut failed = false;
    let complete = with_context(|context: &mut JobContext| {
        for group in &gathered.groups {
            let ran = match group.run(&hub, context)? {
                SuiteEnd::Ran(ran) => ran,
                SuiteEnd::Interrupted => return Ok(false),
                SuiteEnd::Orphaned(why) => {
                    let hint = "delete the golden file, or give other flags of the suite's command behind `--`";
                    return Err(JobError::invalid(why, hint));
                }
            };
            for (variant, came) in ran.candidates {
                match came {
                    Ok(golden) => take(accepted, &group.entry(&store, &golden.model, &variant), golden, tolerance)?,
                    Err(error) => {
                        print_error(&format!("{variant}: {error}"));
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

/// Refuses a folder that nothing can be written to, before models run for what would be.
fn check_room(folder: &Path) -> Result<(), JobError> {
    let Some(there) = std::path::absolute(folder)
        .ok()
        .and_then(|folder| folder.ancestors().find(|ancestor| ancestor.exists()).map(Path::to_path_buf))
    else {
        return Ok(());
    };
    check_writable(&there.join("accepted.json")).map_err(|error| {
        JobError::invalid(
            format!("cannot write golden files in {}: {error}", folder.display()),
            "give `--golden` a folder that may be written to",
        )
    })
}

fn take(accepted: &mut Accepted, entry: &Entry, mut golden: Golden, tolerance: Tolerance) -> Result<(), JobError> {
    // A damaged golden file is what accepting anew repairs.
    tolerance.apply(&mut golden, entry.golden().ok().flatten().as_ref())?;
    entry.write(&golden)?;
    let line = format!("accepted  {}: {} outputs, tier {}", entry.path.display(), golden.outputs.len(), golden.tier);
    accepted.push(entry, &golden, &line)
}
