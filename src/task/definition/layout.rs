//! Which columns of a row hold what.

use super::reference::ReferenceRule;

/// Columns by name, and what counts of the answer.
#[derive(Debug, Clone)]
pub(in crate::task) struct Layout {
    /// The parts of the question, joined by a space.
    pub(in crate::task) question: Vec<String>,
    /// The answer: worked, or the reference alone.
    pub(in crate::task) answer: String,
    /// Rows with the same value here are not independent of one another.
    pub(in crate::task) cluster: Option<String>,
    /// Column names of CSV and TSV files that have no header; empty where their first line is one.
    pub(in crate::task) header: Vec<String>,
    /// What of the answer counts.
    pub(in crate::task) reference: ReferenceRule,
}

impl Layout {
    /// Rows of two columns whose second counts as it stands.
    pub(in crate::task) fn of_columns(question: &str, answer: &str) -> Self {
        Self {
            question: vec![question.to_owned()],
            answer: answer.to_owned(),
            cluster: None,
            header: Vec::new(),
            reference: ReferenceRule::whole(),
        }
    }

    /// The columns to read: the question's parts, the answer, and what to cluster by.
    pub(in crate::task) fn columns(&self) -> Vec<&str> {
        self.question.iter().chain([&self.answer]).chain(&self.cluster).map(String::as_str).collect()
    }
}
