//! What a determinism run's template sees: the record, and the same as text that is ready to print.

use std::collections::BTreeMap;

use serde::Serialize;

use super::record::{DeterminismRecord, VariantFloor};
use super::{Floor, Pass};
use crate::jobs::eval::dataset;
use crate::report::words::{nothing, percent, seconds_in_words, thousands};
use crate::report::{Format, ReportError, model, render_by};
use crate::score::statistics::Proportion;

/// A record as text in a format.
pub fn render_determinism(record: &DeterminismRecord, format: &Format) -> Result<String, ReportError> {
    render_by("determinism", &DeterminismView::new(record), format)
}

/// The variables of the template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct DeterminismView<'a> {
    /// The whole record, field by field.
    pub record: &'a DeterminismRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// The model.
    pub model: String,
    /// The prompts.
    pub dataset: String,
    /// `invariant`
    pub batching: String,
    /// A sentence a variant.
    pub sentences: Vec<String>,
    /// Of each variant of which any moved, the rows of the answers that did.
    pub moved: Vec<String>,
    /// One a variant and pass.
    pub rows: Vec<PassRow>,
}

/// A pass beside the first one.
#[derive(Debug, Clone, Serialize)]
pub struct PassRow {
    /// `f16`
    pub variant: String,
    /// First row of its variant.
    pub first: bool,
    /// Requests in the engine at a time.
    pub batch: String,
    /// `in order` or `shuffled`.
    pub order: String,
    /// Answers that moved.
    pub moved: String,
    /// Values that moved.
    pub values: String,
    /// Right in the first pass alone.
    pub lost: String,
    /// Right here alone.
    pub gained: String,
    /// Tokens that moved, percent.
    pub tokens: String,
    /// The median place where answers part.
    pub divergence: String,
    /// Seconds.
    pub seconds: String,
}

impl<'a> DeterminismView<'a> {
    /// The view of a record.
    pub fn new(record: &'a DeterminismRecord) -> Result<Self, serde_json::Error> {
        let plan = &record.plan.asked;
        Ok(Self {
            record_json: serde_json::to_string_pretty(record)?,
            record,
            model: model(&plan.target.model),
            dataset: dataset(plan),
            batching: plan.batching.name().to_owned(),
            sentences: record.variants.iter().map(|one| sentence(one, record)).collect(),
            moved: record.variants.iter().filter_map(moved).collect(),
            rows: record.variants.iter().flat_map(rows).collect(),
        })
    }
}

fn rows(one: &VariantFloor) -> Vec<PassRow> {
    let row = |(index, pass): (usize, &Pass)| PassRow {
        variant: one.variant.to_string(),
        first: index == 0,
        batch: thousands(pass.batch as u64),
        order: if pass.shuffled { "shuffled" } else { "in order" }.to_owned(),
        moved: thousands(pass.moved.len() as u64),
        values: thousands(pass.values_moved as u64),
        lost: thousands(pass.lost as u64),
        gained: thousands(pass.gained as u64),
        tokens: pass.tokens_moved.map_or_else(nothing, |tokens| percent(tokens.value)),
        divergence: pass.median_divergence.map_or_else(nothing, |place| format!("{place:.0}")),
        seconds: seconds_in_words(pass.seconds),
    };
    one.passes.iter().enumerate().map(row).collect()
}

/// `1.6 % [0.4, 5.5]`
fn interval(value: f64, low: f64, high: f64) -> String {
    format!("{} % [{}, {}]", percent(value), percent(low), percent(high))
}

fn share(share: &Proportion) -> String {
    interval(share.value, share.low, share.high)
}

fn sentence(one: &VariantFloor, record: &DeterminismRecord) -> String {
    let variant = &one.variant;
    if let Some(failure) = &one.failure {
        return format!("{variant} did not finish: {}", failure.lines().next().unwrap_or_default());
    }
    let (made, of) = (one.passes.len() + 1, record.plan.passes().len());
    let (Some(floor), n) = (one.floor, thousands(record.plan.asked.dataset.chosen as u64)) else {
        return format!("{variant} was interrupted before its second pass of {of}");
    };
    let so_far = if made < of { format!("interrupted after {made} of {of} passes; so far ") } else { String::new() };
    let mut batches = vec![1];
    batches.extend(one.passes.iter().map(|pass| pass.batch));
    batches.dedup();
    let batches = batches.into_iter().map(|batch| thousands(batch as u64)).collect::<Vec<_>>().join(", ");
    let Floor { answers, flips, points, tokens } = floor;
    if answers.successes == 0 {
        let how = if tokens.is_some() { "token for token" } else { "text for text" };
        return format!(
            "{variant}: {so_far}nothing moves: {n} answers are the same {how} at batch {batches}, twice, in any order; of others {} % at most \
             would (95 %)",
            percent(answers.high)
        );
    }
    let tokens = tokens
        .map_or_else(String::new, |tokens| format!(", {} of tokens", interval(tokens.value, tokens.low, tokens.high)));
    format!(
        "{variant}: {so_far}the noise floor: {} of {n} answers move with the batch ({batches}) and the order{tokens}, {} become right or \
         wrong, and accuracy moves by up to {points:.1} points",
        share(&answers),
        share(&flips)
    )
}

/// Which answers moved in any pass, and where each leaves the first pass's earliest: `f16: 3 (at token 7), 17`.
fn moved(one: &VariantFloor) -> Option<String> {
    const SHOWN: usize = 12;
    let mut places: BTreeMap<usize, Option<usize>> = BTreeMap::new();
    for moved in one.passes.iter().flat_map(|pass| &pass.moved) {
        let place = places.entry(moved.sample).or_insert(moved.at);
        *place = (*place).min(moved.at);
    }
    let words = places.iter().take(SHOWN).map(|(sample, at)| match at {
        Some(at) => format!("{sample} (at token {at})"),
        None => sample.to_string(),
    });
    let words = words.collect::<Vec<_>>().join(", ");
    let others = places.len().saturating_sub(SHOWN);
    let more = if others > 0 { format!(", and {others} more") } else { String::new() };
    (!places.is_empty()).then(|| format!("{}: {words}{more}", one.variant))
}
