//! `answers.jsonl`: a run's answers without timings. Equal runs give equal bytes, interrupted or not.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::{REMAKE, read_checked};
use super::{RecordError, StoredCompletion, StoredThought, VariantName};
use crate::engine::Finish;
use crate::files::sha256;
use crate::score::Extraction;

const ANSWERS: &str = "answers.jsonl";

/// A line. What later versions add is left out where it is empty: the bytes of an older run must come out as they did.
#[derive(Serialize)]
struct Answer<'a> {
    dtype: &'a VariantName,
    sample: usize,
    repeat: usize,
    prompt_sha256: &'a str,
    prompt_tokens: Option<usize>,
    token_ids: Option<&'a [u32]>,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<&'a StoredThought>,
    finish: Finish,
    scores: &'a [Extraction],
}

/// The journals of a run as one file, sorted by variant, sample and repeat, without timings.
pub fn answers(journals: &[(VariantName, Vec<StoredCompletion>)]) -> Result<Vec<u8>, RecordError> {
    let mut journals: Vec<_> = journals.iter().collect();
    journals.sort_by_key(|(variant, _)| variant.rank());
    let mut bytes = Vec::new();
    for (variant, completions) in journals {
        let mut completions: Vec<&StoredCompletion> = completions.iter().collect();
        completions.sort_by_key(|completion| (completion.sample, completion.repeat));
        for completion in completions {
            let answer = Answer {
                dtype: variant,
                sample: completion.sample,
                repeat: completion.repeat,
                prompt_sha256: &completion.prompt_sha256,
                prompt_tokens: completion.prompt_tokens,
                token_ids: completion.token_ids.as_deref(),
                text: &completion.text,
                thought: completion.thought.as_ref(),
                finish: completion.finish,
                scores: &completion.scores,
            };
            serde_json::to_writer(&mut bytes, &answer).map_err(|error| {
                RecordError::invalid(format!("cannot write answers: {error}"), "this is a fault of evalsuite")
            })?;
            bytes.push(b'\n');
        }
    }
    Ok(bytes)
}

/// Refuses answers, as a folder's journals give them, that are not those of its `answers.jsonl` or of the hash in its record, where it
/// has them.
pub(super) fn check_answers(folder: &Path, answers: &[u8], recorded: Option<&str>) -> Result<(), RecordError> {
    let stored = read_stored(folder)?;
    let is_recorded = |bytes: &[u8]| recorded.is_none_or(|recorded| sha256(bytes) == recorded);
    if let Some(stored) = stored.filter(|stored| stored != answers) {
        let place = place_of_difference(&stored, answers);
        // The hash says which of the two was changed.
        let changed = match (is_recorded(&stored), is_recorded(answers)) {
            (true, false) => "; the journal was changed, for the record has the hash of answers.jsonl",
            (false, true) => "; answers.jsonl was changed, for the record has the hash of the journals' answers",
            _ => "",
        };
        return Err(RecordError::invalid(
            format!("{}:{place}: this is not what the journals hold{changed}", folder.join(ANSWERS).display()),
            "put an unchanged copy in the place of what was changed; if the journals are right, delete answers.jsonl and record.json and \
             give `evalsuite resume RUN`, which makes both anew",
        ));
    }
    if !is_recorded(answers) {
        return Err(RecordError::invalid(
            format!(
                "{}: the journals' answers have the hash {}, its record.json names {}",
                folder.display(),
                sha256(answers),
                recorded.unwrap_or_default()
            ),
            "a journal was changed: put an unchanged copy in its place; if the journals are right, delete record.json and give \
             `evalsuite resume RUN`, which makes it anew",
        ));
    }
    Ok(())
}

/// Refuses to go on in a folder whose results of before are not as they were written: what is damaged must not be replaced unseen.
pub(super) fn check_before_resuming(folder: &Path) -> Result<(), RecordError> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(default)]
        answers_sha256: Option<String>,
    }
    let path = folder.join("record.json");
    if !path.exists() {
        return Ok(());
    }
    let record = serde_json::from_slice::<Record>(&read_checked(&path, REMAKE)?);
    let record = record
        .map_err(|error| RecordError::invalid(format!("{}: not a record of a run: {error}", path.display()), REMAKE))?;
    match (record.answers_sha256, read_stored(folder)?) {
        (Some(recorded), Some(stored)) if recorded != sha256(&stored) => Err(RecordError::invalid(
            format!(
                "{} has the hash {}, the run's record.json names {recorded}",
                folder.join(ANSWERS).display(),
                sha256(&stored)
            ),
            "one of the two was changed; if the journals are right, delete both and give `evalsuite resume RUN`, which makes them anew",
        )),
        _ => Ok(()),
    }
}

/// Refuses answers that lack one which the folder's `answers.jsonl` has: runs add answers, and change none.
pub(super) fn check_kept(folder: &Path, answers: &[u8]) -> Result<(), RecordError> {
    let Some(stored) = read_stored(folder)? else { return Ok(()) };
    let now: HashSet<&[u8]> = answers.split(|byte| *byte == b'\n').collect();
    match stored.split(|byte| *byte == b'\n').position(|line| !now.contains(line)) {
        None => Ok(()),
        Some(index) => Err(RecordError::invalid(
            format!(
                "{}:{}: the journals give another answer now than when this was written",
                folder.join(ANSWERS).display(),
                index + 1
            ),
            "a journal was changed: put an unchanged copy in its place; if the journals are right, delete answers.jsonl and record.json \
             and give `evalsuite resume RUN`, which makes both anew",
        )),
    }
}

/// The folder's file, if it has one.
fn read_stored(folder: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    let path = folder.join(ANSWERS);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some).map_err(RecordError::io("read", &path)),
    }
}

/// The first line, from 1, in which two files differ.
fn place_of_difference(one: &[u8], other: &[u8]) -> usize {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    one[..same].split(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers that are missing are no other answers of any line, so that the hash alone finds them.
    #[test]
    fn a_run_is_not_gone_on_with_over_answers_that_are_not_its_record_s() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let check = || check_before_resuming(folder.path()).map_err(|error| error.to_string());
        write(ANSWERS, "{}\n");
        assert_eq!(check(), Ok(()), "without a record");
        write("record.json", &format!("{{\"answers_sha256\": \"{}\"}}", sha256(b"{}\n{}\n")));
        let refused = check().unwrap_err();
        assert!(refused.contains("has the hash") && refused.contains("hint: "), "{refused}");
        write(ANSWERS, "{}\n{}\n");
        assert_eq!(check(), Ok(()));
    }
}
