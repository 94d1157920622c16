//! What a blame's template sees: the record's numbers, and the same as text that is ready to print.

use serde::Serialize;

use super::record::{BlameRecord, BlamedAnswer, BlamedLayer, BlamedRun, Kept, Restored};
use crate::jobs::perplexity::{CONTEXT_CHARACTERS, quoted, quoted_end};
use crate::report::words::{nothing, percent};
use crate::report::{Format, ReportError, model, render_by};
use crate::text::{bytes, command_line};

/// A blame as text in a format.
pub fn render_blame(record: &BlameRecord, format: &Format) -> Result<String, ReportError> {
    render_by("blame", &BlameView::new(record), format)
}

/// The variables of a blame's template. Everything here is text, ready to print; `record` holds every number.
#[derive(Debug, Clone, Serialize)]
pub struct BlameView<'a> {
    /// The whole record, field by field.
    pub record: &'a BlameRecord,
    /// The same as JSON text.
    pub record_json: String,
    /// `bundled (llama, 1.8 M parameters, stored as f32)`.
    pub model: String,
    /// What the variant's weights are.
    pub weights: String,
    /// `run`, and how answers of it were chosen.
    pub run: String,
    /// `cpu 0.1.0 on CPU, 2 threads, AVX2`.
    pub engine: String,
    /// What the user broke off, if they did.
    pub interrupted: Option<String>,
    /// One an answer.
    pub answers: Vec<AnswerRow>,
    /// Heads of the map's columns, one a linear layer: `q` for `q_proj`.
    pub parts: Vec<String>,
    /// The map, one a layer.
    pub layers: Vec<LayerRow>,
    /// Means over layers, in the order of the columns: the whole layer, then its linear layers.
    pub means: Vec<Cell>,
    /// Behind each layer the output's error is known.
    pub has_errors: bool,
    /// Layers put back together: (layers, answers kept, restored in percent).
    pub together: Vec<(String, String, String)>,
    /// What it comes to, in one sentence.
    pub sentence: String,
    /// The command that makes the checkpoint.
    pub command: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerRow {
    /// Row of the dataset, and the repeat where there are several.
    pub sample: String,
    /// Tokens of the answer before the one that differs.
    pub place: String,
    /// The end of the text before it, quoted.
    pub context: String,
    /// The reference's token, quoted.
    pub token: String,
    /// The variant's, quoted.
    pub this: String,
    /// The reference's margin, nats.
    pub reference_margin: String,
    /// The variant's.
    pub variant_margin: String,
    /// `4 down_proj`: the one linear layer that raises the margin most.
    pub best: String,
    /// The margin with it put back.
    pub best_margin: String,
    /// Whether that alone keeps the reference's token.
    pub is_kept: bool,
    /// `near-tie`, where the reference is all but undecided; `does not count`, where it does not in the map.
    pub remark: &'static str,
    /// Right in the reference and wrong in the variant.
    pub is_lost: bool,
}

/// A layer of the map.
#[derive(Debug, Clone, Serialize)]
pub struct LayerRow {
    /// From 0.
    pub layer: usize,
    /// The whole layer, then its linear layers.
    pub cells: Vec<Cell>,
    /// Answers that the whole layer keeps.
    pub kept: String,
    /// Relative error of the output, percent.
    pub error: String,
    /// It is among those that keep most answers together.
    pub is_chosen: bool,
}

/// A cell of the map.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    /// Restored of the margin, percent.
    pub text: String,
    /// The same against the largest of the map, 0 to 100; of a loss 0.
    pub heat: u32,
    /// The margins fall further.
    pub is_loss: bool,
}

