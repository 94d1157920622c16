//! The rows of the table.

use std::collections::HashMap;

use serde::Serialize;

use super::pairs::Pair;
use super::source::Source;
use crate::engine::Precision;
use crate::jobs::eval::{Cost, CostRow, DtypeRecord, Lengths, cost_rows_of};
use crate::record::{DeviceMemory, MemoryScope};
use crate::report::grouped;
use crate::score::Repeats;
use crate::score::statistics::{Paired, Proportion};

/// One run and variant, or one measured elsewhere. `None` means that nothing was measured.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonRow {
    /// Tells it from every other row: `awq`; of several runs `cpu awq`.
    pub label: String,
    /// What tells its run from the others; empty where there is one run.
    pub name: String,
    /// Index of the run; `None` for a row measured elsewhere.
    pub run: Option<usize>,
    /// The model's name.
    pub model: Option<String>,
    /// The engine's name and version.
    pub engine: String,
    /// The variant: `f32`, `awq`, …
    pub precision: String,
    /// The device in words.
    pub device: Option<String>,
    /// Index of the row that it is compared with: its own run's reference (f32, or what the run's command named), else f32 of another run
    /// of the same model.
    pub reference: Option<usize>,
    /// Index into the comparison's divergences, where the row has a reference.
    pub divergence: Option<usize>,
    /// Completions; with repeats, every repeat of every sample counts.
    pub n: Option<usize>,
    /// Completions whose text is not empty.
    pub answered: Option<usize>,
    /// Completions that a limit of tokens or the context cut off.
    pub cut: Option<usize>,
    /// One a rule of the comparison, in its order.
    pub scores: Vec<Score>,
    /// The same without repetition: rules that count the same are one.
    pub rules: Vec<RuleGroup>,
    /// How long the answers are.
    pub lengths: Option<Lengths>,
    /// Accuracy by the run's own headline and what right answers cost, a line a measure, against its own run's reference; none of a row
    /// measured elsewhere.
    pub costs: Vec<CostRow>,
    /// Tokens generated.
    pub output_tokens: Option<u64>,
    /// Wall time of generating, prompts included.
    pub generate_seconds: Option<f64>,
    /// Output tokens a second of generating.
    pub tokens_per_second: Option<f64>,
    /// The same, as a multiple of the reference's, where that is of the same run.
    pub speed_ratio: Option<f64>,
    /// Seconds until the engine was ready.
    pub load_seconds: Option<f64>,
    /// On a GPU what the work needed of its memory, else the process's peak.
    pub memory_bytes: Option<u64>,
    /// On a GPU, by its parts.
    pub device_memory: Option<DeviceMemory>,
    /// The most memory of the process that was resident at once.
    pub peak_memory_bytes: Option<u64>,
    /// The peak covers the whole process, not this variant alone.
    pub memory_is_process_wide: bool,
    /// Why the variant did not finish, if it did not.
    pub failure: Option<String>,
    /// Of a row measured elsewhere.
    pub note: Option<String>,
    /// Where a row measured elsewhere comes from.
    pub source: Option<String>,
}

/// What one rule made of one row.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// The rule.
    pub rule: String,
    /// Completions in which it found a value.
    pub extracted: Option<usize>,
    /// Of these, those that were cut off.
    pub extracted_from_cut: Option<usize>,
    /// Right ones of n, with Wilson's interval.
    pub accuracy: Option<Proportion>,
    /// Against the row's reference.
    pub against: Option<Paired>,
    /// The smallest difference from it, as a fraction of 1, that so many questions can show where so many answers change.
    pub smallest_difference: Option<f64>,
    /// The whole interval of the difference lies below 0.
    pub is_damage: bool,
    /// With several answers a question: what they show together.
    pub repeats: Option<Repeats>,
    /// What its right answers cost, against its own run's reference.
    pub cost: Option<Cost>,
}

/// Rules that count the same in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleGroup {
    /// `numeric, strict`
    pub names: String,
    /// Index into the row's scores.
    pub score: usize,
}

