//! The rows of an evaluation's tables as text.

use serde::Serialize;

use super::{
    DEFAULT_MARGIN_POINTS, DtypeRecord, EvalRecord, Judged, RuleRecord, UntilRecord, UntilVariant, unreadable, verdict,
};
use crate::engine::Precision;
use crate::record::{TargetPlan, VariantName};
use crate::report::grouped;
use crate::report::words::{nothing, p_value, percent, points, seconds_in_words, thousands};
use crate::score::Shown;
use crate::score::statistics::{Paired, Proportion};
use crate::text::bytes;

/// What people come for, of one variant under the headline rule.
#[derive(Debug, Clone, Serialize)]
pub struct HeadlineRow {
    /// `f32`
    pub dtype: String,
    /// `78.5`, percent of n.
    pub accuracy: String,
    /// `72.3-83.6`, percent: Wilson's.
    pub interval: String,
    /// `-0.5` percentage points against the reference; empty for the reference itself.
    pub delta: String,
    /// It is shown to be worse than the reference.
    pub is_damage: bool,
    /// Answers in which the rule found a value.
    pub extracted: String,
    /// Answers that the limit of tokens or the context cut off.
    pub cut: String,
    /// Output tokens a second.
    pub tokens_per_second: String,
    /// Seconds.
    pub load_seconds: String,
    /// On a GPU the device's, else the process's peak.
    pub memory: String,
}

/// Accuracy of one variant under one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccuracyRow {
    /// `f32`
    pub dtype: String,
    /// First row of its variant.
    pub first: bool,
    /// `strict`, or `numeric, strict` where they count the same.
    pub rule: String,
    /// `1,319`
    pub n: String,
    /// Not empty.
    pub answered: String,
    /// A value was found.
    pub extracted: String,
    /// Cut off by the limit of tokens or the context.
    pub cut: String,
    /// Of the extracted values, those of answers that were cut off.
    pub from_cut: String,
    /// The value is right.
    pub correct: String,
    /// `78.5`, percent of n.
    pub accuracy: String,
    /// `[72.3, 83.6]`, percent.
    pub interval: String,
    /// `-0.5` percentage points against the reference, or `n/a`.
    pub delta: String,
}

/// One variant against the reference under one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparisonRow {
    /// `f16`
    pub dtype: String,
    /// First row of its variant.
    pub first: bool,
    /// `strict`
    pub rule: String,
    /// Completions that both have.
    pub n: String,
    /// `-0.5`, percentage points.
    pub delta: String,
    /// `[-1.5, +0.5]`
    pub interval: String,
    /// Right in the reference only.
    pub lost: String,
    /// Right in this one only.
    pub gained: String,
    /// `0.625`
    pub p: String,
    /// `2.1`: the smallest difference in percentage points that so many questions can show.
    pub smallest: String,
    /// The interval lies below 0.
    pub is_damage: bool,
}

/// What the files of one variant hold its weights in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WeightRow {
    /// `f32`
    pub dtype: String,
    /// `Q4_K_M`
    pub stored_as: String,
    /// `4.8`: scales, zero points, embeddings and norms have their share.
    pub bits: String,
    /// `105.5 MB`
    pub bytes: String,
}

/// Lengths, speed, load time and memory of one variant.
#[derive(Debug, Clone, Serialize)]
pub struct SpeedRow {
    /// `f32`
    pub dtype: String,
    /// `cpu`
    pub engine: String,
    /// The device in words.
    pub device: String,
    /// Output tokens a second.
    pub tokens_per_second: String,
    /// Seconds.
    pub load_seconds: String,
    /// `120.3 MB`, of the process.
    pub peak_memory: String,
    /// On a GPU: weights, KV cache at its fullest, workspace, and all that was reserved.
    pub device_memory: Option<[String; 4]>,
    /// Answers whose text is not empty.
    pub answered: String,
    /// Generated over all completions.
    pub output_tokens: String,
    /// Mean of an answer.
    pub mean_tokens: String,
    /// `1.04`: its ratio to the reference's.
    pub length_ratio: String,
    /// `[1.01, 1.07]`
    pub length_interval: String,
    /// Cut off by the limit of tokens or the context.
    pub cut: String,
    /// Completions.
    pub n: String,
    /// Seconds of generating.
    pub generate_seconds: String,
}

/// What `--until` showed of one variant.
#[derive(Debug, Clone, Serialize)]
pub struct UntilRow {
    /// `awq`
    pub dtype: String,
    /// `no worse`, `worse` or `nothing`.
    pub shown: String,
    /// Questions that it took.
    pub questions: String,
    /// Of so many.
    pub of: String,
    /// Right in the reference alone.
    pub lost: String,
    /// Right here alone.
    pub gained: String,
    /// `-0.5` percentage points.
    pub delta: String,
    /// Lower bound, whenever one looks.
    pub low: String,
    /// Upper bound.
    pub high: String,
}

