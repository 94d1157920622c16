//! What tables say of answers that belong together: the rows of repeats, and what intervals make of them.

use serde::Serialize;

use super::rows::folded;
use super::{DtypeRecord, EvalRecord, RuleRecord};
use crate::report::words::{nothing, percent, thousands};
use crate::score::Repeats;

/// What several answers a question show, of one variant under one rule. All but the effect in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RepeatRow {
    /// `f32`
    pub dtype: String,
    /// First row of its variant.
    pub first: bool,
    /// `strict`, or `numeric, strict` where they count the same.
    pub rule: String,
    /// Questions that have all their answers.
    pub questions: String,
    /// pass@k, for the table's k.
    pub pass: Vec<String>,
    /// The value that most answers give is right.
    pub majority: String,
    /// Accuracy of the worst repeat.
    pub lowest: String,
    /// Of the best.
    pub highest: String,
    /// Standard deviation of the repeats' accuracies.
    pub deviation: String,
    /// `2.14`: how many times fewer answers n are worth.
    pub design_effect: String,
}

/// The k of pass@k that a table has room for: the first above 1, and all repeats.
pub(super) fn pass_columns(record: &EvalRecord) -> Vec<usize> {
    const ROOM: usize = 4;
    let repeats = record.dtypes.iter().flat_map(|dtype| &dtype.rules).find_map(|rule| rule.repeats.as_ref());
    let mut columns: Vec<usize> =
        repeats.iter().flat_map(|repeats| &repeats.pass_at).map(|pass| pass.k).filter(|k| *k > 1).collect();
    if columns.len() > ROOM {
        columns.drain(ROOM - 1..columns.len() - 1);
    }
    columns
}

pub(super) fn repeat_rows(dtype: &DtypeRecord, columns: &[usize]) -> Vec<RepeatRow> {
    let with_repeats = dtype.rules.iter().filter_map(|rule| Some((rule, rule.repeats.as_ref()?)));
    let row = |(index, (rule, repeats)): (usize, (&RuleRecord, &Repeats))| RepeatRow {
        dtype: dtype.dtype.to_string(),
        first: index == 0,
        rule: rule.rule.clone(),
        questions: thousands(repeats.questions as u64),
        pass: columns.iter().map(|k| pass_at(repeats, *k)).collect(),
        majority: percent(repeats.majority),
        lowest: percent(repeats.lowest),
        highest: percent(repeats.highest),
        deviation: percent(repeats.standard_deviation),
        design_effect: design_effect(rule).map_or_else(nothing, |effect| format!("{effect:.2}")),
    };
    let rows = with_repeats.enumerate().map(row).collect();
    let same = |a: &RepeatRow, b: &RepeatRow| {
        let key = |row: &RepeatRow| RepeatRow { rule: String::new(), first: false, ..row.clone() };
        key(a) == key(b)
    };
    folded(rows, |row| &mut row.rule, same)
}

fn pass_at(repeats: &Repeats, k: usize) -> String {
    repeats.pass_at.iter().find(|pass| pass.k == k).map_or_else(nothing, |pass| percent(pass.value))
}

fn design_effect(rule: &RuleRecord) -> Option<f64> {
    rule.accuracy?.clustering.map(|clustering| clustering.design_effect)
}

