//! What a perplexity's template sees: the record's numbers, and the same as text that is ready to print.

use crate::report::{Format, ReportError, render_by};
use serde::Serialize;

use super::detail_view::{CONTEXT_CHARACTERS, DepartureRow, SpreadRow, departure_row, place, spread_row};
use super::numbers::{error, percentage, quoted, quoted_end, signed, significant};
use super::{Divergence, DtypePerplexity, Opinion, PerplexityRecord, Reading, WindowPlan, WorstToken};
use crate::report::words::{nothing, seconds_in_words, thousands};
use crate::report::{awq, model, variants};
use crate::score::NEAR_TIE_NATS;
use crate::text::bytes;

/// A perplexity as text in a format, with this many of the worst tokens of each variant.
pub fn render_perplexity(record: &PerplexityRecord, format: &Format, worst: usize) -> Result<String, ReportError> {
    render_by("perplexity", &PerplexityView::new(record, worst), format)
}

/// The variables of a perplexity's template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct PerplexityView<'a> {
    /// The whole record, field by field.
    pub record: &'a PerplexityRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// `bundled (llama, 1.8 M parameters, stored as f32)`.
    pub model: String,
    /// `bundled-awq, awq-int4 (group 64)`: the model's AWQ form, where it lies in files of its own.
    pub awq: Option<String>,
    /// Further checkpoints: (variant, what it is).
    pub variants: Vec<(String, String)>,
    /// `bundled, 240 rows, 61.2 kB: 20,311 tokens`.
    pub text: String,
    /// `20,310 tokens, 61,203 bytes`.
    pub scored: String,
    /// How the text becomes documents, and which of their tokens are scored.
    pub reading: &'static str,
    /// `79 of 512 tokens at most, 256 apart`.
    pub windows: String,
    /// How tokens and windows belong together, in one sentence.
    pub rule: String,
    /// What stands before the text.
    pub bos: String,
    /// `cpu 0.1.0 on CPU, 2 threads, AVX2`.
    pub engine: String,
    /// What the user broke off, if they did.
    pub interrupted: Option<String>,
    /// `f32`: the variant that the others are compared with, whether the run has it or not.
    pub reference: String,
    /// It is in the run.
    pub has_reference: bool,
    /// Some variant is compared with it.
    pub has_comparison: bool,
    /// One a variant.
    pub perplexities: Vec<PerplexityRow>,
    /// One a variant other than the reference, where that is in the run.
    pub divergences: Vec<DivergenceRow>,
    /// The same variants: how each divergence is spread. None of a record of before that was computed.
    pub spreads: Vec<SpreadRow>,
    /// The same variants, where the answers of a greedy run were read: where each would leave them.
    pub departures: Vec<DepartureRow>,
    /// Up to this margin a departure is a near-tie, nats.
    pub near_tie: String,
    /// What is one observation: `rows read by themselves`, or `windows`.
    pub observations: [&'static str; 2],
    /// `(dtype, why)` of every variant that did not finish.
    pub failures: Vec<(String, String)>,
}

/// One variant's own figures.
#[derive(Debug, Clone, Serialize)]
pub struct PerplexityRow {
    /// `f32`
    pub dtype: String,
    /// Nats a token.
    pub nats: String,
    /// Its standard error.
    pub nats_error: String,
    /// exp(nats).
    pub perplexity: String,
    /// Its standard error.
    pub perplexity_error: String,
    /// Its 95 % interval.
    pub interval: String,
    /// Bits a byte of text.
    pub bits_per_byte: String,
    /// Seconds in the engine.
    pub seconds: String,
    /// Seconds until it was ready.
    pub load_seconds: String,
    /// Weights in memory.
    pub weights: String,
}

/// One variant against the reference on the same tokens.
#[derive(Debug, Clone, Serialize)]
pub struct DivergenceRow {
    /// `f16`
    pub dtype: String,
    /// Perplexity against the reference's, percent: `+0.0123`.
    pub perplexity_change: String,
    /// Its standard error.
    pub perplexity_change_error: String,
    /// Log-probability of the text's token, nats: negative where it is worse than the reference's.
    pub log_probability_change: String,
    /// Its standard error.
    pub log_probability_change_error: String,
    /// Worse than the reference by more than 1.96 standard errors.
    pub is_damage: bool,
    /// Percent of tokens with the same most probable token.
    pub same_best: String,
    /// Its standard error, percentage points.
    pub same_best_error: String,
    /// Mean KL divergence, nats a token.
    pub kl_mean: String,
    /// Its standard error.
    pub kl_mean_error: String,
    /// Half are below.
    pub kl_median: String,
    /// 90 % are below.
    pub kl_p90: String,
    /// 95 % are below.
    pub kl_p95: String,
    /// 99 % are below.
    pub kl_p99: String,
    /// 99.9 % are below.
    pub kl_p99_9: String,
    /// The largest.
    pub kl_maximum: String,
    /// The tokens with the largest divergence, as many as were asked for.
    pub worst: Vec<WorstRow>,
}

