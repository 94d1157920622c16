//! Both models as they are: what each thinks of every place, and how far their residual streams are apart behind each layer.

use super::choice::Answer;
use super::score::{Seen, at_places};
use super::work::{Work, texts};
use crate::engine::{EngineError, LayerReading};

/// Of the answers so far.
#[derive(Debug)]
pub(super) struct Baseline {
    /// An answer each.
    pub(super) truth: Vec<Seen>,
    pub(super) variant: Vec<Seen>,
    /// Behind each layer, the sum over tokens of ‖variant − reference‖ / ‖reference‖; `None` where an engine does not show it.
    errors: Option<Vec<f64>>,
    /// How many tokens that is.
    tokens: usize,
}

impl Baseline {
    pub(super) fn new(layers: usize) -> Self {
        Self { truth: Vec::new(), variant: Vec::new(), errors: Some(vec![0.0; layers]), tokens: 0 }
    }

    /// Mean over the answers' tokens before their places, by layer.
    pub(super) fn errors(&self) -> Option<Vec<f64>> {
        let errors = self.errors.as_ref().filter(|_| self.tokens > 0)?;
        Some(errors.iter().map(|sum| sum / self.tokens as f64).collect())
    }

    /// Adds answers.
    pub(super) fn add(&mut self, work: &mut Work<'_, '_>, answers: &[Answer]) -> Result<(), EngineError> {
        let texts = texts(answers);
        let layers = work.inputs.truth.config.layers;
        let hidden = work.inputs.truth.config.hidden;
        if let (Some(truth), Some(variant)) = (work.truth.layers(), work.variant.layers()) {
            truth.begin(&texts)?;
            variant.begin(&texts)?;
            for layer in 0..layers {
                truth.advance()?;
                variant.advance()?;
                if let Some(errors) = &mut self.errors {
                    errors[layer] += distance(truth, variant, hidden);
                }
            }
            truth.finish()?;
            variant.finish()?;
            self.tokens += texts.iter().map(crate::engine::Text::rows).sum::<usize>();
        } else {
            work.truth.read(&texts)?;
            work.variant.read(&texts)?;
            self.errors = None;
        }
        self.truth.extend(at_places(work.truth.as_mut(), answers)?);
        self.variant.extend(at_places(work.variant.as_mut(), answers)?);
        work.went(2 * layers, "as they are".to_owned());
        Ok(())
    }
}

fn distance(truth: &dyn LayerReading, variant: &dyn LayerReading, hidden: usize) -> f64 {
    relative_distance(&truth.states(), &variant.states(), hidden)
}

/// Σ over rows of ‖b − a‖ / ‖a‖, of `[rows, hidden]`; rows of zeros count nothing.
fn relative_distance(a: &[f32], b: &[f32], hidden: usize) -> f64 {
    let of_row = |(a, b): (&[f32], &[f32])| {
        let square = |x: f64| x * x;
        let off: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*b) - f64::from(*a))).sum();
        let size: f64 = a.iter().map(|a| square(f64::from(*a))).sum();
        if size > 0.0 { (off / size).sqrt() } else { 0.0 }
    };
    a.chunks(hidden.max(1)).zip(b.chunks(hidden.max(1))).map(of_row).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_counts_by_its_own_size() {
        let (a, b) = ([3.0, 4.0, 0.3, 0.4, 0.0, 0.0], [3.0, 5.0, 0.3, 0.5, 1.0, 0.0]);
        assert!((relative_distance(&a, &b, 2) - (0.2 + 0.2)).abs() < 1e-6);
        assert!(relative_distance(&a, &a, 2) == 0.0);
    }
}
