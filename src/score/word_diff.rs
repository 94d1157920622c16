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
/// up the reference, same and added parts the text. Words that change side by side change as one: the blank between
/// them counts as removed and added, so that a rewritten clause reads as one removal and one addition.
pub fn word_diff(reference: &str, text: &str) -> Vec<DiffPart> {
    let mut parts: Vec<DiffPart> = Vec::new();
    for change in TextDiff::from_words(reference, text).iter_all_changes() {
        let fate = match change.tag() {
            ChangeTag::Equal => Change::Same,
            ChangeTag::Delete => Change::Removed,
            ChangeTag::Insert => Change::Added,
        };
        push(&mut parts, fate, change.value());
    }
    joined(&parts)
}

fn push(parts: &mut Vec<DiffPart>, change: Change, text: &str) {
    match parts.last_mut() {
        Some(last) if last.change == change => last.text.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(DiffPart { change, text: text.to_owned() }),
    }
}

/// Joins changes that only a blank divides, where something is both removed and added.
fn joined(parts: &[DiffPart]) -> Vec<DiffPart> {
    let is_blank = |part: &DiffPart| part.text.chars().all(|c| c == ' ');
    let mut result = Vec::new();
    let mut rest = parts;
    while let Some(first) = rest.first() {
        let mut length = 1;
        if first.change != Change::Same {
            // A blank belongs to the run only if a change follows it.
            while let Some(next) = rest.get(length) {
                let reaches_on = is_blank(next) && rest.get(length + 1).is_some();
                if next.change == Change::Same && !reaches_on {
                    break;
                }
                length += 1;
            }
        }
        let (run, after) = rest.split_at(length);
        rest = after;
        if [Change::Removed, Change::Added].iter().all(|change| run.iter().any(|part| part.change == *change)) {
            for side in [Change::Removed, Change::Added] {
                let of_side = run.iter().filter(|part| part.change == side || part.change == Change::Same);
                let text: String = of_side.map(|part| part.text.as_str()).collect();
                push(&mut result, side, &text);
            }
        } else {
            for part in run {
                push(&mut result, part.change, &part.text);
            }
        }
    }
    result
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

    #[test]
    fn a_rewritten_clause_is_one_removal_and_one_addition() {
        let part = |change, text: &str| DiffPart { change, text: text.to_owned() };
        assert_eq!(
            word_diff("it suits the concept of a bomb", "it suits using one of a bomb"),
            [
                part(Change::Same, "it suits "),
                part(Change::Removed, "the concept"),
                part(Change::Added, "using one"),
                part(Change::Same, " of a bomb"),
            ]
        );
        // Nothing is added here: the blank stays where it is.
        let removed = word_diff("a b c d", "a d");
        assert!(removed.iter().all(|part| part.change != Change::Added), "{removed:?}");
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