/// A token at which a variant and the reference disagree.
#[derive(Debug, Clone, Serialize)]
pub struct WorstRow {
    /// Its place in the text.
    pub position: String,
    /// `token 1,234`; of a run's answers `sample 3, token 12`.
    pub place: String,
    /// KL divergence, nats.
    pub kl: String,
    /// The end of the text before it, quoted.
    pub context: String,
    /// The token, quoted.
    pub token: String,
    /// The reference's first choice, quoted, and its probability in percent.
    pub f32_best: (String, String),
    /// This variant's.
    pub this_best: (String, String),
    /// The text's token's probability in the reference, percent.
    pub f32_token: String,
    /// In this variant.
    pub this_token: String,
}

impl<'a> PerplexityView<'a> {
    /// Of a record, with this many of the worst tokens of each variant.
    pub fn new(record: &'a PerplexityRecord, worst: usize) -> Result<Self, serde_json::Error> {
        let windows = &record.windows;
        let reference = record.target.reference_among(record.dtypes.iter().map(|dtype| &dtype.dtype));
        let divergences: Vec<DivergenceRow> =
            record.dtypes.iter().filter_map(|dtype| divergence_row(dtype, worst)).collect();
        let each = match record.text.reading {
            Reading::Chat => "each row",
            Reading::Answers => "each prompt",
            Reading::Plain | Reading::Joined => "the text",
        };
        let is_of_run = record.text.reading == Reading::Answers;
        Ok(Self {
            record,
            record_json: serde_json::to_string_pretty(record)?,
            model: model(&record.target.model),
            awq: awq(&record.target),
            variants: variants(&record.target),
            text: text(record),
            scored: format!(
                "{} tokens, {} bytes",
                thousands(windows.scored_tokens as u64),
                thousands(windows.scored_bytes as u64)
            ),
            windows: windows_in_words(windows, is_of_run),
            reading: match record.text.reading {
                Reading::Plain => "one text, every token scored but the first",
                Reading::Joined => "rows joined to one text, every token scored but the first",
                Reading::Chat => "each row by itself: the question as chat, then the answer, scored",
                Reading::Answers => "each answer by itself: its prompt, then the answer, scored",
            },
            rule: rule(windows, is_of_run),
            bos: record.text.bos.clone().map_or_else(|| "none".to_owned(), |bos| format!("{bos} before {each}")),
            engine: record
                .dtypes
                .iter()
                .find_map(|dtype| dtype.engine.as_ref())
                .map_or_else(nothing, |engine| format!("{} {} on {}", engine.name, engine.version, engine.device)),
            interrupted: (windows.done < windows.count)
                .then(|| format!("interrupted: these figures are of the first {} windows", windows.done)),
            has_reference: reference.is_some(),
            reference: reference.map_or_else(|| "f32".to_owned(), |reference| reference.to_string()),
            has_comparison: !divergences.is_empty(),
            perplexities: record.dtypes.iter().map(perplexity_row).collect(),
            divergences,
            spreads: record.dtypes.iter().filter_map(spread_row).collect(),
            departures: record.dtypes.iter().filter_map(|dtype| departure_row(dtype, worst)).collect(),
            near_tie: near_tie(record).to_string(),
            observations: if is_of_run {
                ["questions", "clusters of them"]
            } else {
                ["rows read by themselves", "windows"]
            },
            failures: record.dtypes.iter().filter_map(failure).collect(),
        })
    }
}

/// The record's threshold.
fn near_tie(record: &PerplexityRecord) -> f64 {
    let of = |dtype: &DtypePerplexity| Some(dtype.against.as_ref()?.departures.as_ref()?.near_tie_nats);
    record.dtypes.iter().find_map(of).unwrap_or(NEAR_TIE_NATS)
}

fn windows_in_words(windows: &WindowPlan, is_of_run: bool) -> String {
    let [count, window, stride] =
        [windows.count, windows.window, windows.stride].map(|number| thousands(number as u64));
    if is_of_run {
        format!("{count}, one an answer")
    } else {
        format!("{count} of {window} tokens at most, {stride} apart")
    }
}

fn rule(windows: &WindowPlan, is_of_run: bool) -> String {
    if is_of_run {
        return "every token of an answer, with all before it".to_owned();
    }
    let least = thousands(windows.least_context as u64);
    format!("each token once, with {least} or more before it (fewer near the begin)")
}