pub(super) fn until_rows(record: &EvalRecord) -> Vec<UntilRow> {
    let row = |one: &UntilVariant, all: usize| UntilRow {
        dtype: one.variant.to_string(),
        shown: match one.shown {
            Shown::Worse => "worse",
            Shown::NoWorse => "no worse",
            Shown::Nothing => "nothing",
        }
        .to_owned(),
        questions: thousands(one.questions as u64),
        of: thousands(all as u64),
        lost: thousands(one.lost as u64),
        gained: thousands(one.gained as u64),
        delta: one.difference.map_or_else(nothing, points),
        low: points(one.low),
        high: points(one.high),
    };
    let rows = |until: &UntilRecord| until.variants.iter().map(|one| row(one, until.questions)).collect();
    record.until.as_ref().map_or_else(Vec::new, rows)
}

pub(super) fn headline_row(record: &EvalRecord, dtype: &DtypeRecord) -> HeadlineRow {
    let rule = dtype.rule(record.headline());
    let accuracy = rule.and_then(|rule| rule.accuracy);
    let against = rule.and_then(|rule| rule.against);
    let is_reference = record.plan.reference().as_ref() == Some(&dtype.dtype);
    let counted = |count: usize| if dtype.n == 0 { nothing() } else { thousands(count as u64) };
    let seconds = |value: Option<f64>| value.map_or_else(nothing, seconds_in_words);
    HeadlineRow {
        dtype: dtype.dtype.to_string(),
        accuracy: accuracy.map_or_else(nothing, |accuracy| percent(accuracy.value)),
        interval: accuracy
            .map_or_else(nothing, |accuracy| format!("{}-{}", percent(accuracy.low), percent(accuracy.high))),
        delta: against
            .map_or_else(|| if is_reference { String::new() } else { nothing() }, |paired| points(paired.difference)),
        is_damage: against.is_some_and(|paired| paired.is_damage()),
        extracted: rule.map_or_else(nothing, |rule| counted(rule.extracted)),
        cut: dtype.known_cut().map_or_else(nothing, |cut| thousands(cut as u64)),
        tokens_per_second: dtype.output_tokens_per_second.map_or_else(nothing, |speed| format!("{speed:.1}")),
        load_seconds: seconds(dtype.load_seconds),
        memory: dtype.memory_bytes().map_or_else(nothing, bytes),
    }
}

/// What `--until` has shown of a variant, by the headline rule, in a sentence: it takes the place of the interval's verdict, which holds
/// for a number of questions that was fixed beforehand.
pub(crate) fn until_sentence(record: &EvalRecord, dtype: &DtypeRecord) -> Option<String> {
    let until = record.until.as_ref().filter(|until| until.rule == record.headline() && dtype.failure.is_none())?;
    unreadable(dtype, &until.rule).is_none().then(|| until.sentence(&dtype.dtype))?
}

/// Against the reference, where the run has it; else each variant alone.
pub(super) fn verdicts(record: &EvalRecord) -> Vec<String> {
    let rule = record.headline();
    let reference = record.plan.reference();
    let reference = record.dtypes.iter().find(|dtype| Some(&dtype.dtype) == reference.as_ref() && dtype.n > 0);
    let others = record.dtypes.iter().filter(|dtype| reference.is_none_or(|reference| reference.dtype != dtype.dtype));
    let sentence = |dtype: &DtypeRecord| {
        if let Some(until) = until_sentence(record, dtype) {
            return until;
        }
        let against = dtype.rule(rule).and_then(|rule| rule.against);
        verdict(Judged::of(dtype), reference.map(Judged::of).zip(against), rule, DEFAULT_MARGIN_POINTS)
    };
    let mut sentences: Vec<String> = others.map(sentence).collect();
    if sentences.is_empty() {
        sentences.extend(record.dtypes.iter().map(sentence));
    }
    sentences
}

/// Rows that differ in nothing but the rule become one, which names all of theirs.
pub(super) fn folded<R>(rows: Vec<R>, rule: fn(&mut R) -> &mut String, same: fn(&R, &R) -> bool) -> Vec<R> {
    let fold = |mut group: Vec<R>| {
        let names: Vec<String> = group.iter_mut().map(|row| std::mem::take(rule(row))).collect();
        let mut first = group.swap_remove(0);
        *rule(&mut first) = names.join(", ");
        first
    };
    grouped(rows, same).into_iter().map(fold).collect()
}

