//! One variant after the other: what fails leaves the others alone.

use super::context::Failures;
use super::{Event, JobContext, JobError, Variant, Variants};

/// How one variant ended.
pub(super) enum End {
    /// Everything is there.
    Complete,
    /// The user broke off; what is done is kept.
    Interrupted,
    /// Its engine failed; what is done is kept.
    Failed(JobError),
}

/// Does the work of every variant in turn, until one is interrupted: whether one was, and what failed.
pub(super) fn each_variant(
    variants: &Variants,
    context: &mut JobContext,
    mut work: impl FnMut(&Variant, &mut JobContext) -> Result<End, JobError>,
) -> Result<(bool, Failures), JobError> {
    let mut failures = Failures::new();
    for variant in variants.iter() {
        match work(variant, context)? {
            End::Complete => {}
            End::Interrupted => return Ok((true, failures)),
            End::Failed(error) => {
                (context.emit)(Event::Failed { variant: variant.name.clone(), message: error.to_string() });
                failures.push((variant.name.clone(), error));
            }
        }
    }
    Ok((false, failures))
}
