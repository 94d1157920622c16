//! Whether an answer goes round in circles.

use std::collections::HashMap;
use std::hash::Hash;

/// Tokens of a piece that counts.
const PIECE: usize = 20;
/// How often it must stand, without overlap.
const TIMES: usize = 3;

/// Whether the same 20 tokens stand in it three times without overlap; loops of a shorter period are among these.
pub fn has_loop<T: Hash + Eq>(tokens: &[T]) -> bool {
    // Piece → (where its last counted place ends, how many are counted). Taking the earliest place each time counts the most.
    let mut seen: HashMap<&[T], (usize, usize)> = HashMap::new();
    tokens.windows(PIECE).enumerate().any(|(start, piece)| {
        let (end, times) = seen.entry(piece).or_default();
        if *times == 0 || start >= *end {
            (*end, *times) = (start + PIECE, *times + 1);
        }
        *times >= TIMES
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_twenty_tokens_is_a_loop_and_twice_is_none() {
        let piece: Vec<u32> = (0..20).collect();
        assert!(has_loop(&piece.repeat(3)));
        assert!(!has_loop(&[piece.repeat(2), (100..120).collect()].concat()));
        // Apart from each other they count as well.
        assert!(has_loop(&[&piece[..], &[90, 91], &piece, &[92], &piece].concat()));
        assert!(!has_loop(&[&piece[..19], &[90], &piece[..19], &[91], &piece[..19], &[92]].concat()));
    }

    #[test]
    fn a_shorter_period_is_a_loop_from_sixty_tokens_on() {
        let seven: Vec<u32> = (0..7).cycle().take(63).collect();
        assert!(has_loop(&seven));
        assert!(has_loop(&vec!["so"; 60]));
        assert!(!has_loop(&vec!["so"; 59]), "overlapping places count once");
        assert!(!has_loop::<u32>(&[]));
    }
}