/// Groups equal scores, in order.
pub(in crate::compare) fn rule_groups(scores: &[Score]) -> Vec<RuleGroup> {
    let same = |one: &(usize, &Score), other: &(usize, &Score)| {
        let (one, other) = (one.1, other.1);
        (other.extracted, other.extracted_from_cut) == (one.extracted, one.extracted_from_cut)
            && (other.accuracy, other.against, &other.repeats) == (one.accuracy, one.against, &one.repeats)
    };
    let group = |group: Vec<(usize, &Score)>| RuleGroup {
        names: group.iter().map(|(_, score)| score.rule.as_str()).collect::<Vec<_>>().join(", "),
        score: group[0].0,
    };
    grouped(scores.iter().enumerate(), same).into_iter().map(group).collect()
}

/// The row that each row is compared with.
pub(in crate::compare) fn references(sources: &[Source]) -> Vec<Option<usize>> {
    let (mut of_runs, mut of_models) = (HashMap::new(), HashMap::new());
    let mut is_reference = Vec::with_capacity(sources.len());
    for (row, source) in sources.iter().enumerate() {
        let plan = &source.stored.record.plan;
        is_reference.push(plan.reference().as_ref() == Some(source.variant()));
        if is_reference[row] {
            of_runs.entry(source.run).or_insert(row);
        }
        // Of an unknown model nobody knows whether it is the same.
        if let Some(model) = plan.target.model.sha256.as_ref().filter(|_| *source.variant() == Precision::F32) {
            of_models.entry((model, source.questions())).or_insert(row);
        }
    }
    let reference = |(row, own): (usize, &Source)| {
        if is_reference[row] {
            return None;
        }
        let model = own.stored.record.plan.target.model.sha256.as_ref();
        let of_model = || of_models.get(&(model?, own.questions())).copied();
        of_runs.get(&own.run).copied().or_else(of_model)
    };
    sources.iter().enumerate().map(reference).collect()
}

/// What tables call the references: `reference` where several are called differently.
pub(in crate::compare) fn reference_name(sources: &[Source], references: &[Option<usize>]) -> String {
    let name = |index: &usize| sources.get(*index).map(|source| source.variant().to_string());
    let mut names: Vec<String> = references.iter().flatten().filter_map(name).collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => "f32".to_owned(),
        1 => names.remove(0),
        _ => "reference".to_owned(),
    }
}

pub(in crate::compare) fn rows(
    sources: &[Source],
    names: &[String],
    references: &[Option<usize>],
    pairs: &[Pair],
    rules: &[String],
) -> Vec<ComparisonRow> {
    let pairs: Pairs = pairs.iter().map(|pair| ((pair.rule.as_str(), pair.reference, pair.other), pair)).collect();
    let record = |index: usize| &sources[index].stored.record.dtypes[sources[index].dtype];
    let row = |((index, source), reference): ((usize, &Source), &Option<usize>)| {
        let own = record(index);
        let name = names.get(source.run).map_or("", String::as_str);
        let same_run = reference.filter(|reference| sources[*reference].run == source.run);
        let of_reference = same_run.and_then(|reference| record(reference).output_tokens_per_second);
        let speed_ratio = own.output_tokens_per_second.zip(of_reference).map(|(own, reference)| own / reference);
        let score = |rule: &String| score(own, rule, against(&pairs, rule, *reference, index));
        let scores: Vec<Score> = rules.iter().map(score).collect();
        let engine = own.sessions.first().map(|session| &session.engine);
        let measured = own.n > 0;
        ComparisonRow {
            label: format!("{name} {}", own.dtype).trim_start().to_owned(),
            name: name.to_owned(),
            run: Some(source.run),
            model: Some(source.stored.record.plan.target.model.name.clone()),
            engine: engine.map_or_else(String::new, |engine| format!("{} {}", engine.name, engine.version)),
            precision: own.dtype.to_string(),
            device: engine.map(|engine| engine.device.clone()),
            reference: *reference,
            divergence: None,
            n: Some(own.n),
            answered: measured.then_some(own.answered),
            cut: own.known_cut(),
            rules: rule_groups(&scores),
            scores,
            lengths: own.lengths,
            costs: cost_rows_of(own, &source.stored.record),
            output_tokens: own.output_tokens.filter(|_| measured),
            generate_seconds: own.generate_seconds,
            tokens_per_second: own.output_tokens_per_second,
            speed_ratio,
            load_seconds: own.load_seconds,
            memory_bytes: own.memory_bytes(),
            device_memory: own.device_memory,
            peak_memory_bytes: own.peak_memory.map(|peak| peak.bytes),
            memory_is_process_wide: own.peak_memory.is_some_and(|peak| peak.scope == MemoryScope::Process),
            failure: own.failure.clone(),
            note: None,
            source: None,
        }
    };
    sources.iter().enumerate().zip(references).map(row).collect()
}

