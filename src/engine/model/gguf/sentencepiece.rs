//! `SentencePiece` vocabularies (pieces with scores) as byte-pair merges.
//!
//! `SentencePiece` merges, again and again, the neighbours whose joined piece scores highest. Byte-pair encoding with
//! merges sorted by that score does the same, as transformers' converter of Llama's tokenizer shows.

use std::collections::HashSet;

/// Every way to join two pieces into a third, the best first: by the joined piece's score, then by the length in
/// characters of the left part, then of the right part, then by the joined piece's place.
pub(super) fn merges(pieces: &[&str], scores: &[f64]) -> Vec<(String, String)> {
    let known: HashSet<&str> = pieces.iter().copied().collect();
    let mut found: Vec<(f64, (usize, usize), &str, &str)> = Vec::new();
    for (piece, score) in pieces.iter().zip(scores) {
        let characters = piece.chars().count();
        for (left_characters, (cut, _)) in piece.char_indices().enumerate().skip(1) {
            let (left, right) = piece.split_at(cut);
            if known.contains(left) && known.contains(right) {
                found.push((*score, (left_characters, characters - left_characters), left, right));
            }
        }
    }
    // The sort is stable, so that equal ones stay in the order of their pieces.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    found.into_iter().map(|(_, _, left, right)| (left.to_owned(), right.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_come_by_score_then_by_the_length_of_their_parts() {
        let pieces = ["▁", "a", "b", "ab", "▁a", "▁ab"];
        let scores = [-9.0, -8.0, -7.0, -1.0, -2.0, -3.0];
        let merges = merges(&pieces, &scores);
        let joined: Vec<String> = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        assert_eq!(joined, ["a b", "▁ a", "▁a b", "▁ ab"]);
    }
}
