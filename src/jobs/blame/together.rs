//! Several layers put back together, those first that restore most by themselves, until most answers are kept.

use std::ops::Range;

use super::choice::Answer;
use super::map::Map;
use super::record::{Kept, Together};
use super::score::{Seen, at_places, whole};
use super::summary::{counted, restored};
use super::work::{Work, texts};
use crate::engine::Text;
use crate::jobs::JobError;

/// Layers that are few: a quarter of the model's, two at least, and never all.
fn most_layers(layers: usize) -> usize {
    (layers / 4).max(2).min(layers.saturating_sub(1))
}

/// More than half.
const fn is_most(kept: usize, of: usize) -> bool {
    2 * kept > of
}

/// Puts back one layer more at a time. Returns what each step did, and the fewest layers that keep more than half of the answers, or, where
/// no few do, those that keep most; nothing where the user breaks off.
pub(super) fn put_back_together(work: &mut Work<'_, '_>, map: &Map) -> Result<(Vec<Together>, Option<Kept>), JobError> {
    let inputs = work.inputs;
    let layers = inputs.truth.config.layers;
    let order = by_restored(map, &inputs.answers);
    let most = most_layers(layers).min(order.len());
    let groups = work.groups();
    work.expect(most * layers * groups.len());
    let (mut steps, mut chosen) = (Vec::<Together>::new(), Vec::new());
    let counted = counted(map, &inputs.answers);
    for layer in order.iter().take(most) {
        work.put(&inputs.truth, *layer)?;
        chosen.push(*layer);
        let mut seen: Vec<Option<Seen>> = Vec::new();
        for group in &groups {
            if work.is_interrupted() {
                return Ok((steps, None));
            }
            let answers = &inputs.answers[group.clone()];
            work.variant.read(&texts(answers))?;
            seen.extend(at_places(work.variant.as_mut(), answers)?.into_iter().map(Some));
            work.went(layers, format!("{} layers together", chosen.len()));
        }
        let restored = restored(map, &inputs.answers, &seen);
        let keeps_most = is_most(restored.kept, counted.len());
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        steps.push(Together { layers: sorted, put_back: restored });
        if keeps_most {
            break;
        }
    }
    let kept = best(&steps).map(|step| read_whole(work, &counted, step, &chosen)).transpose()?.flatten();
    Ok((steps, kept))
}

/// The layers, those first whose weights restore most of the margins, as the map has it; none that restores nothing.
fn by_restored(map: &Map, answers: &[Answer]) -> Vec<usize> {
    let of_layer = |(layer, parts): (usize, &Vec<Vec<Option<Seen>>>)| {
        Some((layer, restored(map, answers, parts.first()?).restored.filter(|share| *share > 0.0)?))
    };
    let mut order: Vec<(usize, f64)> = map.cells.iter().enumerate().filter_map(of_layer).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.into_iter().map(|(layer, _)| layer).collect()
}

/// The first step that keeps most answers.
fn best(steps: &[Together]) -> Option<&Together> {
    let most = steps.iter().map(|step| step.put_back.kept).max()?;
    steps.iter().find(|step| step.put_back.kept == most)
}

/// Reads answers to their ends with a step's layers put back: how many of the `counted` ones would be the reference's from the first token to
/// the last. `chosen` are the layers that are put back now.
fn read_whole(
    work: &mut Work<'_, '_>,
    counted: &[usize],
    step: &Together,
    chosen: &[usize],
) -> Result<Option<Kept>, JobError> {
    let inputs = work.inputs;
    for layer in beyond(step, chosen) {
        work.put(&inputs.rounded, layer)?;
    }
    let mut wholly = 0;
    let groups = work.groups();
    work.expect(inputs.truth.config.layers * groups.len());
    for group in groups {
        if work.is_interrupted() {
            return Ok(None);
        }
        let answers = &inputs.answers[group.clone()];
        let texts: Vec<Text<'_>> = answers.iter().map(Answer::whole).collect();
        work.variant.read(&texts)?;
        let kept = whole(work.variant.as_mut(), answers, inputs.truth.config.vocabulary)?;
        wholly += kept_wholly(group, &kept, counted);
        work.went(inputs.truth.config.layers, "answers to their ends".to_owned());
    }
    Ok(Some(Kept {
        layers: step.layers.clone(),
        kept: step.put_back.kept,
        of: counted.len(),
        wholly,
        more_bytes: super::summary::more_bytes(inputs, step.layers.len()),
    }))
}

/// The layers that were put back after a step, and have not helped.
fn beyond(step: &Together, chosen: &[usize]) -> Vec<usize> {
    chosen.iter().copied().filter(|layer| !step.layers.contains(layer)).collect()
}

/// How many of the answers of a group that count are kept to their ends.
fn kept_wholly(group: Range<usize>, kept: &[bool], counted: &[usize]) -> usize {
    group.zip(kept).filter(|(index, kept)| **kept && counted.contains(index)).count()
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Baseline;
    use super::super::choice::tests::answer_at;
    use super::super::record::Restored;
    use super::*;

    #[test]
    fn layers_that_restore_most_come_first_and_those_that_restore_nothing_not_at_all() {
        let seen = |margin: f64, best: u32| Seen { margin, best };
        let mut baseline = Baseline::new(4);
        (baseline.truth, baseline.variant) = (vec![seen(2.0, 5)], vec![seen(-1.0, 7)]);
        let cells = [0.5, -2.0, 1.4, -1.0].map(|margin| vec![vec![Some(seen(margin, 5))]]).to_vec();
        assert_eq!(by_restored(&Map { baseline, cells }, &[answer_at(5, 7)]), [2, 0]);
    }

    #[test]
    fn half_of_the_answers_are_not_most_of_them() {
        assert_eq!(
            [(2, 4), (3, 4), (2, 5), (3, 5), (0, 0)].map(|(kept, of)| is_most(kept, of)),
            [false, true, false, true, false]
        );
    }

    #[test]
    fn few_layers_are_a_quarter_but_two_and_never_all() {
        assert_eq!([1, 2, 3, 4, 8, 30, 32].map(most_layers), [0, 1, 2, 2, 2, 7, 8]);
    }

    #[test]
    fn only_answers_that_count_are_kept_wholly() {
        assert_eq!(kept_wholly(3..7, &[true, true, false, true], &[1, 3, 5, 6]), 2);
    }

    #[test]
    fn the_fewest_layers_win_that_keep_as_many() {
        let step = |layers: &[usize], kept| Together {
            layers: layers.to_vec(),
            put_back: Restored { restored: Some(0.5), kept, of: 9 },
        };
        let steps = [step(&[4], 1), step(&[1, 4], 3), step(&[1, 4, 5], 3)];
        assert_eq!(best(&steps).map(|step| &step.layers[..]), Some(&[1, 4][..]));
        assert!(best(&[]).is_none());
        assert_eq!((beyond(&steps[1], &[4, 1, 5]), beyond(&steps[2], &[4, 1, 5])), (vec![5], vec![]));
    }
}