fn text(record: &PerplexityRecord) -> String {
    let (text, windows) = (&record.text, &record.windows);
    let rows = match (text.rows, &text.answers_of) {
        (None, _) => String::new(),
        (Some(rows), None) => format!("{} rows, ", thousands(rows as u64)),
        (Some(answers), Some(variant)) => format!("{} answers of {variant}, ", thousands(answers as u64)),
    };
    let limit = if windows.tokens < text.tokens {
        format!(", the first {}", thousands(windows.tokens as u64))
    } else {
        String::new()
    };
    format!("{}, {rows}{}: {} tokens{limit}", text.name, bytes(text.bytes as u64), thousands(text.tokens as u64))
}

fn perplexity_row(dtype: &DtypePerplexity) -> PerplexityRow {
    let (nats, perplexity) = (dtype.nats_per_token, dtype.perplexity);
    let fixed = |value: Option<f64>| value.map_or_else(nothing, |value| format!("{value:.4}"));
    // Perplexities run from 1 to 1e5: five digits or so, and as many decimals for the error as for the value.
    let decimals = match perplexity.map_or(0.0, |perplexity| perplexity.value) {
        ..100.0 => 3,
        ..10_000.0 => 1,
        _ => 0,
    };
    let digits = |value: Option<f64>| value.map_or_else(nothing, |value| format!("{value:.decimals$}"));
    let engine = dtype.engine.as_ref();
    PerplexityRow {
        dtype: dtype.dtype.to_string(),
        nats: fixed(nats.map(|nats| nats.value)),
        nats_error: fixed(nats.and_then(|nats| nats.standard_error)),
        perplexity: digits(perplexity.map(|perplexity| perplexity.value)),
        perplexity_error: digits(perplexity.and_then(|perplexity| perplexity.standard_error)),
        interval: perplexity
            .and_then(|perplexity| perplexity.low.zip(perplexity.high))
            .map_or_else(nothing, |(low, high)| format!("[{low:.decimals$}, {high:.decimals$}]")),
        bits_per_byte: fixed(dtype.bits_per_byte.map(|bits| bits.value)),
        seconds: dtype.seconds.map_or_else(nothing, seconds_in_words),
        load_seconds: engine.map_or_else(nothing, |engine| seconds_in_words(engine.load.total_seconds)),
        weights: engine.and_then(|engine| engine.weight_bytes).map_or_else(nothing, bytes),
    }
}

fn divergence_row(dtype: &DtypePerplexity, worst: usize) -> Option<DivergenceRow> {
    let Divergence { kl, same_best, log_probability_change: change, perplexity_ratio: ratio, worst: tokens, .. } =
        dtype.against.as_ref()?;
    Some(DivergenceRow {
        dtype: dtype.dtype.to_string(),
        perplexity_change: signed((ratio.value - 1.0) * 100.0),
        perplexity_change_error: ratio.standard_error.map_or_else(nothing, |error| significant(error * 100.0)),
        log_probability_change: signed(change.value),
        log_probability_change_error: error(change),
        is_damage: ratio.low.is_some_and(|low| low > 1.0),
        same_best: format!("{:.2}", same_best.value * 100.0),
        same_best_error: same_best.standard_error.map_or_else(nothing, |error| format!("{:.2}", error * 100.0)),
        kl_mean: significant(kl.mean.value),
        kl_mean_error: error(&kl.mean),
        kl_median: significant(kl.median),
        kl_p90: significant(kl.p90),
        kl_p95: significant(kl.p95),
        kl_p99: significant(kl.p99),
        kl_p99_9: significant(kl.p99_9),
        kl_maximum: significant(kl.maximum),
        worst: tokens.iter().take(worst).map(worst_row).collect(),
    })
}

fn worst_row(worst: &WorstToken) -> WorstRow {
    let best = |opinion: &Opinion| (quoted(&opinion.best), percentage(opinion.best_probability));
    WorstRow {
        position: thousands(worst.position as u64),
        place: worst.answer.as_ref().map_or_else(|| format!("token {}", thousands(worst.position as u64)), place),
        kl: significant(worst.kl),
        context: quoted_end(&worst.context, CONTEXT_CHARACTERS),
        token: quoted(&worst.token),
        f32_best: best(&worst.reference),
        this_best: best(&worst.this),
        f32_token: percentage(worst.reference.token_probability),
        this_token: percentage(worst.this.token_probability),
    }
}

fn failure(dtype: &DtypePerplexity) -> Option<(String, String)> {
    let why = dtype.failure.as_deref()?.lines().next().unwrap_or_default();
    Some((dtype.dtype.to_string(), why.to_owned()))
}
