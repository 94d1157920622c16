//! A record's figures, line by line.

use super::DeterminismRecord;
use crate::report::{FigureLine, FigureLines};

/// Of every variant its passes, then its floor.
pub fn determinism_lines(record: &DeterminismRecord) -> Vec<FigureLine> {
    let mut lines = FigureLines::default();
    for one in &record.variants {
        let variant = one.variant.as_str();
        if let Some(failure) = &one.failure {
            lines.of(variant, "").text("failure", failure);
        }
        for pass in &one.passes {
            let order = if pass.shuffled { "shuffled" } else { "in order" };
            lines
                .of(variant, format!("batch {}, {order}", pass.batch))
                .share("answers that moved, share", pass.moved_share)
                .share("answers that became right or wrong, share", pass.flips)
                .ratio("tokens that differ, share", pass.tokens_moved)
                .count("values that moved", pass.values_moved, Some(pass.answers))
                .count("lost", pass.lost, Some(pass.answers))
                .count("gained", pass.gained, Some(pass.answers))
                .number("moved answers part at token, median", pass.median_divergence)
                .number("output tokens over the first pass's", pass.length_ratio)
                .number("seconds", Some(pass.seconds));
        }
        let Some(floor) = one.floor else { continue };
        lines
            .of(variant, "noise floor")
            .share("answers that moved, share", Some(floor.answers))
            .share("answers that became right or wrong, share", Some(floor.flips))
            .number("accuracy moves by, points", Some(floor.points))
            .ratio("tokens that differ, share", floor.tokens);
    }
    lines.done()
}
