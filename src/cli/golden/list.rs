//! `evalsuite golden list`: what there is and how it stands; runs nothing.

use std::path::Path;

use super::arguments::FolderArguments;
use super::scope::{job, nothing_in_scope};
use crate::cli::exit::Exit;
use crate::cli::output::print_data;
use crate::engine::Dtype;
use crate::golden::{Entry, Status, Store, Suite, reach};
use crate::hub::Hub;
use crate::jobs::JobError;

/// Runs the command.
pub(super) fn list(arguments: &FolderArguments) -> Result<Exit, JobError> {
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
