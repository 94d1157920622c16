//! What changed from one text to another, word by word.

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

/// What became of a stretch of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// In both texts.
    Same,
    /// Only in the reference.
    Removed,
    /// Only in the other text.
    Added,
}

/// A stretch of text that shares its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiffPart {
    /// Its fate.
    pub change: Change,
    /// The text, white space included.
    pub text: String,
}

/// The way from `reference` to `text` in words and runs of white space (Myers' algorithm). Same and removed parts make
/// up the reference, same and added parts the text.
pub fn word_diff(reference: &str, text: &str) -> Vec<DiffPart> {
    let mut parts: Vec<DiffPart> = Vec::new();
    for change in TextDiff::from_words(reference, text).iter_all_changes() {
        let fate = match change.tag() {
            ChangeTag::Equal => Change::Same,
            ChangeTag::Delete => Change::Removed,
            ChangeTag::Insert => Change::Added,
        };
        match parts.last_mut() {
            Some(last) if last.change == fate => last.text.push_str(change.value()),
            _ => parts.push(DiffPart { change: fate, text: change.value().to_owned() }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn without(parts: &[DiffPart], change: Change) -> String {
        parts.iter().filter(|part| part.change != change).map(|part| part.text.as_str()).collect()
    }

    #[test]
    fn a_changed_word_is_removed_and_added() {
        let parts = word_diff("the batter was thick", "the batter was thin");
        let part = |change, text: &str| DiffPart { change, text: text.to_owned() };
        assert_eq!(
            parts,
            [part(Change::Same, "the batter was "), part(Change::Removed, "thick"), part(Change::Added, "thin")]
        );
        assert!(word_diff("", "").is_empty());
    }

    proptest! {
        #[test]
        fn both_texts_can_be_read_off_the_parts(a in "[ab \n]{0,40}", b in "[ab é\n]{0,40}") {
            let parts = word_diff(&a, &b);
            prop_assert_eq!(without(&parts, Change::Added), a.clone());
            prop_assert_eq!(without(&parts, Change::Removed), b.clone());
            prop_assert_eq!(parts.iter().all(|part| part.change == Change::Same), a == b);
        }
    }
}
