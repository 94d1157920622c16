//! All variants question by question, in small blocks, until enough is shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::Ordering;

use super::until::Course;
use crate::jobs::column::{Column, Task, missing};
use crate::jobs::each::End;
use crate::jobs::{Event, Failures, JobContext, JobError, Variants};
use crate::record::{RunFolder, StoredCompletion, VariantName, read_journal};
use crate::score::Shown;

/// Questions of a block at most: each ends with its longest answer, and by so many the run may ask more than it takes.
pub(super) const BLOCK: usize = 64;

/// The engines of a run, each opened when it is first needed.
struct Lockstep<'a, 'b> {
    task: &'a Task<'a>,
    variants: &'a Variants,
    course: &'a Course<'b>,
    reference: VariantName,
    open: HashMap<VariantName, Column<'a>>,
    failures: Failures,
}

/// A variant of which nothing is shown yet.
struct Undecided {
    variant: VariantName,
    /// What its journal holds.
    done: Vec<StoredCompletion>,
    /// Units that both have answered whole, from the first on.
    units: usize,
}

/// Generates block by block until every variant is shown to be worse than the reference or no worse: whether the user broke off, and which
/// variants failed. What the journals hold already is not asked again, and may be enough.
pub(super) fn generate_until(
    task: &Task,
    variants: &Variants,
    course: &Course,
    context: &mut JobContext,
) -> Result<(bool, Failures), JobError> {
    let reference = variants.reference.clone().ok_or_else(no_reference)?;
    let mut run = Lockstep { task, variants, course, reference, open: HashMap::new(), failures: Vec::new() };
    let end = run.work(context);
    // What was measured is kept, whatever ended the run.
    let closed: Vec<Result<(), JobError>> =
        std::mem::take(&mut run.open).into_values().map(|column| column.close(context)).collect();
    let interrupted = end?;
    closed.into_iter().collect::<Result<(), _>>()?;
    Ok((interrupted, run.failures))
}

/// `--until` compares variants with a reference.
pub(super) fn no_reference() -> JobError {
    JobError::invalid(
        "--until compares variants with a reference, and the run has none, or nothing beside it",
        "give `--dtype f32,awq`, or name the reference of several variants by `--reference NAME`",
    )
}

impl Lockstep<'_, '_> {
    /// Whether the user broke off.
    fn work(&mut self, context: &mut JobContext) -> Result<bool, JobError> {
        loop {
            let reference = self.journal(&self.reference)?;
            let undecided = self.undecided(&reference)?;
            let Some(first) = undecided.iter().map(|one| one.units).min() else { return Ok(false) };
            let block = self.block(first);
            if block.is_empty() {
                return Ok(false);
            }
            let others = undecided.into_iter().map(|one| (one.variant, one.done));
            for (name, done) in std::iter::once((self.reference.clone(), reference)).chain(others) {
                match self.ask(&name, &done, &block, context)? {
                    End::Complete => {}
                    End::Interrupted => return Ok(true),
                    End::Failed(error) => {
                        (context.emit)(Event::Failed { variant: name.clone(), message: error.to_string() });
                        let is_reference = name == self.reference;
                        self.failures.push((name, error));
                        if is_reference {
                            return Ok(false);
                        }
                    }
                }
            }
            if context.interrupted.load(Ordering::Relaxed) {
                return Ok(true);
            }
        }
    }

    /// The variants of which nothing is shown yet and that have not failed.
    fn undecided(&self, reference: &[StoredCompletion]) -> Result<Vec<Undecided>, JobError> {
        let mut undecided = Vec::new();
        for variant in self.variants.iter().map(|variant| &variant.name).filter(|name| **name != self.reference) {
            if self.failures.iter().any(|(failed, _)| failed == variant) {
                continue;
            }
            let done = self.journal(variant)?;
            let (found, units) = self.course.compare(variant, reference, &done);
            if found.shown == Shown::Nothing {
                undecided.push(Undecided { variant: variant.clone(), done, units });
            }
        }
        Ok(undecided)
    }

    fn journal(&self, variant: &VariantName) -> Result<Vec<StoredCompletion>, JobError> {
        Ok(read_journal(&RunFolder::journal_path(self.task.folder.path(), variant))?.values)
    }

    /// The rows of the next units, as many as the engines advance at once; a unit stays whole.
    fn block(&self, first: usize) -> Vec<usize> {
        let repeats = self.task.generation.repeats.max(1);
        let batch = self.open.values().map(Column::batch).min().unwrap_or(BLOCK);
        let most = (batch / repeats).clamp(1, BLOCK);
        let mut rows = Vec::new();
        for unit in &self.course.units[first.min(self.course.units.len())..] {
            rows.extend(unit);
            if rows.len() >= most {
                break;
            }
        }
        rows
    }

    /// Has a variant, whose journal holds `done`, answer what it lacks of a block.
    fn ask(
        &mut self,
        name: &VariantName,
        done: &[StoredCompletion],
        block: &[usize],
        context: &mut JobContext,
    ) -> Result<End, JobError> {
        let Some(variant) = self.variants.get(name) else { return Ok(End::Complete) };
        let missing: Vec<_> =
            missing(self.task, done, name)?.into_iter().filter(|one| block.contains(&one.prepared.sample)).collect();
        if missing.is_empty() {
            return Ok(End::Complete);
        }
        let column = match self.open.entry(name.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let (journal, _) = self.task.folder.journal(name)?;
                match Column::open(self.task, variant, journal, done.len(), context)? {
                    Ok(mut column) => {
                        column.is_not_alone();
                        place.insert(column)
                    }
                    Err(error) => return Ok(End::Failed(error.into())),
                }
            }
        };
        column.generate(&missing, None, context)
    }
}
