//! Answers of two series to the same questions.

use super::StoredCompletion;

/// The answers that both series have, by sample and repeat: (of the first, of the second).
pub(crate) fn in_both<'a>(
    first: &'a [StoredCompletion],
    second: &'a [StoredCompletion],
) -> Vec<(&'a StoredCompletion, &'a StoredCompletion)> {
    let key = |one: &&StoredCompletion| (one.sample, one.repeat);
    merged(&sorted(first), &sorted(second), key, key).map(|(first, second)| (*first, *second)).collect()
}

/// As they lie in a run that was read back.
fn sorted(all: &[StoredCompletion]) -> Vec<&StoredCompletion> {
    let mut sorted: Vec<&StoredCompletion> = all.iter().collect();
    sorted.sort_by_key(|one| (one.sample, one.repeat));
    sorted
}

/// What two lists have under the same key, in its order; both are sorted by it, and have each key once.
pub(crate) fn merged<'a, A, B, K: Ord>(
    first: &'a [A],
    second: &'a [B],
    key_of_first: impl Fn(&A) -> K,
    key_of_second: impl Fn(&B) -> K,
) -> impl Iterator<Item = (&'a A, &'a B)> {
    let mut rest = first.iter().peekable();
    second.iter().filter_map(move |other| {
        let key = key_of_second(other);
        while rest.next_if(|one| key_of_first(one) < key).is_some() {}
        rest.peek().filter(|one| key_of_first(one) == key).map(|one| (*one, other))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_both_have_is_found_in_its_order(
            first in proptest::collection::btree_set(0_u8..40, 0..30), second in proptest::collection::btree_set(0_u8..40, 0..30),
        ) {
            let list = |set: &BTreeSet<u8>| set.iter().copied().collect::<Vec<u8>>();
            let (a, b) = (list(&first), list(&second));
            let found: Vec<(u8, u8)> = merged(&a, &b, |one| *one, |one| *one).map(|(a, b)| (*a, *b)).collect();
            let both: Vec<(u8, u8)> = first.intersection(&second).map(|one| (*one, *one)).collect();
            prop_assert_eq!(found, both);
        }
    }
}
