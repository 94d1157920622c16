//! One question with its answer, and which of them a run takes.

use super::TaskError;

/// One row of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Row number in the whole dataset, from 0: what `--samples` and `--show-prompt` name.
    pub index: usize,
    /// The question.
    pub question: String,
    /// The full answer; GSM8K's ends in `#### N`.
    pub answer: String,
    /// What of it a completion is compared with.
    pub reference: String,
    /// Rows of the same cluster are not independent of one another; `None` where each stands for itself.
    pub cluster: Option<String>,
}

impl Sample {
    /// A sample in GSM8K's form: the reference is what follows the answer's last `####`, or all of it.
    pub fn new(index: usize, question: impl Into<String>, answer: impl Into<String>) -> Self {
        let (question, answer) = (question.into(), answer.into());
        let reference = crate::score::Answer::from(&answer).value.to_owned();
        Self { index, question, answer, reference, cluster: None }
    }

    /// What a completion is compared with.
    pub fn expected(&self) -> crate::score::Answer<'_> {
        crate::score::Answer { full: &self.answer, value: &self.reference }
    }
}

/// Which samples a run takes: `--limit N` or `--samples 3,17,40-60`. Never changes any prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Only the first N, of the rows named where any are named.
    pub limit: Option<usize>,
    /// Only these row numbers, ascending, without repeats; empty means all.
    pub indices: Vec<usize>,
}

/// No dataset here has so many rows; a larger number is a slip of the finger and would only fill the memory.
const MOST_ROWS: usize = 10_000_000;
const SYNTAX_HINT: &str = "write row numbers from 0 and ranges, such as `--samples 3,17,40-60`";

impl Selection {
    /// Parses `3,17,40-60`: row numbers and inclusive ranges; the result is ascending and without repeats.
    pub fn parse_indices(text: &str) -> Result<Vec<usize>, TaskError> {
        let mut indices = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_row(first, part, text)?, parse_row(last, part, text)?);
            if first > last {
                return Err(TaskError::invalid(
                    format!("the range `{part}` in `{text}` runs backwards"),
                    format!("did you mean `{last}-{first}`?"),
                ));
            }
            if last - first + indices.len() > MOST_ROWS {
                return Err(TaskError::invalid(format!("`{part}` in `{text}` names too many rows"), SYNTAX_HINT));
            }
            indices.extend(first..=last);
        }
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// Whether a sample need be kept for [`Selection::choose`], where `kept` were before it.
    pub fn keeps(&self, sample: &Sample, kept: usize) -> bool {
        match self.indices.as_slice() {
            [] => self.limit.is_none_or(|limit| kept < limit),
            indices => indices.binary_search(&sample.index).is_ok(),
        }
    }

    /// The chosen ones of the samples of a dataset of `rows` rows, in row order; an index past the end is an error that names it, and so
    /// is a choice of none.
    pub fn choose<'a>(&self, samples: &'a [Sample], rows: usize) -> Result<Vec<&'a Sample>, TaskError> {
        if self.limit == Some(0) {
            return Err(TaskError::invalid("`--limit 0` leaves no sample", "give a limit of at least 1"));
        }
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.indices.is_empty() {
            return Ok(samples.iter().take(limit).collect());
        }
        let row = |&index: &usize| {
            let found = samples.binary_search_by_key(&index, |sample| sample.index);
            found.ok().and_then(|at| samples.get(at)).ok_or_else(|| missing(rows, index))
        };
        // Every index is looked up before the limit cuts: a wrong one is a mistake wherever it stands.
        let chosen: Vec<&Sample> = self.indices.iter().map(row).collect::<Result<_, _>>()?;
        Ok(chosen.into_iter().take(limit).collect())
    }
}

fn missing(rows: usize, index: usize) -> TaskError {
    if index < rows {
        return TaskError::invalid(
            format!("sample {index} is left out: its reference is no number"),
            "name another row, or leave `--samples` out",
        );
    }
    TaskError::invalid(
        format!("there is no sample {index}: the dataset has {rows} rows"),
        format!("rows are numbered from 0, so the last is {}", rows.saturating_sub(1)),
    )
}

fn parse_row(number: &str, part: &str, text: &str) -> Result<usize, TaskError> {
    let row = number.trim().parse().ok().filter(|&row| row < MOST_ROWS);
    row.ok_or_else(|| {
        let place = if part == text { String::new() } else { format!(" in `{text}`") };
        TaskError::invalid(format!("`{part}`{place} is no row number and no range of them"), SYNTAX_HINT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_ranges_are_sorted_and_freed_of_repeats() {
        assert_eq!(Selection::parse_indices("3,17,40-42").unwrap(), [3, 17, 40, 41, 42]);
        assert_eq!(Selection::parse_indices(" 5 - 6 ,6,0").unwrap(), [0, 5, 6]);
    }

    #[test]
    fn what_is_no_row_is_named() {
        for (text, part) in [("", "``"), ("3,,4", "``"), ("3,x", "`x`"), ("-3", "`-3`"), ("1-2-3", "`1-2-3`")] {
            let message = Selection::parse_indices(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("hint: "), "{message}");
        }
        assert!(Selection::parse_indices("60-40").unwrap_err().to_string().contains("40-60"));
        assert!(Selection::parse_indices("0-99999999999").is_err());
        assert!(Selection::parse_indices("99999999999999999999999").is_err());
    }

    fn samples(count: usize) -> Vec<Sample> {
        (0..count).map(|index| Sample::new(index, "", "")).collect()
    }

    fn rows(selection: &Selection, count: usize) -> Vec<usize> {
        selection.choose(&samples(count), count).unwrap().iter().map(|sample| sample.index).collect()
    }

    #[test]
    fn choosing_keeps_row_order() {
        assert_eq!(rows(&Selection::default(), 3), [0, 1, 2]);
        assert_eq!(rows(&Selection { limit: Some(2), indices: vec![] }, 3), [0, 1]);
        assert_eq!(rows(&Selection { limit: Some(9), indices: vec![] }, 3), [0, 1, 2]);
        assert_eq!(rows(&Selection { limit: Some(1), indices: vec![1, 2] }, 3), [1]);
    }

    #[test]
    fn rows_that_are_left_out_keep_the_others_numbers() {
        let samples: Vec<Sample> = samples(5).into_iter().filter(|sample| sample.index != 2).collect();
        let chosen = |indices: &[usize]| Selection { limit: None, indices: indices.to_vec() }.choose(&samples, 5);
        assert_eq!(chosen(&[1, 3]).unwrap().iter().map(|sample| sample.index).collect::<Vec<_>>(), [1, 3]);
        assert!(chosen(&[2]).unwrap_err().to_string().contains("sample 2 is left out"));
        assert!(chosen(&[5]).unwrap_err().to_string().contains("there is no sample 5"));
    }

    #[test]
    fn a_row_past_the_end_is_named() {
        let selection = Selection { limit: Some(1), indices: vec![1, 7] };
        let message = selection.choose(&samples(3), 3).unwrap_err().to_string();
        assert!(message.contains("no sample 7") && message.contains("the last is 2"), "{message}");
        assert!(Selection { limit: Some(0), indices: vec![] }.choose(&samples(3), 3).is_err());
    }
}
