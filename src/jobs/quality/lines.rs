//! A record's figures, line by line.

use super::QualityRecord;
use crate::report::{FigureLine, FigureLines};

/// Of every model and column, then of its kinds of prompts.
pub fn quality_lines(record: &QualityRecord) -> Vec<FigureLine> {
    let mut lines = FigureLines::default();
    for model in &record.models {
        let several = record.models.len() > 1;
        for column in &model.columns {
            let variant = if several { format!("{} {}", model.model, column.column) } else { column.column.clone() };
            lines.of(&variant, "").count("answers", column.answers, Some(model.prompts.len()));
            if let Some(failure) = &column.failure {
                lines.text("failure", failure);
            }
            lines.number("cut", column.cut.map(|cut| cut as f64));
            lines.share("checks passed, share", column.checks).share("prompts passed, share", column.prompts_passed);
            if let Some(against) = &column.against {
                lines
                    .share("the reference's very text, share", Some(against.exact))
                    .number("Levenshtein similarity", Some(against.levenshtein))
                    .number("Jaro-Winkler similarity", Some(against.jaro_winkler))
                    .number("tokens that agree, share", against.token_agreement)
                    .number("first differing token, median", against.median_divergence)
                    .number("characters over the reference's", against.length_ratio)
                    .count("checks lost", against.checks_lost, None)
                    .count("checks gained", against.checks_gained, None);
            }
            for kind in &column.kinds {
                lines.of(&variant, &kind.kind).count("checks passed", kind.checks_passed, Some(kind.checks));
            }
        }
    }
    lines.done()
}
