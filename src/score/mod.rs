//! Scoring: what a completion's answer is, whether it is right, and how sure a count of right answers makes us.
//! Imports nothing of this program: text in, numbers out.

mod extract;
mod metrics;
mod number;
mod numeric;
pub mod statistics;

pub use extract::{Extraction, Reference, Rule, RuleError, Take, score};
pub use metrics::normalize;
