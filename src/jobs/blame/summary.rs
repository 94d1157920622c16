//! From what was seen to the record's figures.

use super::BlameInputs;
use super::choice::Answer;
use super::map::Map;
use super::record::{BlamedAnswer, BlamedLayer, BlamedPart, PutBack, Restored};
use super::score::Seen;
use crate::engine::model::WeightFormat;
use crate::jobs::perplexity::AnswerToken;
use crate::jobs::spelling;
use crate::score::NEAR_TIE_NATS;

/// Numbers of the answers that count: read again, the reference takes its own token at the place, and the variant does not.
pub(super) fn counted(map: &Map, answers: &[Answer]) -> Vec<usize> {
    let seen = map.baseline.truth.iter().zip(&map.baseline.variant).zip(answers).enumerate();
    let counts =
        seen.filter(|(_, ((truth, variant), answer))| truth.best == answer.token() && variant.best != answer.token());
    counts.map(|(index, _)| index).collect()
}

/// What a reading with weights put back restores; `seen` is by answer.
pub(super) fn restored(map: &Map, answers: &[Answer], seen: &[Option<Seen>]) -> Restored {
    let (mut lacking, mut back, mut kept, mut of) = (0.0, 0.0, 0, 0);
    for index in counted(map, answers) {
        let Some(Some(now)) = seen.get(index) else { continue };
        let (truth, variant) = (map.baseline.truth[index].margin, map.baseline.variant[index].margin);
        lacking += truth - variant;
        back += now.margin - variant;
        kept += usize::from(now.best == answers[index].token());
        of += 1;
    }
    Restored { restored: (of > 0 && lacking > 0.0).then(|| back / lacking), kept, of }
}

/// The map's layers.
pub(super) fn layers(map: &Map, inputs: &BlameInputs) -> Vec<BlamedLayer> {
    let errors = map.baseline.errors();
    let of_layer = |(layer, parts): (usize, &Vec<Vec<Option<Seen>>>)| {
        let mut cells = parts.iter().map(|seen| restored(map, &inputs.answers, seen));
        let whole = cells.next().unwrap_or(Restored { restored: None, kept: 0, of: 0 });
        let parts = inputs.linears.iter().zip(cells);
        let parts = parts.map(|(name, put_back)| BlamedPart { name: name.clone(), put_back });
        let output_error = errors.as_ref().and_then(|errors| errors.get(layer).copied());
        BlamedLayer { layer, whole, parts: parts.collect(), output_error }
    };
    map.cells.iter().enumerate().map(of_layer).collect()
}

/// The answers that both models have read.
pub(super) fn answers(map: &Map, inputs: &BlameInputs) -> Vec<BlamedAnswer> {
    let counted = counted(map, &inputs.answers);
    let tokenizer = &inputs.truth.tokenizer;
    let seen = map.baseline.truth.iter().zip(&map.baseline.variant);
    let all = inputs.answers.iter().zip(&inputs.contexts).zip(seen).enumerate();
    let blamed = all.map(|(index, ((answer, context), (truth, variant)))| BlamedAnswer {
        at: AnswerToken { sample: answer.sample, repeat: answer.repeat, tokens_before: answer.place },
        lost: answer.is_lost,
        counted: counted.contains(&index),
        context: context.clone(),
        token: spelling(tokenizer, answer.token()),
        this: spelling(tokenizer, answer.other),
        reference_margin: truth.margin,
        variant_margin: variant.margin,
        is_near_tie: truth.margin <= NEAR_TIE_NATS,
        best: best_part(map, inputs, index),
    });
    blamed.collect()
}

/// The linear layer that raises an answer's margin most.
fn best_part(map: &Map, inputs: &BlameInputs, index: usize) -> Option<PutBack> {
    let of_layer = |(layer, parts): (usize, &'_ Vec<Vec<Option<Seen>>>)| {
        let parts = parts.iter().skip(1).zip(&inputs.linears);
        let seen = parts.filter_map(|(seen, name)| Some((layer, name, (*seen.get(index)?)?)));
        seen.collect::<Vec<_>>()
    };
    let all = map.cells.iter().enumerate().flat_map(of_layer);
    let (layer, name, seen) = all.max_by(|a, b| a.2.margin.total_cmp(&b.2.margin))?;
    let kept = seen.best == inputs.answers[index].token();
    Some(PutBack { layer, part: name.clone(), margin: seen.margin, kept })
}

/// What so many layers take more in f16 than in AWQ's four bits.
pub(super) fn more_bytes(inputs: &BlameInputs, layers: usize) -> Option<u64> {
    let (config, own) = (&inputs.truth.config, &inputs.rounded);
    let group = own.quantization.as_ref().and_then(|found| found.group_size)? as u64;
    if own.format != WeightFormat::Awq {
        return None;
    }
    let a_layer = (config.parameters() - config.table_parameters()) / config.layers.max(1) as u64;
    // Two bytes in place of half a one, and of two and a half for a group.
    Some(layers as u64 * (a_layer * 3 / 2 - a_layer * 5 / (2 * group)))
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Baseline;
    use super::super::choice::tests::answer_at;
    use super::*;

    fn seen(margin: f64, best: u32) -> Seen {
        Seen { margin, best }
    }

    /// Four answers whose token is 5 and whose other is 7; read again, the variant does not leave the third, and the reference does not
    /// take its own token in the last.
    fn map() -> (Map, Vec<Answer>) {
        let answers = vec![answer_at(5, 7); 4];
        let mut baseline = Baseline::new(1);
        baseline.truth = vec![seen(2.0, 5), seen(0.5, 5), seen(1.0, 5), seen(0.2, 9)];
        baseline.variant = vec![seen(-1.0, 7), seen(-0.5, 7), seen(0.1, 5), seen(-0.2, 7)];
        (Map { baseline, cells: Vec::new() }, answers)
    }

    #[test]
    fn what_is_restored_is_a_share_of_what_all_margins_lack() {
        let (map, answers) = map();
        assert_eq!(counted(&map, &answers), [0, 1]);
        let now = [Some(seen(1.0, 5)), Some(seen(-0.7, 7)), Some(seen(9.0, 5)), Some(seen(9.0, 5))];
        let found = restored(&map, &answers, &now);
        // They lack 3 and 1; 2 comes back, 0.2 more is lost.
        assert!((found.restored.unwrap() - 1.8 / 4.0).abs() < 1e-12);
        assert_eq!((found.kept, found.of), (1, 2));
        let found = restored(&map, &answers, &[None, Some(seen(0.5, 9)), None]);
        assert_eq!((found.restored, found.kept, found.of), (Some(1.0), 0, 1), "a third token may be the best");
        assert_eq!(restored(&map, &answers, &[]), Restored { restored: None, kept: 0, of: 0 });
    }
}