impl<'a> BlameView<'a> {
    /// Of a record.
    pub fn new(record: &'a BlameRecord) -> Result<Self, serde_json::Error> {
        let all = record.layers.iter().flat_map(|layer| values(layer).into_iter().flatten());
        let most = all.fold(0.0_f64, f64::max);
        let columns = record.layers.first().map_or(0, |layer| layer.parts.len() + 1);
        let mean = |column: usize| {
            let of = record.layers.iter().filter_map(|layer| values(layer).get(column).copied().flatten());
            let of: Vec<f64> = of.collect();
            (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64)
        };
        let engine = &record.engine;
        Ok(Self {
            record,
            record_json: serde_json::to_string_pretty(record)?,
            model: model(&record.target.model),
            weights: weights(record),
            run: run(record),
            engine: format!("{} {} on {}", engine.name, engine.version, engine.device),
            interrupted: (!record.complete).then(|| "interrupted: the figures are of what was read".to_owned()),
            answers: record.answers.iter().map(|answer| answer_row(answer, record)).collect(),
            parts: record.layers.first().map_or_else(Vec::new, heads),
            layers: record.layers.iter().map(|layer| layer_row(layer, record, most)).collect(),
            means: (0..columns).map(|column| cell(mean(column), most)).collect(),
            has_errors: record.layers.iter().any(|layer| layer.output_error.is_some()),
            together: record
                .together
                .iter()
                .map(|step| (numbers(&step.layers), of_all(&step.put_back), restored(step.put_back.restored)))
                .collect(),
            sentence: sentence(record),
            command: command(record),
        })
    }
}

/// What the whole layer restores, and then its linear layers.
fn values(layer: &BlamedLayer) -> Vec<Option<f64>> {
    let parts = layer.parts.iter().map(|part| part.put_back.restored);
    std::iter::once(layer.whole.restored).chain(parts).collect()
}

/// `q_proj` as `q`.
fn heads(layer: &BlamedLayer) -> Vec<String> {
    let short = |name: &str| name.strip_suffix("_proj").unwrap_or(name).to_owned();
    layer.parts.iter().map(|part| short(&part.name)).collect()
}

fn cell(value: Option<f64>, most: f64) -> Cell {
    let heat = value.filter(|_| most > 0.0).map_or(0.0, |value| (100.0 * value / most).clamp(0.0, 100.0));
    Cell { text: restored(value), heat: heat.round() as u32, is_loss: value.is_some_and(|value| value < -0.0005) }
}

fn layer_row(layer: &BlamedLayer, record: &BlameRecord, most: f64) -> LayerRow {
    LayerRow {
        layer: layer.layer,
        cells: values(layer).into_iter().map(|value| cell(value, most)).collect(),
        kept: if layer.whole.of == 0 { nothing() } else { layer.whole.kept.to_string() },
        error: layer.output_error.map_or_else(nothing, percent),
        is_chosen: record.kept.as_ref().is_some_and(|kept| kept.layers.contains(&layer.layer)),
    }
}

fn answer_row(answer: &BlamedAnswer, record: &BlameRecord) -> AnswerRow {
    let nats = |margin: f64| format!("{margin:+.2}");
    let repeats = record.answers.iter().any(|answer| answer.at.repeat > 0);
    let best = answer.best.as_ref();
    AnswerRow {
        sample: if repeats {
            format!("{}/{}", answer.at.sample, answer.at.repeat)
        } else {
            answer.at.sample.to_string()
        },
        place: answer.at.tokens_before.to_string(),
        context: quoted_end(&answer.context, CONTEXT_CHARACTERS),
        token: quoted(&answer.token),
        this: quoted(&answer.this),
        reference_margin: nats(answer.reference_margin),
        variant_margin: nats(answer.variant_margin),
        best: best.map_or_else(nothing, |best| format!("{} {}", best.layer, best.part)),
        best_margin: best.map_or_else(nothing, |best| nats(best.margin)),
        is_kept: best.is_some_and(|best| best.kept),
        remark: match (answer.counted, answer.is_near_tie) {
            (false, _) => "does not count",
            (true, true) => "near-tie",
            (true, false) => "",
        },
        is_lost: answer.lost,
    }
}

fn restored(value: Option<f64>) -> String {
    // Adding 0 turns a negative zero, which would print as `-0.0`, into a positive one.
    value.map_or_else(nothing, |value| format!("{:.1}", (value * 1000.0).round() / 10.0 + 0.0))
}

fn of_all(restored: &Restored) -> String {
    format!("{} of {}", restored.kept, restored.of)
}

