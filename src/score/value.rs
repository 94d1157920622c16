//! Numbers of a dataset in their one canonical writing, so that 3, 3.0 and 3e0 are the same reference.

use super::{boxed, number, plain};

/// The number that all of a text is, in its shortest exact writing: `145.0` is `145`, `1,234` is `1234`, `2/6` is `1/3`. `None` where
/// the text is no number or one that 128 bits do not hold.
pub fn exact_value(text: &str) -> Option<String> {
    plain::whole_number(text).map(number::written)
}

/// The same of a formula as LaTeX writes it: `\frac{1}{2}` is `0.5`.
pub fn boxed_value(formula: &str) -> Option<String> {
    boxed::number(formula).map(number::written)
}
