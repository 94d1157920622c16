//! How close one text, or one list of tokens, is to another that counts as the truth.

use serde::{Deserialize, Serialize};

/// How close a text is to a reference. Nothing is normalised first: white space and case count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TextAgreement {
    /// The same text, byte for byte.
    pub exact: bool,
    /// 1 − Levenshtein distance / length of the longer text, in characters; 1 for two empty texts.
    pub levenshtein: f64,
    /// Jaro-Winkler similarity over characters, which weighs the beginning more; 1 for two empty texts.
    pub jaro_winkler: f64,
    /// Characters of the text / characters of the reference; `None` where the reference is empty.
    pub length_ratio: Option<f64>,
}

impl TextAgreement {
    /// Of a text with its reference.
    pub fn of(reference: &str, text: &str) -> Self {
        let (expected, length) = (reference.chars().count(), text.chars().count());
        Self {
            exact: reference == text,
            levenshtein: strsim::normalized_levenshtein(reference, text),
            jaro_winkler: strsim::jaro_winkler(reference, text),
            length_ratio: (expected > 0).then(|| length as f64 / expected as f64),
        }
    }
}

/// Positions at which both lists hold the same token / positions of the longer list; 1 for two empty lists. Tokens are
/// compared place by place: an answer that says the same one token later agrees little from there on.
pub fn token_agreement(reference: &[u32], tokens: &[u32]) -> f64 {
    let longer = reference.len().max(tokens.len());
    if longer == 0 {
        return 1.0;
    }
    let same = reference.iter().zip(tokens).filter(|(expected, token)| expected == token).count();
    same as f64 / longer as f64
}

/// The first position at which two lists of tokens differ, the end of one of them included; `None` for equal lists.
pub fn first_divergence(reference: &[u32], tokens: &[u32]) -> Option<usize> {
    let common = reference.iter().zip(tokens).take_while(|(expected, token)| expected == token).count();
    (common < reference.len().max(tokens.len())).then_some(common)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn similarities_by_hand() {
        // kitten → sitting: three edits, seven characters.
        let agreement = TextAgreement::of("kitten", "sitting");
        assert!((agreement.levenshtein - 4.0 / 7.0).abs() < 1e-12 && !agreement.exact);
        assert_eq!(agreement.length_ratio, Some(7.0 / 6.0));
        // MARTHA, MARHTA: Jaro (1 + 1 + 5/6) / 3, and a common beginning of three: Jaro + 3 · 0.1 · (1 − Jaro).
        let jaro = (1.0 + 1.0 + 5.0 / 6.0) / 3.0;
        assert!((TextAgreement::of("MARTHA", "MARHTA").jaro_winkler - (jaro + 0.3 * (1.0 - jaro))).abs() < 1e-12);
        // Characters, not bytes.
        assert!((TextAgreement::of("é", "e").levenshtein).abs() < 1e-12);
        assert_eq!(TextAgreement::of("éé", "e").length_ratio, Some(0.5));
        assert_eq!(TextAgreement::of("", "e").length_ratio, None);
        assert!(!TextAgreement::of("A b", "A b ").exact && !TextAgreement::of("A", "a").exact);
    }

    #[test]
    fn tokens_by_hand() {
        assert_eq!(token_agreement(&[1, 2, 3, 4], &[1, 2, 9, 4, 5]), 0.6);
        assert_eq!(first_divergence(&[1, 2, 3, 4], &[1, 2, 9, 4, 5]), Some(2));
        assert_eq!((token_agreement(&[], &[]), first_divergence(&[], &[])), (1.0, None));
        assert_eq!((token_agreement(&[1], &[]), first_divergence(&[1], &[])), (0.0, Some(0)));
        assert_eq!(first_divergence(&[1, 2], &[1, 2, 3]), Some(2), "the end of a list is a difference");
    }

    proptest! {
        #[test]
        fn a_text_agrees_with_itself(text in ".{0,40}") {
            let same = TextAgreement::of(&text, &text);
            prop_assert!(same.exact && same.levenshtein == 1.0 && same.jaro_winkler == 1.0);
            prop_assert!(same.length_ratio.is_none_or(|ratio| ratio == 1.0));
        }

        #[test]
        fn similarities_are_bounded_and_only_equal_texts_reach_one(a in ".{0,30}", b in "[a-c é]{0,30}") {
            let agreement = TextAgreement::of(&a, &b);
            prop_assert!((0.0..=1.0).contains(&agreement.levenshtein));
            prop_assert!((0.0..=1.0).contains(&agreement.jaro_winkler));
            prop_assert_eq!(agreement.levenshtein == 1.0, agreement.exact);
            prop_assert_eq!(a == b, agreement.exact);
        }

        #[test]
        fn similarities_are_symmetric(a in "[ab é]{0,30}", b in "[ab é]{0,30}") {
            let (there, back) = (TextAgreement::of(&a, &b), TextAgreement::of(&b, &a));
            prop_assert_eq!(there.exact, back.exact);
            prop_assert_eq!(there.levenshtein, back.levenshtein);
            // The three thirds of Jaro's mean change places, so the last bits may differ.
            prop_assert!((there.jaro_winkler - back.jaro_winkler).abs() < 1e-12);
            if let (Some(there), Some(back)) = (there.length_ratio, back.length_ratio)
                && there > 0.0
            {
                prop_assert!((there * back - 1.0).abs() < 1e-12);
            }
        }

        #[test]
        fn one_edit_costs_one_part_of_the_longer_text(text in "[a-z]{1,40}", at in 0_usize..40) {
            let at = at % text.len();
            let changed = format!("{}#{}", &text[..at], &text[at + 1..]);
            let expected = 1.0 - 1.0 / text.len() as f64;
            prop_assert!((TextAgreement::of(&text, &changed).levenshtein - expected).abs() < 1e-12);
        }

        #[test]
        fn tokens_agree_up_to_the_first_divergence_at_least(
            a in proptest::collection::vec(0_u32..3, 0..20),
            b in proptest::collection::vec(0_u32..3, 0..20),
        ) {
            let (agreement, divergence) = (token_agreement(&a, &b), first_divergence(&a, &b));
            prop_assert_eq!(token_agreement(&b, &a), agreement);
            prop_assert_eq!(first_divergence(&b, &a), divergence);
            prop_assert_eq!(divergence.is_none(), a == b);
            prop_assert_eq!(divergence.is_none(), agreement == 1.0);
            prop_assert!((0.0..=1.0).contains(&agreement));
            if let Some(index) = divergence {
                prop_assert_eq!(&a[..index], &b[..index]);
                prop_assert!(a.get(index) != b.get(index));
                prop_assert!(agreement >= index as f64 / a.len().max(b.len()) as f64);
            }
        }
    }
}