/// By rule, the earlier row and the later one.
type Pairs<'a> = HashMap<(&'a str, usize, usize), &'a Pair>;

/// The pair of a row with its reference; the reference may stand on either side of it.
fn against(pairs: &Pairs, rule: &str, reference: Option<usize>, row: usize) -> Option<Paired> {
    let reference = reference?;
    let pair = pairs.get(&(rule, reference.min(row), reference.max(row)))?;
    Some(if pair.reference == reference { pair.paired } else { pair.paired.mirrored() })
}

fn score(record: &DtypeRecord, rule: &str, against: Option<Paired>) -> Score {
    let own = record.rule(rule);
    Score {
        rule: rule.to_owned(),
        extracted: own.filter(|_| record.n > 0).map(|own| own.extracted),
        extracted_from_cut: own.filter(|_| record.n > 0).map(|own| own.extracted_from_cut),
        accuracy: own.and_then(|own| own.accuracy),
        is_damage: against.is_some_and(|pair| pair.is_damage()),
        smallest_difference: against.map(|pair| pair.smallest_difference()),
        against,
        repeats: own.and_then(|own| own.repeats.clone()),
        cost: own.and_then(|own| own.cost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::statistics::{paired, wilson};

    fn score(rule: &str) -> Score {
        Score {
            rule: rule.to_owned(),
            extracted: Some(4),
            extracted_from_cut: Some(1),
            accuracy: wilson(3, 4),
            against: paired(&[true, true, false, true], &[true, true, true, false]),
            smallest_difference: None,
            is_damage: false,
            repeats: None,
            cost: None,
        }
    }

    #[test]
    fn rules_are_one_row_where_every_count_is_the_same() {
        let names = |scores: &[Score]| rule_groups(scores).into_iter().map(|group| group.names).collect::<Vec<_>>();
        assert_eq!(names(&[score("a"), score("b")]), ["a, b"]);
        let repeats = || Repeats {
            repeats: 2,
            questions: 2,
            pass_at: Vec::new(),
            majority: 0.5,
            lowest: 0.5,
            highest: 0.5,
            standard_deviation: 0.0,
        };
        for other in [
            Score { extracted: Some(3), ..score("b") },
            Score { extracted_from_cut: Some(0), ..score("b") },
            Score { accuracy: wilson(2, 4), ..score("b") },
            Score { against: paired(&[true, true, true, true], &[true, true, true, false]), ..score("b") },
            Score { repeats: Some(repeats()), ..score("b") },
        ] {
            assert_eq!(names(&[score("a"), other]), ["a", "b"]);
        }
    }

    #[test]
    fn the_reference_may_stand_on_either_side() {
        let paired = paired(&[true, true, false, true], &[false, false, true, true]).unwrap();
        let pair = Pair { rule: "r".to_owned(), reference: 0, other: 1, n: 4, smallest_difference: 0.1, paired };
        let pairs = Pairs::from([(("r", 0, 1), &pair)]);
        let against = |reference, row| against(&pairs, "r", Some(reference), row).unwrap();
        assert_eq!((against(0, 1).lost, against(0, 1).gained), (2, 1));
        assert_eq!((against(1, 0).lost, against(1, 0).gained), (1, 2));
        assert!(super::against(&pairs, "r", None, 0).is_none());
    }
}
