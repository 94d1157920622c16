//! How much an output may differ from its golden file: set when a golden file is accepted, and refused where no output could ever fail.

use super::{Golden, Output};
use crate::jobs::JobError;
use crate::score::paired_score_interval;
use crate::task::Tier;

/// How much outputs may differ from those of a golden file.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tolerance {
    /// The suite's tier; `None` is what the golden file or the prompt set says, else `tokens`.
    pub tier: Option<Tier>,
    /// Percentage points that may be lost in the tier `statistical`; `None` is what the golden file says, else
    /// [`Tolerance::MARGIN_POINTS`].
    pub margin_points: Option<f64>,
}

impl Tolerance {
    /// The default.
    pub const MARGIN_POINTS: f64 = 5.0;

    /// Writes the tolerance into `golden`, which replaces `old`. Refused are a tier that checks nothing of an output, and a margin that
    /// a single lost answer exceeds.
    pub fn apply(self, golden: &mut Golden, old: Option<&Golden>) -> Result<(), JobError> {
        golden.tier = self.tier.or(old.map(|old| old.tier)).unwrap_or(golden.tier);
        let held: &Golden = golden;
        let of = |tier: Tier| held.outputs.iter().filter(move |output| held.tier_of(output) == tier);
        let unjudged = |output: &&Output| output.is_good(None).is_none();
        if let Some(output) = of(Tier::Answer).chain(of(Tier::Statistical)).find(unjudged) {
            return Err(JobError::invalid(
                format!(
                    "the prompt `{}` declares no check: in the tier {} nothing of it would be held",
                    output.id,
                    held.tier_of(output)
                ),
                "declare checks in the prompt set, or take the tier `tokens`",
            ));
        }
        let n = of(Tier::Statistical).count();
        if n == 0 {
            return Ok(());
        }
        let margin = self.margin_points.or(old.and_then(|old| old.margin_points)).unwrap_or(Self::MARGIN_POINTS);
        // Otherwise a single lost answer would fail the tier, which would make it stricter than its name says.
        if let Some((low, _)) = paired_score_interval(1, 0, n)
            && low * -100.0 >= margin
        {
            return Err(JobError::invalid(
                format!(
                    "{n} outputs are too few for a margin of {margin} points: with one answer lost the interval reaches \
                     {:.1}",
                    low * 100.0
                ),
                format!("give `--margin {}` or more, more outputs, or another `--tier`", (low * -100.0).ceil()),
            ));
        }
        golden.margin_points = Some(margin);
        Ok(())
    }
}
