//! Where answers leave others of the same questions.

use crate::score::first_divergence;

/// Where answers leave others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::compare) struct Departures {
    /// Answers whose tokens are known in both.
    pub(in crate::compare) n: usize,
    /// Tokens before the first that differs, of those that differ; ascending.
    pub(in crate::compare) first: Vec<usize>,
}

impl Departures {
    /// Of the tokens of answers to the same questions.
    pub(in crate::compare) fn of<'a>(pairs: impl Iterator<Item = (&'a [u32], &'a [u32])>) -> Self {
        let mut all = Self { n: 0, first: Vec::new() };
        for (was, is) in pairs {
            all.n += 1;
            all.first.extend(first_divergence(was, is));
        }
        all.first.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_counts_the_tokens_before_it() {
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(first_divergence(&[1, 2, 3], &[1, 9, 3]), Some(1));
        assert_eq!(first_divergence(&[1, 2], &[1, 2, 3]), Some(2), "a longer answer differs where the shorter ends");
        assert_eq!(first_divergence(&[], &[4]), Some(0));
        assert_eq!(first_divergence(&[], &[]), None);
    }
}
