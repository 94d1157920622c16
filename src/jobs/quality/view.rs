//! What a quality template sees: the record, and the same as text that is ready to print.

use crate::report::{Format, ReportError, render_by};
use serde::Serialize;

use super::{
    Answer, AnswerCloseness, ColumnQuality, FirstDivergence, ModelQuality, Origin, PromptQuality, PromptSetPlan,
    QualityRecord, ShownToken,
};
use crate::report::words::{nothing, percent, thousands};
use crate::report::{awq, decoding, model, plain, variants, wrap, wrap_text};
use crate::score::statistics::Proportion;
use crate::score::{DiffPart, Verdict, word_diff};

/// Columns that a diff takes in a terminal, its indentation not counted.
const DIFF_WIDTH: usize = 76;

/// A quality run as text in a format, with the word diffs of at most `diffs` answers a model; a page shows all.
pub fn render_quality(record: &QualityRecord, format: &Format, diffs: usize) -> Result<String, ReportError> {
    render_by("quality", &QualityView::new(record, diffs), format)
}

/// The variables of a quality template.
#[derive(Debug, Clone, Serialize)]
pub struct QualityView<'a> {
    /// The whole record, field by field as in `record.json`.
    pub record: &'a QualityRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// Lines of provenance: (name, value).
    pub header: Vec<(&'static str, String)>,
    /// What the system message says.
    pub system: Option<String>,
    /// One a model.
    pub models: Vec<ModelView>,
    /// Answers are compared token by token.
    pub has_tokens: bool,
    /// Some prompt declares a check.
    pub has_checks: bool,
}

/// One model's tables and prompts.
#[derive(Debug, Clone, Serialize)]
pub struct ModelView {
    /// Its name.
    pub model: String,
    /// `f32`
    pub reference: String,
    /// `f32, the ground truth`, `the column float32`
    pub reference_in_words: String,
    /// Columns in order, the reference first.
    pub columns: Vec<String>,
    /// One a column other than the reference.
    pub closeness: Vec<ClosenessRow>,
    /// One a column.
    pub checks: Vec<ChecksRow>,
    /// One a kind.
    pub kinds: Vec<KindRow>,
    /// One a prompt.
    pub prompts: Vec<PromptView>,
    /// The answers that differ most from the reference's, those first.
    pub diffs: Vec<DiffView>,
    /// Answers that differ and are not among `diffs`.
    pub more_diffs: usize,
    /// Columns that did not finish: (name, first line of why).
    pub failures: Vec<(String, String)>,
}

/// A column against the reference.
#[derive(Debug, Clone, Serialize)]
pub struct ClosenessRow {
    /// `f16`
    pub column: String,
    /// Answers that both have.
    pub n: String,
    /// Equal ones.
    pub exact: String,
    /// The same in percent.
    pub exact_percent: String,
    /// `[72.3, 83.6]`, percent.
    pub exact_interval: String,
    /// `0.982`
    pub levenshtein: String,
    /// `0.991`
    pub jaro_winkler: String,
    /// `0.954`
    pub tokens: String,
    /// Median index of the first differing token.
    pub divergence: String,
    /// Median of the reference's margin there.
    pub margin: String,
    /// `1.02`
    pub length: String,
}

/// A column's checks.
#[derive(Debug, Clone, Serialize)]
pub struct ChecksRow {
    /// `f16`
    pub column: String,
    /// Answers.
    pub answers: String,
    /// Answers cut off.
    pub cut: String,
    /// Checks declared.
    pub checks: String,
    /// Checks passed.
    pub passed: String,
    /// The same in percent.
    pub percent: String,
    /// `[72.3, 83.6]`, percent.
    pub interval: String,
    /// `31/40`: prompts whose every check passed.
    pub prompts: String,
    /// Passed by the reference, failed here.
    pub lost: String,
    /// Failed by the reference, passed here.
    pub gained: String,
    /// More was lost than gained.
    pub is_damage: bool,
}

/// A kind of prompt in every column.
#[derive(Debug, Clone, Serialize)]
pub struct KindRow {
    /// `copying`
    pub kind: String,
    /// Checks declared by its prompts.
    pub checks: String,
    /// Checks passed, a column each.
    pub passed: Vec<String>,
    /// Answers equal to the reference's of its prompts, a column each but the reference: `3/4`.
    pub exact: Vec<String>,
}

/// A prompt with its answers.
#[derive(Debug, Clone, Serialize)]
pub struct PromptView {
    /// Its id.
    pub id: String,
    /// Its kind, or nothing.
    pub kind: String,
    /// What the user says, or nothing.
    pub text: String,
    /// Some answer is not the reference's.
    pub differs: bool,
    /// Some answer fails a check.
    pub failed: bool,
    /// One a column: `3/3 =`, `2/3 0.87`.
    pub cells: Vec<String>,
    /// One a column that answered.
    pub answers: Vec<AnswerView>,
}

