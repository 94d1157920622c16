//! One question with its answer, and which of them a run takes.

/// One row of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Row number in the whole dataset, from 0: what `--samples` and `--show-prompt` name.
    pub index: usize,
    /// The question.
    pub question: String,
    /// The full answer; GSM8K's ends in `#### N`.
    pub answer: String,
}

/// Which samples a run takes: `--limit N` or `--samples 3,17,40-60`. Never changes any prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only the first N.
    pub limit: Option<usize>,
    /// Only these row numbers, ascending, without repeats; empty means all.
    pub indices: Vec<usize>,
}

impl Selection {
    /// Parses `3,17,40-60`.
    pub fn parse_indices(text: &str) -> Result<Vec<usize>, super::TaskError> {
        let _ = text;
        todo!()
    }

    /// The chosen samples, in row order; an index past the end is an error that names it.
    pub fn choose<'a>(&self, samples: &'a [Sample]) -> Result<Vec<&'a Sample>, super::TaskError> {
        let _ = samples;
        todo!()
    }
}
