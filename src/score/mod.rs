//! Scoring: what a completion's answer is, whether it is right, and how sure a count of right answers makes us.
//! Text in, numbers out: imports nothing of this program but the type of its errors.

mod agreement;
mod boxed;
mod calculation;
mod characters;
mod check;
mod cluster;
mod conclusion;
mod divergence;
mod estimate;
mod extract;
mod latex;
mod magnitude;
mod metrics;
mod noninferiority;
mod number;
mod numeric;
#[cfg(test)]
mod numeric_tests;
#[cfg(test)]
mod oracle_tests;
mod plain;
mod ratio;
mod repeats;
mod repetition;
mod sequential;
mod spread;
pub mod statistics;
mod thought;
mod token;
mod value;
mod word_diff;
mod writer;

pub use agreement::{TextAgreement, first_divergence, token_agreement};
pub use boxed::last_box;
pub use check::{Check, Verdict};
pub use cluster::{clustered_paired, clustered_wilson};
pub use conclusion::Conclusion;
pub use divergence::{Distribution, NEAR_TIE_NATS};
pub use estimate::{Estimate, Exponential, correlation, quantile};
pub use extract::{Answer, Extraction, Reference, Rule, RuleError, Take, score};
pub use metrics::normalize;
pub use noninferiority::paired_score_interval;
pub use ratio::{Ratio, clustered_ratio, paired_cost_ratio, paired_ratio};
pub use repeats::{PassAt, Repeats, Vote, repeats};
pub use repetition::has_loop;
pub use sequential::{SEQUENTIAL_ERROR, Sequential, Shown};
pub use spread::Spread;
pub use thought::THOUGHT_MARKS;
pub use value::{boxed_value, exact_value};
pub use word_diff::{Change, DiffPart, word_diff};