/// An answer.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a template asks each of them by its name")]
pub struct AnswerView {
    /// `f16`
    pub column: String,
    /// It is the reference's.
    pub is_reference: bool,
    /// It is another than the reference's.
    pub differs: bool,
    /// The answer.
    pub text: String,
    /// The way from the reference's answer to it.
    pub diff: Vec<DiffPart>,
    /// `Levenshtein 0.87, Jaro-Winkler 0.93, tokens 0.61, length 1.02`, or nothing for the reference.
    pub figures: String,
    /// `token 12: f32 " the" (margin 0.02), here " a"`, or nothing.
    pub divergence: String,
    /// `cut by the token limit`, or nothing.
    pub cut: bool,
    /// What every check said.
    pub verdicts: Vec<Verdict>,
    /// A check failed.
    pub failed: bool,
}

/// An answer's difference, in lines that fit a terminal.
#[derive(Debug, Clone, Serialize)]
pub struct DiffView {
    /// The prompt.
    pub id: String,
    /// The column.
    pub column: String,
    /// As in [`AnswerView`].
    pub figures: String,
    /// Lines of what [`AnswerView`] says in one.
    pub divergence: Vec<String>,
    /// Lines of each failed check: `at most 2 sentences (found 3 sentences)`.
    pub failed_checks: Vec<Vec<String>>,
    /// Parts of each line.
    pub lines: Vec<Vec<DiffPart>>,
}

impl<'a> QualityView<'a> {
    /// Of a record, with the word diffs of at most `diffs` answers a model.
    pub fn new(record: &'a QualityRecord, diffs: usize) -> Result<Self, serde_json::Error> {
        let closeness = record.models.iter().flat_map(|model| &model.columns).filter_map(|one| one.against.as_ref());
        let has_checks = record.models.iter().flat_map(|model| &model.prompts).any(|prompt| !prompt.checks.is_empty());
        Ok(Self {
            record,
            record_json: serde_json::to_string_pretty(record)?,
            header: header(record),
            system: record.prompts.as_ref().and_then(|prompts| prompts.system.clone()),
            has_tokens: closeness.clone().any(|one| one.token_agreement.is_some()),
            has_checks,
            models: record.models.iter().map(|model| model_view(record, model, diffs)).collect(),
        })
    }
}

fn header(record: &QualityRecord) -> Vec<(&'static str, String)> {
    let set = record.prompts.as_ref().map(prompts);
    let mut lines = Vec::new();
    match &record.origin {
        Origin::Run(plan) => {
            lines.push(("model", model(&plan.target.model)));
            lines.extend(awq(&plan.target).map(|awq| ("awq", awq)));
            let further = variants(&plan.target).into_iter().map(|(name, what)| ("variant", format!("{name}: {what}")));
            lines.extend(further);
            lines.extend(set.map(|set| ("prompts", set)));
            let way = if plan.chat { "through the model's chat template" } else { "plain text" };
            lines.push(("asked", format!("{way}; {}", decoding(&plan.generation))));
            let sessions = record.models.iter().flat_map(|model| &model.columns).flat_map(|column| &column.sessions);
            let engine = sessions.map(|session| &session.engine).next();
            let words =
                |engine: &crate::engine::EngineInfo| format!("{} {} on {}", engine.name, engine.version, engine.device);
            lines.push(("engine", engine.map_or_else(nothing, words)));
        }
        Origin::Import(import) => {
            lines.push(("answers", import.source.clone()));
            lines.extend(set.map(|set| ("prompts", set)));
        }
    }
    lines
}

fn prompts(set: &PromptSetPlan) -> String {
    let version = set.version.map_or_else(String::new, |version| format!(" (version {version})"));
    let which = if set.selection == "all" { String::new() } else { format!(" ({})", set.selection) };
    format!("{}{version}: {} of {}{which}", set.name, set.chosen, set.count)
}

fn model_view(record: &QualityRecord, model: &ModelQuality, diffs: usize) -> ModelView {
    let columns: Vec<String> = model.columns.iter().map(|column| column.column.clone()).collect();
    let prompts: Vec<PromptView> = model.prompts.iter().map(|prompt| prompt_view(model, prompt)).collect();
    let (shown, more_diffs) = diff_views(model, diffs);
    ModelView {
        model: model.model.clone(),
        reference: model.reference.clone(),
        reference_in_words: reference_in_words(record, model),
        closeness: model.columns.iter().filter_map(closeness_row).collect(),
        checks: model.columns.iter().map(checks_row).collect(),
        kinds: kind_rows(model),
        prompts,
        diffs: shown,
        more_diffs,
        failures: model.columns.iter().filter_map(failure).collect(),
        columns,
    }
}

