//! Intervals and paired tests on counts of right answers.

use serde::{Deserialize, Serialize};

/// A proportion with its 95 % interval, as fractions of 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Successes.
    pub successes: usize,
    /// Trials.
    pub n: usize,
    /// successes / n.
    pub value: f64,
    /// Lower bound of Wilson's interval.
    pub low: f64,
    /// Upper bound of Wilson's interval.
    pub high: f64,
}

/// Two series of right/wrong on the same questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Right in both.
    pub both_right: usize,
    /// Right in the reference, wrong in the other.
    pub lost: usize,
    /// Wrong in the reference, right in the other.
    pub gained: usize,
    /// Wrong in both.
    pub both_wrong: usize,
    /// other − reference, as a fraction of 1.
    pub difference: f64,
    /// Paired bootstrap 95 % interval of the difference (seeded).
    pub difference_low: f64,
    /// Upper bound.
    pub difference_high: f64,
    /// Exact two-sided McNemar p-value.
    pub mcnemar_p: f64,
}

/// Wilson's 95 % score interval; `None` for n = 0 (there is no accuracy, and 0 would be a lie).
pub fn wilson(successes: usize, n: usize) -> Option<Proportion> {
    let _ = (successes, n);
    todo!()
}

/// Compares two series on the same questions; `None` when there is no question.
pub fn paired(reference: &[bool], other: &[bool]) -> Option<Paired> {
    let _ = (reference, other);
    todo!()
}
