//! Whether an answer goes round in circles.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

/// Tokens of a piece that counts.
const PIECE: usize = 20;
/// How often it must stand, without overlap.
const TIMES: usize = 3;

/// Whether the same 20 tokens stand in it three times without overlap; loops of a shorter period are among these.
pub fn has_loop<T: Hash + Eq>(tokens: &[T]) -> bool {
    if tokens.len() < PIECE * TIMES {
        return false;
    }
    let mut places: Vec<(u64, usize)> = sums(tokens).zip(0..).collect();
    places.sort_unstable();
    let piece = |at: usize| &tokens[at..at + PIECE];
    // Different pieces may have the same sum. Taking the earliest place each time counts the most.
    let is_frequent = |same: &[(u64, usize)], first: usize| {
        let mut end = 0;
        let stands = |(_, at): &&(u64, usize)| {
            let counts = *at >= end && piece(*at) == piece(first);
            end = if counts { at + PIECE } else { end };
            counts
        };
        same.iter().filter(stands).count() >= TIMES
    };
    let mut repeated = places.chunk_by(|one, other| one.0 == other.0).filter(|same| same.len() >= TIMES);
    repeated.any(|same| same.iter().any(|(_, first)| is_frequent(same, *first)))
}

/// A number for each piece, the same for the same tokens: Σ hash(token) · BASE^(tokens behind it), of which each follows from the one
/// before.
fn sums<T: Hash>(tokens: &[T]) -> impl Iterator<Item = u64> {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let leaving = (0..PIECE).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let hashes: Vec<u64> = tokens.iter().map(|token| hasher.hash_one(token)).collect();
    let mut sum = 0_u64;
    (0..hashes.len()).filter_map(move |place| {
        sum = sum.wrapping_mul(BASE).wrapping_add(hashes[place]);
        if let Some(left) = place.checked_sub(PIECE) {
            sum = sum.wrapping_sub(hashes[left].wrapping_mul(leaving));
        }
        (place + 1 >= PIECE).then_some(sum)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    /// As the words say it, piece by piece.
    fn by_definition(tokens: &[u8]) -> bool {
        let places = |piece: &[u8]| {
            let (mut count, mut at) = (0, 0);
            while at + PIECE <= tokens.len() {
                let stands = tokens[at..at + PIECE] == *piece;
                count += usize::from(stands);
                at += if stands { PIECE } else { 1 };
            }
            count
        };
        tokens.windows(PIECE).any(|piece| places(piece) >= TIMES)
    }

    proptest! {
        #[test]
        fn loops_are_those_of_the_definition(
            piece in proptest::collection::vec(0_u8..3, 18..24), times in 1_usize..5, noise in proptest::collection::vec(0_u8..3, 0..12),
            at in 0_usize..100,
        ) {
            let mut tokens = piece.repeat(times);
            let at = at.min(tokens.len());
            tokens.splice(at..at, noise);
            prop_assert_eq!(has_loop(&tokens), by_definition(&tokens));
        }
    }
}