fn reference_in_words(record: &QualityRecord, model: &ModelQuality) -> String {
    let what = match (&record.origin, model.is_ground_truth, model.reference.as_str()) {
        (Origin::Import(_), ..) => return format!("the column {}", model.reference),
        (Origin::Run(_), true, _) => "the ground truth",
        (Origin::Run(plan), false, _) if plan.target.reference.is_some() => {
            "named by `--reference`, not the ground truth"
        }
        (Origin::Run(_), false, "f32") => "arithmetic on quantised weights, not the ground truth",
        (Origin::Run(_), false, _) => "the most exact precision of this run, for f32 is not in it",
    };
    format!("{}, {what}", model.reference)
}

fn closeness_row(column: &ColumnQuality) -> Option<ClosenessRow> {
    let against = column.against.as_ref()?;
    let or_nothing =
        |value: Option<f64>, digits: usize| value.map_or_else(nothing, |value| format!("{value:.digits$}"));
    Some(ClosenessRow {
        column: short(&column.column, 12),
        n: thousands(against.exact.n as u64),
        exact: thousands(against.exact.successes as u64),
        exact_percent: percent(against.exact.value),
        exact_interval: interval(against.exact),
        levenshtein: format!("{:.3}", against.levenshtein),
        jaro_winkler: format!("{:.3}", against.jaro_winkler),
        tokens: or_nothing(against.token_agreement, 3),
        divergence: or_nothing(against.median_divergence, 0),
        margin: or_nothing(against.median_margin, 2),
        length: or_nothing(against.length_ratio, 2),
    })
}

fn checks_row(column: &ColumnQuality) -> ChecksRow {
    let changed = |count: Option<usize>| count.map_or_else(nothing, |count| thousands(count as u64));
    let against = column.against.as_ref();
    let of = |proportion: Proportion| format!("{}/{}", proportion.successes, proportion.n);
    ChecksRow {
        column: short(&column.column, 12),
        answers: thousands(column.answers as u64),
        cut: changed(column.cut),
        checks: changed(column.checks.map(|checks| checks.n)),
        passed: changed(column.checks.map(|checks| checks.successes)),
        percent: column.checks.map_or_else(nothing, |checks| percent(checks.value)),
        interval: column.checks.map_or_else(nothing, interval),
        prompts: column.prompts_passed.map_or_else(nothing, of),
        lost: changed(against.map(|against| against.checks_lost)),
        gained: changed(against.map(|against| against.checks_gained)),
        is_damage: against.is_some_and(|against| against.checks_lost > against.checks_gained),
    }
}

fn interval(proportion: Proportion) -> String {
    format!("[{}, {}]", percent(proportion.low), percent(proportion.high))
}

fn kind_rows(model: &ModelQuality) -> Vec<KindRow> {
    let Some(first) = model.columns.first() else { return Vec::new() };
    let row = |(index, kind): (usize, &crate::jobs::quality::KindQuality)| {
        let cells = || model.columns.iter().filter_map(move |column| Some((column, column.kinds.get(index)?)));
        let declared = cells().map(|(_, kind)| kind.checks).max().unwrap_or_default();
        KindRow {
            kind: short(&kind.kind, 18),
            checks: thousands(declared as u64),
            passed: cells()
                .map(|(_, kind)| if kind.answers == 0 { nothing() } else { kind.checks_passed.to_string() })
                .collect(),
            exact: cells()
                .filter(|(column, _)| column.column != model.reference)
                .map(|(_, kind)| kind.exact.map_or_else(nothing, |exact| format!("{exact}/{}", kind.answers)))
                .collect(),
        }
    };
    first.kinds.iter().enumerate().map(row).collect()
}

fn prompt_view(model: &ModelQuality, prompt: &PromptQuality) -> PromptView {
    let truth = prompt.answers.iter().find(|answer| answer.column == model.reference);
    let answers: Vec<AnswerView> = prompt.answers.iter().map(|answer| answer_view(model, truth, answer)).collect();
    let cell = |column: &ColumnQuality| {
        let answer = prompt.answers.iter().find(|answer| answer.column == column.column);
        answer.map_or_else(nothing, cell)
    };
    PromptView {
        id: short(&prompt.id, 20),
        kind: prompt.kind.clone().unwrap_or_default(),
        text: prompt.text.clone().unwrap_or_default(),
        differs: answers.iter().any(|answer| answer.differs),
        failed: answers.iter().any(|answer| answer.failed),
        cells: model.columns.iter().map(cell).collect(),
        answers,
    }
}

