//! Generate: one variant after the other through an engine, every completion to the journal's writer as it ends.

use super::column::{Column, Task, missing};
use super::context::Failures;
use super::each::{End, each_variant};
use super::estimate::Ahead;
use super::remaining::Remaining;
use super::{Event, JobContext, JobError, Variant, Variants};

/// Generates what every variant's journal lacks: whether the user broke off, and which variants failed.
pub(super) fn generate(
    task: &Task,
    variants: &Variants,
    context: &mut JobContext,
) -> Result<(bool, Failures), JobError> {
    each_variant(variants, context, |variant, context| generate_variant(task, variants, variant, context))
}

fn generate_variant(
    task: &Task,
    variants: &Variants,
    variant: &Variant,
    context: &mut JobContext,
) -> Result<End, JobError> {
    let change = task.placebos.iter().find(|placebo| placebo.name == variant.name).map(|placebo| placebo.change);
    let changed = change.map(|change| change.of(task.target, task.generation));
    let task = &changed.as_ref().map_or(*task, |(target, generation)| Task { target, generation, ..*task });
    let (journal, done) = task.folder.journal(&variant.name)?;
    let mut missing = missing(task, &done, &variant.name)?;
    if let Some(change) = change {
        change.sort(&mut missing, |one| (one.prepared.sample, one.repeat));
    }
    if missing.is_empty() {
        return Ok(End::Complete);
    }
    let mut column = match Column::open(task, variant, journal, done.len(), context)? {
        Ok(column) => column,
        Err(error) => return Ok(End::Failed(error.into())),
    };
    let Task { generation, prepared, folder, .. } = *task;
    let ahead = Ahead { generation, prepared, folder, variants, variant, missing: &missing };
    let lengths = ahead.lengths()?;
    if let Some(estimate) = ahead.estimate(&lengths, column.engine(), context.interrupted)? {
        (context.emit)(Event::Estimate(estimate));
    }
    let ended = column.generate(&missing, Some(Remaining::new(lengths, missing.len())), context);
    // A full disk fails both; of the two, the journal is what the user's answers are in.
    let closed = column.close(context);
    ended.and_then(|end| closed.map(|()| end))
}
