//! The files of a finished run, read back and held against one another: whatever is computed of a run begins here.

use std::path::Path;

use super::answers::check_answers;
use super::folder::read_plan;
use super::{RecordError, RunFolder, RunPlan, Session, StoredCompletion, VariantName, answers, read_journal};

/// What a record says of its folder's files.
pub(crate) struct Recorded<'a, P> {
    /// The plan.
    pub(crate) plan: &'a P,
    /// Every variant with the number of its completions, and its sessions.
    pub(crate) variants: Vec<(&'a VariantName, usize, &'a [Session])>,
    /// The hash of the answers.
    pub(crate) answers_sha256: Option<&'a str>,
}

/// The completions of a run as its journals hold them.
pub(crate) struct StoredJournals {
    /// By variant, in the record's order; sorted by sample and repeat.
    pub(crate) completions: Vec<(VariantName, Vec<StoredCompletion>)>,
    /// What the user should know: files that cannot prove themselves.
    pub(crate) notes: Vec<String>,
}

impl StoredJournals {
    /// Reads a run's journals; a folder whose plan, sessions, journals or answers are not those of its record is refused.
    pub(crate) fn read<P: RunPlan>(folder: &Path, recorded: &Recorded<P>) -> Result<Self, RecordError> {
        check_plan(folder, recorded.plan)?;
        let (mut completions, mut notes) = (Vec::new(), Vec::new());
        for (variant, count, sessions) in &recorded.variants {
            let path = RunFolder::journal_path(folder, variant);
            let journal = read_journal(&path)?;
            notes.extend(journal.note(&path));
            let mut stored = journal.values;
            if stored.len() != *count {
                return Err(RecordError::invalid(
                    format!("{} holds {} completions, the run's record.json {count}", path.display(), stored.len()),
                    "delete its record.json and give `evalsuite resume RUN`: it makes the record anew",
                ));
            }
            if RunFolder::read_sessions(folder, variant)? != *sessions {
                return Err(RecordError::invalid(
                    format!("{}/{variant}/sessions.json: not the sessions of the run's record.json", folder.display()),
                    "one of the two was changed: put an unchanged copy in its place; if the sessions are right, delete record.json and \
                     give `evalsuite resume RUN`, which makes it anew",
                ));
            }
            stored.sort_by_key(|completion| (completion.sample, completion.repeat));
            completions.push(((*variant).clone(), stored));
        }
        check_answers(folder, &answers(&completions)?, recorded.answers_sha256)?;
        Ok(Self { completions, notes })
    }
}

/// Refuses a plan that is not the record's, in what decides an answer.
fn check_plan<P: RunPlan>(folder: &Path, recorded: &P) -> Result<(), RecordError> {
    if !folder.join("plan.json").exists() {
        return Ok(());
    }
    let differences = recorded.differences(&read_plan::<P>(folder)?);
    match differences.as_deref() {
        Ok([]) => Ok(()),
        Ok([first, ..]) => Err(RecordError::invalid(
            format!("{}/plan.json is not the plan of the run's record.json: {first}", folder.display()),
            "one of the two was changed: put an unchanged copy in its place",
        )),
        Err(error) => Err(RecordError::invalid(format!("cannot compare plans: {error}"), "start a new run")),
    }
}
