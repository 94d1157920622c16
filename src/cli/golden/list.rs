//! `evalsuite golden list`: what there is and how it stands; runs nothing.

use std::path::Path;

use serde_json::json;

use super::arguments::LookArguments;
use super::data::ListedData;
use super::scope::{job, nothing_in_scope, variant_of};
use crate::cli::exit::Exit;
use crate::cli::output::{print_data, print_json};
use crate::golden::{Coverage, Entry, Golden, Status, Store, Suite, coverage};
use crate::hub::Hub;
use crate::jobs::JobError;

/// How one golden file stands.
struct Listed<'a> {
    entry: &'a Entry,
    status: Status,
    /// Why, where it is not a golden file's own doing.
    what: Option<String>,
    golden: Option<Golden>,
    parts: Coverage,
}

/// Runs the command.
pub(super) fn list(arguments: &LookArguments) -> Result<Exit, JobError> {
    let is_json = arguments.data.is_json()?;
    let store = Store::new(&arguments.folder.golden);
    let hub = Hub::from_environment(true)?;
    let entries = store.entries()?;
    if entries.is_empty() {
        return Err(nothing_in_scope(store.folder(), None, None));
    }
    let listed: Vec<Listed> = entries.iter().map(|entry| listed(entry, &hub)).collect();
    if is_json {
        let data: Vec<ListedData> = listed.iter().map(Listed::data).collect();
        print_json("golden list", &json!({ "golden_files": data }))?;
    } else {
        print_data(&listed.iter().map(Listed::in_words).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Exit::Success)
}

fn listed<'a>(entry: &'a Entry, hub: &Hub) -> Listed<'a> {
    let parts = Coverage { orphaned: Vec::new(), missing: Vec::new() };
    let unread =
        |status: Status, what: String| Listed { entry, status, what: Some(what), golden: None, parts: parts.clone() };
    let Some(suite) = Suite::parse(&entry.suite) else {
        return unread(Status::Orphaned, format!("there is no suite `{}`", entry.suite));
    };
    let Some(variant) = variant_of(entry) else {
        return unread(Status::Orphaned, format!("there is no dtype `{}`", entry.dtype));
    };
    let golden = match entry.golden() {
        Ok(Some(golden)) => golden,
        Ok(None) => {
            return unread(Status::Missing, "no golden file yet; what would be its first is pending".to_owned());
        }
        Err(error) => return unread(Status::Failed, error.to_string()),
    };
    let resolved = job(suite, &golden.recipe, &[variant], "cpu", Path::new("unused"));
    let parts = match resolved.and_then(|job| coverage(&golden, &job, hub)) {
        Ok(parts) => parts,
        Err(error) => return unread(Status::Orphaned, error.to_string()),
    };
    let status = match () {
        () if entry.is_pending() => Status::Pending,
        () if !parts.orphaned.is_empty() => Status::Orphaned,
        () if !parts.missing.is_empty() => Status::Missing,
        () => Status::Ok,
    };
    Listed { entry, status, what: None, golden: Some(golden), parts }
}

impl Listed<'_> {
    fn in_words(&self) -> String {
        let about = match (&self.what, &self.golden) {
            (Some(what), _) => what.replace('\n', "\n          "),
            (None, golden) => golden.as_ref().map(about).unwrap_or_default(),
        };
        let parts = [("orphaned", &self.parts.orphaned), ("missing", &self.parts.missing)];
        let parts = parts.iter().filter(|(_, ids)| !ids.is_empty());
        let parts = parts.map(|(name, ids)| format!("\n          {name}: {}", ids.join(", ")));
        format!("{:8}  {}: {about}{}", self.status.name(), self.entry.in_words(), parts.collect::<String>())
    }

    fn data(&self) -> ListedData {
        ListedData::new(self.entry, self.status, self.what.clone(), self.golden.as_ref(), &self.parts)
    }
}

fn about(golden: &Golden) -> String {
    format!(
        "{} outputs, tier {}, {} of {}, model {}",
        golden.outputs.len(),
        golden.tier,
        golden.provenance.engine,
        golden.provenance.date,
        golden.inputs.model.sha256.get(..12).unwrap_or_default()
    )
}
