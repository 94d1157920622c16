//! A row of the table and the completions behind it.

use crate::jobs::eval::StoredRun;
use crate::record::{StoredCompletion, VariantName};

/// A row's completions with the run that they belong to.
#[derive(Debug, Clone, Copy)]
pub(in crate::compare) struct Source<'a> {
    pub(in crate::compare) run: usize,
    pub(in crate::compare) stored: &'a StoredRun,
    pub(in crate::compare) dtype: usize,
}

impl<'a> Source<'a> {
    pub(in crate::compare) fn variant(self) -> &'a VariantName {
        &self.stored.completions[self.dtype].0
    }

    pub(in crate::compare) fn completions(self) -> &'a [StoredCompletion] {
        &self.stored.completions[self.dtype].1
    }

    /// Rows that answered the same questions of the same task, put by the same protocol, under the same rules.
    pub(in crate::compare) fn questions(self) -> (&'a str, &'a str, Option<&'a str>, Option<&'a str>) {
        let record = &self.stored.record;
        let task = record.plan.task.as_ref().map(|task| task.sha256.as_str());
        let generated_under = record.generated_under.as_ref().map(|protocol| protocol.sha256.as_str());
        (&record.plan.dataset.sha256, &record.plan.protocol.sha256, task, generated_under)
    }
}

/// The rows that runs give, in order.
pub(in crate::compare) fn sources(runs: &[StoredRun]) -> Vec<Source<'_>> {
    let of_run = |(run, stored): (usize, &'_ StoredRun)| (0..stored.completions.len()).map(move |dtype| (run, dtype));
    runs.iter().enumerate().flat_map(of_run).map(|(run, dtype)| Source { run, stored: &runs[run], dtype }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn rows_under_another_protocol_answered_other_questions() {
        let read = || StoredRun::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/e113425/run")).unwrap();
        let mut other = read();
        other.record.plan.protocol.sha256.push('0');
        let runs = [read(), other];
        let all = sources(&runs);
        let columns = runs[0].completions.len();
        assert!(all.len() == 2 * columns && columns > 1);
        assert_eq!(all[0].questions(), all[1].questions());
        assert_ne!(all[0].questions(), all[columns].questions());
    }
}
