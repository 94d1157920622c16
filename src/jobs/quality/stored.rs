//! A quality run's folder, read back whole.

use std::path::Path;

use super::{Answer, ModelQuality, Origin, QualityRecord};
use crate::record::{RecordError, Recorded, StoredCompletion, StoredJournals, VariantName};

impl QualityRecord {
    /// Reads the record in a run's folder, with what the user should know; `None` where it is a record of something else. A folder
    /// whose plan, sessions, journals or answers are not those of the record is refused.
    pub fn read_run(folder: &Path) -> Result<Option<(Self, Vec<String>)>, RecordError> {
        let file = folder.join("record.json");
        let Some(record) = Self::read(&file)? else { return Ok(None) };
        let (Origin::Run(plan), [model]) = (&record.origin, &record.models[..]) else {
            return Ok(Some((record, Vec::new())));
        };
        let variants = plan.dtypes.iter().filter_map(|variant| {
            let column = model.columns.iter().find(|column| column.column == variant.as_str())?;
            Some((variant, column.answers, &column.sessions[..]))
        });
        let recorded = Recorded {
            plan: plan.as_ref(),
            variants: variants.collect(),
            answers_sha256: record.answers_sha256.as_deref(),
        };
        let StoredJournals { completions, notes } = StoredJournals::read(folder, &recorded)?;
        match completions.iter().find(|(variant, stored)| !holds(model, variant, stored)) {
            None => Ok(Some((record, notes))),
            Some((variant, _)) => Err(RecordError::invalid(
                format!("{}: the answers of {variant} are not those of its journal", file.display()),
                "one of the two was changed: put an unchanged copy in its place; if the journals are right, delete record.json and give \
                 `evalsuite resume RUN`, which makes it anew",
            )),
        }
    }
}

/// Whether a record's answers of a variant, which stand in the order of the prompts, are those of its journal.
fn holds(model: &ModelQuality, variant: &VariantName, stored: &[StoredCompletion]) -> bool {
    let answers = model.prompts.iter().flat_map(|prompt| &prompt.answers);
    let answers: Vec<&Answer> = answers.filter(|answer| answer.column == variant.as_str()).collect();
    let is_same = |(answer, stored): (&&Answer, &StoredCompletion)| {
        answer.text == stored.text && answer.token_ids == stored.token_ids && answer.finish == Some(stored.finish)
    };
    answers.len() == stored.len() && answers.iter().zip(stored).all(is_same)
}
