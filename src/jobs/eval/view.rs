//! What a template sees: the record's numbers, and the same as text that is ready to print.

use crate::report::{Format, ReportError, awq, decoding, model, render_by, variants};
use serde::Serialize;

use super::cost_rows::{CostRow, cost_rows};
use super::finding::sentences;
use super::placebo_rows::{PlaceboRow, placebo_rows, placebo_sentences};
use super::repeats::{RepeatRow, pass_columns, repeat_rows, together};
use super::rows::{
    AccuracyRow, ComparisonRow, HeadlineRow, SpeedRow, UntilRow, WeightRow, accuracy_rows, comparison_rows,
    headline_row, speed_row, until_rows, verdicts, weight_row,
};
use super::summary::thought_notes;
use super::{DatasetPlan, DtypeRecord, EvalPlan, EvalRecord, ProtocolPlan};
use crate::bundled;
use crate::engine::Precision;
use crate::record::MemoryScope;
use crate::report::words::nothing;

/// A record as text in a format.
pub fn render(record: &EvalRecord, format: &Format) -> Result<String, ReportError> {
    render_by("eval", &EvalView::new(record), format)
}

/// The variables of a report template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a template asks each of them by its name")]
pub struct EvalView<'a> {
    /// The whole record, field by field as in `record.json`.
    pub record: &'a EvalRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// `bundled (llama, 1.9 M parameters, stored as f32)`.
    pub model: String,
    /// `bundled-awq, awq-int4 (group 64)`: the model's AWQ form, where it lies in files of its own.
    pub awq: Option<String>,
    /// Further checkpoints: (variant, what it is).
    pub variants: Vec<(String, String)>,
    /// `bundled, split test: 200 of 200 rows`.
    pub dataset: String,
    /// `stepwise (version 1), through the model's chat template`.
    pub protocol: String,
    /// `gsm8k-cot (version 1)`: of rescored answers, whose rules scored them.
    pub rules: Option<String>,
    /// `greedy, at most 512 tokens`.
    pub decoding: String,
    /// `cpu 0.1.0 on 2 threads, AVX2`, of the first session there was.
    pub engine: String,
    /// The model is the one compiled into the program.
    pub bundled_model: bool,
    /// `GSM8K`.
    pub title: String,
    /// The problems are the ones compiled into the program.
    pub bundled_dataset: bool,
    /// The files hold quantised weights: f32 is arithmetic, not the ground truth.
    pub quantized_model: bool,
    /// The files are an AWQ checkpoint.
    pub awq_model: bool,
    /// `f32`: the variant that the others are compared with, whether the run has it or not.
    pub reference: String,
    /// It is in the run.
    pub has_reference: bool,
    /// f32 is in the run.
    pub has_f32: bool,
    /// The reference is f32 arithmetic on quantised weights.
    pub is_arithmetic: bool,
    /// Some variant is compared with it.
    pub has_comparison: bool,
    /// Some peak of memory covers the whole process.
    pub memory_is_process_wide: bool,
    /// Several completions a sample.
    pub repeats: usize,
    /// `numeric`: the rule of the first table and of the verdicts.
    pub rule: String,
    /// The first table: one a variant.
    pub headline: Vec<HeadlineRow>,
    /// What the run shows, a sentence a variant.
    pub verdicts: Vec<String>,
    /// What is implausible, a sentence each.
    pub findings: Vec<String>,
    /// One a variant and rule; rules that count the same are one row.
    pub accuracies: Vec<AccuracyRow>,
    /// One a variant other than the reference and rule, where that is in the run; rules that count the same are one row.
    pub comparisons: Vec<ComparisonRow>,
    /// Of a run that `--until` ended: the margin in points, and the error in percent, of its verdicts.
    pub until: Option<(String, String)>,
    /// One a variant other than the reference.
    pub until_rows: Vec<UntilRow>,
    /// The k of pass@k in the table of repeats.
    pub pass_columns: Vec<usize>,
    /// One a variant and rule, with several answers a question; rules that count the same are one row.
    pub repeat_rows: Vec<RepeatRow>,
    /// What intervals make of answers that belong together.
    pub together: Option<String>,
    /// What every variant's thoughts are, and who counted the tokens of servers, a sentence each.
    pub thoughts: Vec<String>,
    /// Accuracy and what right answers cost, a row a measure.
    pub costs: Vec<CostRow>,
    /// What each variant changes beyond a placebo, a row a measure.
    pub placebos: Vec<PlaceboRow>,
    /// The same about answers that flip, a sentence each.
    pub placebo_sentences: Vec<String>,
    /// What the files of each variant hold, one a variant.
    pub weights: Vec<WeightRow>,
    /// One a variant.
    pub speeds: Vec<SpeedRow>,
    /// Variants that did not finish: (name, first line of why).
    pub failures: Vec<(String, String)>,
}