/// Checks passed of those declared, and how close the text is to the reference's: `3/3 =`, `2/3 0.87`.
fn cell(answer: &Answer) -> String {
    let checks = (!answer.verdicts.is_empty()).then(|| format!("{}/{}", answer.passed(), answer.verdicts.len()));
    let close = answer
        .against
        .as_ref()
        .map(|against| if against.text.exact { "=".to_owned() } else { format!("{:.2}", against.text.levenshtein) });
    let words: Vec<String> = checks.into_iter().chain(close).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn answer_view(model: &ModelQuality, truth: Option<&Answer>, answer: &Answer) -> AnswerView {
    let differs = answer.against.as_ref().is_some_and(|against| !against.text.exact);
    AnswerView {
        column: answer.column.clone(),
        is_reference: answer.column == model.reference,
        differs,
        text: answer.text.clone(),
        diff: truth.filter(|_| differs).map_or_else(Vec::new, |truth| word_diff(&truth.text, &answer.text)),
        figures: answer.against.as_ref().map_or_else(String::new, figures),
        divergence: divergence(model, answer),
        cut: answer.finish.is_some_and(crate::engine::Finish::is_cut),
        failed: answer.passed() < answer.verdicts.len(),
        verdicts: answer.verdicts.clone(),
    }
}

fn figures(against: &AnswerCloseness) -> String {
    let text = &against.text;
    let tokens = against.token_agreement.map(|tokens| format!("tokens {tokens:.2}"));
    let length = text.length_ratio.map(|length| format!("length {length:.2}"));
    let similarities =
        [format!("Levenshtein {:.2}", text.levenshtein), format!("Jaro-Winkler {:.2}", text.jaro_winkler)];
    similarities.into_iter().chain(tokens).chain(length).collect::<Vec<_>>().join(", ")
}

fn divergence(model: &ModelQuality, answer: &Answer) -> String {
    let Some(FirstDivergence { index, reference, token, reference_margin, margin }) =
        answer.against.as_ref().and_then(|against| against.first_divergence.as_ref())
    else {
        return String::new();
    };
    let shown = |column: &str, token: &Option<ShownToken>, margin: &Option<f32>| {
        let token = token.as_ref().map_or_else(|| "nothing".to_owned(), |token| format!("{:?}", token.text));
        let margin = margin.map_or_else(String::new, |margin| format!(" (margin {margin:.3})"));
        format!("{column} {token}{margin}")
    };
    let (truth, own) = (shown(&model.reference, reference, reference_margin), shown(&answer.column, token, margin));
    format!("token {index}: {truth}, {own}")
}

/// The answers that differ most, and how many more there are.
fn diff_views(model: &ModelQuality, count: usize) -> (Vec<DiffView>, usize) {
    let mut differing: Vec<(f64, &PromptQuality, &Answer)> = Vec::new();
    for prompt in &model.prompts {
        for answer in &prompt.answers {
            let against = answer.against.as_ref().filter(|against| !against.text.exact);
            differing.extend(against.map(|against| (against.text.levenshtein, prompt, answer)));
        }
    }
    // Stable: equals stay in the set's order.
    differing.sort_by(|a, b| a.0.total_cmp(&b.0));
    let more = differing.len().saturating_sub(count);
    let views = differing.into_iter().take(count).filter_map(|(_, prompt, answer)| {
        let truth = prompt.answers.iter().find(|other| other.column == model.reference)?;
        let view = answer_view(model, Some(truth), answer);
        let failed = answer.verdicts.iter().filter(|verdict| !verdict.passed).map(|verdict| {
            let found = verdict.found.as_ref().map_or_else(String::new, |found| format!(" (found {found})"));
            wrap_text(&format!("{}{found}", verdict.check), DIFF_WIDTH - "failed: ".len())
        });
        Some(DiffView {
            id: plain(&prompt.id),
            column: plain(&answer.column),
            figures: view.figures,
            divergence: if view.divergence.is_empty() { Vec::new() } else { wrap_text(&view.divergence, DIFF_WIDTH) },
            failed_checks: failed.collect(),
            lines: wrap(&view.diff, DIFF_WIDTH),
        })
    });
    (views.collect(), more)
}

fn failure(column: &ColumnQuality) -> Option<(String, String)> {
    let why = column.failure.as_deref()?.lines().next().unwrap_or_default();
    Some((column.column.clone(), why.to_owned()))
}

/// A name that fits a table's cell: no longer than `width` characters, and without the mark between cells.
fn short(name: &str, width: usize) -> String {
    let name = plain(name).replace('|', "/");
    if name.chars().count() <= width {
        return name;
    }
    name.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}