/// `n counts all 4 completions of every question; intervals and p take answers to one question together (design effect 1.2 to 2.9: n is
/// worth so many times fewer)`. `None` where every answer stands for itself.
pub(crate) fn together(record: &EvalRecord) -> Option<String> {
    let repeats = record.plan.generation.repeats;
    let rules = || record.dtypes.iter().flat_map(|dtype| &dtype.rules);
    let counted = (repeats > 1).then(|| format!("n counts all {repeats} completions of every question"));
    let effects: Vec<f64> = rules().filter_map(design_effect).collect();
    let Some(clustering) = rules().find_map(|rule| rule.accuracy?.clustering) else {
        // Records of before answers were taken together.
        return counted.map(|counted| format!("{counted}, taken as independent"));
    };
    let least = effects.iter().copied().fold(f64::INFINITY, f64::min);
    let most = effects.iter().copied().fold(1.0, f64::max);
    let of = if clustering.clusters < record.plan.dataset.chosen {
        format!("to questions of one cluster ({} clusters)", thousands(clustering.clusters as u64))
    } else {
        "to one question".to_owned()
    };
    let intervals = format!(
        "intervals and p take answers {of} together (design effect {least:.1} to {most:.1}: n is worth so many times fewer)"
    );
    Some(counted.into_iter().chain([intervals]).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::eval::reading::tests::stored;
    use crate::jobs::eval::render;
    use crate::report::Format;
    use crate::score::PassAt;
    use crate::score::statistics::Clustering;

    /// A record of two variants, whose rules all have these repeats; `clusters` of 12 answers.
    fn record(ks: &[usize], clusters: usize) -> EvalRecord {
        let mut record = stored().record;
        record.plan.generation.repeats = *ks.last().unwrap();
        for rule in record.dtypes.iter_mut().flat_map(|dtype| &mut dtype.rules) {
            rule.repeats = Some(Repeats {
                repeats: record.plan.generation.repeats,
                questions: 6,
                pass_at: ks.iter().map(|k| PassAt { k: *k, value: *k as f64 / 1000.0 }).collect(),
                majority: 0.25,
                lowest: 0.125,
                highest: 0.75,
                standard_deviation: 0.0625,
            });
            if let Some(accuracy) = &mut rule.accuracy {
                accuracy.clustering = Some(Clustering { clusters, design_effect: 1.5 });
            }
        }
        record
    }

    #[test]
    fn the_table_has_room_for_four_k() {
        assert_eq!(pass_columns(&record(&[1, 2, 4, 8, 16], 6)), [2, 4, 8, 16]);
        assert_eq!(pass_columns(&record(&[1, 2, 4, 8, 16, 32, 50], 6)), [2, 4, 8, 50]);
        assert_eq!(pass_columns(&record(&[1, 2], 6)), [2]);
        assert_eq!(pass_columns(&stored().record), [0_usize; 0]);
    }

    #[test]
    fn every_format_has_the_table_and_the_caveat() {
        let record = record(&[1, 2, 4], 6);
        let caveat = "n counts all 4 completions of every question; intervals and p take answers to one question together (design effect 1.5 \
                      to 1.5: n is worth so many times fewer)";
        assert_eq!(together(&record).unwrap(), caveat);
        let terminal = render(&record, &Format::Terminal { colour: false }).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&terminal).contains(&words(caveat)), "{terminal}");
        assert!(
            words(&terminal).contains("variant rule questions pass@2 pass@4 maj@4 worst best sd effect"),
            "{terminal}"
        );
        assert!(words(&terminal).contains(" 6 0.2 0.4 25.0 12.5 75.0 6.2 1.50"), "{terminal}");
        assert!(terminal.lines().all(|line| line.chars().count() <= 80), "{terminal}");
        let markdown = render(&record, &Format::Markdown).unwrap();
        assert!(markdown.contains(caveat), "{markdown}");
        assert!(markdown.contains("| questions | pass@2 | pass@4 | maj@4 | worst repeat |"), "{markdown}");
        assert!(markdown.contains("| 6 | 0.2 | 0.4 | 25.0 | 12.5 | 75.0 | 6.2 | 1.50 |"), "{markdown}");
        let plain = render(&stored().record, &Format::Markdown).unwrap();
        assert!(!plain.contains("pass@") && !plain.contains("design effect"), "{plain}");
    }

    #[test]
    fn what_belongs_together_is_said_of_clusters_and_of_old_records_too() {
        let mut clustered = record(&[1], 2);
        clustered.dtypes[0].rules[0].accuracy.as_mut().unwrap().clustering =
            Some(Clustering { clusters: 2, design_effect: 3.0 });
        assert_eq!(
            together(&clustered).unwrap(),
            "intervals and p take answers to questions of one cluster (2 clusters) together (design effect 1.5 to 3.0: n is worth so many \
             times fewer)"
        );
        let mut old = stored().record;
        assert_eq!(together(&old), None);
        old.plan.generation.repeats = 3;
        assert_eq!(together(&old).unwrap(), "n counts all 3 completions of every question, taken as independent");
    }
}