pub(super) fn accuracy_rows(dtype: &DtypeRecord) -> Vec<AccuracyRow> {
    let row = |(index, rule): (usize, &RuleRecord)| AccuracyRow {
        dtype: dtype.dtype.to_string(),
        first: index == 0,
        rule: rule.rule.clone(),
        n: thousands(dtype.n as u64),
        answered: thousands(dtype.answered as u64),
        extracted: thousands(rule.extracted as u64),
        cut: dtype.known_cut().map_or_else(nothing, |cut| thousands(cut as u64)),
        from_cut: dtype.known_cut().map_or_else(nothing, |_| thousands(rule.extracted_from_cut as u64)),
        correct: rule.accuracy.map_or_else(nothing, |accuracy| thousands(accuracy.successes as u64)),
        accuracy: rule.accuracy.map_or_else(nothing, |accuracy| percent(accuracy.value)),
        interval: rule
            .accuracy
            .map_or_else(nothing, |Proportion { low, high, .. }| format!("{}-{}", percent(low), percent(high))),
        delta: rule.against.map_or_else(nothing, |paired| points(paired.difference)),
    };
    let rows = dtype.rules.iter().enumerate().map(row).collect();
    let same = |a: &AccuracyRow, b: &AccuracyRow| {
        let key = |row: &AccuracyRow| AccuracyRow { rule: String::new(), first: false, ..row.clone() };
        key(a) == key(b)
    };
    folded(rows, |row| &mut row.rule, same)
}

pub(super) fn comparison_rows(dtype: &DtypeRecord) -> Vec<ComparisonRow> {
    let compared = dtype.rules.iter().filter_map(|rule| Some((&rule.rule, rule.against?)));
    let row = |(index, (rule, paired)): (usize, (&String, Paired))| ComparisonRow {
        dtype: dtype.dtype.to_string(),
        first: index == 0,
        rule: rule.clone(),
        n: thousands(paired.n() as u64),
        delta: points(paired.difference),
        interval: format!("[{}, {}]", points(paired.difference_low), points(paired.difference_high)),
        lost: thousands(paired.lost as u64),
        gained: thousands(paired.gained as u64),
        p: p_value(paired.mcnemar_p),
        smallest: percent(paired.smallest_difference()),
        is_damage: paired.is_damage(),
    };
    let rows = compared.enumerate().map(row).collect();
    let same = |a: &ComparisonRow, b: &ComparisonRow| {
        let key = |row: &ComparisonRow| ComparisonRow { rule: String::new(), first: false, ..row.clone() };
        key(a) == key(b)
    };
    folded(rows, |row| &mut row.rule, same)
}

/// Of the files that a variant is computed from: its own, the model's AWQ form, or the model's.
pub(super) fn weight_row(target: &TargetPlan, dtype: &VariantName) -> WeightRow {
    let own = target.variants.get(dtype).map(|plan| (plan.stored_as.clone(), plan.weights));
    let awq =
        target.awq.as_ref().filter(|_| *dtype == Precision::Awq).map(|awq| (Some(awq.stored_as.clone()), awq.weights));
    let model = || (target.model.stored_as.clone(), target.model.weights);
    let (stored_as, weights) = own.or(awq).unwrap_or_else(model);
    WeightRow {
        dtype: dtype.to_string(),
        stored_as: stored_as.unwrap_or_else(nothing),
        bits: weights.map_or_else(nothing, |weights| format!("{:.1}", weights.bits_per_weight)),
        bytes: weights.map_or_else(nothing, |weights| bytes(weights.bytes)),
    }
}

pub(super) fn speed_row(dtype: &DtypeRecord) -> SpeedRow {
    let engine = dtype.sessions.first().map(|session| &session.engine);
    let seconds = |value: Option<f64>| value.map_or_else(nothing, seconds_in_words);
    let ratio = dtype.lengths.and_then(|lengths| lengths.ratio);
    SpeedRow {
        dtype: dtype.dtype.to_string(),
        engine: engine.map_or_else(nothing, |engine| engine.name.clone()),
        device: engine.map_or_else(nothing, |engine| engine.device.clone()),
        tokens_per_second: dtype.output_tokens_per_second.map_or_else(nothing, |speed| format!("{speed:.1}")),
        load_seconds: seconds(dtype.load_seconds),
        peak_memory: dtype.peak_memory.map_or_else(nothing, |peak| bytes(peak.bytes)),
        device_memory: dtype.device_memory.map(|memory| {
            [memory.weights_bytes, memory.kv_cache_bytes, memory.workspace_bytes, memory.reserved_bytes].map(bytes)
        }),
        answered: if dtype.n == 0 { nothing() } else { thousands(dtype.answered as u64) },
        mean_tokens: dtype.lengths.map_or_else(nothing, |lengths| format!("{:.1}", lengths.mean_output_tokens)),
        length_ratio: ratio.map_or_else(nothing, |ratio| format!("{:.2}", ratio.value)),
        length_interval: ratio.map_or_else(nothing, |ratio| format!("[{:.2}, {:.2}]", ratio.low, ratio.high)),
        output_tokens: dtype.output_tokens.filter(|_| dtype.n > 0).map_or_else(nothing, thousands),
        cut: dtype.known_cut().map_or_else(nothing, |cut| thousands(cut as u64)),
        n: thousands(dtype.n as u64),
        generate_seconds: seconds(dtype.generate_seconds),
    }
}
