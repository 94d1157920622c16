//! The sliding window: which tokens each pass feeds, and which of them it scores.

use std::ops::Range;

use super::documents::Span;

/// One pass of the model over a part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Number of the document.
    pub document: usize,
    /// Tokens that are fed.
    pub fed: Range<usize>,
    /// The first token that is scored; all after it are too.
    pub from: usize,
}

impl Window {
    /// Tokens that are scored.
    pub const fn scored(&self) -> usize {
        self.fed.end - self.from
    }

    /// Whether a token is scored here.
    pub(super) fn scores(&self, position: usize) -> bool {
        (self.from..self.fed.end).contains(&position)
    }
}

/// Cuts every document into windows that begin `stride` apart. Each of its scored tokens is scored in exactly one of
/// them, with `window − stride` tokens or more before it unless it stands in the document's first window. `stride` is
/// less than `window`; a document's last window ends with it and may be shorter than the others.
pub(super) fn windows(documents: &[Span], window: usize, stride: usize) -> Vec<Window> {
    let mut found = Vec::new();
    for (document, span) in documents.iter().enumerate() {
        let mut from = span.scored;
        for begin in (span.begin..span.end).step_by(stride.max(1)) {
            let end = span.end.min(begin + window);
            if from < end {
                found.push(Window { document, fed: begin..end, from });
                from = end;
            }
            if end == span.end {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(tokens: usize) -> Vec<Span> {
        vec![Span { begin: 0, scored: 1, end: tokens }]
    }

    fn parts(documents: &[Span], window: usize, stride: usize) -> Vec<(usize, Range<usize>, usize)> {
        windows(documents, window, stride).into_iter().map(|one| (one.document, one.fed, one.from)).collect()
    }

    #[test]
    fn windows_by_hand() {
        assert_eq!(parts(&whole(11), 4, 2), [(0, 0..4, 1), (0, 2..6, 4), (0, 4..8, 6), (0, 6..10, 8), (0, 8..11, 10)]);
        assert_eq!(parts(&whole(3), 512, 256), [(0, 0..3, 1)]);
        assert_eq!(parts(&whole(4), 4, 2).len(), 1);
        assert!(parts(&whole(1), 4, 2).is_empty() && parts(&whole(0), 4, 2).is_empty());
    }

    #[test]
    fn documents_keep_to_themselves_and_score_only_what_is_theirs_to_score() {
        let documents = [Span { begin: 0, scored: 2, end: 3 }, Span { begin: 3, scored: 8, end: 11 }];
        // The second document's first window, 3..7, ends before its scored tokens begin.
        assert_eq!(parts(&documents, 4, 2), [(0, 0..3, 2), (1, 5..9, 8), (1, 7..11, 9)]);
    }

    proptest! {
        #[test]
        fn every_token_is_scored_once_and_knows_enough_before_it(
            tokens in 2_usize..500,
            scored in 1_usize..500,
            window in 2_usize..60,
            stride in 1_usize..59,
        ) {
            prop_assume!(stride < window && scored < tokens);
            let found = windows(&[Span { begin: 0, scored, end: tokens }], window, stride);
            let all: Vec<usize> = found.iter().flat_map(|window| window.from..window.fed.end).collect();
            prop_assert_eq!(all, (scored..tokens).collect::<Vec<_>>());
            for one in &found {
                prop_assert!(one.fed.len() <= window && one.scored() > 0 && one.from > one.fed.start);
                prop_assert!(one.fed.start == 0 || one.from - one.fed.start >= window - stride);
            }
        }
    }
}
