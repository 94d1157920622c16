//! How long a run takes, told before it begins.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::remaining::Lengths;
use super::writer::Missing;
use super::{Estimate, JobError, Prepared, Variant, Variants, probe};
use crate::engine::{Engine, Prompt};
use crate::record::{GenerationPlan, RunFolder, StoredCompletion, read_journal};
use crate::score::first_divergence;

/// As many of the dataset's answers say how long they are.
const ANSWERS: usize = 64;

/// What a variant is about to generate, and where in its run it stands.
pub(super) struct Ahead<'a> {
    /// Limits.
    pub(super) generation: &'a GenerationPlan,
    /// In row order.
    pub(super) prepared: &'a [Prepared],
    /// Where completions are.
    pub(super) folder: &'a RunFolder,
    /// Of the run, in order.
    pub(super) variants: &'a Variants,
    /// This one.
    pub(super) variant: &'a Variant,
    /// What it lacks.
    pub(super) missing: &'a [Missing<'a>],
}

impl Ahead<'_> {
    /// What is known of the lengths of what the variant lacks.
    pub(super) fn lengths(&self) -> Result<Lengths, JobError> {
        let mut known = None;
        for before in self.variants.iter().take_while(|before| before.name != self.variant.name) {
            known = known_lengths(self.missing, &self.completions(before)?);
            if known.is_some() {
                break;
            }
        }
        let most = self.generation.max_tokens as f64;
        Ok(Lengths { known, typical: self.typical_tokens()?.map(|tokens| tokens.min(most)), most })
    }

    /// What this variant and those after it will take, if all go as this one does for a moment; `None` where that cannot be measured.
    pub(super) fn estimate(
        &self,
        lengths: &Lengths,
        engine: &mut dyn Engine,
        interrupted: &AtomicBool,
    ) -> Result<Option<Estimate>, JobError> {
        let missing = self.missing.len();
        let prompts: Vec<Arc<Prompt>> = self.missing.iter().map(|one| Arc::clone(&one.prepared.prompt)).collect();
        if engine.info().dtype.is_none() || prompts.iter().any(|prompt| prompt.token_ids.is_empty()) {
            return Ok(None); // an endpoint is asked for answers only
        }
        let prompt_tokens = tokens_to_compute(&prompts);
        let run_tokens = prompt_tokens + missing * self.generation.max_tokens;
        let Some(speed) = probe::measure(engine, &prompts, run_tokens, interrupted) else { return Ok(None) };
        let (mut later, mut completions) = (0, missing);
        for after in self.variants.iter().skip_while(|after| after.name != self.variant.name).skip(1) {
            let all = self.prepared.len() * self.generation.repeats;
            let left = all.saturating_sub(self.completions(after)?.len());
            (later, completions) = (later + usize::from(left > 0), completions + left);
        }
        let share = completions as f64 / missing as f64;
        let fixed = later as f64 * engine.info().load.total_seconds + share * prompt_tokens as f64 / speed.prefill;
        let seconds = |tokens: f64| fixed + completions as f64 * tokens / speed.decode;
        let expected = lengths.expected();
        Ok(Some(Estimate {
            variant: self.variant.name.clone(),
            variants: 1 + later,
            completions,
            expected: expected.map(|tokens| (tokens, seconds(tokens))),
            most: (self.generation.max_tokens, seconds(lengths.most)),
            by_variant: lengths.known.is_some(),
            speed,
        }))
    }

    fn completions(&self, variant: &Variant) -> Result<Vec<StoredCompletion>, JobError> {
        Ok(read_journal(&RunFolder::journal_path(self.folder.path(), &variant.name))?.values)
    }

    /// The mean length of the dataset's own answers, where these are more than a value.
    fn typical_tokens(&self) -> Result<Option<f64>, JobError> {
        let worked = self.prepared.iter().filter(|one| one.answer.trim() != one.reference.trim());
        let worked: Vec<&str> = worked.map(|one| one.answer.as_str()).collect();
        let (mut tokens, mut count) = (0, 0_usize);
        for answer in worked.iter().step_by(worked.len().div_ceil(ANSWERS).max(1)) {
            tokens += self.variant.model.encode(answer, false)?.len();
            count += 1;
        }
        Ok((tokens > 0).then(|| tokens as f64 / count as f64))
    }
}

/// Of another variant, where that has every one.
fn known_lengths(missing: &[Missing], completions: &[StoredCompletion]) -> Option<Vec<f64>> {
    let tokens: HashMap<(usize, usize), usize> =
        completions.iter().filter_map(|one| Some(((one.sample, one.repeat), one.output_tokens()?))).collect();
    missing.iter().map(|one| tokens.get(&(one.prepared.sample, one.repeat)).map(|tokens| *tokens as f64)).collect()
}

/// Tokens of all prompts, a beginning that all share once.
fn tokens_to_compute(prompts: &[Arc<Prompt>]) -> usize {
    let Some((first, others)) = prompts.split_first() else { return 0 };
    let common =
        |other: &Arc<Prompt>| first_divergence(&first.token_ids, &other.token_ids).unwrap_or(first.token_ids.len());
    let shared = others.iter().map(common).min().unwrap_or(0);
    prompts.iter().map(|prompt| prompt.token_ids.len()).sum::<usize>() - shared * others.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(token_ids: &[u32]) -> Arc<Prompt> {
        Arc::new(Prompt { text: String::new(), token_ids: token_ids.to_vec() })
    }

    #[test]
    fn what_all_prompts_begin_with_is_computed_once() {
        let prompts = [prompt(&[1, 2, 3, 4]), prompt(&[1, 2, 3, 5, 6]), prompt(&[1, 2, 9])];
        assert_eq!(tokens_to_compute(&prompts), 4 + 3 + 1);
        assert_eq!(tokens_to_compute(&prompts[..1]), 4);
        assert_eq!(tokens_to_compute(&[prompt(&[1, 2]), prompt(&[3])]), 3);
    }
}
