//! `answers.jsonl`: a run's answers without timings. Equal runs give equal bytes, interrupted or not.

use serde::Serialize;

use super::{RecordError, StoredCompletion, VariantName};
use crate::engine::Finish;
use crate::score::Extraction;

#[derive(Serialize)]
struct Answer<'a> {
    dtype: &'a VariantName,
    sample: usize,
    repeat: usize,
    prompt_sha256: &'a str,
    prompt_tokens: Option<usize>,
    token_ids: Option<&'a [u32]>,
    text: &'a str,
    finish: Finish,
    scores: &'a [Extraction],
}

/// The journals of a run as one file, sorted by variant, sample and repeat, without timings.
pub fn answers(journals: &mut [(VariantName, Vec<StoredCompletion>)]) -> Result<Vec<u8>, RecordError> {
    journals.sort_by_key(|(variant, _)| variant.rank());
    let mut bytes = Vec::new();
    for (variant, completions) in journals {
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