/// `3, 17`.
fn numbers(layers: &[usize]) -> String {
    layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn weights(record: &BlameRecord) -> String {
    let target = &record.target;
    let own = target.variants.get(&record.variant).map(|plan| (plan.name.clone(), plan.stored_as.clone()));
    let awq = target.awq.as_ref().map(|awq| (awq.name.clone(), Some(awq.stored_as.clone())));
    match own.or(awq) {
        Some((name, Some(stored_as))) => format!("{name}, {stored_as}"),
        Some((name, None)) => name,
        None => nothing(),
    }
}

fn run(record: &BlameRecord) -> String {
    let (run, variant) = (&record.run, &record.variant);
    let BlamedRun { name, rule, lost, changed, lost_read, .. } = run;
    let others = record.answers.len().saturating_sub(*lost_read);
    let of_lost = format!("{lost_read} of {lost} answers that {variant} lost, by {rule}");
    let of_others =
        format!("{others} of {} others that it changed, those with the fewest tokens in common", changed - lost_read);
    match (lost_read, others) {
        (0, _) => format!("{name}: {variant} lost no answer, by {rule}; {of_others}"),
        (_, 0) => format!("{name}: {of_lost}"),
        _ => format!("{name}: {of_lost}, and {of_others}"),
    }
}

/// Which few layers would have kept most answers.
fn sentence(record: &BlameRecord) -> String {
    let (reference, variant) = (&record.reference, &record.variant);
    let Some(kept) = &record.kept else {
        return if record.complete {
            format!("No layer of {variant} put back by itself restores any of {reference}'s margins: none is to blame.")
        } else {
            "Which layers would have kept most answers is not known: the search was broken off.".to_owned()
        };
    };
    let Kept { layers, kept, of, wholly, more_bytes } = kept;
    let all = record.layers.len();
    let more = more_bytes.map_or_else(String::new, |more| format!(", for {} more of weights", bytes(more)));
    let which = format!("layer{} {} of {all} in f16", if layers.len() == 1 { "" } else { "s" }, in_words(layers));
    let (where_left, ends) =
        (format!("at the token where {variant} left {reference}"), format!("{wholly} of them to the end"));
    if 2 * kept > *of {
        let which = which.replacen('l', "L", 1);
        format!("{which} would have kept {kept} of {of} answers {where_left}, {ends}{more}.")
    } else {
        let most = record.together.iter().map(|step| step.layers.len()).max().unwrap_or(0);
        format!(
            "No few layers (up to {most} were tried) would have kept most answers: {which} keep {kept} of {of} {where_left}, {ends}{more}."
        )
    }
}

/// `3, 17 and 29`.
fn in_words(layers: &[usize]) -> String {
    match layers {
        [] | [_] => numbers(layers),
        [before @ .., last] => format!("{} and {last}", numbers(before)),
    }
}

fn command(record: &BlameRecord) -> Option<String> {
    let (kept, group) = (record.kept.as_ref()?, record.group_size?.to_string());
    let layers = numbers(&kept.layers).replace(' ', "");
    let words = ["evalsuite", "quantize", "--model", &record.model_argument, "--group-size", &group, "--keep", &layers];
    Some(command_line(words.into_iter().chain(["--out", "DIR"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_in_words() {
        assert_eq!([&[3][..], &[3, 17], &[3, 17, 29]].map(in_words), ["3", "3 and 17", "3, 17 and 29"]);
    }

    #[test]
    fn a_cell_is_as_hot_as_its_share_of_the_hottest() {
        let shown = [Some(0.1), Some(0.4), Some(-0.2), Some(-0.000_01), None].map(|value| cell(value, 0.4));
        assert_eq!(shown.each_ref().map(|cell| cell.text.as_str()), ["10.0", "40.0", "-20.0", "0.0", "n/a"]);
        assert_eq!(shown.each_ref().map(|cell| cell.heat), [25, 100, 0, 0, 0]);
        assert_eq!(shown.map(|cell| cell.is_loss), [false, false, true, false, false]);
    }
}