impl<'a> EvalView<'a> {
    /// Of a record.
    pub fn new(record: &'a EvalRecord) -> Result<Self, serde_json::Error> {
        let plan = &record.plan;
        let process_wide =
            |dtype: &DtypeRecord| dtype.peak_memory.is_some_and(|peak| peak.scope == MemoryScope::Process);
        let comparisons: Vec<ComparisonRow> = record.dtypes.iter().flat_map(comparison_rows).collect();
        let pass_columns = pass_columns(record);
        let reference = plan.reference();
        let has_f32 = plan.dtypes.iter().any(|variant| *variant == Precision::F32);
        Ok(Self {
            record,
            record_json: serde_json::to_string_pretty(record)?,
            model: model(&plan.target.model),
            awq: awq(&plan.target),
            variants: variants(&plan.target),
            dataset: dataset(plan),
            protocol: protocol(plan, record.generated_under.as_ref().unwrap_or(&plan.protocol)),
            rules: record.generated_under.as_ref().map(|_| rules(&plan.protocol)),
            decoding: decoding(&plan.generation),
            engine: engine(record),
            bundled_model: plan.target.model.source == bundled::NAME,
            title: plan.title().to_owned(),
            bundled_dataset: plan.dataset.source == bundled::NAME,
            quantized_model: plan.target.model.quantized,
            awq_model: plan.target.model.stored_as.as_deref().is_some_and(|stored_as| stored_as.starts_with("awq")),
            reference: reference.map_or_else(|| "f32".to_owned(), |reference| reference.to_string()),
            has_reference: plan.reference().is_some(),
            has_f32,
            is_arithmetic: has_f32 && plan.target.model.quantized && plan.target.reference.is_none(),
            has_comparison: !comparisons.is_empty(),
            memory_is_process_wide: record.dtypes.iter().any(process_wide),
            repeats: plan.generation.repeats,
            rule: record.headline().to_owned(),
            headline: record.dtypes.iter().map(|dtype| headline_row(record, dtype)).collect(),
            verdicts: verdicts(record),
            findings: sentences(&record.findings),
            accuracies: record.dtypes.iter().flat_map(accuracy_rows).collect(),
            comparisons,
            until: record
                .until
                .as_ref()
                .map(|until| (until.margin_points.to_string(), format!("{:.0}", until.error * 100.0))),
            until_rows: until_rows(record),
            repeat_rows: record.dtypes.iter().flat_map(|dtype| repeat_rows(dtype, &pass_columns)).collect(),
            pass_columns,
            together: together(record),
            thoughts: [
                thought_notes(&record.dtypes),
                record.dtypes.iter().filter_map(|dtype| dtype.counted.clone()).collect(),
            ]
            .concat(),
            costs: cost_rows(record),
            placebos: placebo_rows(&record.placebos, record.headline()),
            placebo_sentences: placebo_sentences(&record.placebos, record.headline()),
            weights: record.dtypes.iter().map(|dtype| weight_row(&plan.target, &dtype.dtype)).collect(),
            speeds: record.dtypes.iter().map(speed_row).collect(),
            failures: record.dtypes.iter().filter_map(failure).collect(),
        })
    }
}

pub(crate) fn dataset(plan: &EvalPlan) -> String {
    let dataset = &plan.dataset;
    let which = if dataset.selection == "all" { String::new() } else { format!(" ({})", dataset.selection) };
    let task = plan.task.as_ref().map(|task| format!("{}: ", task.title)).unwrap_or_default();
    let left_out = dataset.left_out.map(|rows| format!("; {rows} without a number are left out")).unwrap_or_default();
    let DatasetPlan { name, split, chosen, rows, .. } = dataset;
    let split = if split.is_empty() { String::new() } else { format!(", split {split}") };
    format!("{task}{name}{split}: {chosen} of {rows} rows{which}{left_out}")
}

/// Whose prompts were put, and how; of completions made elsewhere only the rules are known.
pub(crate) fn protocol(plan: &EvalPlan, protocol: &ProtocolPlan) -> String {
    if plan.is_made_elsewhere() {
        return format!("the rules of {}; prompts unknown", rules(protocol));
    }
    let way = if protocol.chat { "through the model's chat template" } else { "plain text" };
    format!("{}, {way}", rules(protocol))
}

fn rules(protocol: &ProtocolPlan) -> String {
    format!("{} (version {})", protocol.name, protocol.version)
}

fn engine(record: &EvalRecord) -> String {
    let first = record.dtypes.iter().flat_map(|dtype| &dtype.sessions).map(|session| &session.engine).next();
    first.map_or_else(nothing, |engine| format!("{} {} on {}", engine.name, engine.version, engine.device))
}

fn failure(dtype: &DtypeRecord) -> Option<(String, String)> {
    let why = dtype.failure.as_deref()?.lines().next().unwrap_or_default();
    Some((dtype.dtype.to_string(), why.to_owned()))
}
