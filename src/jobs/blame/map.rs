//! The map: each layer's weights, and each of its linear layers', put back one at a time.

use std::sync::Arc;

use super::baseline::Baseline;
use super::choice::Answer;
use super::score::{Seen, at_places};
use super::work::{Work, texts};
use crate::jobs::JobError;

/// What was seen with one layer, or one linear layer of it, put back.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) baseline: Baseline,
    /// `[layer][part][answer]`: part 0 is the whole layer, then its linear layers. `None` where nothing was read.
    pub(super) cells: Vec<Vec<Vec<Option<Seen>>>>,
}

impl Map {
    /// Reads the answers, group by group, until all are through or the user breaks off.
    pub(super) fn measure(work: &mut Work<'_, '_>) -> Result<Self, JobError> {
        let (layers, answers) = (work.inputs.truth.config.layers, &work.inputs.answers);
        let part = vec![None; answers.len()];
        let mut map =
            Self { baseline: Baseline::new(layers), cells: vec![vec![part; work.inputs.linears.len() + 1]; layers] };
        for group in work.groups() {
            if work.is_interrupted() {
                break;
            }
            map.baseline.add(work, &answers[group.clone()])?;
            map.read(work, &answers[group.clone()], group.start)?;
        }
        Ok(map)
    }

    /// Whether all was read.
    pub(super) fn is_whole(&self) -> bool {
        self.cells.iter().flatten().flatten().all(Option::is_some)
    }

    fn read(&mut self, work: &mut Work<'_, '_>, answers: &[Answer], first: usize) -> Result<(), JobError> {
        let inputs = work.inputs;
        let texts = texts(answers);
        if let Some(reading) = work.variant.layers() {
            reading.begin(&texts)?;
        }
        for layer in 0..inputs.truth.config.layers {
            for part in 0..=inputs.linears.len() {
                if work.is_interrupted() {
                    return work.put(&inputs.rounded, layer).map_err(JobError::from);
                }
                let name = match part.checked_sub(1) {
                    None => {
                        work.put(&inputs.truth, layer)?;
                        "whole"
                    }
                    Some(linear) => {
                        let put_back = Arc::clone(&inputs.rounded).with_linear_of(&inputs.truth, layer, linear)?;
                        work.put(&put_back, layer)?;
                        &inputs.linears[linear]
                    }
                };
                match work.variant.layers() {
                    Some(reading) => reading.finish()?,
                    None => work.variant.read(&texts)?,
                }
                let seen = at_places(work.variant.as_mut(), answers)?;
                let cell = &mut self.cells[layer][part][first..first + answers.len()];
                cell.iter_mut().zip(seen).for_each(|(cell, seen)| *cell = Some(seen));
                let went = work.layers_from(layer);
                work.went(went, format!("layer {layer} of {}, {name}", inputs.truth.config.layers));
            }
            work.put(&inputs.rounded, layer)?;
            if let Some(reading) = work.variant.layers() {
                reading.advance()?;
            }
        }
        Ok(())
    }
}
